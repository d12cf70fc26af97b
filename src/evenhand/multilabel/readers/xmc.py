"""The Extreme Classification Repository's text format."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from evenhand.multilabel.data import DataError, MultilabelData
from evenhand.multilabel.readers import _rows
from evenhand.multilabel.readers._files import PathLike, blocks, names_from, numbers_as_names


def read_xmc(path: PathLike, *, label_names: PathLike | Sequence[str] | None = None) -> MultilabelData:
    """Read XMC text: a header `N D L`, then N rows `label,label feature:value feature:value`.

    Parameters
    ----------
    path : path-like
        The file, plain or gzipped (.gz). Label and feature ids count from 0.
    label_names : path-like or sequence of str, optional
        The L names, or a text file with one a line. Without it the names are the ids, of at most 16,777,216
        labels.

    Returns
    -------
    MultilabelData
        Sparse X, shape (N, D), and Y, shape (N, L). Labels without a positive are kept.

    Raises
    ------
    DataError
        If the file is not as described; with file and line.

    Notes
    -----
    A row without labels starts with a space, or with its first feature; labels without features are allowed.
    A feature that stands twice in a row is summed, a label that stands twice counts once. A blank line is an
    error unless only blank lines follow: it could be a slip or an instance without anything, and either guess
    would shift or lose rows. The file is parsed in blocks; memory holds the numbers (8 bytes a feature, 12 if
    there are 2^31 or more; about twice that while the blocks are joined), never the whole text.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "train.txt"
    >>> _ = path.write_text("2 3 2\\n0,1 0:0.5 2:1\\n 1:2\\n")
    >>> data = read_xmc(path, label_names=["tree", "leaf"])
    >>> data.X.toarray()
    array([[0.5, 0. , 1. ],
           [0. , 2. , 0. ]], dtype=float32)
    >>> data.tags(0), data.tags(1)
    (['tree', 'leaf'], [])
    """
    waiting = blocks(path)
    header, _, rest = next(waiting).partition(b"\n")
    n_rows, n_features, n_labels = _header(header, path)
    rows = _rows.parse(
        itertools.chain([rest], waiting),
        path,
        first_line=2,
        n_labels=n_labels,
        n_features=n_features,
        max_rows=n_rows,
    )
    if rows.n_rows < n_rows:
        raise DataError(f"{path}: the header says {n_rows} rows, the file has {rows.n_rows}; is it cut off?")
    names = (
        numbers_as_names(f"{path}:1", n_labels) if label_names is None else names_from(label_names, n_labels)
    )
    return MultilabelData(
        X=rows.feature_matrix(n_features),
        Y=rows.label_matrix(n_labels),
        label_names=names,
        instance_ids=tuple(map(str, range(n_rows))),
        source=str(path),
    )


def _header(line: bytes, path: PathLike) -> tuple[int, int, int]:
    fields = line.split()
    if len(fields) != 3 or not all(field.isdigit() and len(field) < 19 for field in fields):
        text = line[:60].decode("utf-8", "backslashreplace").strip()
        raise DataError(
            f"{path}:1: no header; the first line has to be `N D L` (rows, features, labels), not {text!r}"
        )
    n_rows, n_features, n_labels = (int(field) for field in fields)
    if n_rows == 0:
        raise DataError(f"{path}:1: the header says 0 rows; there is nothing to read")
    if max(n_features, n_labels) > _rows.MAX_ID + 1:
        raise DataError(f"{path}:1: the header asks for more than {_rows.MAX_ID + 1} features or labels")
    return n_rows, n_features, n_labels
