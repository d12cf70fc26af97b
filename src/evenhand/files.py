"""Files that appear when they are complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Put a file in place at one stroke: `write` writes it beside, under a name of its own."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes its place when it is complete."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        opened = unfinished.open("w", encoding="utf-8", newline="")
    except OSError as error:  # the name that was asked for is the one to tell
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    try:
        with opened as file:
            yield file
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
