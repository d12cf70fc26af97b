"""Commands that are killed at any moment: nothing half-written, and the same result in the end.

EVENHAND_KILLS says how often each command is killed (3 unless given): `EVENHAND_KILLS=50 pytest -m slow
tests/hostile/test_kills.py` takes an hour on two cores.
"""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from evenhand.experiments.runs import Run
from evenhand.multilabel.datasets import make_long_tail

KILLS = int(os.environ.get("EVENHAND_KILLS", "3"))
DATA = make_long_tail(400, 20, 120, labels_per_instance=2.0, seed=0)

# What is run, and the files or folders it leaves.
COMMANDS = {
    "train": (["multilabel", "train", "train.csv", "--views", "words,characters", "--out", "new"], ["new"]),
    "trees": (["multilabel", "train", "train.csv", "--method", "trees", "--out", "new"], ["new"]),
    "neural": (
        ["multilabel", "train", "train.csv", "--method", "neural", "--epochs", "3", "--out", "new"],
        ["new"],
    ),
    "retrain": (["multilabel", "train", "train.csv", "--out", "model", "--overwrite"], ["model"]),
    "evaluate": (
        ["multilabel", "evaluate", "model", "test.csv", "--json", "a.json", "--labels", "a.csv"],
        ["a.json", "a.csv"],
    ),
    "predict": (["multilabel", "predict", "model", "test.csv", "--out", "a.jsonl"], ["a.jsonl"]),
    "report": (["report", "runs", "--baseline", "b", "--out", "page.html"], ["page.html", "page.md"]),
}


def start(arguments, folder):
    command = [sys.executable, "-c", "from evenhand.cli import main; main()", *arguments]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, **pipes)


def run(arguments, folder):
    process = start(arguments, folder)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What the commands read."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, rows in (("train", range(300)), ("test", range(300, 400))):
        words = [" ".join(f"w{column}" for column in DATA.X[[row]].indices) for row in rows]
        pl.DataFrame({"text": words, "tags": [",".join(DATA.tags(row)) for row in rows]}).write_csv(
            folder / f"{name}.csv"
        )
    run(["multilabel", "train", "train.csv", "--views", "words", "--out", "model"], folder)
    for method in "ab":
        for seed in range(5):
            one = Run.start(folder / "runs" / method / str(seed), method, "tags", seed)
            for step in range(20):
                one.log({"step": step, "map": step * 0.01 + seed})
            one.finish({"P@1": 50.0 + seed + (method == "a")})
    return folder


def copy(inputs, place):
    subprocess.run(["cp", "-r", inputs, place], check=True)
    return place


def content(place):
    """The bytes of a file, or of every file of a folder, but for times; None where there is neither."""
    if place.is_dir():
        return {file.relative_to(place).as_posix(): content(file) for file in place.rglob("*.*")}
    return re.sub(rb'"seconds": [^,}]+', b"", place.read_bytes()) if place.exists() else None


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_leaves_nothing_half_written_and_costs_no_result(command, inputs, tmp_path):
    arguments, left = COMMANDS[command]
    before = {name: content(inputs / name) for name in left}
    whole = copy(inputs, tmp_path / "whole")
    started = time.perf_counter()
    run(arguments, whole)
    seconds = time.perf_counter() - started
    expected = {name: content(whole / name) for name in left}
    moments = np.random.default_rng(0).uniform(0.3, 1, KILLS) * seconds  # before that Python is starting
    for number, moment in enumerate(moments):
        folder = copy(inputs, tmp_path / f"kill{number}")
        process = start(arguments, folder)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        for name in left:  # whole, or as it was
            assert content(folder / name) in (before[name], expected[name])
        if content(folder / left[0]) == before[left[0]] or left[0] != "new":
            run(arguments, folder)
        assert {name: content(folder / name) for name in left} == expected


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
@pytest.mark.parametrize("command", ["train", "retrain", "predict"])
def test_a_full_disk_is_told_and_what_was_there_stays(command, inputs, tmp_path):
    arguments, left = COMMANDS[command]
    folder = tmp_path / "small"
    folder.mkdir()
    size = sum(file.stat().st_size for file in inputs.rglob("*") if file.is_file())
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size + (1 << 17)}", "none", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        copy(f"{inputs}/.", folder)
        filler = folder / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(1 << 24))
        process = start(arguments, folder)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 2
        assert b"No space left on device" in said
        assert b"Traceback" not in said
        assert {name: content(folder / name) for name in left} == {
            name: content(inputs / name) for name in left
        }
    finally:
        subprocess.run(["umount", folder], check=True)
