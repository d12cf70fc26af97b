import subprocess
import sys
import time

import pytest

from evenhand.experiments.grid import Cell, play_grid
from evenhand.experiments.runs import RunError

CELLS = [Cell(method, "coins", seed, {"bias": 0.5}) for method in ("a", "b") for seed in (0, 1)]


def tossing():
    def toss(run):  # of no module, so that other processes are sent all of it
        run.keep(0)
        run.log({"step": 0})
        return {"heads": run.config["bias"] + run.seed}

    return toss


def only_a(run):
    if run.method == "b":
        raise ArithmeticError("it stood on its edge")
    return {"heads": 1.0}


def forbidden(run):
    raise AssertionError("played again")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_every_cell_is_played_once(tmp_path, n_jobs):
    runs = play_grid(CELLS, tossing(), tmp_path, n_jobs=n_jobs)
    assert [(run.method, run.seed, run.figures) for run in runs] == [
        (cell.method, cell.seed, {"heads": 0.5 + cell.seed}) for cell in CELLS
    ]
    assert [run.figures for run in play_grid(CELLS, forbidden, tmp_path)] == [run.figures for run in runs]


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path):
    with pytest.raises(RuntimeError, match=r"2 of 4 runs failed; (?s:.)*stood on its edge"):
        play_grid(CELLS, only_a, tmp_path)
    runs = play_grid(CELLS, tossing(), tmp_path)  # those that failed are played now
    assert [run.figures["heads"] for run in runs] == [1.0, 1.0, 0.5, 1.5]


def test_other_configurations_are_not_mixed_up(tmp_path):
    play_grid(CELLS, tossing(), tmp_path)
    with pytest.raises(RunError, match="is a run with config"):
        play_grid([Cell("a", "coins", 0, {"bias": 0.9})], tossing(), tmp_path)
    with pytest.raises(ValueError, match="two cells have the same folder"):
        play_grid([Cell("a b", "coins", 0), Cell("a, b", "coins", 0)], tossing(), tmp_path)


def test_a_sign_tells_folders_apart(tmp_path):
    play_grid(
        [Cell("a+1", "coins", 0, {"bias": 0.5}), Cell("a-1", "coins", 0, {"bias": 0.5})], tossing(), tmp_path
    )


LEFT_OVER = """
import pathlib, sys, time
from evenhand.experiments.grid import Cell, play_grid

def slow(run):
    run.log({"step": 0})
    time.sleep(1)
    return {"heads": 7.0}

play_grid([Cell("a", "coins", 0)], slow, pathlib.Path(sys.argv[1]))
"""


def test_a_cell_that_another_process_is_still_at_is_not_played_beside_it(tmp_path):
    """As by a worker of a grid that was killed and started again."""
    with subprocess.Popen([sys.executable, "-c", LEFT_OVER, str(tmp_path)]) as left_over:
        while not list(tmp_path.rglob("metrics.jsonl")):
            assert left_over.poll() is None
            time.sleep(0.02)
        (run,) = play_grid([Cell("a", "coins", 0)], forbidden, tmp_path)
    assert run.figures == {"heads": 7.0}
    assert len(list(run.records())) == 1
