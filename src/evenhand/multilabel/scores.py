"""Scores of labels, dense or top-k: checked at the door, ranked, and walked through in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel._kernels import look_up, rank_dense, rank_sparse, sort_parts, stored_in
from evenhand.multilabel.data import as_label_matrix
from evenhand.multilabel.options import check_real

Scores: TypeAlias = "sparse.csr_array[Any] | npt.NDArray[Any]"
"""ndarray (n, L), or csr_array (n, L) whose stored entries (also a stored 0.0) are the only candidates."""

Columns: TypeAlias = "tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]"
"""Some labels, where each one's scores start, and the scores; see `sorted_columns`."""

_CHUNK = 1 << 20  # entries: a few MB, which also keeps a chunk's sort within the processor's caches


def as_scores(scores: Any, *, shape: tuple[int, int] | None = None, n_labels: int | None = None) -> Scores:
    """Scores in one of the project's two forms, checked.

    Parameters
    ----------
    scores : array-like or sparse array or matrix, shape (n, L)
        A score for every label, or for the candidates of each instance only.
    shape : (int, int), optional
        The shape of the labels that the scores belong to.
    n_labels : int, optional
        The number of labels that the scores must have, where the number of instances is free.

    Returns
    -------
    ndarray or csr_array, float32 or float64
        The caller's own data where nothing had to change. A csr_array has sorted indices.

    Raises
    ------
    ValueError
        If the shape is wrong, a score is NaN or infinite (the message names row and column), or a row of a
        sparse input holds one label twice.

    Examples
    --------
    >>> as_scores([[1, 0], [0, 2]], shape=(2, 2))
    array([[1., 0.],
           [0., 2.]])
    >>> as_scores([[1.0, float("nan")]])
    Traceback (most recent call last):
    ...
    ValueError: scores are nan in row 0, column 1; every score must be a finite number
    """
    check_real("scores are", scores)
    is_sparse = sparse.issparse(scores)
    given: Any = scores if is_sparse else np.asarray(scores)
    _check_shape(given.shape, shape, n_labels)
    if given.dtype.kind not in "fiub":
        raise ValueError(f"scores must be numbers, not {given.dtype}")
    dtype = given.dtype if given.dtype in (np.float32, np.float64) else np.float64
    if is_sparse:
        return _as_sparse_scores(sparse.csr_array(given, dtype=dtype))
    dense: npt.NDArray[Any] = given.astype(dtype, copy=False)
    step = _rows_per_chunk(dense)
    for start in range(0, dense.shape[0], step):
        finite = np.isfinite(dense[start : start + step])
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise _not_finite(dense[start + row, column], start + row, column)
    return dense


def _check_shape(given: tuple[int, ...], shape: tuple[int, int] | None, n_labels: int | None) -> None:
    if len(given) != 2:
        raise ValueError(
            f"scores must be two-dimensional (instances by labels), not {len(given)}-dimensional"
        )
    if shape is not None and given != shape:
        raise ValueError(
            f"scores have shape {given} and the labels {shape}; both must be of the same instances and labels"
        )
    if n_labels is not None and given[1] != n_labels:
        raise ValueError(f"scores are of {given[1]} labels, but {n_labels} labels were fitted")


def _as_sparse_scores(scores: sparse.csr_array[Any]) -> sparse.csr_array[Any]:
    if not scores.has_sorted_indices:
        scores = scores.sorted_indices()
    rows = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    twice = (rows[1:] == rows[:-1]) & (scores.indices[1:] == scores.indices[:-1])
    if twice.any():
        at = int(np.flatnonzero(twice)[0])
        raise ValueError(
            f"scores hold label {scores.indices[at]} twice in row {rows[at]}; one score is meant"
        )
    bad = np.flatnonzero(~np.isfinite(scores.data))
    if bad.size:
        raise _not_finite(scores.data[bad[0]], int(rows[bad[0]]), int(scores.indices[bad[0]]))
    return scores


def _not_finite(value: float, row: int, column: int) -> ValueError:
    return ValueError(
        f"scores are {value} in row {row}, column {column}; every score must be a finite number"
    )


