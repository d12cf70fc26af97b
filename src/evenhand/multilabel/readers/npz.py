"""Pairs of SciPy .npz files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from evenhand.multilabel.data import DataError, MultilabelData, as_label_matrix
from evenhand.multilabel.readers._files import PathLike, names_from


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
        If a file is not a sound .npz matrix, or the two do not fit. Files with pickled objects are refused.

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
    names = range(Y.shape[1]) if label_names is None else names_from(label_names, Y.shape[1])
    return MultilabelData(
        X=X,
        Y=Y,
        label_names=tuple(map(str, names)),
        instance_ids=tuple(map(str, range(X.shape[0]))),
        source=str(x_path),
    )


def _load(path: PathLike) -> sparse.csr_array[Any]:
    try:
        matrix: Any = sparse.load_npz(path)
        if matrix.format in ("csr", "csc", "bsr"):
            # SciPy trusts these indices; a broken file would make it read outside its memory.
            matrix.check_format(full_check=True)
        return sparse.csr_array(matrix)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a sound .npz matrix of scipy.sparse.save_npz ({error})") from error
