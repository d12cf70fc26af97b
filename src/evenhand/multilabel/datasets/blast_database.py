"""Protein databases of BLAST, version 4: three files, an index (.pin), headers (.phr) and sequences (.psq).

The index gives the first byte of each record in the other two. A header is ASN.1 in BER, of which only the
title is read here. A residue is one byte, NCBIstdaa; a zero byte stands before each sequence and after all.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evenhand.multilabel.data import DataError

_VERSION, _PROTEIN = 4, 1
_RESIDUES = b"-ABCDEFGHIKLMNPQRSTVWXYZU*OJ"  # by their NCBIstdaa codes
_LETTERS = _RESIDUES.ljust(256, b"?")
_TITLE = bytes.fromhex("30803080a0801a")  # a set, its first definition line, that line's title: a text
_MEND = "the database is damaged; make or fetch it again"


@dataclass(frozen=True)
class _Index:
    headers: npt.NDArray[Any]
    sequences: npt.NDArray[Any]


def read_proteins(stem: Path) -> Iterator[tuple[str, str]]:
    """Title and sequence of each record, in the order of the database.

    Parameters
    ----------
    stem : Path
        The files without their endings .pin, .phr and .psq. The latter two are mapped, not read as a whole.

    Yields
    ------
    title : str
    sequence : str
        Letters of NCBIstdaa: the 20 amino acids, B, J, O, U, X, Z and *.

    Raises
    ------
    DataError
        If a file is missing, of another version, or does not fit the others.
    """
    header_file, sequence_file = stem.with_name(f"{stem.name}.phr"), stem.with_name(f"{stem.name}.psq")
    headers, sequences = _mapped(header_file), _mapped(sequence_file)
    index = _read_index(stem.with_name(f"{stem.name}.pin"), len(headers), len(sequences))
    places = zip(pairwise(index.headers.tolist()), pairwise(index.sequences.tolist()))
    for number, ((header, next_header), (start, end)) in enumerate(places, 1):
        text = sequences[start : end - 1].translate(_LETTERS)
        if sequences[start - 1] or sequences[end - 1] or b"?" in text or b"-" in text:
            raise DataError(f"{sequence_file}: record {number} is no protein sequence; {_MEND}")
        title = _title(headers[header:next_header])
        if title is None:
            raise DataError(f"{header_file}: record {number} does not begin with a title; {_MEND}")
        yield title, text.decode("ascii")


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: the file is empty
        raise DataError(f"{path}: cannot be read ({error}); {_MEND}") from error


def _read_index(path: Path, header_bytes: int, sequence_bytes: int) -> _Index:
    content = _mapped(path)
    try:
        version, kind = struct.unpack_from(">ii", content)
        if (version, kind) != (_VERSION, _PROTEIN):
            raise DataError(
                f"{path}: version {version}, type {kind}; only protein databases (type {_PROTEIN}) of version"
                f" {_VERSION} can be read, which makeblastdb -blastdb_version 4 makes"
            )
        at = 8
        for _ in ("title", "date"):
            at += 4 + struct.unpack_from(">I", content, at)[0]
        n = struct.unpack_from(">I", content, at)[0]
        at += 16  # n, number of residues (8 bytes), longest sequence
        offsets = np.frombuffer(content, dtype=">u4", count=2 * (n + 1), offset=at).astype(np.int64)
    except DataError:
        raise
    except (struct.error, ValueError) as error:
        raise DataError(f"{path}: ends within its offsets; {_MEND}") from error
    index = _Index(offsets[: n + 1], offsets[n + 1 :])
    bounds = (int(offsets[0]), int(offsets[n]), int(offsets[n + 1]), int(offsets[-1]))
    rising = (np.diff(index.headers) > 0).all() and (np.diff(index.sequences) > 0).all()
    if bounds != (0, header_bytes, 1, sequence_bytes) or not rising:
        raise DataError(f"{path}: its offsets do not fit the headers and sequences; {_MEND}")
    return index


def _title(header: bytes) -> str | None:
    if not header.startswith(_TITLE) or len(header) < len(_TITLE) + 1:
        return None
    at = len(_TITLE) + 1
    length = header[at - 1]
    if length & 0x80:  # the lower bits say how many bytes the length takes
        size = length & 0x7F
        length = int.from_bytes(header[at : at + size], "big")
        at += size
    text = header[at : at + length]
    return text.decode("latin-1") if len(text) == length else None
