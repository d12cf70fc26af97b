"""Files that may be gzipped, opened so that a small file cannot fill the memory."""

from __future__ import annotations

import gzip
import io
import os
from typing import BinaryIO, cast

MOST_TIMES = 200
"""A packed file may unpack to this many times its size: tables and texts take up 3 to 20 times theirs, while
deflate packs a run of one byte a thousand times denser."""
FREE_BYTES = 1 << 26
"""Up to here, a packed file may unpack to as many times its size as it likes."""

_BUFFER = 1 << 17


def most_unpacked(path: str | os.PathLike[str]) -> int:
    """How many bytes a packed file may unpack to.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    int

    Raises
    ------
    OSError
        If there is no such file.
    """
    return max(FREE_BYTES, MOST_TIMES * os.stat(path).st_size)


def open_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; one whose name ends in .gz is unpacked on the way.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    binary file
        Where a gzip file unpacks to more than `most_unpacked` allows, reading raises OSError and has kept no
        more than that.

    Raises
    ------
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt.gz"
    >>> _ = path.write_bytes(gzip.compress(b"one\\ntwo\\n"))
    >>> with open_bytes(path) as file:
    ...     list(file)
    [b'one\\n', b'two\\n']
    """
    if os.fspath(path).lower().endswith(".gz"):
        return cast("BinaryIO", io.BufferedReader(_Bounded(path), _BUFFER))
    return open(path, "rb")


class _Bounded(io.RawIOBase):
    """What a gzip file unpacks to, up to a bound."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._most = self._left = most_unpacked(path)
        self._file = gzip.open(path)  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        n = self._file.readinto(buffer)
        self._left -= n
        if self._left < 0:
            raise OSError(
                f"unpacks to more than {self._most:,} bytes, the bound for a file of its size"
                f" ({MOST_TIMES} times it, at least {FREE_BYTES:,}); if you trust it, unpack it with gunzip"
                " and give the plain file"
            )
        return n

    def close(self) -> None:
        self._file.close()
        super().close()
