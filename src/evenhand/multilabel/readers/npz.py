"""Pairs of SciPy .npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from evenhand.gzipped import most_unpacked
from evenhand.multilabel.data import DataError, MultilabelData, as_label_matrix, check_pointers
from evenhand.multilabel.readers._files import PathLike, names_from, numbers_as_names


def read_npz(
    x_path: PathLike, y_path: PathLike | None, *, label_names: PathLike | Sequence[str] | None = None
) -> MultilabelData:
    """Read features and labels from two files that `scipy.sparse.save_npz` wrote.

    Parameters
    ----------
    x_path, y_path : path-like
        Features, shape (n, d), and labels, shape (n, L). Whatever is not zero is a label. No file of labels
        (None): there is no label.
    label_names : path-like or sequence of str, optional
        The L names, or a text file with one a line. Without it the names are the column numbers.

    Returns
    -------
    MultilabelData
        Sparse X.

    Raises
    ------
    DataError
        If a file is not a sound .npz matrix, or the two do not fit. Files with pickled objects are refused,
        and those that unpack to more than 64 MiB and more than 200 times their size.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> sparse.save_npz(folder / "X.npz", sparse.csr_array([[0.5, 0.0], [0.0, 2.0]]))
    >>> sparse.save_npz(folder / "Y.npz", sparse.csr_array([[1, 1], [0, 1]]))
    >>> read_npz(folder / "X.npz", folder / "Y.npz", label_names=["a", "b"]).tags(0)
    ['a', 'b']
    """
    X = _load(x_path)
    Y = sparse.csr_array((X.shape[0], 0), dtype=np.float32) if y_path is None else _load(y_path)
    if X.shape[0] != Y.shape[0]:
        raise DataError(
            f"{x_path} has {X.shape[0]} rows, {y_path} has {Y.shape[0]}; are they of one data set?"
        )
    if X.shape[0] == 0:
        raise DataError(f"{x_path}: no rows")
    try:
        Y = as_label_matrix(Y)
    except DataError as error:
        raise DataError(f"{y_path}: {error}") from error
    n_labels = Y.shape[1]
    names = (
        numbers_as_names(str(y_path), n_labels) if label_names is None else names_from(label_names, n_labels)
    )
    return MultilabelData(
        X=X,
        Y=Y,
        label_names=names,
        instance_ids=tuple(map(str, range(X.shape[0]))),
        source=str(x_path),
    )


def _load(path: PathLike) -> sparse.csr_array[Any]:
    try:
        unpacked = _unpacked_size(path)
        matrix: Any = sparse.load_npz(path)
        if matrix.format in ("csr", "csc", "bsr"):
            # SciPy trusts these indices; a broken file would make it read outside its memory.
            check_pointers(matrix.indptr, len(matrix.indices))
            matrix.check_format(full_check=True)
        if matrix.dtype.kind not in "biuf":
            raise DataError(f"{path}: the matrix holds {matrix.dtype}, not real numbers; convert it")
        if matrix.shape[0] > unpacked:  # all forms but CSR can claim any number of empty rows
            raise DataError(f"{path}: {matrix.shape[0]} rows in {unpacked} bytes; the file is damaged")
        return sparse.csr_array(matrix)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # whatever zipfile, NumPy and SciPy say of a file that is not sound
        raise DataError(
            f"{path}: not a sound .npz matrix of scipy.sparse.save_npz ({error!s:.300})"
        ) from error


def _unpacked_size(path: PathLike) -> int:
    """Bytes that the arrays take up once they are unpacked."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > (most := most_unpacked(path)):
        raise DataError(
            f"{path}: unpacks to {size:,} bytes, more than the {most:,} that a file of its size may; if you"
            " trust it, save it again with compressed=False"
        )
    return size
