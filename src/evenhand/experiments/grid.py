"""Methods × data sets × seeds, each cell a run folder: played once, side by side, taken up after a kill."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from evenhand.experiments.runs import Run
from evenhand.terminal import progress_bar


@dataclass(frozen=True)
class Cell:
    """One method on one data set with one seed.

    Parameters
    ----------
    method, data : str
    seed : int
    config : mapping
        What the method needs to know; it is kept in the run folder.
    """

    method: str
    data: str
    seed: int
    config: Mapping[str, Any] = field(default_factory=dict)

    def folder(self, out: Path) -> Path:
        """Where its run is.

        Examples
        --------
        >>> Cell("game, α = 0", "tags", 3).folder(Path("runs")).as_posix()
        'runs/tags/game-α-0/seed-3'
        """
        data, method = (re.sub(r"[^\w.+-]+", "-", name).strip("-") for name in (self.data, self.method))
        return out / data / method / f"seed-{self.seed}"


Work = Callable[[Run], Mapping[str, float]]
"""Plays a cell, logs its records, and returns its figures.

It may find records of a try that was killed: `Run.keep` drops those that it does not go on from."""


def play_grid(cells: Sequence[Cell], work: Work, out: Path, *, n_jobs: int = 1) -> list[Run]:
    """Play all cells that are not finished yet, some at a time.

    Parameters
    ----------
    cells : sequence of Cell
    work : callable
        From a run to its figures.
    out : Path
        The folder of all runs.
    n_jobs : int
        Processes.

    Returns
    -------
    list of Run
        In the order of the cells, all finished.

    Raises
    ------
    RunError
        If a folder holds a run of another configuration.
    ValueError
        If two cells have the same folder.
    RuntimeError
        If cells failed; the others are finished all the same, and what is in the message tells why.

    Examples
    --------
    >>> import tempfile
    >>> cells = [Cell(method, "coins", seed) for method in ("a", "b") for seed in (0, 1)]
    >>> runs = play_grid(cells, lambda run: {"heads": run.seed}, Path(tempfile.mkdtemp()))
    >>> [(run.method, run.figures) for run in runs][:2]
    [('a', {'heads': 0.0}), ('a', {'heads': 1.0})]
    """
    folders = [cell.folder(out) for cell in cells]
    if len(set(folders)) < len(folders):
        raise ValueError("two cells have the same folder; give their methods, data or seeds other names")
    runs = [
        Run.start(place, cell.method, cell.data, cell.seed, cell.config)
        for place, cell in zip(folders, cells, strict=True)
    ]
    waiting = [run for run in runs if run.figures is None]
    failed = []
    with progress_bar("runs", len(runs), "runs") as advance:
        advance(len(runs) - len(waiting))
        jobs = (delayed(_play)(run, work) for run in waiting)
        for folder, trouble in Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs):
            advance(1)
            if trouble:
                failed.append(f"{folder}:\n{trouble}")
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(runs)} runs failed; the first was {failed[0]}")
    return runs


def _play(run: Run, work: Work) -> tuple[Path, str | None]:
    try:
        with run.alone():
            if run.figures is None:
                run.finish(work(run))
    except Exception:  # the other cells go on
        return run.folder, traceback.format_exc()
    return run.folder, None
