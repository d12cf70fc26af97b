"""Files that appear when they are complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Put a file in place at one stroke: `write` writes it beside, under a name of its own."""
    with _unfinished(path) as beside:
        write(beside)


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes its place when it is complete."""
    with _unfinished(path) as beside:
        try:
            opened = beside.open("w", encoding="utf-8", newline="")
        except OSError as error:  # the name that was asked for is the one to tell
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        with opened as file:
            yield file


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Where to write a file, which takes its place at the end; nothing is left of one that failed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            beside.unlink()
        raise
