"""Readers: files of the usual formats into `MultilabelData`, and images with tags into `ImageData`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from evenhand.multilabel.data import DataError, MultilabelData
from evenhand.multilabel.readers._files import ending_of
from evenhand.multilabel.readers.arff import read_arff
from evenhand.multilabel.readers.images import ImageData, read_images
from evenhand.multilabel.readers.npz import read_npz
from evenhand.multilabel.readers.svmlight import read_svmlight
from evenhand.multilabel.readers.table import read_table
from evenhand.multilabel.readers.xmc import read_xmc

__all__ = [
    "ImageData",
    "read",
    "read_arff",
    "read_images",
    "read_npz",
    "read_svmlight",
    "read_table",
    "read_xmc",
    "reader_of",
]

_READERS: dict[str, Callable[..., MultilabelData]] = {
    ".csv": read_table,
    ".tsv": read_table,
    ".jsonl": read_table,
    ".ndjson": read_table,
    ".parquet": read_table,
    ".txt": read_xmc,
    ".svm": read_svmlight,
    ".libsvm": read_svmlight,
    ".svmlight": read_svmlight,
    ".arff": read_arff,
    ".npz": read_npz,
}


def read(path: str | os.PathLike[str], **options: Any) -> MultilabelData:
    """Read a data set with the reader that fits the file's ending (before a .gz).

    Parameters
    ----------
    path : path-like
        .csv, .tsv, .jsonl, .ndjson, .parquet: `read_table`; .txt: `read_xmc`; .svm, .libsvm, .svmlight:
        `read_svmlight`; .arff: `read_arff`; .npz (features, with `y_path`): `read_npz`.
    **options
        The reader's own.

    Returns
    -------
    MultilabelData

    Raises
    ------
    DataError
        If no reader fits, the reader does not know an option or misses one, or the file is bad.

    Notes
    -----
    Memory is bounded by the file: one that is packed (.gz, .npz, Parquet) may unpack to 64 MiB or 200 times
    its size, whichever is more, and labels without names may be 16,777,216.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "train.txt"
    >>> _ = path.write_text("1 2 2\\n1 0:0.5\\n")
    >>> read(path).tags(0)
    ['1']
    """
    reader = reader_of(path)
    parameters = dict(list(inspect.signature(reader).parameters.items())[1:])
    for name in options:
        if name not in parameters:
            raise DataError(
                f"{path}: {reader.__name__} has no option {name!r}; its options are {', '.join(parameters)}"
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in options:
            raise DataError(f"{path}: {reader.__name__} needs the option {name!r}")
    return reader(path, **options)


def reader_of(path: str | os.PathLike[str]) -> Callable[..., MultilabelData]:
    """The reader that fits the file's ending, see `read`.

    Parameters
    ----------
    path : path-like
        The file need not exist.

    Returns
    -------
    callable

    Raises
    ------
    DataError
        If no reader fits.

    Examples
    --------
    >>> reader_of("train.csv.gz").__name__
    'read_table'
    """
    ending = ending_of(path)
    reader = _READERS.get(ending)
    if reader is None:
        raise DataError(f"{path}: no reader for the ending {ending!r}; there are {', '.join(_READERS)}")
    return reader
