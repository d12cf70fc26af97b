"""Decision scores to probabilities that can be compared across labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from evenhand.multilabel.decoding.calibration import PlattCalibration, with_data
from evenhand.multilabel.decoding.state import State, array_of, number_of, require_fitted
from evenhand.multilabel.metrics.buckets import frequency_buckets
from evenhand.multilabel.scores import Scores, as_scores, as_truth, row_chunks

_BINS = 2048
_RANGE = 30.0  # log-odds beyond which nothing changes
_TIE_BREAK = 0.01
_LEAST_SLOPE = 1e-3  # of the mean slope, for labels whose scores mislead


@dataclass
class PooledCalibration:
    """A Platt curve for each label, then one rising curve for all labels that are about as frequent.

    Parameters
    ----------
    pull : float
        Of the Platt curves, see `PlattCalibration`.

    Attributes
    ----------
    platt_ : PlattCalibration
    buckets_ : ndarray of int64, shape (L,)
        The frequency bucket of each label.
    levels_ : ndarray of float64, shape (buckets, bins)
        The probability in the middle of each bin of Platt log-odds.

    Notes
    -----
    Our choice. A logistic curve fitted to the few positives of a rare label runs on to probabilities near 1
    for scores that no out-of-fold score ever reached; such labels then win the top ranks. The second curve,
    isotonic, says how often such a log-odds was right for labels of that frequency. One per cent of the Platt
    probability is mixed in, so that the order within a label is kept. Where a Platt curve falls, as the
    out-of-fold scores of a few positives may make it by chance, it is set nearly flat at the label's share of
    positives: the best that a rising curve can say.

    Examples
    --------
    >>> scores, Y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), [[0], [0], [1], [1]]
    >>> p = PooledCalibration().fit(scores, Y).transform(scores)
    >>> bool((np.diff(p[:, 0]) > 0).all())
    True
    """

    pull: float = 3.0
    platt_: PlattCalibration | None = field(default=None, init=False)
    buckets_: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64), init=False)
    levels_: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, _BINS)), init=False)

    def fit(self, scores: Any, Y: Any) -> Self:
        """Fit both curves.

        Parameters
        ----------
        scores : ndarray, shape (n, L)
            Out-of-fold or validation scores of all labels.
        Y : sparse array or array-like, shape (n, L)
            Their true labels.

        Returns
        -------
        PooledCalibration
            Itself.

        Raises
        ------
        ValueError
            If shapes differ, or the scores are sparse or not finite.
        """
        truth = as_truth(Y)
        self.platt_ = PlattCalibration(self.pull).fit(scores, truth)
        counts = np.bincount(truth.indices, minlength=truth.shape[1])
        _make_rise(self.platt_, (counts + 1) / (truth.shape[0] + 2))
        buckets = frequency_buckets(counts)
        self.buckets_ = buckets.index
        dense = np.asarray(scores)
        size = (len(buckets.names), _BINS)
        seen, right = np.zeros(size), np.zeros(size)
        for rows in row_chunks(dense):
            bins = np.rint(self._bins(dense[rows], slice(None))).astype(np.int64)
            place = self.buckets_ * _BINS + bins
            seen += np.bincount(place.ravel(), minlength=seen.size).reshape(size)
            part = truth[rows].tocoo()
            right += np.bincount(place[part.row, part.col], minlength=seen.size).reshape(size)
        self.levels_ = np.stack([_rising(*bucket) for bucket in zip(seen, right)])
        return self

    @overload
    def transform(self, scores: npt.NDArray[Any]) -> npt.NDArray[np.float32]: ...

    @overload
    def transform(self, scores: Any) -> Scores: ...

    def transform(self, scores: Any) -> Scores:
        """Probabilities of the labels.

        Parameters
        ----------
        scores : ndarray or sparse array, shape (n, L)

        Returns
        -------
        ndarray or csr_array of float32, shape (n, L)
            In the form of the scores.

        Raises
        ------
        ValueError
            If the number of labels is another than in `fit`, a score is not finite, or `fit` was not called.
        """
        require_fitted(self, self.platt_)
        checked = as_scores(scores, n_labels=self.buckets_.size)
        if sparse.issparse(checked):
            return with_data(checked, self._probabilities(checked.data, checked.indices))
        probabilities = np.empty(checked.shape, dtype=np.float32)
        for rows in row_chunks(checked):
            probabilities[rows] = self._probabilities(checked[rows], slice(None))
        return probabilities

    def _probabilities(
        self, scores: npt.NDArray[Any], labels: npt.NDArray[Any] | slice
    ) -> npt.NDArray[np.float64]:
        """Of scores (…, L) of these L labels."""
        bins, buckets = self._bins(scores, labels), self.buckets_[labels]
        low = np.minimum(bins.astype(np.int64), _BINS - 2)
        step = bins - low
        curve = (1 - step) * self.levels_[buckets, low] + step * self.levels_[buckets, low + 1]
        platt = expit(bins * (2 * _RANGE / (_BINS - 1)) - _RANGE)
        mixed: npt.NDArray[np.float64] = (1 - _TIE_BREAK) * curve + _TIE_BREAK * platt
        return mixed

    def _bins(self, scores: npt.NDArray[Any], labels: npt.NDArray[Any] | slice) -> npt.NDArray[np.float64]:
        """Platt log-odds as a place between 0 and bins − 1."""
        assert self.platt_ is not None
        assert self.platt_.slopes_ is not None
        assert self.platt_.intercepts_ is not None
        odds = self.platt_.slopes_[labels] * scores + self.platt_.intercepts_[labels]
        bins: npt.NDArray[np.float64] = (np.clip(odds, -_RANGE, _RANGE) + _RANGE) * (
            (_BINS - 1) / (2 * _RANGE)
        )
        return bins

    def get_state(self) -> State:
        """What `from_state` needs."""
        require_fitted(self, self.platt_)
        assert self.platt_ is not None
        return {
            **self.platt_.get_state(),
            "kind": type(self).__name__,
            "buckets": self.buckets_.copy(),
            "levels": self.levels_.ravel().copy(),
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A calibration equal to the one whose state this is."""
        calibration = cls(pull=number_of(state, "pull"))
        platt = PlattCalibration.from_state(state)
        assert platt.slopes_ is not None
        calibration.platt_ = platt
        buckets = array_of(state, "buckets", size=platt.slopes_.size)
        levels = array_of(state, "levels")
        if levels.size % _BINS or np.any(buckets < 0) or np.any(buckets >= levels.size // _BINS):
            raise ValueError("state field 'levels' does not fit 'buckets'; the model is damaged")
        calibration.buckets_, calibration.levels_ = buckets.astype(np.int64), levels.reshape(-1, _BINS)
        return calibration


def _make_rise(platt: PlattCalibration, shares: npt.NDArray[np.float64]) -> None:
    """Change curves that fall to nearly flat ones at the label's share of positives."""
    assert platt.slopes_ is not None
    assert platt.intercepts_ is not None
    falls = platt.slopes_ <= 0
    platt.slopes_[falls] = _LEAST_SLOPE * np.abs(platt.slopes_).mean()
    platt.intercepts_[falls] = logit(shares[falls])


def _rising(seen: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The isotonic share of right ones over the bins; the identity where nothing was seen."""
    bins = np.arange(_BINS, dtype=np.float64)
    some = seen > 0
    if not some.any():
        shares: npt.NDArray[np.float64] = expit(bins * (2 * _RANGE / (_BINS - 1)) - _RANGE)
        return shares
    curve = IsotonicRegression(out_of_bounds="clip").fit(
        bins[some], right[some] / seen[some], sample_weight=seen[some]
    )
    return np.asarray(curve.predict(bins), dtype=np.float64)
