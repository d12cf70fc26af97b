"""Progress bars with rate and time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from evenhand.multilabel.training import Progress as Report
from evenhand.terminal import new_bar


@contextmanager
def progress_bar(show: bool, unit: str) -> Iterator[Report | None]:
    """A bar on the error stream for work that reports (what, done, total).

    Parameters
    ----------
    show : bool
        False: nothing is shown and None is given.
    unit : str
        What is counted, in the plural.

    Yields
    ------
    callable or None
        To be called with what is being done, how much is done and how much there is.
    """
    if not show:
        yield None
        return
    with new_bar() as bar:
        task = bar.add_task("", total=None, unit=unit, visible=False)

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total, visible=True)

        yield report
