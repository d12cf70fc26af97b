"""What an estimator is given as y: a matrix or tags, as sparse labels with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer

from evenhand.multilabel.data import as_label_matrix


@dataclass(frozen=True)
class Targets:
    """Training labels.

    Parameters
    ----------
    labels : csr_array of ones, shape (n, L)
    names : ndarray, shape (L,)
        Tags or column names where y came with them, else 0 to L − 1.
    given_sparse : bool
        Whether y was sparse or tags.
    """

    labels: sparse.csr_array[Any]
    names: npt.NDArray[Any]
    given_sparse: bool

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """n_c, the training positives of each label, shape (L,)."""
        return np.bincount(self.labels.indices, minlength=self.labels.shape[1])


def as_targets(Y: Any, n: int) -> Targets:
    """y as an estimator takes it, checked.

    Parameters
    ----------
    Y : sparse or dense matrix, shape (n, L), or sequence of collections of str
        Labels: whatever is not zero is a label; or the tags of each instance.
    n : int
        The number of instances.

    Returns
    -------
    Targets

    Raises
    ------
    ValueError
        If Y is missing, is no set of labels, has another number of rows or no positive.

    Examples
    --------
    >>> targets = as_targets([["tree"], ["leaf", "tree"]], 2)
    >>> targets.names.tolist(), targets.counts.tolist()
    (['leaf', 'tree'], [1, 2])
    """
    if Y is None:
        raise ValueError("fit requires y to be passed, but the target y is None")
    names: npt.NDArray[Any] | None = None
    given_sparse = sparse.issparse(Y)
    if is_tag_lists(Y):
        binarizer = MultiLabelBinarizer(sparse_output=True)
        Y, names, given_sparse = binarizer.fit_transform(Y), binarizer.classes_, True
    elif hasattr(Y, "columns"):
        names = np.asarray(Y.columns)
    _check_label_type(Y)
    labels = as_label_matrix(Y)
    if labels.shape[0] != n:
        raise ValueError(f"Y has {labels.shape[0]} rows, but X has {n}")
    if not labels.nnz:
        raise ValueError("Y has no positive at all; there is nothing to learn")
    return Targets(labels, np.arange(labels.shape[1]) if names is None else names, given_sparse)


def is_tag_lists(Y: Any) -> bool:
    """Whether Y is a sequence of collections of texts."""
    if isinstance(Y, str) or not isinstance(Y, Sequence) or not len(Y):
        return False
    if not all(isinstance(tags, list | tuple | set | frozenset) for tags in Y):
        return False
    first = next((tag for tags in Y for tag in tags), None)
    return isinstance(first, str)


def _check_label_type(Y: Any) -> None:
    """Refuse classes, texts and ragged rows before they are taken for labels."""
    if sparse.issparse(Y):
        return
    try:
        given = np.asarray(Y)
    except ValueError:  # rows of unequal length
        given = np.asarray(Y, dtype=object)
    if given.ndim != 2 or given.dtype.kind not in "biuf":
        raise ValueError(
            f"Unknown label type: y is {given.ndim}-dimensional, of type {given.dtype}; label sets are"
            " needed, not classes: a matrix (instances x labels) of 0 and 1, or a list of the tags of each"
            " instance"
        )
