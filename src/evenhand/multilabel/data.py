"""The container that every reader fills and every later stage takes: features, labels and their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

Kind: TypeAlias = Literal["sparse", "dense", "text"]
Features: TypeAlias = "sparse.csr_array[Any] | npt.NDArray[Any]"
"""csr_array (n, d) float32, ndarray (n, d) float32, or ndarray (n, text columns) of str with dtype object."""


class DataError(ValueError):
    """Bad input data.

    The message names the place ("FILE:LINE: " first where there is a line) and the mend.
    """


@dataclass(frozen=True, eq=False)
class MultilabelData:
    """A multi-label data set: n instances, their features X and their labels Y.

    What is passed in is checked and brought into one form; the caller's arrays are not changed.

    Parameters
    ----------
    X : csr_array (n, d), ndarray (n, d) or ndarray (n, c) of str
        Features. Numbers are held as float32; duplicate entries of a sparse X are summed.
        Texts are an object array with one column for each of the c text columns.
    Y : sparse array or ndarray, shape (n, L)
        Labels. Whatever is not zero is a label; held as csr_array, float32, all stored values 1.
    label_names : sequence of str, length L
        No name twice.
    instance_ids : sequence of str, length n
    source : str
        Where the data came from, for reports.
    feature_names : sequence of str, length d or c, optional
        For texts, the names of the text columns.
    groups : array of str, shape (n,), optional
        Rows of one group never stand on both sides of a split.
    notes : mapping of str to str, optional
        Provenance: release date, checksum and the like.

    Raises
    ------
    DataError
        If shapes and lengths do not fit, X or Y holds NaN or inf, X is complex, a text is not a str, or a
        label name stands twice.

    Examples
    --------
    >>> data = MultilabelData(
    ...     X=np.array([["red round"], ["green"]], dtype=object), Y=[[1, 0], [1, 1]],
    ...     label_names=("fruit", "leaf"), instance_ids=("a", "b"), source="by hand", feature_names=("text",))
    >>> data.kind, data.n_instances, data.n_labels
    ('text', 2, 2)
    >>> data.tags(1)
    ['fruit', 'leaf']
    >>> data.label_counts()
    array([2, 1])
    """

    X: Features
    Y: sparse.csr_array[Any]
    label_names: tuple[str, ...]
    instance_ids: tuple[str, ...]
    source: str
    feature_names: tuple[str, ...] | None = None
    groups: npt.NDArray[Any] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hold = object.__setattr__
        hold(self, "X", _as_features(self.X, self.source))
        hold(self, "Y", as_label_matrix(self.Y))
        hold(self, "label_names", tuple(self.label_names))
        hold(self, "instance_ids", tuple(self.instance_ids))
        if self.feature_names is not None:
            hold(self, "feature_names", tuple(self.feature_names))
        if self.groups is not None:
            hold(self, "groups", np.asarray(self.groups).astype(str))
        self._check_lengths()
        check_unique(self.label_names, self.source)

    def _check_lengths(self) -> None:
        n, n_features = self.X.shape
        if self.kind == "text" and self.feature_names is None:
            raise DataError(f"{self.source}: texts need feature_names, one name a text column")
        found = [
            ("Y", "rows", self.Y.shape[0], "instances", n),
            ("instance_ids", "entries", len(self.instance_ids), "instances", n),
            ("label_names", "entries", len(self.label_names), "labels", self.Y.shape[1]),
        ]
        if self.groups is not None:
            found.append(("groups", "entries", self.groups.size, "instances", n))
        if self.feature_names is not None:
            found.append(("feature_names", "entries", len(self.feature_names), "features", n_features))
        for name, unit, length, of, expected in found:
            if length != expected:
                raise DataError(f"{self.source}: {name} has {length} {unit} for {expected} {of}")

    @property
    def kind(self) -> Kind:
        """What X holds: "sparse" or "dense" numbers, or "text"."""
        if isinstance(self.X, np.ndarray):
            return "text" if self.X.dtype == object else "dense"
        return "sparse"

    @property
    def n_instances(self) -> int:
        """Number of instances n."""
        return int(self.Y.shape[0])

    @property
    def n_labels(self) -> int:
        """Number of labels L."""
        return int(self.Y.shape[1])

    def label_counts(self) -> npt.NDArray[np.int64]:
        """Positives of each label, n_c, shape (L,)."""
        return np.bincount(self.Y.indices, minlength=self.n_labels).astype(np.int64)

    def tags(self, row: int) -> list[str]:
        """Names of the labels of one instance, in the order of `label_names`."""
        return [self.label_names[label] for label in self.Y[[row]].indices]

    def take(self, rows: npt.ArrayLike) -> MultilabelData:
        """Instances `rows` (indices or a boolean mask) as a data set with the same labels.

        Parameters
        ----------
        rows : array of int, or of bool with length n

        Returns
        -------
        MultilabelData
            The instances in the order asked for; labels that have no positive left are kept.
        """
        chosen = np.arange(self.n_instances)[np.asarray(rows, dtype=None if np.size(rows) else np.int64)]
        return replace(
            self,
            X=self.X[chosen],
            Y=self.Y[chosen],
            instance_ids=tuple(self.instance_ids[row] for row in chosen),
            groups=None if self.groups is None else self.groups[chosen],
        )

    def align_labels(self, label_names: Sequence[str]) -> MultilabelData:
        """Re-order and extend the labels to another list of names.

        Parameters
        ----------
        label_names : sequence of str
            The new list. Names that this data set does not know become labels without a positive.

        Returns
        -------
        MultilabelData

        Raises
        ------
        DataError
            If a label that has a positive here is not in the list: its positives would be lost.

        Examples
        --------
        >>> data = MultilabelData(np.eye(2), [[1, 0], [0, 1]], ("a", "b"), ("0", "1"), "by hand")
        >>> data.align_labels(["b", "new", "a"]).Y.toarray()
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
        """
        place = {name: column for column, name in enumerate(label_names)}
        counts = self.label_counts()
        lost = [name for name, count in zip(self.label_names, counts) if count and name not in place]
        if lost:
            raise DataError(
                f"{self.source}: {len(lost)} labels with positives are not in the list of labels"
                f" (first: {lost[0]!r}); add them to the list"
            )
        columns = np.array([place.get(name, 0) for name in self.label_names], dtype=np.int64)
        shape = (self.n_instances, len(label_names))
        Y = sparse.csr_array((self.Y.data, columns[self.Y.indices], self.Y.indptr), shape=shape)
        return replace(self, Y=Y, label_names=tuple(label_names))


def as_label_matrix(Y: Any) -> sparse.csr_array[Any]:
    """Labels in the project's one form.

    Parameters
    ----------
    Y : sparse array, sparse matrix or array-like, shape (n, L)
        Any number or bool type; whatever is not zero is a label.

    Returns
    -------
    csr_array, shape (n, L), float32
        All stored values 1, indices sorted, nothing stored twice, no stored zero. A copy where anything had
        to change.

    Raises
    ------
    DataError
        If Y is not two-dimensional or holds NaN or infinity.

    Examples
    --------
    >>> as_label_matrix([[0, 2], [0, 0]]).toarray()
    array([[0., 1.],
           [0., 0.]], dtype=float32)
    """
    if not sparse.issparse(Y):
        Y = np.asarray(Y)
    if Y.ndim != 2:
        raise DataError(f"Y must be two-dimensional (instances by labels), not {Y.ndim}-dimensional")
    matrix: sparse.csr_array[Any] = sparse.csr_array(Y)
    if matrix.dtype == np.float32 and matrix.has_canonical_format and bool(np.all(matrix.data == 1)):
        return matrix
    bad = ~np.isfinite(matrix.data)
    if bad.any():
        row, column = _place(matrix, bad)
        value = matrix.data[bad][0]
        raise DataError(f"Y is {value} in row {row}, column {column}; a label is there (1) or not (0)")
    present = matrix.data != 0
    # Ones, then summed: a label stored twice as 1 and -1 is there all the same, and no small type overflows.
    parts = (present.astype(np.float32), matrix.indices, matrix.indptr)
    ones: sparse.csr_array[Any] = sparse.csr_array(parts, shape=matrix.shape, copy=True)
    ones.eliminate_zeros()
    ones.sum_duplicates()
    ones.data[:] = 1
    return ones


def check_pointers(indptr: npt.NDArray[Any], n_stored: int) -> None:
    """Refuse row pointers that lead out of what is stored.

    SciPy's full check looks at their differences, which wrap round where a pointer is far below 0.

    Parameters
    ----------
    indptr : ndarray of int
    n_stored : int

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_pointers(np.array([0, 2, -(2**31), -1, 3], np.int32), 3)
    Traceback (most recent call last):
    ...
    ValueError: the pointers run from -2147483648 to 3, but 3 values are stored
    """
    low, high = int(indptr.min(initial=0)), int(indptr.max(initial=0))
    if low < 0 or high > n_stored:
        raise ValueError(f"the pointers run from {low} to {high}, but {n_stored} values are stored")


def _as_features(X: Any, source: str) -> Features:
    if getattr(X, "dtype", np.dtype(np.float32)).kind == "c":
        raise DataError(f"{source}: X holds complex numbers; give real ones")
    if sparse.issparse(X):
        return _as_sparse(X, source)
    array = np.asarray(X)
    if array.ndim != 2:
        raise DataError(f"{source}: X must be instances by features, not {array.ndim}-dimensional")
    return _as_texts(array, source) if array.dtype.kind in "OU" else _as_dense(array, source)


def _as_sparse(X: Any, source: str) -> Features:
    matrix: sparse.csr_array[Any] = sparse.csr_array(X)
    if matrix.dtype.kind in "biu":  # sums of duplicates could run over in a narrow type
        matrix = matrix.astype(np.float32)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    matrix = matrix.astype(np.float32, copy=False)
    bad = ~np.isfinite(matrix.data)
    if bad.any():
        row, column = _place(matrix, bad)
        raise _not_finite(source, row, column, matrix.data[bad][0])
    return matrix


def _as_dense(X: npt.NDArray[Any], source: str) -> Features:
    array = X.astype(np.float32, copy=False)
    bad = ~np.isfinite(array)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise _not_finite(source, row, column, array[row, column])
    return array


def _as_texts(X: npt.NDArray[Any], source: str) -> Features:
    texts = X.astype(object, copy=False)
    for row, columns in enumerate(texts):
        for column, text in enumerate(columns):
            if not isinstance(text, str):
                raise DataError(f"{source}: row {row}, text column {column} is {text!r}, not a text")
    return texts


def _place(matrix: sparse.csr_array[Any], bad: npt.NDArray[np.bool_]) -> tuple[int, int]:
    at = int(np.flatnonzero(bad)[0])
    return int(np.searchsorted(matrix.indptr, at, side="right")) - 1, int(matrix.indices[at])


def _not_finite(source: str, row: int, column: int, value: float) -> DataError:
    return DataError(
        f"{source}: X is {value} in row {row}, column {column} (as float32); mend it or leave it out"
    )


def check_unique(names: Iterable[str], source: object) -> None:
    """Refuse label names of which one stands twice.

    Parameters
    ----------
    names : iterable of str
    source : path-like or str
        Where they stand.

    Raises
    ------
    DataError
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{source}: the label name {name!r:.80} stands twice; make the names unique")
        seen.add(name)
