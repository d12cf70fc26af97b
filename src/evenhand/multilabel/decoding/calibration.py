"""Decision scores to probabilities, label by label, fitted on out-of-fold scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import sparse
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from evenhand.multilabel.decoding.state import (
    State,
    array_of,
    as_dense_scores,
    as_strength,
    number_of,
    require_fitted,
)
from evenhand.multilabel.metrics.buckets import frequency_buckets
from evenhand.multilabel.scores import Scores, as_scores, as_truth, columns, row_chunks

_BINS = 4096
_LEAST_PULL = 1e-6  # keeps constant or perfectly separated scores solvable


@dataclass
class PlattCalibration:
    """A logistic curve p = σ(a_c·s + b_c) for each label, pulled to that of equally frequent labels.

    Parameters
    ----------
    pull : float
        λ ≥ 0: strength of the pull, in pseudo-observations. 0 is plain Platt scaling, save for a ridge of
        1e-6 that keeps constant or perfectly separated scores solvable.

    Attributes
    ----------
    slopes_, intercepts_ : ndarray of float64, shape (L,)
        a_c and b_c.

    Notes
    -----
    (a_c, b_c) minimise −Σ_x [t log p + (1 − t) log(1 − p)] + (λ/2)·‖(a, b) − (a, b)_{b(c)}‖², by Newton's
    method with step halving. Targets are Platt's (1999): t = (n₊ + 1)/(n₊ + 2) for a positive, 1/(n₋ + 2)
    for a negative. The penalty is measured on standardised scores (mean 0 and deviation 1 over all labels),
    so that λ does not hang on the scores' unit. Our choice: labels are pulled to the curve of their
    frequency bucket (default edges of `frequency_buckets`), and that with strength 1 to the curve of all
    labels together; these shared curves are fitted on a histogram of 4,096 bins. A label without a positive
    has a curve too, close to its bucket's.

    With out-of-fold LinearSVC scores, the test log loss on Medical, Enron, Bibtex and Corel5k (published
    splits) is within 1 % of its best for pulls of 3 to 10; on Medical, 45 labels with a median of 3
    positives, a pull of 3 lowers it by 7 % against plain Platt scaling.

    Examples
    --------
    >>> scores, Y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), [[0], [0], [1], [1]]
    >>> PlattCalibration(pull=1).fit(scores, Y).transform(scores).round(2)
    array([[0.21],
           [0.34],
           [0.66],
           [0.79]], dtype=float32)
    """

    pull: float = 3.0
    slopes_: npt.NDArray[np.float64] | None = field(default=None, init=False)
    intercepts_: npt.NDArray[np.float64] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        as_strength(self.pull, "pull")

    def fit(self, scores: Any, Y: Any) -> Self:
        """Fit the curves.

        Parameters
        ----------
        scores : ndarray, shape (n, L)
            Out-of-fold or validation scores of all labels.
        Y : sparse array or array-like, shape (n, L)
            Their true labels.

        Returns
        -------
        PlattCalibration
            Itself.

        Raises
        ------
        ValueError
            If shapes differ, or the scores are sparse or not finite.
        """
        truth = as_truth(Y)
        dense = as_dense_scores(scores, truth.shape)
        centre, spread = _centre_and_spread(dense)
        n_c = np.bincount(truth.indices, minlength=truth.shape[1])
        buckets = frequency_buckets(n_c)
        shared = _bucket_curves(dense, truth, buckets.index, len(buckets.names), centre, spread)
        curves = shared[buckets.index]
        rows_of = truth.tocsc()
        weight = np.ones(truth.shape[0])
        for label, values, _ in columns(dense):
            positive, negative = _platt_targets(n_c[label], truth.shape[0] - n_c[label])
            target = np.full(truth.shape[0], negative)
            target[rows_of.indices[rows_of.indptr[label] : rows_of.indptr[label + 1]]] = positive
            z = (values.astype(np.float64) - centre) / spread
            curves[label] = _fit_curve(z, weight, target, curves[label], max(self.pull, _LEAST_PULL))
        self.slopes_ = curves[:, 0] / spread
        self.intercepts_ = curves[:, 1] - curves[:, 0] * centre / spread
        return self

    def transform(self, scores: Any) -> Scores:
        """Probabilities of the labels.

        Parameters
        ----------
        scores : ndarray or sparse array, shape (n, L)

        Returns
        -------
        ndarray or csr_array, shape (n, L), float32
            In the form of the scores.

        Raises
        ------
        ValueError
            If the number of labels is another than in `fit`, a score is not finite, or `fit` was not called.
        """
        require_fitted(self, self.slopes_)
        slopes, intercepts = self.slopes_, self.intercepts_
        assert slopes is not None
        assert intercepts is not None
        checked = as_scores(scores, n_labels=slopes.size)
        if sparse.issparse(checked):
            values = expit(slopes[checked.indices] * checked.data + intercepts[checked.indices])
            return with_data(checked, values)
        probabilities = np.empty(checked.shape, dtype=np.float32)
        for rows in row_chunks(checked):
            probabilities[rows] = expit(slopes * checked[rows] + intercepts)
        return probabilities

    def get_state(self) -> State:
        """What `from_state` needs."""
        require_fitted(self, self.slopes_)
        assert self.slopes_ is not None
        assert self.intercepts_ is not None
        return {
            "kind": type(self).__name__,
            "pull": float(self.pull),
            "slopes": self.slopes_.copy(),
            "intercepts": self.intercepts_.copy(),
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A calibration equal to the one whose state this is."""
        calibration = cls(pull=number_of(state, "pull"))
        calibration.slopes_ = array_of(state, "slopes")
        calibration.intercepts_ = array_of(state, "intercepts", size=calibration.slopes_.size)
        return calibration