def rank_labels(scores: Scores, k: int) -> npt.NDArray[np.int64]:
    """The k best labels of each instance, best first; of equal scores the lower label id comes first.

    Parameters
    ----------
    scores : ndarray or csr_array, shape (n, L)
        As returned by `as_scores`.
    k : int
        How many labels, at least 1.

    Returns
    -------
    ndarray of int64, shape (n, k)
        Label ids; -1 where an instance has fewer than k candidates.

    Examples
    --------
    >>> rank_labels(np.array([[0.1, 0.9, 0.9]]), 2)
    array([[1, 2]])
    """
    k = as_positive_int(k, "k")
    ids = np.full((scores.shape[0], k), -1, dtype=np.int64)
    if sparse.issparse(scores):
        rank_sparse(scores.indptr, scores.indices, scores.data, ids)
    else:
        rank_dense(scores, ids)
    return ids


def top_k(scores: Any, k: int) -> sparse.csr_array[Any]:
    """The k best labels of each instance with their scores.

    Parameters
    ----------
    scores : ndarray or sparse array, shape (n, L)
        Scores; in a sparse array only stored entries are candidates.
    k : int
        How many labels an instance keeps, at least 1.

    Returns
    -------
    csr_array, shape (n, L)
        At most k stored scores a row (a score of 0.0 stays stored), sorted by label id. Of equal scores the
        lower label id is kept.

    Raises
    ------
    ValueError
        If k is not a positive whole number or a score is not finite.

    Examples
    --------
    >>> print(top_k([[0.2, 0.7, 0.1]], 2))
    <Compressed Sparse Row sparse array of dtype 'float64'
        with 2 stored elements and shape (1, 3)>
      Coords	Values
      (0, 0)	0.2
      (0, 1)	0.7
    """
    scores = as_scores(scores)
    return _keep(scores, rank_labels(scores, min(as_positive_int(k, "k"), max(1, scores.shape[1]))))


def _keep(scores: Scores, ids: npt.NDArray[np.int64]) -> sparse.csr_array[Any]:
    ids = np.sort(ids, axis=1)
    kept = ids >= 0
    indptr = np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
    labels = ids[kept]
    if sparse.issparse(scores):
        values = look_up(scores.indptr, scores.indices, scores.data, indptr, labels)
    else:
        values = scores[np.repeat(np.arange(ids.shape[0]), kept.sum(axis=1)), labels]
    return sparse.csr_array((values, labels, indptr), shape=scores.shape)


