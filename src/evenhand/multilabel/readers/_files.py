"""Files as blocks of whole lines, plain or gzipped, whose faults end in a DataError."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from evenhand.gzipped import open_bytes
from evenhand.multilabel.data import DataError, check_unique

PathLike: TypeAlias = str | os.PathLike[str]

_BLOCK = 1 << 23  # bytes; large enough that the work per block outweighs the work between blocks
MOST_UNNAMED = 1 << 24
"""Labels that are numbered where a file only says how many there are, which it can say of any number."""
_BOM = b"\xef\xbb\xbf"
_PACKED = (b"\x1f\x8b", b"x\x01", b"x\x9c", b"x\xda", b"\x28\xb5\x2f\xfd")  # gzip, zlib (three) and zstd
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def without_gz(path: PathLike) -> str:
    """A path without the .gz of a gzipped file, in small letters or capitals."""
    text = os.fspath(path)
    return text[:-3] if text.lower().endswith(".gz") else text


def ending_of(path: PathLike) -> str:
    """What kind of file the name says it is, in small letters: the ending before a .gz."""
    return os.path.splitext(without_gz(path))[1].lower()


def blocks(path: PathLike, size: int = _BLOCK) -> Iterator[bytes]:
    """Blocks of about `size` bytes that end with a line end (the last one may not); a BOM is taken off.

    Raises DataError where the file cannot be read, is broken or is empty.
    """
    rest: list[bytes] = []  # of a line whose end is still to come; joined once, however long it is
    empty = True
    for number, part in enumerate(_parts(path, size)):
        if not number and part.startswith(_UTF16):
            raise DataError(f"{path}:1: not UTF-8 text but UTF-16; convert the file")
        if not number and part.startswith(_PACKED):  # polars would unpack it, without a bound
            raise DataError(
                f"{path}: packed, which its name does not say; unpack it, or let a gzip file's name end in"
                " .gz"
            )
        rest.append(part if number else part.removeprefix(_BOM))
        if b"\n" in part:
            last = rest.pop()
            cut = last.rfind(b"\n") + 1
            yield b"".join([*rest, last[:cut]])
            rest, empty = [last[cut:]], False
    if end := b"".join(rest):
        yield end
    elif empty:
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


def numbers_as_names(place: str, n_labels: int) -> tuple[str, ...]:
    """Names of labels that have none: 0, 1, 2 …, not more of them than memory should be asked for.

    Parameters
    ----------
    place : str
        Where their number stands, for the message.
    n_labels : int
    """
    if n_labels > MOST_UNNAMED:
        raise DataError(
            f"{place}: {n_labels} labels; more than {MOST_UNNAMED:,} are read only by name: mend the number,"
            " or give label_names"
        )
    return tuple(map(str, range(n_labels)))


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
    check_unique(found, source)
    return found


def _parts(path: PathLike, size: int) -> Iterator[bytes]:
    try:
        with open_bytes(path) as file:
            while part := file.read(size):
                yield part
    except EOFError as error:
        raise DataError(f"{path}: the gzip file ends too early; fetch it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a sound gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