@dataclass
class IsotonicCalibration:
    """A rising step curve for each label, blended with its Platt curve where positives are few.

    Parameters
    ----------
    shrinkage : float
        s ≥ 0: the number of positives at which both curves weigh the same. 0 is plain isotonic regression.
    pull : float
        Of the Platt curves, see `PlattCalibration`.

    Attributes
    ----------
    platt_ : PlattCalibration
    knots_, levels_ : ndarray of float64
        Scores and probabilities between which the isotonic curves run straight, of all labels one after the
        other.
    starts_ : ndarray of int64, shape (L + 1,)
        Where each label's knots begin; a label without a positive has none.
    weights_ : ndarray of float64, shape (L,)
        w_c, the share of the isotonic curve.

    Notes
    -----
    p = w_c·isotonic_c(s) + (1 − w_c)·platt_c(s), w_c = n_c / (n_c + s). Our choice: alone, an isotonic curve
    of a label with three positives is two or three steps that say 0 or 1. The isotonic curve is
    scikit-learn's, constant beyond the scores it was fitted on.

    Examples
    --------
    >>> scores, Y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), [[0], [1], [0], [1]]
    >>> IsotonicCalibration(shrinkage=0).fit(scores, Y).transform(scores)
    array([[0. ],
           [0.5],
           [0.5],
           [1. ]], dtype=float32)
    """

    shrinkage: float = 100.0
    pull: float = 3.0
    platt_: PlattCalibration | None = field(default=None, init=False)
    knots_: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0), init=False)
    levels_: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0), init=False)
    starts_: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64), init=False)
    weights_: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0), init=False)

    def __post_init__(self) -> None:
        as_strength(self.shrinkage, "shrinkage")
        as_strength(self.pull, "pull")

    def fit(self, scores: Any, Y: Any) -> Self:
        """Fit the curves.

        Parameters
        ----------
        scores : ndarray, shape (n, L)
            Out-of-fold or validation scores of all labels.
        Y : sparse array or array-like, shape (n, L)
            Their true labels.

        Returns
        -------
        IsotonicCalibration
            Itself.

        Raises
        ------
        ValueError
            If shapes differ, or the scores are sparse or not finite.
        """
        truth = as_truth(Y)
        dense = as_dense_scores(scores, truth.shape)
        self.platt_ = PlattCalibration(self.pull).fit(dense, truth)
        n_c = np.bincount(truth.indices, minlength=truth.shape[1])
        self.weights_ = np.where(n_c > 0, n_c / np.maximum(n_c + self.shrinkage, 1), 0.0)
        sizes = np.zeros(n_c.size, dtype=np.int64)
        knots, levels = [np.empty(0)], [np.empty(0)]
        rows_of = truth.tocsc()
        for label, values, _ in columns(dense, np.flatnonzero(n_c)):
            target = np.zeros(values.size)
            target[rows_of.indices[rows_of.indptr[label] : rows_of.indptr[label + 1]]] = 1
            curve = IsotonicRegression().fit(values.astype(np.float64), target)
            knots.append(curve.X_thresholds_)
            levels.append(curve.y_thresholds_)
            sizes[label] = curve.X_thresholds_.size
        self.knots_, self.levels_ = np.concatenate(knots), np.concatenate(levels)
        self.starts_ = np.concatenate(([0], np.cumsum(sizes)))
        return self

    def transform(self, scores: Any) -> Scores:
        """Probabilities of the labels.

        Parameters
        ----------
        scores : ndarray or sparse array, shape (n, L)

        Returns
        -------
        ndarray or csr_array, shape (n, L), float32
            In the form of the scores.

        Raises
        ------
        ValueError
            If the number of labels is another than in `fit`, a score is not finite, or `fit` was not called.
        """
        require_fitted(self, self.platt_)
        assert self.platt_ is not None
        checked = as_scores(scores, n_labels=self.weights_.size)
        probabilities = self.platt_.transform(checked)
        curved = np.flatnonzero(np.diff(self.starts_))
        if sparse.issparse(probabilities):
            by_label = probabilities.tocsc()
            for label, values, _ in columns(checked, curved):
                here = slice(by_label.indptr[label], by_label.indptr[label + 1])
                by_label.data[here] = self._blend(label, values, by_label.data[here])
            return by_label.tocsr()
        for label, values, _ in columns(checked, curved):
            probabilities[:, label] = self._blend(label, values, probabilities[:, label])
        return probabilities

    def _blend(
        self, label: int, values: npt.NDArray[Any], platt: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        here = slice(self.starts_[label], self.starts_[label + 1])
        isotonic = np.interp(values, self.knots_[here], self.levels_[here])
        weight = self.weights_[label]
        return np.asarray(weight * isotonic + (1 - weight) * platt)

    def get_state(self) -> State:
        """What `from_state` needs."""
        require_fitted(self, self.platt_)
        assert self.platt_ is not None
        return {
            **self.platt_.get_state(),
            "kind": type(self).__name__,
            "shrinkage": float(self.shrinkage),
            "knots": self.knots_.copy(),
            "levels": self.levels_.copy(),
            "starts": self.starts_.copy(),
            "weights": self.weights_.copy(),
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A calibration equal to the one whose state this is."""
        calibration = cls(shrinkage=number_of(state, "shrinkage"), pull=number_of(state, "pull"))
        platt = PlattCalibration.from_state(state)
        assert platt.slopes_ is not None
        n_labels = platt.slopes_.size
        calibration.platt_ = platt
        calibration.knots_ = array_of(state, "knots")
        calibration.levels_ = array_of(state, "levels", size=calibration.knots_.size)
        starts = array_of(state, "starts", size=n_labels + 1).astype(np.int64)
        if starts[0] != 0 or starts[-1] != calibration.knots_.size or np.any(np.diff(starts) < 0):
            raise ValueError("state field 'starts' does not fit 'knots'; the model is damaged")
        calibration.starts_ = starts
        calibration.weights_ = array_of(state, "weights", size=n_labels)
        return calibration


def with_data(like: sparse.csr_array[Any], data: npt.NDArray[Any]) -> sparse.csr_array[Any]:
    """An array of float32 with other values in the same places."""
    parts = data.astype(np.float32), like.indices.copy(), like.indptr.copy()
    return sparse.csr_array(parts, shape=like.shape)


def _centre_and_spread(scores: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation over all scores; a spread of 1 where they are constant."""
    chunks = list(row_chunks(scores))
    centre = sum(scores[rows].sum(dtype=np.float64) for rows in chunks) / scores.size
    squares = sum(np.square(scores[rows] - centre).sum(dtype=np.float64) for rows in chunks)
    spread = float(np.sqrt(squares / scores.size))
    return float(centre), spread if spread > 1e-12 * max(1.0, abs(centre)) else 1.0


def _platt_targets(n_positive: int, n_negative: int) -> tuple[float, float]:
    return (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2)


def _bucket_curves(
    scores: npt.NDArray[Any],
    Y: sparse.csr_array[Any],
    bucket: npt.NDArray[np.int64],
    n_buckets: int,
    centre: float,
    spread: float,
) -> npt.NDArray[np.float64]:
    """(a, b) of each frequency bucket, on standardised scores."""
    edges = _standard_range(scores, centre, spread)
    seen, sums, positives = (np.zeros((n_buckets, _BINS)) for _ in range(3))
    _fill_histogram(scores, Y.indptr, Y.indices, bucket, (centre, spread, *edges), seen, sums, positives)
    everything = _histogram_curve(
        seen.sum(axis=0), sums.sum(axis=0), positives.sum(axis=0), np.array([1.0, 0.0]), _LEAST_PULL
    )
    return np.array([_histogram_curve(*one, everything, 1.0) for one in zip(seen, sums, positives)])


def _standard_range(scores: npt.NDArray[Any], centre: float, spread: float) -> tuple[float, float]:
    low, high = (float(scores.min()) - centre) / spread, (float(scores.max()) - centre) / spread
    return low, max(high - low, 1e-12)


def _histogram_curve(
    seen: npt.NDArray[np.float64],
    sums: npt.NDArray[np.float64],
    positives: npt.NDArray[np.float64],
    prior: npt.NDArray[np.float64],
    pull: float,
) -> npt.NDArray[np.float64]:
    """The pulled Platt curve of binned scores: each bin counts at the mean of its scores."""
    some = seen > 0
    seen, positives, z = seen[some], positives[some], sums[some] / seen[some]
    high, low = _platt_targets(int(positives.sum()), int(seen.sum() - positives.sum()))
    target = (positives * high + (seen - positives) * low) / seen
    curve: npt.NDArray[np.float64] = _fit_curve(z, seen, target, prior, pull)
    return curve


@njit(cache=True)
def _fill_histogram(
    scores: Any, indptr: Any, indices: Any, bucket: Any, scale: Any, seen: Any, sums: Any, positives: Any
) -> None:
    centre, spread, low, width = scale
    for row in range(scores.shape[0]):
        at = indptr[row]
        for label in range(scores.shape[1]):
            z = (scores[row, label] - centre) / spread
            place = min(_BINS - 1, max(0, int((z - low) / width * _BINS)))
            seen[bucket[label], place] += 1
            sums[bucket[label], place] += z
            if at < indptr[row + 1] and indices[at] == label:
                positives[bucket[label], place] += 1
                at += 1


@njit(cache=True, nogil=True)
def _fit_curve(z: Any, weight: Any, target: Any, prior: Any, pull: float) -> Any:
    """Minimise Σ w·(log(1 + e^f) − t·f) + (pull/2)·‖(a, b) − prior‖², f = a·z + b, from the prior on."""
    a, b = prior[0], prior[1]
    value, ga, gb, haa, hab, hbb = _curve_terms(z, weight, target, a, b)
    for _ in range(100):
        full = value + pull / 2 * ((a - prior[0]) ** 2 + (b - prior[1]) ** 2)
        ga, gb = ga + pull * (a - prior[0]), gb + pull * (b - prior[1])
        haa, hbb = haa + pull, hbb + pull
        determinant = haa * hbb - hab * hab
        step_a, step_b = (hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant
        expected = ga * step_a + gb * step_b  # Newton's decrement: twice the gain that is left
        if expected < 1e-10:
            break
        size = 1.0
        while size > 1e-10:
            new_a, new_b = a - size * step_a, b - size * step_b
            value, ga, gb, haa, hab, hbb = _curve_terms(z, weight, target, new_a, new_b)
            new_full = value + pull / 2 * ((new_a - prior[0]) ** 2 + (new_b - prior[1]) ** 2)
            if new_full <= full - 1e-4 * size * expected:
                break
            size /= 2
        if size <= 1e-10:  # no descent left within rounding
            break
        a, b = new_a, new_b
    return np.array([a, b])


@njit(cache=True, nogil=True)
def _curve_terms(z: Any, weight: Any, target: Any, a: float, b: float) -> Any:
    """Loss, gradient and Hessian of the logistic loss in (a, b)."""
    value = ga = gb = haa = hab = hbb = 0.0
    for i in range(z.size):
        f = a * z[i] + b
        e = np.exp(-abs(f))
        p = 1 / (1 + e) if f >= 0 else e / (1 + e)
        value += weight[i] * (max(f, 0.0) + np.log1p(e) - target[i] * f)
        slope, curvature = weight[i] * (p - target[i]), weight[i] * p * (1 - p)
        ga += slope * z[i]
        gb += slope
        haa += curvature * z[i] * z[i]
        hab += curvature * z[i]
        hbb += curvature
    return value, ga, gb, haa, hab, hbb