def columns(
    scores: Scores, labels: npt.NDArray[np.integer[Any]] | None = None
) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Walk through the scores label by label, without a second (n, L) array for dense scores.

    Parameters
    ----------
    scores : ndarray or csr_array, shape (n, L)
        As returned by `as_scores`.
    labels : ndarray of int, optional
        The labels wanted, rising; default all.

    Yields
    ------
    label : int
    values : ndarray
        Its scores, in the order of `rows`.
    rows : ndarray of int
        All instances, or, for sparse scores, those that have the label as a candidate; rising.
    """
    wanted = np.arange(scores.shape[1]) if labels is None else labels
    if sparse.issparse(scores):
        by_label = scores.tocsc()
        for label in wanted:
            here = slice(by_label.indptr[label], by_label.indptr[label + 1])
            yield int(label), by_label.data[here], by_label.indices[here]
        return
    rows = np.arange(scores.shape[0])
    for some in _label_chunks(scores, wanted):
        block = np.ascontiguousarray(scores[:, some].T)
        for label, values in zip(some, block):
            yield int(label), values, rows


def sorted_columns(scores: Scores, labels: npt.NDArray[np.integer[Any]] | None = None) -> Iterator[Columns]:
    """Walk through the scores in blocks of labels, each label's scores in rising order.

    Parameters
    ----------
    scores : ndarray or csr_array, shape (n, L)
        As returned by `as_scores`.
    labels : ndarray of int, optional
        The labels wanted, rising; default all.

    Yields
    ------
    labels : ndarray of int64, shape (m,)
    starts : ndarray of int, shape (m + 1,)
        Label labels[i] has values[starts[i]:starts[i + 1]].
    values : ndarray
        Of sparse scores the candidates; these come in one block, dense scores in blocks of bounded size.
    """
    wanted = np.arange(scores.shape[1]) if labels is None else labels
    if sparse.issparse(scores):
        by_label = scores.tocsc() if labels is None else scores.tocsc()[:, wanted]
        sort_parts(by_label.indptr, by_label.data)
        yield wanted, by_label.indptr, by_label.data
        return
    for some in _label_chunks(scores, wanted):
        values = np.sort(scores[:, some].T, axis=1)
        yield some, np.arange(some.size + 1) * scores.shape[0], values.ravel()


def hits(scores: Scores, Y: sparse.csr_array[Any]) -> sparse.csr_array[Any]:
    """The scores of the positives; positives that are no candidates of sparse scores are not among them.

    Parameters
    ----------
    scores : ndarray or csr_array, shape (n, L)
        As returned by `as_scores`.
    Y : csr_array, shape (n, L)
        Labels in the project's form.

    Returns
    -------
    csr_array, shape (n, L)
        A score of 0.0 stays stored.
    """
    if sparse.issparse(scores):
        found = stored_in(scores.indptr, scores.indices, Y.indptr, Y.indices)
        indptr = np.concatenate(([0], np.cumsum(found)))[scores.indptr]
        parts = scores.data[found], scores.indices[found], indptr
    else:
        rows = np.repeat(np.arange(Y.shape[0]), np.diff(Y.indptr))
        parts = scores[rows, Y.indices], Y.indices, Y.indptr
    return sparse.csr_array(parts, shape=Y.shape)


def sorted_hits(scores: Scores, Y: sparse.csr_array[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The scores of the positives, label after label, each label's in rising order.

    Parameters
    ----------
    scores : ndarray or csr_array, shape (n, L)
    Y : csr_array, shape (n, L)
        As of `hits`.

    Returns
    -------
    starts : ndarray of int, shape (L + 1,)
    values : ndarray
        Label c has values[starts[c]:starts[c + 1]].
    """
    by_label = hits(scores, Y).tocsc()
    sort_parts(by_label.indptr, by_label.data)
    return by_label.indptr, by_label.data


def value_chunks(scores: Scores) -> Iterator[npt.NDArray[Any]]:
    """All scores, as one-dimensional pieces of bounded size.

    Parameters
    ----------
    scores : ndarray or csr_array, shape (n, L)

    Yields
    ------
    ndarray, one-dimensional
    """
    if sparse.issparse(scores):
        for start in range(0, scores.data.size, _CHUNK):
            yield scores.data[start : start + _CHUNK]
        return
    for rows in row_chunks(scores):
        yield scores[rows].ravel()


def row_chunks(scores: npt.NDArray[Any]) -> Iterator[slice]:
    """Slices of rows that together are all rows, each of bounded size.

    Parameters
    ----------
    scores : ndarray, shape (n, L)

    Yields
    ------
    slice
    """
    step = _rows_per_chunk(scores)
    for start in range(0, scores.shape[0], step):
        yield slice(start, start + step)


def as_positive_int(value: Any, name: str) -> int:
    """A whole number of at least 1, or a ValueError that names the argument.

    Parameters
    ----------
    value : int
    name : str
        The argument's name, for the message.

    Returns
    -------
    int

    Examples
    --------
    >>> as_positive_int(0, "k")
    Traceback (most recent call last):
    ...
    ValueError: k must be a whole number of at least 1, not 0
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    return int(value)


def as_truth(Y: Any) -> sparse.csr_array[Any]:
    """Labels in the project's form, with at least one instance and one label.

    Parameters
    ----------
    Y : sparse array or array-like, shape (n, L)

    Returns
    -------
    csr_array, shape (n, L)

    Raises
    ------
    ValueError
        If there is no instance or no label, or `as_label_matrix` refuses Y.
    """
    labels = as_label_matrix(Y)
    if 0 in labels.shape:
        raise ValueError(f"Y has shape {labels.shape}: there is nothing to learn from or to measure")
    return labels


def _rows_per_chunk(scores: npt.NDArray[Any]) -> int:
    return max(1, _CHUNK // max(1, int(scores.shape[1])))


def _label_chunks(
    scores: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]
) -> Iterator[npt.NDArray[np.integer[Any]]]:
    step = max(1, _CHUNK // max(1, scores.shape[0]))
    for start in range(0, labels.size, step):
        yield labels[start : start + step]
