"""How good decided label sets are: confusion counts per label and the averages of F1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel.data import as_label_matrix
from evenhand.multilabel.scores import as_truth


@dataclass(frozen=True)
class Confusion:
    """True positives, false positives and false negatives, and what follows from them. 0/0 is 0.

    Parameters
    ----------
    tp, fp, fn : ndarray of int64
        One entry for each label (or for each instance, or one in all).

    Examples
    --------
    >>> Confusion(tp=np.array([3]), fp=np.array([1]), fn=np.array([2])).f1
    array([0.66666667])
    """

    tp: npt.NDArray[np.int64]
    fp: npt.NDArray[np.int64]
    fn: npt.NDArray[np.int64]

    @property
    def support(self) -> npt.NDArray[np.int64]:
        """True positives and false negatives: how often the label is true."""
        return self.tp + self.fn

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """TP / (TP + FP)."""
        return _divide(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """TP / (TP + FN)."""
        return _divide(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """2·TP / (2·TP + FP + FN)."""
        return _divide(2 * self.tp, 2 * self.tp + self.fp + self.fn)


@dataclass(frozen=True)
class F1:
    """The averages of F1.

    Parameters
    ----------
    micro : float
        F1 of the counts summed over all labels.
    macro : float
        Mean of the labels' F1 over all L labels; a label that is neither true nor predicted counts as 0.
    macro_present : float
        Mean of the labels' F1 over the labels that are true at least once in this set; NaN where there is
        none.
    samples : float
        Mean of the instances' F1; an instance with neither a true nor a predicted label counts as 0.
    """

    micro: float
    macro: float
    macro_present: float
    samples: float


def confusion(Y_true: Any, Y_pred: Any) -> Confusion:
    """Confusion counts of each label.

    Parameters
    ----------
    Y_true, Y_pred : sparse array or array-like, shape (n, L)
        True and predicted label sets.

    Returns
    -------
    Confusion
        With arrays of shape (L,).

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> confusion([[1, 0], [1, 1]], [[1, 1], [0, 1]]).recall
    array([0.5, 1. ])
    """
    true, predicted = _same_shape(Y_true, Y_pred)
    return _counts(true, predicted, axis=1)


def f1(Y_true: Any, Y_pred: Any) -> F1:
    """Micro-, macro- and samples-averaged F1.

    Parameters
    ----------
    Y_true, Y_pred : sparse array or array-like, shape (n, L)
        True and predicted label sets.

    Returns
    -------
    F1
        Says for each average over which labels or instances it goes. Equal to scikit-learn's `f1_score` with
        ``zero_division=0``.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> f1([[1, 0, 0], [1, 1, 0]], [[1, 0, 0], [0, 1, 0]])
    F1(micro=0.8, macro=0.55..., macro_present=0.83..., samples=0.83...)
    """
    true, predicted = _same_shape(Y_true, Y_pred)
    labels = _counts(true, predicted, axis=1)
    pooled = Confusion(labels.tp.sum(), labels.fp.sum(), labels.fn.sum())
    return F1(
        micro=float(pooled.f1),
        macro=float(labels.f1.mean()),
        macro_present=mean_over(labels.f1, labels.support > 0),
        samples=float(_counts(true, predicted, axis=0).f1.mean()),
    )


def rare_f1(Y_true: Any, Y_pred: Any, rare: npt.ArrayLike) -> float:
    """Macro-F1 over the rare labels that are true at least once in this set.

    Parameters
    ----------
    Y_true, Y_pred : sparse array or array-like, shape (n, L)
        True and predicted label sets.
    rare : array-like of bool, shape (L,)
        Which labels are rare: `rare_labels` or `bottom_half` of the training counts.

    Returns
    -------
    float
        NaN where no rare label is true in this set.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> rare_f1([[1, 0, 1]], [[1, 1, 1]], rare=[False, True, True])
    1.0
    """
    counts = confusion(Y_true, Y_pred)
    mask = np.asarray(rare)
    if mask.shape != counts.tp.shape or mask.dtype != np.bool_:
        raise ValueError(
            f"rare must be a mask of shape {counts.tp.shape}, one bool for each label, "
            f"not {mask.dtype} of shape {mask.shape}"
        )
    return mean_over(counts.f1, mask & (counts.support > 0))


def mean_over(values: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> float:
    """Mean of the chosen values, NaN where none is chosen.

    Parameters
    ----------
    values : ndarray, shape (L,)
    mask : ndarray of bool, shape (L,)

    Returns
    -------
    float

    Examples
    --------
    >>> mean_over(np.array([1.0, 3.0, 8.0]), np.array([True, True, False]))
    2.0
    """
    return float(values[mask].mean()) if mask.any() else float("nan")


def _same_shape(Y_true: Any, Y_pred: Any) -> tuple[sparse.csr_array[Any], sparse.csr_array[Any]]:
    true, predicted = as_truth(Y_true), as_label_matrix(Y_pred)
    if true.shape != predicted.shape:
        raise ValueError(
            f"Y_true has shape {true.shape} and Y_pred {predicted.shape}; "
            "both must be of the same instances and labels"
        )
    return true, predicted


def _counts(true: sparse.csr_array[Any], predicted: sparse.csr_array[Any], *, axis: int) -> Confusion:
    """Counts of each label (axis 1) or instance (axis 0)."""

    def size(Y: sparse.csr_array[Any]) -> npt.NDArray[np.int64]:
        return np.bincount(Y.indices, minlength=Y.shape[1]) if axis else np.diff(Y.indptr).astype(np.int64)

    tp = size(sparse.csr_array(true.multiply(predicted)))
    return Confusion(tp=tp, fp=size(predicted) - tp, fn=size(true) - tp)


def _divide(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(part / np.maximum(whole, 1))
