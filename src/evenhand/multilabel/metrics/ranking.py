"""How good the first k labels of an instance are: P@k, R@k, nDCG@k and their propensity-scored forms.

P, R and nDCG are means over all instances, the propensity-scored forms ratios of two such means; an instance
without a true label counts as 0 in them, as in the Extreme Classification Repository's scripts. Of equal
scores the lower label id is ranked first.

Every figure can be asked for some labels alone (``earned_by``): the ranking and the best possible value stay
those of all labels, and only hits of these labels count. The parts of head, middle and tail sum to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import sparse

from evenhand.multilabel.scores import as_positive_int, as_scores, as_truth, rank_labels


def propensities(
    counts: npt.ArrayLike, n_instances: int, *, a: float = 0.55, b: float = 1.5
) -> npt.NDArray[np.float64]:
    """Propensity p_c of each label: the modelled chance that a true label was also recorded.

    Parameters
    ----------
    counts : array-like of int, shape (L,)
        n_c, training positives of each label.
    n_instances : int
        M, number of training instances; at least 3, since log M > 1 is needed.
    a, b : float
        A and B. Wikipedia sets use 0.5 and 0.4, Amazon sets 0.6 and 2.6, all others 0.55 and 1.5.

    Returns
    -------
    ndarray of float64, shape (L,)
        p_c in (0, 1), rising with n_c.

    Raises
    ------
    ValueError
        If M, A, B or a count is out of range.

    Notes
    -----
    p_c = 1 / (1 + C·e^{−A·log(n_c + B)}) with C = (log M − 1)·(B + 1)^A (Jain, Prabhu and Varma, 2016).

    Examples
    --------
    >>> propensities([0, 1, 10, 1000], 20000).round(3)
    array([0.078, 0.101, 0.206, 0.752])
    """
    n_c = as_counts(counts)
    if n_instances < 3:
        raise ValueError(f"n_instances is {n_instances}; propensities need at least 3 training instances")
    if not (a > 0 and b > 0 and np.isfinite(a) and np.isfinite(b)):
        raise ValueError(f"a and b must be positive numbers, not a={a}, b={b}")
    c = (np.log(n_instances) - 1) * (b + 1) ** a
    return np.asarray(1 / (1 + c * (n_c + b) ** -a))


def precision_at_k(
    Y_true: Any, scores: Any, k: int | Sequence[int], *, earned_by: npt.ArrayLike | None = None
) -> dict[int, float]:
    """P@k: the share of an instance's first k labels that are true.

    Parameters
    ----------
    Y_true : sparse array or array-like, shape (n, L)
        True labels.
    scores : ndarray or sparse array, shape (n, L)
        Scores of all labels, or of each instance's candidates. Fewer than k candidates count as misses.
    k : int or sequence of int
    earned_by : ndarray of bool, shape (L,), optional
        Count only hits of these labels.

    Returns
    -------
    dict of int to float
        One figure for each k.

    Raises
    ------
    ValueError
        If the shapes differ, a score is not finite, k is not a positive whole number or `earned_by`
        does not fit.

    Examples
    --------
    >>> precision_at_k([[1, 0, 1], [0, 1, 0]], [[0.9, 0.5, 0.1], [0.2, 0.8, 0.1]], (1, 2))
    {1: 1.0, 2: 0.5}
    """
    Y, _, hits, ks = _ranked(Y_true, scores, k, earned_by)
    return {k: float(hits[:, :k].sum() / (Y.shape[0] * k)) for k in ks}


def recall_at_k(
    Y_true: Any, scores: Any, k: int | Sequence[int], *, earned_by: npt.ArrayLike | None = None
) -> dict[int, float]:
    """R@k: the share of an instance's true labels that are among its first k.

    Parameters
    ----------
    Y_true : sparse array or array-like, shape (n, L)
    scores : ndarray or sparse array, shape (n, L)
    k : int or sequence of int
    earned_by : ndarray of bool, shape (L,), optional
        Count only hits of these labels.

    Returns
    -------
    dict of int to float

    Raises
    ------
    ValueError
        As in `precision_at_k`.

    Examples
    --------
    >>> recall_at_k([[1, 0, 1], [0, 1, 0]], [[0.9, 0.5, 0.1], [0.2, 0.8, 0.1]], (1, 2))
    {1: 0.75, 2: 0.75}
    """
    Y, _, hits, ks = _ranked(Y_true, scores, k, earned_by)
    n_true = np.maximum(np.diff(Y.indptr), 1)
    return {k: float(np.mean(hits[:, :k].sum(axis=1) / n_true)) for k in ks}


def ndcg_at_k(
    Y_true: Any, scores: Any, k: int | Sequence[int], *, earned_by: npt.ArrayLike | None = None
) -> dict[int, float]:
    """nDCG@k: gain of the first k labels, discounted by rank, over the best possible of the instance.

    Parameters
    ----------
    Y_true : sparse array or array-like, shape (n, L)
    scores : ndarray or sparse array, shape (n, L)
    k : int or sequence of int
    earned_by : ndarray of bool, shape (L,), optional
        Count only hits of these labels.

    Returns
    -------
    dict of int to float

    Raises
    ------
    ValueError
        As in `precision_at_k`.

    Notes
    -----
    DCG@k = Σ_{r≤k} y_(r) / log₂(r + 1), divided by Σ_{r ≤ min(k, |y|)} 1 / log₂(r + 1).

    Examples
    --------
    >>> ndcg_at_k([[0, 1, 0]], [[0.9, 0.5, 0.1]], 2)
    {2: 0.63...}
    """
    Y, _, hits, ks = _ranked(Y_true, scores, k, earned_by)
    return {k: float(_normalised_dcg(hits, np.diff(Y.indptr), k).mean()) for k in ks}


def psp_at_k(
    Y_true: Any,
    scores: Any,
    propensities: npt.ArrayLike,
    k: int | Sequence[int],
    *,
    earned_by: npt.ArrayLike | None = None,
) -> dict[int, float]:
    """PSP@k: P@k with each true label weighted by 1/p_c, over the best possible value of the whole set.

    Parameters
    ----------
    Y_true : sparse array or array-like, shape (n, L)
    scores : ndarray or sparse array, shape (n, L)
    propensities : array-like, shape (L,)
        p_c in (0, 1], see `propensities`.
    k : int or sequence of int
    earned_by : ndarray of bool, shape (L,), optional
        Count only hits of these labels.

    Returns
    -------
    dict of int to float
        Between 0 and 1; 0 where no instance has a true label.

    Raises
    ------
    ValueError
        As in `precision_at_k`, or if the propensities do not fit.

    Notes
    -----
    Σ_x Σ_{r≤k} y_(r)/p_(r) over Σ_x max Σ of k true labels' 1/p: a ratio of means, not a mean of ratios, as
    in the Extreme Classification Repository's scripts.

    Examples
    --------
    >>> psp_at_k([[1, 1]], [[0.9, 0.1]], [0.5, 0.25], (1, 2))
    {1: 0.5, 2: 1.0}
    """
    gains, ideal, _, ks = _propensity_gains(Y_true, scores, propensities, k, earned_by)
    return {k: _ratio(gains[:, :k].sum(), ideal[:, :k].sum()) for k in ks}


def psndcg_at_k(
    Y_true: Any,
    scores: Any,
    propensities: npt.ArrayLike,
    k: int | Sequence[int],
    *,
    earned_by: npt.ArrayLike | None = None,
) -> dict[int, float]:
    """PSnDCG@k: nDCG@k with each true label weighted by 1/p_c, over the best possible value of the whole set.

    Parameters
    ----------
    Y_true : sparse array or array-like, shape (n, L)
    scores : ndarray or sparse array, shape (n, L)
    propensities : array-like, shape (L,)
        p_c in (0, 1], see `propensities`.
    k : int or sequence of int
    earned_by : ndarray of bool, shape (L,), optional
        Count only hits of these labels.

    Returns
    -------
    dict of int to float
        Between 0 and 1; 0 where no instance has a true label.

    Raises
    ------
    ValueError
        As in `psp_at_k`.

    Notes
    -----
    Each instance's PSDCG@k = Σ_{r≤k} y_(r) / (p_(r)·log₂(r + 1)) is divided by Σ_{r ≤ min(k, |y|)} 1 /
    log₂(r + 1), which holds no propensities; the mean of that is divided by its mean for the best possible
    ranking. So do the Extreme Classification Repository's scripts.

    Examples
    --------
    >>> psndcg_at_k([[1, 1]], [[0.9, 0.1]], [0.5, 0.25], (1, 2))
    {1: 0.5, 2: 0.85...}
    """
    gains, ideal, n_true, ks = _propensity_gains(Y_true, scores, propensities, k, earned_by)
    return {
        k: _ratio(_normalised_dcg(gains, n_true, k).sum(), _normalised_dcg(ideal, n_true, k).sum())
        for k in ks
    }


def as_counts(counts: npt.ArrayLike, n_labels: int | None = None) -> npt.NDArray[np.int64]:
    """Positives of each label as int64, checked.

    Parameters
    ----------
    counts : array-like of int, shape (L,)
    n_labels : int, optional
        The number of labels that there must be.

    Returns
    -------
    ndarray of int64, shape (L,)

    Raises
    ------
    ValueError
        If a count is negative or no whole number, or the length is wrong.

    Examples
    --------
    >>> as_counts([3.0, 0])
    array([3, 0])
    """
    given = np.asarray(counts)
    if given.ndim != 1 or given.size == 0 or (n_labels is not None and given.size != n_labels):
        wanted = "(L,)" if n_labels is None else f"({n_labels},)"
        raise ValueError(f"counts must have shape {wanted}, one for each label, not {given.shape}")
    bad = np.flatnonzero(~((given >= 0) & (given == np.floor(given)) & (given < 2**62)))
    if bad.size:
        raise ValueError(
            f"count of label {bad[0]} is {given[bad[0]]}; it must be a whole number of at least 0"
        )
    return given.astype(np.int64)


def as_propensities(propensities: npt.ArrayLike, n_labels: int) -> npt.NDArray[np.float64]:
    """Propensities as float64, checked.

    Parameters
    ----------
    propensities : array-like, shape (L,)
    n_labels : int
        L.

    Returns
    -------
    ndarray of float64, shape (L,)

    Raises
    ------
    ValueError
        If the shape is wrong or a value lies outside (0, 1].

    Examples
    --------
    >>> as_propensities([0.5, 0], 2)
    Traceback (most recent call last):
    ...
    ValueError: propensity of label 1 is 0.0; it must lie in (0, 1]
    """
    given = np.asarray(propensities, dtype=np.float64)
    if given.shape != (n_labels,):
        raise ValueError(f"propensities must have shape ({n_labels},), one for each label, not {given.shape}")
    bad = np.flatnonzero(~((given > 0) & (given <= 1)))
    if bad.size:
        raise ValueError(f"propensity of label {bad[0]} is {given[bad[0]]}; it must lie in (0, 1]")
    return given


def _ranked(
    Y_true: Any, scores: Any, k: int | Sequence[int], earned_by: npt.ArrayLike | None
) -> tuple[sparse.csr_array[Any], npt.NDArray[np.int64], npt.NDArray[np.bool_], tuple[int, ...]]:
    """Truth, label ids by rank (n, max k), whether each is true and counts, and the wanted k."""
    Y = as_truth(Y_true)
    ks = as_ks(k)
    # There are no ranks behind the last label, however large k is.
    ids = rank_labels(as_scores(scores, shape=Y.shape), min(max(ks), Y.shape[1]))
    hits = _hits(ids, Y.indptr, Y.indices)
    if earned_by is not None:
        counting = np.asarray(earned_by)
        if counting.shape != (Y.shape[1],) or counting.dtype != bool:
            raise ValueError(
                f"earned_by must be bool of shape ({Y.shape[1]},), not {counting.dtype} of {counting.shape}"
            )
        hits &= counting[ids]
    return Y, ids, hits, ks


def as_ks(k: int | Sequence[int]) -> tuple[int, ...]:
    """One k or several, checked.

    Parameters
    ----------
    k : int or sequence of int

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If there is none, or one is not a positive whole number.

    Examples
    --------
    >>> as_ks(5), as_ks([1, 3])
    ((5,), (1, 3))
    """
    several = k if isinstance(k, Iterable) else [k]
    ks = tuple(as_positive_int(one, "k") for one in several)
    if not ks:
        raise ValueError("k is empty; give at least one, such as (1, 3, 5)")
    return ks


def _propensity_gains(
    Y_true: Any,
    scores: Any,
    propensities: npt.ArrayLike,
    k: int | Sequence[int],
    earned_by: npt.ArrayLike | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64], tuple[int, ...]]:
    """1/p of the hits by rank, the same for the best possible ranking, true labels an instance, and the k."""
    Y, ids, hits, ks = _ranked(Y_true, scores, k, earned_by)
    inverse = 1 / as_propensities(propensities, Y.shape[1])
    best = rank_labels(
        sparse.csr_array((inverse[Y.indices], Y.indices, Y.indptr), shape=Y.shape), ids.shape[1]
    )
    ideal = np.where(best >= 0, inverse[best], 0.0)
    return hits * inverse[ids], ideal, np.diff(Y.indptr), ks


def _normalised_dcg(gains: npt.NDArray[Any], n_true: npt.NDArray[Any], k: int) -> npt.NDArray[np.float64]:
    k = min(k, gains.shape[1])
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.clip(n_true, 1, k) - 1]
    return np.asarray((gains[:, :k] @ discount) / ideal)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0


@njit(cache=True)
def _hits(ids: Any, indptr: Any, indices: Any) -> Any:
    """Whether label ids[row, rank] is stored in that row of a csr array with sorted indices."""
    hits = np.zeros(ids.shape, dtype=np.bool_)
    for row in range(ids.shape[0]):
        labels = indices[indptr[row] : indptr[row + 1]]
        for rank in range(ids.shape[1]):
            at = np.searchsorted(labels, ids[row, rank])
            hits[row, rank] = at < labels.size and labels[at] == ids[row, rank]
    return hits
