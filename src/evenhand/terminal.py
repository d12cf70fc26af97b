"""What the commands print with: lines, tables and bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

_FILE_WIDTH = 110  # of tables where the output is no terminal


def tell(message: str) -> None:
    """Lines of the result, on the standard output."""
    Console(file=sys.stdout, highlight=False, soft_wrap=True).print(Text(message))


def say(message: str) -> None:
    """A line for the person at the screen, on the error stream."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(Text(message))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table below its title; the first column is text, numbers stand to the right."""
    table = Table(box=SIMPLE_HEAD, show_header=any(columns))
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else Text(as_cell(cell)) for cell in row))
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(Text(f"\n{title}", style="bold"), table)


def as_cell(value: float | int | None) -> str:
    """A count with separators, a number with four digits, a dash for what is not there."""
    if value is None or value != value:
        return "–"
    return f"{value:,}" if isinstance(value, Integral) else f"{value:.4g}"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A moving sign on the error stream for work that cannot say how far it is."""
    with Console(file=sys.stderr).status(Text(what)):
        yield


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {task.fields['unit']}/s")


def new_bar() -> Progress:
    """rich's bar with rate and time left on the error stream; its tasks need a field `unit`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


@contextmanager
def progress_bar(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on the error stream.

    Parameters
    ----------
    what : str
        What is being done.
    total : int
    unit : str
        What is counted, in the plural.

    Yields
    ------
    callable
        To be called with how many more are done.
    """
    with new_bar() as bar:
        task = bar.add_task(what, total=total, unit=unit)
        yield lambda more: bar.advance(task, more)
