import json
import math
import subprocess
import sys

import numpy as np
import pytest

from evenhand.experiments.runs import Run, RunError, find_runs


@pytest.fixture
def run(tmp_path):
    return Run.start(tmp_path / "run", "game", "tags", 3, {"C": 0.3, "at": np.array([1, 2])})


def test_a_run_says_what_was_run_with_what(run):
    again = Run.read(run.folder)
    assert (again.method, again.data, again.seed, again.config) == (
        "game",
        "tags",
        3,
        {"C": 0.3, "at": [1, 2]},
    )
    assert again.made_by.keys() >= {"evenhand", "python", "numpy", "machine", "date"}
    assert again.figures is None
    assert list(again.records()) == []


def test_what_is_logged_comes_back(run):
    run.log({"step": 0, "loss": np.float32(0.5), "by": {"a": [math.nan, 1.0]}})
    run.log({"step": 1, "loss": math.inf})
    assert list(run.records()) == [
        {"step": 0, "loss": 0.5, "by": {"a": [None, 1.0]}},
        {"step": 1, "loss": None},
    ]
    run.finish({"mAP": np.float64(41.5), "Rare-F1": math.nan})
    assert run.figures == pytest.approx({"mAP": 41.5, "Rare-F1": math.nan}, nan_ok=True)


def test_the_same_run_is_taken_up_and_another_refused(run):
    run.log({"step": 0})
    again = Run.start(run.folder, "game", "tags", 3, {"C": 0.3, "at": [1, 2]})
    assert list(again.records()) == [{"step": 0}]
    with pytest.raises(RunError, match="is a run with seed 3, not 4"):
        Run.start(run.folder, "game", "tags", 4, run.config)
    with pytest.raises(RunError, match=r"config .* not \{'C': 1.0\}"):
        Run.start(run.folder, "game", "tags", 3, {"C": 1.0})


def test_what_a_kill_left_of_the_first_file_is_in_nobodys_way(tmp_path):
    (tmp_path / ".config.json.123.tmp").write_text("{")
    assert Run.start(tmp_path, "game", "tags", 0).method == "game"


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        Run.start(tmp_path, "game", "tags", 0)


def test_a_line_that_a_kill_cut_is_passed_over_and_then_overwritten(run):
    run.log({"step": 0})
    place = run.folder / "metrics.jsonl"
    place.write_bytes(place.read_bytes() + b'{"step": 1, "lo')
    assert list(run.records()) == [{"step": 0}]
    run.log({"step": 1})
    assert list(run.records()) == [{"step": 0}, {"step": 1}]


def test_records_after_the_checkpoint_are_dropped(run):
    for step in range(4):
        run.log({"step": step})
    run.keep(2)
    assert [one["step"] for one in run.records()] == [0, 1]
    with pytest.raises(RunError, match="has 2 records, not 3"):
        run.keep(3)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "config.json: not sound JSON"),
        ("config.json", "[]", "config.json: not a JSON object"),
        ("config.json", "{}", "the field 'method' should be of type str"),
        ("metrics.jsonl", "{}\nno\n", "metrics.jsonl:2: not sound JSON"),
        ("metrics.jsonl", "3\n", "metrics.jsonl:1: not a JSON object"),
        ("figures.json", '{"mAP": "high"}', "'mAP' is 'high', not a number"),
        ("figures.json", "[" * 100_000, "not sound JSON"),
    ],
)
def test_what_is_damaged_is_named(run, name, text, message):
    (run.folder / name).write_text(text)

    def read():
        again = Run.read(run.folder)
        return list(again.records()), again.figures

    with pytest.raises(RunError, match=message):
        read()


def test_runs_are_found_below_folders_once(tmp_path):
    for seed in (1, 0):
        Run.start(tmp_path / "a" / f"seed-{seed}", "game", "tags", seed)
    assert [run.seed for run in find_runs(tmp_path, tmp_path / "a" / "seed-1")] == [0, 1]
    with pytest.raises(RunError, match="is no folder"):
        find_runs(tmp_path / "b")
    (tmp_path / "b").mkdir()
    with pytest.raises(RunError, match="there is no run in"):
        find_runs(tmp_path / "b")


def test_no_commit_of_a_repository_around_an_installed_copy(tmp_path):
    """Only where the source itself is in the repository."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    script = """
import shutil, sys
from pathlib import Path
import evenhand
place = Path(sys.argv[1]) / "evenhand"
shutil.copytree(Path(evenhand.__file__).parent, place, ignore=shutil.ignore_patterns("__pycache__"))
"""
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)
    code = "import json; from evenhand.experiments.runs import _made_by; print(json.dumps(_made_by()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True
    )
    assert "commit" not in json.loads(done.stdout)
