"""Decoders that take every label whose score reaches a threshold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel._kernels import add_f1, best_thresholds, between
from evenhand.multilabel.decoding.label_sets import sets_reaching
from evenhand.multilabel.decoding.state import State, array_of, as_strength, number_of, require_fitted
from evenhand.multilabel.metrics.buckets import Buckets, frequency_buckets
from evenhand.multilabel.scores import (
    Scores,
    as_scores,
    as_truth,
    hits,
    sorted_columns,
    sorted_hits,
    value_chunks,
)

_MAX_CANDIDATES = 4096
_MOST_TAKEN = 3


@dataclass
class GlobalThreshold:
    """One threshold for all labels, the best on given scores for micro- or macro-F1.

    Parameters
    ----------
    objective : {"micro", "macro"}
        The F1 to maximise; "macro" is the mean over the labels with a positive.

    Attributes
    ----------
    threshold_ : float
        A label is taken where its score is at least this.

    Notes
    -----
    The best set of labels ends with a positive, so only the positives' scores need trying. "micro" tries
    them all and is exact. "macro" tries at most 4,096 of them, evenly spaced by rank, and is exact up to
    that many. The threshold stands halfway to the next lower score; of equally good ones the highest is
    taken.

    Examples
    --------
    >>> scores, Y = np.array([[0.9, 0.2], [0.6, 0.4], [0.3, 0.8]]), np.array([[1, 0], [1, 0], [0, 1]])
    >>> decoder = GlobalThreshold("micro").fit(scores, Y)
    >>> decoder.threshold_
    0.5
    >>> decoder.decode(scores).toarray()
    array([[1., 0.],
           [1., 0.],
           [0., 1.]], dtype=float32)
    """

    objective: Literal["micro", "macro"] = "micro"
    threshold_: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.objective not in ("micro", "macro"):
            raise ValueError(f"objective must be 'micro' or 'macro', not {self.objective!r}")

    def fit(self, scores: Any, Y: Any) -> Self:
        """Find the threshold.

        Parameters
        ----------
        scores : ndarray or sparse array, shape (n, L)
            Out-of-fold or validation scores.
        Y : sparse array or array-like, shape (n, L)
            Their true labels.

        Returns
        -------
        GlobalThreshold
            Itself.

        Raises
        ------
        ValueError
            If shapes differ, a score is not finite, or there is no positive to learn from.
        """
        truth = _with_positive(Y)
        checked = as_scores(scores, shape=truth.shape)
        if self.objective == "micro":
            self.threshold_ = _micro_threshold(checked, truth)
        else:
            self.threshold_ = _macro_threshold(checked, truth)
        return self

    def decode(self, scores: Any) -> sparse.csr_array[Any]:
        """Take the labels whose score is at least the threshold.

        Parameters
        ----------
        scores : ndarray or sparse array, shape (n, L)

        Returns
        -------
        csr_array, shape (n, L)

        Raises
        ------
        ValueError
            If a score is not finite, or `fit` was not called.
        """
        require_fitted(self, self.threshold_)
        checked = as_scores(scores)
        return sets_reaching(checked, np.full(checked.shape[1], self.threshold_, dtype=np.float64))

    def get_state(self) -> State:
        """What `from_state` needs."""
        require_fitted(self, self.threshold_)
        assert self.threshold_ is not None
        return {"kind": type(self).__name__, "objective": self.objective, "threshold": self.threshold_}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A decoder equal to the one whose state this is."""
        decoder = cls(objective=str(state.get("objective")))  # type: ignore[arg-type]
        decoder.threshold_ = number_of(state, "threshold")
        return decoder


