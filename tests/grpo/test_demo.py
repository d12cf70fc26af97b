"""The runs of the demo: what they leave, that they resume, that settings do not mix; tiny throughout."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from evenhand.grpo.chain_policy import starting_policy
from evenhand.grpo.chain_sums import ChainSums, PolicySettings
from evenhand.grpo.demo import SCHEMES, Demo, DemoSettings, Workers, _weights, run_scheme

TINY = DemoSettings(
    ChainSums(n_terms=3),
    PolicySettings(hidden=16, layers=1, heads=2, intermediate=16, n_derivations=96),
    steps=2,
    prompts=2,
    group=4,
    evaluated=8,
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    made = Demo(TINY, tmp_path_factory.mktemp("demo"), seeds=[0])
    starting_policy(TINY.family, TINY.policy, made.start)
    return made


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_run_leaves_its_figures(demo, scheme):
    told = []
    record = run_scheme(TINY, demo.start, scheme, SCHEMES[scheme], 0, report=told.append)
    assert told == [1, 1]
    assert (record["scheme"], record["seed"], len(record["steps"])) == (scheme, 0, 2)
    json.dumps(record, allow_nan=False)
    for step in record["steps"]:
        assert 0 < step["weight_min"] <= 1 <= step["weight_max"]
        assert ("lambda" in step) == (scheme in ("lambda", "power"))
        assert 1 <= step["length"] <= TINY.family.longest + 8
    assert set(record["before"]) >= {"accuracy", "length", "long_share"}


def test_the_same_seed_gives_the_same_run(demo):
    def run(scheme, seed):
        record = run_scheme(TINY, demo.start, scheme, SCHEMES[scheme], seed)
        del record["seconds"]
        return record

    assert run("power", 1) == run("power", 1)
    assert run("power", 1)["before"] == run("dapo", 1)["before"]  # paired
    assert run("power", 1)["steps"][0]["length"] == run("dapo", 1)["steps"][0]["length"]


def test_lambda_at_its_start_is_dapo(demo):
    first = run_scheme(TINY, demo.start, "lambda", SCHEMES["lambda"], 0)["steps"][0]
    assert (first["lambda"], first["weight_min"], first["weight_max"]) == (0.0, 1.0, 1.0)


def test_the_weights_of_grpo_are_the_mean_length_over_the_length():
    found = _weights("grpo", [2, 4, 6, 5, 5, 5], 3, {})
    assert found == pytest.approx({"weight_min": 4.5 / 6, "weight_max": 4.5 / 2})
    assert _weights("dapo", [2, 4, 6], 3, {}) == {"weight_min": 1.0, "weight_max": 1.0}


def test_changed_settings_have_files_of_their_own(tmp_path):
    def places(**changes):
        demo = Demo(dataclasses.replace(TINY, **changes), tmp_path, seeds=[0])
        return demo.start, demo.path("dapo", 0)

    usual = places()
    assert places() == usual
    for changes in ({"steps": 3}, {"learning_rate": 2e-4}, {"group": 8}, {"evaluated": 9}):
        assert places(**changes)[0] == usual[0]
        assert places(**changes)[1] != usual[1]
    for changes in ({"family": ChainSums(n_terms=4)}, {"policy": PolicySettings()}):
        assert places(**changes)[0] != usual[0]
        assert places(**changes)[1] != usual[1]


def test_more_seeds_go_on_from_the_runs_that_are_there(tmp_path):
    one = Demo(TINY, tmp_path, seeds=[0])
    one.path("dapo", 0).parent.mkdir()
    one.path("dapo", 0).write_text(json.dumps({"scheme": "dapo", "seed": 0}))
    more = Demo(TINY, tmp_path, seeds=[0, 1])
    assert len(more.planned) == 2 * len(SCHEMES)
    assert ("dapo", 0) not in more.missing()
    assert more.records() == [{"scheme": "dapo", "seed": 0}]
    assert more.planned[: len(SCHEMES)] == [(scheme, 0) for scheme in SCHEMES]


def quick(folder, *options):
    return [
        sys.executable,
        "-c",
        "from evenhand.cli import main; main()",
        *("grpo", "demo", "--quick", "--jobs", "1", "--out", str(folder), *options),
    ]


@pytest.mark.slow
def test_a_killed_demo_resumes(tmp_path):
    folder = tmp_path / "demo"
    first = subprocess.Popen(
        quick(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while len(list(folder.glob("runs-*/*.json"))) < 2:
        assert first.poll() is None, first.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    first.stdout.read()  # ends when the workers have gone as well
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("runs-*/*.json")}
    assert 2 <= len(kept) < 8
    done = subprocess.run(quick(folder), capture_output=True, text=True, timeout=400, check=True)
    assert f"{len(kept)} of 8 runs are there already" in done.stderr
    assert "starting policy ━" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(folder.glob("runs-*/*.json"))) == 8
    assert not list(folder.rglob("*.tmp"))
    assert "GRPO" in done.stdout
    assert (folder / "report.html").stat().st_size > 10_000
    again = subprocess.run(quick(folder), capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split("\n\n")[:-1] == again.stdout.split("\n\n")[:-1]  # all but the time


@pytest.mark.slow
def test_two_at_a_time_come_to_the_same_as_one(tmp_path):
    def run(jobs):
        made = Demo(
            TINY, tmp_path / str(jobs), [0], schemes={name: SCHEMES[name] for name in ("dapo", "power")}
        )
        with Workers(jobs) as workers:
            told = []
            made.make_start(workers, told.append)
            assert sum(told) == 3
            made.run(workers, told.append)
            assert sum(told) == 3 + 4
        assert made.missing() == []
        return [{**one, "seconds": 0} for one in made.records()]

    assert run(1) == run(2)


@pytest.mark.slow
def test_what_goes_wrong_in_a_worker_is_raised(tmp_path):
    made = Demo(TINY, tmp_path, [0], schemes={"dapo": SCHEMES["dapo"]})  # without a starting policy
    with pytest.raises(OSError, match="start-"), Workers(1) as workers:
        made.run(workers, lambda _: None)


@pytest.mark.slow
def test_an_interruption_says_that_the_same_command_goes_on(tmp_path):
    running = subprocess.Popen(quick(tmp_path), stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(tmp_path.glob("runs-*")):
        assert running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: workers get it as well
    told = running.communicate(timeout=60)[1]
    assert running.returncode != 0
    assert "The same command takes it up again" in told
    assert "Traceback" not in told
