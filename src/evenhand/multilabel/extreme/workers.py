"""Problems handed out to workers by joblib: threads, processes, or the hosts of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from joblib import Parallel, delayed

from evenhand.multilabel.extreme.levels import Block
from evenhand.multilabel.extreme.node import NodeProblem

Name = TypeVar("Name", bound=Hashable)

_ATTEMPTS = 5  # at all problems, should workers die


def solve_all(
    names: Sequence[Name], problem: Callable[[Name], NodeProblem], *, n_jobs: int | None
) -> Iterator[tuple[Name, Block]]:
    """Solve problems, in whatever order they come to an end.

    Parameters
    ----------
    names : sequence
        One a problem.
    problem : callable
        Makes the problem of a name when a worker is about to be free.
    n_jobs : int, optional
        Workers: threads, unless `joblib.parallel_config` chose another engine.

    Yields
    ------
    name
    block : Block
        Each once.

    Raises
    ------
    BrokenProcessPool
        If processes died five times; once or twice, what they had in hand is given out again.
    """
    waiting = dict.fromkeys(names)
    for attempt in range(1, _ATTEMPTS + 1):
        jobs = (delayed(_solve)(name, problem(name)) for name in list(waiting))
        try:
            for name, block in Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator_unordered")(
                jobs
            ):
                del waiting[name]
                yield name, block
            return
        except BrokenProcessPool:
            if attempt == _ATTEMPTS:
                raise


def _solve(name: Name, problem: NodeProblem) -> tuple[Name, Block]:
    return name, problem.solve()
