"""How well a label ranks the instances: average precision and its mean over the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evenhand.multilabel._kernels import add_precisions
from evenhand.multilabel.scores import as_scores, as_truth, sorted_columns, sorted_hits


def average_precision(Y_true: Any, scores: Any) -> npt.NDArray[np.float64]:
    """Average precision of each label over the instances.

    Parameters
    ----------
    Y_true : sparse array or array-like, shape (n, L)
        True labels.
    scores : ndarray or sparse array, shape (n, L)
        Scores, walked through label by label. In a sparse array an instance that is no candidate of the
        label is never retrieved: a positive there adds 0.

    Returns
    -------
    ndarray of float64, shape (L,)
        NaN for a label without a true instance.

    Raises
    ------
    ValueError
        If the shapes differ or a score is not finite.

    Notes
    -----
    AP_c = (1/n_c) Σ_{positives i} P(s ≥ s_i), the precision at the positive's score: equal scores stand
    together, so their order does not matter. This is scikit-learn's `average_precision_score`.

    Examples
    --------
    >>> average_precision([[1, 0], [0, 0], [1, 0]], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]).round(3)
    array([0.833,   nan])
    """
    Y = as_truth(Y_true)
    checked = as_scores(scores, shape=Y.shape)
    n_true = np.bincount(Y.indices, minlength=Y.shape[1])
    sums = np.zeros(n_true.size)
    found = sorted_hits(checked, Y)
    for columns in sorted_columns(checked, np.flatnonzero(n_true)):
        add_precisions(columns, found, sums)
    return np.where(n_true > 0, sums / np.maximum(n_true, 1), np.nan)


def mean_average_precision(Y_true: Any, scores: Any) -> float:
    """mAP: mean of the average precision over the labels that have a true instance.

    Parameters
    ----------
    Y_true : sparse array or array-like, shape (n, L)
    scores : ndarray or sparse array, shape (n, L)

    Returns
    -------
    float
        NaN where no label has a true instance.

    Raises
    ------
    ValueError
        As in `average_precision`.

    Examples
    --------
    >>> mean_average_precision([[1, 0], [0, 0], [0, 1]], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    1.0
    """
    values = average_precision(Y_true, scores)
    present = ~np.isnan(values)
    return float(values[present].mean()) if present.any() else float("nan")
