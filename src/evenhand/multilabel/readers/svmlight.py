"""Multi-label svmlight (libsvm) text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from evenhand.multilabel.data import DataError, MultilabelData
from evenhand.multilabel.readers import _rows
from evenhand.multilabel.readers._files import PathLike, blocks, lines, names_from


def read_svmlight(
    path: PathLike,
    *,
    n_features: int | None = None,
    zero_based: bool | Literal["auto"] = "auto",
    label_names: PathLike | Sequence[str] | None = None,
) -> MultilabelData:
    """Read multi-label svmlight text: rows `label,label feature:value feature:value # comment`.

    Parameters
    ----------
    path : path-like
        The file, plain or gzipped (.gz).
    n_features : int, optional
        Number of features d. Without it, up to the highest one found; give it for a test file, whose
        highest feature may be lower than the training file's.
    zero_based : bool or "auto"
        Whether feature ids count from 0 (True) or from 1 (False). "auto" takes them to count from 1 if 0 does
        not occur in the file; say it outright where several files belong together. Label ids are not shifted.
    label_names : path-like or sequence of str, optional
        Names of the labels 0, 1, 2 …, or a text file with one a line; all are kept. Without it, the labels
        are the numbers that occur, named by themselves.

    Returns
    -------
    MultilabelData
        Sparse X, shape (n, d), and Y. Its ``notes["zero_based"]``, "yes" or "no", says how ids were counted.

    Raises
    ------
    DataError
        If the file is not as described; with file and line.

    Notes
    -----
    A row without labels starts with a space, or with its first feature. A feature that stands twice in a
    row is summed, a label that stands twice counts once. A line that is all comment is no row; a blank
    line is an error unless only blank lines follow.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "train.svm"
    >>> _ = path.write_text("3,7 1:0.5 3:1 # first\\n7 2:2\\n")
    >>> data = read_svmlight(path)
    >>> data.X.toarray()
    array([[0.5, 0. , 1. ],
           [0. , 2. , 0. ]], dtype=float32)
    >>> data.tags(0), data.tags(1)
    (['3', '7'], ['7'])
    """
    if n_features is not None and not 1 <= n_features <= _rows.MAX_ID:
        raise DataError(f"n_features must be from 1 to {_rows.MAX_ID}, not {n_features}")
    if not isinstance(zero_based, bool) and zero_based != "auto":
        raise DataError(f"zero_based must be True, False or 'auto', not {zero_based!r}")
    names = None if label_names is None else names_from(label_names)
    limits = {} if names is None else {"n_labels": len(names)}
    if n_features is not None:
        # Counted from 1, the highest id is n_features itself; how this file counts may only show at its end.
        limits["n_features"] = n_features + (zero_based is not True)
    rows = _rows.parse(blocks(path), path, comments=True, **limits)
    if rows.n_rows == 0:
        raise DataError(f"{path}: no rows, only comments or blank lines")
    lowest, highest = (int(rows.features.min()), int(rows.features.max())) if rows.features.size else (0, -1)
    one_based = zero_based is False or (zero_based == "auto" and lowest > 0)
    if one_based and lowest == 0 and highest >= 0:
        raise _at(path, rows, 0, "feature id 0, but zero_based=False says that ids count from 1")
    if n_features is not None and highest - one_based >= n_features:
        raise _at(path, rows, highest, f"feature id {highest} is too large for {n_features} features from 0")
    rows.features[:] -= one_based
    if names is None:
        numbers, rows.labels[:] = np.unique(rows.labels, return_inverse=True)
        names = tuple(map(str, numbers))
    return MultilabelData(
        X=rows.feature_matrix(max(highest + 1 - one_based, 0) if n_features is None else n_features),
        Y=rows.label_matrix(len(names)),
        label_names=names,
        instance_ids=tuple(map(str, range(rows.n_rows))),
        source=str(path),
        notes={"zero_based": "no" if one_based else "yes"},
    )


def _at(path: PathLike, rows: _rows.Rows, feature: int, fault: str) -> DataError:
    """Error at the line of the first row with a feature."""
    at = np.flatnonzero(rows.features == feature)[0]
    row = int(np.searchsorted(rows.feature_start, at, side="right")) - 1
    row_lines = (number for number, line in lines(path) if line.split("#", 1)[0].strip())
    return DataError(f"{path}:{next(number for i, number in enumerate(row_lines) if i == row)}: {fault}")
