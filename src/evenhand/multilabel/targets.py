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
    named : bool
        Whether y came with names.
    given_sparse : bool
        Whether y was sparse or tags.
    """

    labels: sparse.csr_array[Any]
    names: npt.NDArray[Any]
    named: bool
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
        If Y is missing, is no set of labels, has a tag that is no text, another number of rows, or no
        positive.

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
    labels = _as_labels(Y, n)
    if not labels.nnz:
        raise ValueError("Y has no positive at all; there is nothing to learn")
    if names is None:
        return Targets(labels, np.arange(labels.shape[1]), False, given_sparse)
    return Targets(labels, names, True, given_sparse)


def as_known_targets(Y: Any, n: int, names: npt.NDArray[Any]) -> sparse.csr_array[Any]:
    """y of further instances for labels that are known, checked.

    Parameters
    ----------
    Y : sparse or dense matrix, shape (n, L), or sequence of collections of str
    n : int
        The number of instances.
    names : ndarray, shape (L,)

    Returns
    -------
    csr_array of ones, shape (n, L)

    Raises
    ------
    ValueError
        If Y is no set of labels, has another number of rows or columns, or a tag is no text or not known.

    Examples
    --------
    >>> as_known_targets([["tree"]], 1, np.array(["leaf", "tree"])).toarray().tolist()
    [[0.0, 1.0]]
    """
    if is_tag_lists(Y):
        if unknown := sorted({tag for tags in Y for tag in tags}.difference(names)):
            raise ValueError(f"the tag {str(unknown[0])!r} is not known; training had no such label")
        Y = MultiLabelBinarizer(classes=list(names), sparse_output=True).fit_transform(Y)
    elif hasattr(Y, "columns") and list(Y.columns) != list(names):
        raise ValueError("the columns of Y are not the labels of the training, in that order")
    labels = _as_labels(Y, n)
    if labels.shape[1] != len(names):
        raise ValueError(f"Y has {labels.shape[1]} labels, but the model was trained on {len(names)}")
    return labels


def named_sets(Y: Any, names: npt.NDArray[Any]) -> list[tuple[Any, ...]]:
    """The names of the labels of each row.

    Parameters
    ----------
    Y : sparse or dense matrix, shape (n, L)
    names : ndarray, shape (L,)

    Returns
    -------
    list of tuple

    Raises
    ------
    ValueError
        If Y has another number of labels.

    Examples
    --------
    >>> named_sets([[0, 1], [1, 1]], np.array([7, 8]))
    [(np.int64(8),), (np.int64(7), np.int64(8))]
    """
    sets = as_label_matrix(Y)
    if sets.shape[1] != len(names):
        raise ValueError(f"Y has {sets.shape[1]} labels, but the model was trained on {len(names)}")
    return [tuple(names[row]) for row in np.split(sets.indices, sets.indptr[1:-1])]


def is_tag_lists(Y: Any) -> bool:
    """Whether Y is a sequence of collections of texts.

    Raises
    ------
    ValueError
        If only some of the tags are texts.
    """
    if isinstance(Y, str) or not isinstance(Y, Sequence) or not len(Y):
        return False
    if not all(isinstance(tags, list | tuple | set | frozenset) for tags in Y):
        return False
    kinds = {isinstance(tag, str) for tags in Y for tag in tags}
    if len(kinds) == 2:
        row, tag = next((row, tag) for row, tags in enumerate(Y) for tag in tags if not isinstance(tag, str))
        raise ValueError(f"y has the tag {tag!r:.80} in row {row}, which is no text; write all tags as texts")
    return kinds == {True}


def _as_labels(Y: Any, n: int) -> sparse.csr_array[Any]:
    _check_label_type(Y)
    labels = as_label_matrix(Y)
    if labels.shape[0] != n:
        raise ValueError(f"Y has {labels.shape[0]} rows, but X has {n}")
    return labels


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
            " instance, which are texts"
        )
