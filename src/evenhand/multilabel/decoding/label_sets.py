"""Label sets as csr_array, from label ids by instance or from thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel.scores import Scores, row_chunks


def sets_from_ids(ids: npt.NDArray[np.int64], shape: tuple[int, int]) -> sparse.csr_array[Any]:
    """Label sets from label ids by instance.

    Parameters
    ----------
    ids : ndarray of int64, shape (n, k)
        Label ids in any order; -1 for none.
    shape : (int, int)
        n and L.

    Returns
    -------
    csr_array, shape (n, L), float32
        All stored values 1.

    Examples
    --------
    >>> sets_from_ids(np.array([[2, 0], [1, -1]]), (2, 3)).toarray()
    array([[1., 0., 1.],
           [0., 1., 0.]], dtype=float32)
    """
    ordered = np.sort(ids, axis=1)
    taken = ordered >= 0
    indptr = np.concatenate(([0], np.cumsum(taken.sum(axis=1))))
    indices = ordered[taken]
    return sparse.csr_array((np.ones(indices.size, dtype=np.float32), indices, indptr), shape=shape)


def sets_reaching(scores: Scores, thresholds: npt.NDArray[np.float64]) -> sparse.csr_array[Any]:
    """Label sets of the labels whose score is at least their threshold.

    Parameters
    ----------
    scores : ndarray or csr_array, shape (n, L)
        As returned by `as_scores`.
    thresholds : ndarray of float64, shape (L,)
        Infinity for a label that is never taken.

    Returns
    -------
    csr_array, shape (n, L), float32
        All stored values 1.

    Examples
    --------
    >>> sets_reaching(np.array([[0.5, 0.5]]), np.array([0.5, 0.6])).toarray()
    array([[1., 0.]], dtype=float32)
    """
    if sparse.issparse(scores):
        taken = scores.data >= thresholds[scores.indices]
        indices = scores.indices[taken]
        indptr = np.concatenate(([0], np.cumsum(taken)))[scores.indptr]
    else:
        places = [np.nonzero(scores[rows] >= thresholds) for rows in row_chunks(scores)]
        sizes = [np.bincount(r, minlength=len(scores[s])) for (r, _), s in zip(places, row_chunks(scores))]
        indices = np.concatenate([np.empty(0, dtype=np.int64), *(labels for _, labels in places)])
        indptr = np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, dtype=np.int64), *sizes]))])
    return sparse.csr_array((np.ones(indices.size, dtype=np.float32), indices, indptr), shape=scores.shape)
