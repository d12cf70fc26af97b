"""What positives weigh, as sparse matrices: made, cut to a player's labels, moved to other columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse


def paid(labels: sparse.csr_array[Any], curiosity: npt.NDArray[np.float64]) -> sparse.csr_array[Any]:
    """1 and the curiosity reward of its label for each positive.

    Parameters
    ----------
    labels : csr_array, shape (n, L)
    curiosity : ndarray, shape (L,)

    Returns
    -------
    csr_array of float32, shape (n, L)
    """
    weights = (1 + curiosity[labels.indices]).astype(np.float32)
    return sparse.csr_array((weights, labels.indices, labels.indptr), shape=labels.shape)


def owned_only(payoffs: sparse.csr_array[Any], owned: npt.NDArray[np.bool_]) -> sparse.csr_array[Any]:
    """Those of the owned labels; the columns of the others stay, and are empty.

    Parameters
    ----------
    payoffs : csr_array, shape (n, L)
    owned : ndarray of bool, shape (L,)

    Returns
    -------
    csr_array, shape (n, L)
    """
    if owned.all():
        return payoffs
    kept = owned[payoffs.indices]
    indptr = np.concatenate([[0], np.cumsum(kept)])[payoffs.indptr]
    return sparse.csr_array((payoffs.data[kept], payoffs.indices[kept], indptr), shape=payoffs.shape)


def shifted(labels: sparse.csr_array[Any], by: int) -> sparse.csr_array[Any]:
    """The same labels, `by` columns to the right.

    Parameters
    ----------
    labels : csr_array, shape (n, L)
    by : int

    Returns
    -------
    csr_array, shape (n, by + L)
    """
    shape = (labels.shape[0], by + labels.shape[1])
    return sparse.csr_array((labels.data, labels.indices + by, labels.indptr), shape=shape)
