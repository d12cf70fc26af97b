"""What an estimator is given as X: one matrix or several, checked, as views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from evenhand.multilabel.options import check_real
from evenhand.multilabel.views import Views


def as_views(estimator: BaseEstimator, X: Any, *, reset: bool) -> Views:
    """X as views; one matrix is checked by scikit-learn, which also keeps feature names.

    Parameters
    ----------
    estimator : BaseEstimator
        Its ``views_`` and ``n_features_in_`` are set or compared with.
    X : matrix, shape (n, D), or Views, or mapping or list of matrices
    reset : bool
        Whether this is training, else X must look as it did then.

    Returns
    -------
    Views

    Raises
    ------
    ValueError
        If X is no matrix of finite numbers, or does not fit the training data.
    """
    check_real("X is", X)
    if isinstance(X, Views) or _is_several(X):
        views = Views.of(X)
        if reset:
            estimator.__dict__.pop("feature_names_in_", None)  # of an earlier fit
    else:
        checked = validate_data(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float32, np.float64],
            ensure_min_samples=2 if reset else 1,
            ensure_all_finite=False,  # views find and name what is not
        )
        views = Views.of(checked)
    if reset:
        estimator.n_features_in_ = views.shape[1]
        estimator.views_ = views.n_features
    elif views.n_features != estimator.views_:
        raise ValueError(
            f"X has the views {views.n_features}, but the model was trained on {estimator.views_}"
        )
    return views


def _is_several(X: Any) -> bool:
    """Whether X is a mapping or list of matrices."""
    if sparse.issparse(X):  # a dok_array is a mapping
        return False
    return isinstance(X, Mapping) or (
        isinstance(X, list | tuple) and any(len(getattr(block, "shape", ())) == 2 for block in X)
    )
