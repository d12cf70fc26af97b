"""Problems handed out to workers by joblib: threads, processes, or the hosts of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

from joblib import Parallel, delayed

from evenhand.multilabel.extreme.levels import Block
from evenhand.multilabel.extreme.node import NodeProblem

_ATTEMPTS = 5  # at all problems, should workers die


def solve_all(
    numbers: Sequence[int], problem: Callable[[int], NodeProblem], *, n_jobs: int | None
) -> Iterator[tuple[int, Block]]:
    """Solve problems, in whatever order they come to an end.

    Parameters
    ----------
    numbers : sequence of int
    problem : callable
        Makes the problem of a number when a worker is about to be free.
    n_jobs : int, optional
        Workers: threads, unless `joblib.parallel_config` chose another engine.

    Yields
    ------
    number : int
    block : Block
        Each once.

    Raises
    ------
    BrokenProcessPool
        If processes died five times; before that, what they had in hand is given out again.
    """
    waiting = dict.fromkeys(numbers)
    for attempt in range(1, _ATTEMPTS + 1):
        jobs = (delayed(_solve)(number, problem(number)) for number in list(waiting))
        try:
            for number, block in Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator_unordered")(
                jobs
            ):
                del waiting[number]
                yield number, block
            return
        except BrokenProcessPool:
            if attempt == _ATTEMPTS:
                raise


def _solve(number: int, problem: NodeProblem) -> tuple[int, Block]:
    return number, problem.solve()