@dataclass
class LabelThresholds:
    """A threshold for each label, pulled to that of equally frequent labels where positives are few.

    Parameters
    ----------
    shrinkage : float
        s ≥ 0: the number of positives at which the label's own optimum and its bucket's weigh the same. 0
        takes the label's own optimum alone.

    Attributes
    ----------
    thresholds_ : ndarray of float64, shape (L,)
        A label is taken where its score is at least its threshold.

    Notes
    -----
    t_c = w_c·t*_c + (1 − w_c)·t_b(c) with w_c = n_c / (n_c + s); n_c are the label's positives in the scores
    given to `fit`, t*_c maximises the label's F1 there, and t_b(c) maximises the macro-F1 of the labels in
    c's frequency bucket (default edges of `frequency_buckets`; see `GlobalThreshold` for the candidates).
    Our choice: a threshold found on two or three positives is mostly chance, and equally frequent labels
    have scores of a like scale. A label with a positive, but none among the candidates of sparse scores, has
    its bucket's threshold; a bucket without a candidate has the macro-F1 optimum of all labels.

    No label is taken more than three times as often as it is true there (its F1 would be below 1/2), and one
    without a positive only above every score given to `fit`. Else a label whose scores say nothing is given
    to everything: on Debian's tags with logistic regression micro-F1 was 24.6 before there was a limit.

    With out-of-fold LinearSVC scores (published splits, C = 1, 3 folds) test macro-F1 over the labels in the
    test set at s = 0, 10 and 50 is 41.7, 43.7 and 43.3 on Medical, 21.9, 22.4 and 22.9 on Enron, 34.3, 34.6
    and 34.6 on Bibtex, and 8.7, 8.5 and 8.3 on Corel5k.

    Examples
    --------
    >>> scores, Y = np.array([[0.9, 0.2], [0.7, 0.4], [0.3, 0.8]]), np.array([[1, 0], [0, 1], [0, 1]])
    >>> LabelThresholds(shrinkage=0).fit(scores, Y).thresholds_.round(2)
    array([0.8, 0.3])
    """

    shrinkage: float = 10.0
    thresholds_: npt.NDArray[np.float64] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        as_strength(self.shrinkage, "shrinkage")

    def fit(self, scores: Any, Y: Any) -> Self:
        """Find the thresholds.

        Parameters
        ----------
        scores : ndarray or sparse array, shape (n, L)
            Out-of-fold scores: on rows that the model was trained on, rare labels look far too easy.
        Y : sparse array or array-like, shape (n, L)
            Their true labels.

        Returns
        -------
        LabelThresholds
            Itself.

        Raises
        ------
        ValueError
            If shapes differ, a score is not finite, or there is no positive to learn from.
        """
        truth = _with_positive(Y)
        checked = as_scores(scores, shape=truth.shape)
        n_c = np.bincount(truth.indices, minlength=truth.shape[1])
        buckets = frequency_buckets(n_c)
        shared = _bucket_thresholds(checked, truth, buckets)
        if np.isnan(shared[buckets.index]).any():
            shared = np.where(np.isnan(shared), _macro_threshold(checked, truth), shared)
        thresholds = shared[buckets.index]
        own, least = np.full((2, n_c.size), np.nan)
        found = sorted_hits(checked, truth)
        for columns in sorted_columns(checked):
            best_thresholds(columns, found, n_c, _MOST_TAKEN * n_c, own, least)
        hit = ~np.isnan(own)
        weight = n_c[hit] / (n_c[hit] + self.shrinkage)
        thresholds[hit] = weight * own[hit] + (1 - weight) * thresholds[hit]
        limited = hit | (n_c == 0)
        thresholds[limited] = np.maximum(thresholds[limited], least[limited])
        self.thresholds_ = thresholds
        return self

    def decode(self, scores: Any) -> sparse.csr_array[Any]:
        """Take the labels whose score is at least their threshold.

        Parameters
        ----------
        scores : ndarray or sparse array, shape (n, L)

        Returns
        -------
        csr_array, shape (n, L)

        Raises
        ------
        ValueError
            If the number of labels is another than in `fit`, a score is not finite, or `fit` was not called.
        """
        require_fitted(self, self.thresholds_)
        assert self.thresholds_ is not None
        return sets_reaching(as_scores(scores, n_labels=self.thresholds_.size), self.thresholds_)

    def get_state(self) -> State:
        """What `from_state` needs."""
        require_fitted(self, self.thresholds_)
        assert self.thresholds_ is not None
        return {
            "kind": type(self).__name__,
            "shrinkage": float(self.shrinkage),
            "thresholds": self.thresholds_.copy(),
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A decoder equal to the one whose state this is."""
        decoder = cls(shrinkage=number_of(state, "shrinkage"))
        decoder.thresholds_ = array_of(state, "thresholds")
        return decoder


def _with_positive(Y: Any) -> sparse.csr_array[Any]:
    truth = as_truth(Y)
    if truth.nnz == 0:
        raise ValueError("Y holds no positive: no threshold can be learnt from it")
    return truth


def _micro_threshold(scores: Scores, Y: sparse.csr_array[Any]) -> float:
    found = np.sort(hits(scores, Y).data)
    if found.size == 0:
        raise ValueError("no positive of Y is among the candidates of the sparse scores; raise their k")
    candidates = np.unique(found)
    taken = np.zeros(candidates.size, dtype=np.int64)
    for values in value_chunks(scores):
        taken += _count_reaching(np.sort(values), candidates)
    f1 = 2 * _count_reaching(found, candidates) / (taken + Y.nnz)
    best = _last_argmax(f1)
    return _above_next(scores, float(candidates[best]))


def _macro_threshold(scores: Scores, Y: sparse.csr_array[Any]) -> float:
    one = Buckets(("all",), np.zeros(Y.shape[1], dtype=np.int64))
    threshold = float(_bucket_thresholds(scores, Y, one)[0])
    if np.isnan(threshold):
        raise ValueError("no positive of Y is among the candidates of the sparse scores; raise their k")
    return threshold


def _bucket_thresholds(scores: Scores, Y: sparse.csr_array[Any], buckets: Buckets) -> npt.NDArray[np.float64]:
    """For each bucket the one threshold with the best macro-F1 of its labels; NaN without a positive."""
    n_c = np.bincount(Y.indices, minlength=Y.shape[1])
    of_bucket = [np.where(buckets.index == bucket, n_c, 0) for bucket in range(len(buckets.names))]
    found = hits(scores, Y)
    candidates = [_thin(np.unique(found.data[counts[found.indices] > 0])) for counts in of_bucket]
    f1_sums = [np.zeros(tried.size) for tried in candidates]
    below = [np.full(tried.size, -np.inf) for tried in candidates]
    by_label = sorted_hits(scores, Y)
    for columns in sorted_columns(scores, np.flatnonzero(n_c)):
        for one in zip(of_bucket, candidates, f1_sums, below):
            add_f1(columns, by_label, *one)
    thresholds = np.full(len(buckets.names), np.nan)
    for bucket, tried in enumerate(candidates):
        if tried.size:
            best = _last_argmax(f1_sums[bucket])
            thresholds[bucket] = between(below[bucket][: best + 1].max(), float(tried[best]))
    return thresholds


def _count_reaching(ordered: npt.NDArray[Any], candidates: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.asarray(ordered.size - np.searchsorted(ordered, candidates, side="left"))


def _thin(candidates: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if candidates.size <= _MAX_CANDIDATES:
        return candidates
    return candidates[np.linspace(0, candidates.size - 1, _MAX_CANDIDATES).astype(np.int64)]


def _last_argmax(values: npt.NDArray[Any]) -> int:
    return values.size - 1 - int(np.argmax(values[::-1]))


def _above_next(scores: Scores, lowest_taken: float) -> float:
    lower = -np.inf
    for values in value_chunks(scores):
        lower = max(lower, float(values.max(initial=-np.inf, where=values < lowest_taken)))
    return between(lower, lowest_taken)
