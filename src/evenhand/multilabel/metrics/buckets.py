"""Labels grouped by training frequency: the rare set, buckets, deciles, head, middle and tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from evenhand.multilabel.metrics.ranking import as_counts

SMALL_LABEL_SET = 101
"""Up to this many labels "rare" is a share of the labels, above it a number of positives (METHODS)."""

DEFAULT_EDGES = (5, 10, 20, 50, 100, 300)
_RARE_SHARE = 0.3
_RARE_COUNT = 10
_HEAD_COUNT = 100


@dataclass(frozen=True)
class Buckets:
    """A grouping of labels.

    Parameters
    ----------
    names : tuple of str
        Names of the buckets.
    index : ndarray of int64, shape (L,)
        The bucket of each label; -1 for a label that belongs to none.

    Examples
    --------
    >>> frequency_buckets([3, 7, 500], edges=(5, 100)).names
    ('<=5', '6-100', '>100')
    """

    names: tuple[str, ...]
    index: npt.NDArray[np.int64]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of labels in each bucket."""
        return np.bincount(self.index[self.index >= 0], minlength=len(self.names))


def rare_labels(counts: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """The rare set.

    Parameters
    ----------
    counts : array-like of int, shape (L,)
        n_c, training positives of each label.

    Returns
    -------
    ndarray of bool, shape (L,)
        Up to 101 labels: the lowest 30 % by training count (rounded, at least one; of equal counts the lower
        label id first). Above: labels with 1 to 10 training positives.

    Raises
    ------
    ValueError
        If a count is negative or no whole number.

    Examples
    --------
    >>> rare_labels([9, 2, 40, 7])
    array([False,  True, False, False])
    """
    n_c = as_counts(counts)
    if n_c.size <= SMALL_LABEL_SET:
        return _lowest(n_c, max(1, round(_RARE_SHARE * n_c.size)))
    return (n_c >= 1) & (n_c <= _RARE_COUNT)


def bottom_half(counts: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """The half of the labels with the fewest training positives.

    Parameters
    ----------
    counts : array-like of int, shape (L,)

    Returns
    -------
    ndarray of bool, shape (L,)
        L // 2 labels; of equal counts the lower label id first.

    Raises
    ------
    ValueError
        If a count is negative or no whole number.

    Examples
    --------
    >>> bottom_half([9, 2, 40, 7])
    array([False,  True, False,  True])
    """
    n_c = as_counts(counts)
    return _lowest(n_c, n_c.size // 2)


def frequency_buckets(counts: npt.ArrayLike, edges: Sequence[int] = DEFAULT_EDGES) -> Buckets:
    """Labels by training count.

    Parameters
    ----------
    counts : array-like of int, shape (L,)
    edges : sequence of int
        Rising upper ends, each within its bucket: (5, 10) gives <=5, 6-10 and >10. Labels without a training
        positive stand in the first bucket.

    Returns
    -------
    Buckets

    Raises
    ------
    ValueError
        If the edges do not rise or a count is out of range.

    Examples
    --------
    >>> frequency_buckets([0, 5, 6, 301]).index
    array([0, 0, 1, 6])
    """
    ends = list(edges)
    if not ends or ends[0] < 0 or any(low >= high for low, high in pairwise(ends)):
        raise ValueError(f"edges must be whole numbers that rise from at least 0, not {tuple(ends)}")
    between = [str(high) if high == low + 1 else f"{low + 1}-{high}" for low, high in pairwise(ends)]
    names = (f"<={ends[0]}", *between, f">{ends[-1]}")
    return Buckets(names, np.searchsorted(ends, as_counts(counts), side="left").astype(np.int64))


def head_middle_tail(counts: npt.ArrayLike) -> Buckets:
    """Head, middle and tail by training count.

    Parameters
    ----------
    counts : array-like of int, shape (L,)

    Returns
    -------
    Buckets
        Names "head", "middle", "tail". The tail is `rare_labels`. The head: up to 101 labels, the highest 30
        % by training count; above, labels with more than 100 training positives. Above 101 labels, a label
        without a training positive belongs to none (-1): nothing can be learnt of it.

    Raises
    ------
    ValueError
        If a count is negative or no whole number.

    Notes
    -----
    Our choice. The ends 10 and 100 are those of LVIS (rare, common, frequent); a share serves small sets,
    where all labels may have more than 100 positives.

    Examples
    --------
    >>> head_middle_tail([9, 2, 40, 7]).index
    array([1, 2, 0, 1])
    """
    n_c = as_counts(counts)
    index = np.ones(n_c.size, dtype=np.int64)
    tail = rare_labels(n_c)
    if n_c.size <= SMALL_LABEL_SET:
        index[_lowest(-n_c, round(_RARE_SHARE * n_c.size)) & ~tail] = 0
    else:
        index[n_c > _HEAD_COUNT] = 0
        index[n_c == 0] = -1
    index[tail] = 2
    return Buckets(("head", "middle", "tail"), index)


def frequency_deciles(counts: npt.ArrayLike) -> Buckets:
    """Ten groups of labels of equal size, from the rarest to the most frequent.

    Parameters
    ----------
    counts : array-like of int, shape (L,)

    Returns
    -------
    Buckets
        Names "decile 1" (rarest) to "decile 10"; of equal counts the lower label id first. Sizes differ by
        one at most; with fewer than ten labels some are empty.

    Raises
    ------
    ValueError
        If a count is negative or no whole number.

    Examples
    --------
    >>> frequency_deciles(range(20, 0, -1)).index
    array([9, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0])
    """
    n_c = as_counts(counts)
    index = np.empty(n_c.size, dtype=np.int64)
    index[np.argsort(n_c, kind="stable")] = np.arange(n_c.size) * 10 // n_c.size
    return Buckets(tuple(f"decile {i + 1}" for i in range(10)), index)


def by_bucket(values: npt.ArrayLike, buckets: Buckets) -> npt.NDArray[np.float64]:
    """Mean of a per-label figure in each bucket.

    Parameters
    ----------
    values : array-like, shape (L,)
        NaN where the label has no figure, for instance no test positive; such labels are left out of the
        mean.
    buckets : Buckets

    Returns
    -------
    ndarray of float64, shape (number of buckets,)
        NaN for a bucket without a figure.

    Raises
    ------
    ValueError
        If values and buckets are not of the same labels.

    Examples
    --------
    >>> by_bucket([0.2, float("nan"), 0.6], frequency_buckets([1, 2, 9], edges=(5,)))
    array([0.2, 0.6])
    """
    given = np.asarray(values, dtype=np.float64)
    if given.shape != buckets.index.shape:
        raise ValueError(
            f"values have shape {given.shape}, but the buckets are of {buckets.index.size} labels"
        )
    counted = (buckets.index >= 0) & ~np.isnan(given)
    where = buckets.index[counted]
    sums = np.bincount(where, weights=given[counted], minlength=len(buckets.names))
    sizes = np.bincount(where, minlength=len(buckets.names))
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)


def _lowest(n_c: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(n_c.size, dtype=np.bool_)
    mask[np.argsort(n_c, kind="stable")[:size]] = True
    return mask
