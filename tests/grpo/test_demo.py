"""The runs of the demo: what they leave, that they resume, that settings do not mix; tiny throughout."""

import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import pytest

from evenhand.grpo.chain_policy import starting_policy
from evenhand.grpo.chain_sums import ChainSums, PolicySettings
from evenhand.grpo.demo import SCHEMES, Demo, DemoSettings, Workers, _quarters, _weights, run_scheme

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


def without_times(record):
    steps = [{name: value for name, value in step.items() if name != "seconds"} for step in record["steps"]]
    return {**record, "steps": steps, "seconds": None}


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
        assert step["entropy"] > 0
    first, last = record["steps"]
    assert first["tokens"] == pytest.approx(first["length"] * TINY.prompts * TINY.group)
    assert last["tokens"] == pytest.approx((first["length"] + last["length"]) * TINY.prompts * TINY.group)
    assert 0 < first["seconds"] < last["seconds"] < record["seconds"]
    assert set(record["before"]) >= {"accuracy", "length", "long_share"}


def test_the_same_seed_gives_the_same_run(demo):
    def run(scheme, seed):
        return without_times(run_scheme(TINY, demo.start, scheme, SCHEMES[scheme], seed))

    assert run("power", 1) == run("power", 1)
    assert run("power", 1)["before"] == run("dapo", 1)["before"]  # paired
    assert run("power", 1)["steps"][0]["length"] == run("dapo", 1)["steps"][0]["length"]


def test_lambda_at_its_start_is_dapo(demo):
    first = run_scheme(TINY, demo.start, "lambda", SCHEMES["lambda"], 0)["steps"][0]
    assert (first["lambda"], first["weight_min"], first["weight_max"]) == (0.0, 1.0, 1.0)


def test_the_weights_of_grpo_are_the_mean_length_over_the_length():
    found = _weights("grpo", [2, 4, 6, 5, 5, 5], 3, {})
    f = [4.5 / length for length in (2, 4, 6, 5, 5, 5)]
    assert found == pytest.approx(
        {"weight_min": min(f), "weight_max": max(f), "weight_std": statistics.pstdev(f)}
    )
    assert _weights("dapo", [2, 4, 6], 3, {}) == {"weight_min": 1.0, "weight_max": 1.0, "weight_std": 0.0}


def test_lengths_and_advantages_by_quarter_of_a_group():
    found = _quarters([9, 3, 5, 7, 2, 2, 4, 8], [1, 0, 0, 1, 0, 0, 0, 0], 4)
    assert [found[f"length, quarter {n}"] for n in (1, 2, 3, 4)] == [2.5, 3.5, 5.5, 8.5]
    a = 0.5 / (statistics.stdev([1, 0, 0, 1]) + 1e-4)
    expected = [-a / 2, -a / 2, a / 2, a / 2]  # the second group's rewards are equal: its advantages are 0
    assert [found[f"advantage, quarter {n}"] for n in (1, 2, 3, 4)] == pytest.approx(expected)
    assert set(_quarters([1, 2], [0, 1], 2)) == {
        f"{x}, quarter {n}" for x in ("length", "advantage") for n in (1, 3)
    }


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
        return [without_times(one) for one in made.records()]

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
