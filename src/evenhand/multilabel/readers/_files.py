"""Files as blocks of whole lines, plain or gzipped, whose faults end in a DataError."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from evenhand.multilabel.data import DataError

PathLike: TypeAlias = str | os.PathLike[str]

_BLOCK = 1 << 23  # bytes; large enough that the work per block outweighs the work between blocks
_BOM = b"\xef\xbb\xbf"


def blocks(path: PathLike, size: int = _BLOCK) -> Iterator[bytes]:
    """Blocks of about `size` bytes that end with a line end (the last one may not); a BOM is taken off.

    Raises DataError where the file cannot be read, is broken or is empty.
    """
    rest = b""
    empty = True
    for part in _parts(path, size):
        rest += part.removeprefix(_BOM) if empty else part
        empty = False
        cut = rest.rfind(b"\n") + 1
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest
    elif empty or cut == 0:
        raise DataError(f"{path}: the file is empty")


def lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Lines without their ends, counted from 1, as UTF-8 text."""
    number = 0
    for block in blocks(path):
        for line in block.split(b"\n")[: -1 if block.endswith(b"\n") else None]:
            number += 1
            try:
                yield number, line.removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                fault = f"not UTF-8 text ({error.reason}); convert the file"
                raise DataError(f"{path}:{number}: {fault}") from error


def solid_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers; a blank one may only stand at the end."""
    blank = 0
    for number, line in lines(path):
        if not line.strip():
            blank = blank or number
        elif blank:
            raise DataError(f"{path}:{blank}: blank line; take it out")
        else:
            yield number, line


def names_from(names: PathLike | Sequence[str], expected: int | None = None) -> tuple[str, ...]:
    """Label names, given as such or as a text file with one name a line, `expected` of them."""
    if isinstance(names, str | os.PathLike):
        source = os.fspath(names)
        found = tuple(line for _, line in lines(names))
    else:
        source = "label_names"
        found = tuple(names)
    if expected is not None and len(found) != expected:
        raise DataError(f"{source}: {len(found)} names for {expected} labels; give one name a label")
    return found


def _parts(path: PathLike, size: int) -> Iterator[bytes]:
    try:
        with gzip.open(path) if os.fspath(path).endswith(".gz") else open(path, "rb") as file:
            while part := file.read(size):
                yield part
    except EOFError as error:
        raise DataError(f"{path}: the gzip file ends too early; fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a sound gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
