"""Views of the features: named blocks over the same instances, one for each kind of evidence.

A player of the game reads one view. `text_views` makes them from texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils.validation import check_array

Block: TypeAlias = "sparse.csr_array[Any] | npt.NDArray[Any]"
"""csr_array (n, d) or C-contiguous ndarray (n, d), float32 or float64, all finite."""


class Views:
    """An ordered set of named blocks of features over the same instances.

    It can be indexed by rows like an array, so scikit-learn's splitters, `cross_val_score` and `GridSearchCV`
    take it for X.

    Parameters
    ----------
    blocks : mapping of str to sparse array, sparse matrix, DataFrame or array-like, shape (n, d)
        float64 is kept, every other number type becomes float32. Sparse blocks become csr_array with sorted
        indices (32-bit where they fit) and entries that stand twice summed; dense blocks become C-contiguous
        arrays. A block is copied only where it has to change; the caller's data are never changed.

    Raises
    ------
    ValueError
        If there is no block, a name is not a text or empty, a block is not two-dimensional, has no row or no
        column, is not numeric or holds NaN or inf, or two blocks differ in their number of rows.
    TypeError
        If an entry of an object array cannot be read as a number.

    Examples
    --------
    >>> words = sparse.csr_array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    >>> views = Views({"words": words, "image": [[0.5], [0.7]]})
    >>> views.shape, views.n_features
    ((2, 4), {'words': 3, 'image': 1})
    >>> views[[1]].blocks["words"].toarray()
    array([[0., 3., 0.]])
    """

    ndim: ClassVar[int] = 2

    def __init__(self, blocks: Mapping[str, Any]) -> None:
        if not blocks:
            raise ValueError("there is no view; give at least one block of features")
        for name in blocks:
            if not isinstance(name, str) or not name:
                raise ValueError(f"the name of a view must be a text that is not empty, not {name!r}")
        self._blocks = {name: _as_block(block, name) for name, block in blocks.items()}
        first = self.names[0]
        for name, block in self._blocks.items():
            if block.shape[0] != len(self):
                raise ValueError(
                    f"view {name!r} has {block.shape[0]} rows and view {first!r} has {len(self)}; "
                    "all views must be of the same instances"
                )

    @classmethod
    def of(cls, X: Any) -> Views:
        """Views from whatever a user may pass for X.

        Parameters
        ----------
        X : Views, mapping, list or tuple of matrices, or one matrix or array-like
            Views are returned as they are. Matrices in a list or tuple are named "view1", "view2" and so on;
            one matrix is named "all".

        Returns
        -------
        Views

        Raises
        ------
        ValueError, TypeError
            As the constructor does.

        Examples
        --------
        >>> Views.of([[1.0, 2.0], [3.0, 4.0]]).n_features
        {'all': 2}
        >>> Views.of([np.eye(2), sparse.eye_array(2)]).n_features
        {'view1': 2, 'view2': 2}
        """
        if isinstance(X, Views):
            return X
        if isinstance(X, Mapping) and not sparse.issparse(X):  # a dok_array is a mapping
            return cls(X)
        # A list of rows is one matrix: only members that have a 2-d shape of their own make several.
        if isinstance(X, list | tuple) and any(len(getattr(block, "shape", ())) == 2 for block in X):
            return cls({f"view{number}": block for number, block in enumerate(X, start=1)})
        return cls({"all": X})

    @property
    def blocks(self) -> dict[str, Block]:
        """The blocks by name, in order. The dict is new, the blocks are not: do not write into them."""
        return dict(self._blocks)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the views, in order."""
        return tuple(self._blocks)

    @property
    def n_features(self) -> dict[str, int]:
        """Number of features of each view."""
        return {name: int(block.shape[1]) for name, block in self._blocks.items()}

    @property
    def shape(self) -> tuple[int, int]:
        """Number of instances, and of the features of all views together."""
        return len(self), sum(self.n_features.values())

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, or float64 where a block is float64."""
        return np.result_type(*(block.dtype for block in self._blocks.values()))

    def __len__(self) -> int:
        return int(next(iter(self._blocks.values())).shape[0])

    def __repr__(self) -> str:
        parts = [
            f"{name}: {block.shape[1]} {'sparse' if sparse.issparse(block) else 'dense'} {block.dtype}"
            for name, block in self._blocks.items()
        ]
        return f"Views({len(self)} instances; {', '.join(parts)})"

    def __getitem__(self, key: Any) -> Views:
        """Some of the instances, in the order asked for.

        Parameters
        ----------
        key : array of int, array of bool with length n, or slice
            The rows; also `(rows, ...)` and `(rows, slice(None))`, which is how scikit-learn indexes.

        Returns
        -------
        Views
            The same views of those instances.

        Raises
        ------
        TypeError
            If the key chooses features, names a view or is a single number.
        IndexError
            If a row does not exist or the mask has another length.
        ValueError
            If no row is chosen.
        """
        rows = self._rows_of(key)
        # Rows of checked blocks need no second check, so the constructor is passed by.
        chosen = object.__new__(Views)
        chosen._blocks = {name: block[rows] for name, block in self._blocks.items()}
        return chosen

    def _rows_of(self, key: Any) -> npt.NDArray[np.int64]:
        if isinstance(key, tuple):
            key, *rest = key
            if len(rest) != 1 or not (rest[0] is Ellipsis or _is_full_slice(rest[0])):
                raise TypeError("views are indexed by rows only; choose features in .blocks[name]")
        if isinstance(key, str):
            raise TypeError(f"views are indexed by rows; use .blocks[{key!r}] for the view of that name")
        if not isinstance(key, slice):
            key = np.asarray(key, dtype=None if np.size(key) else np.int64)
        rows: npt.NDArray[np.int64] = np.arange(len(self))[key]
        if rows.ndim != 1:
            raise TypeError("views are indexed by a slice or a one-dimensional array of rows")
        if not rows.size:
            raise ValueError("no row is chosen; views have at least one instance")
        return rows


def _is_full_slice(key: Any) -> bool:
    return isinstance(key, slice) and key == slice(None)


def _as_block(block: Any, name: str) -> Block:
    is_sparse = sparse.issparse(block)
    if is_sparse and block.dtype.kind in "biu":
        block = block.astype(np.float32)  # before duplicates are summed: small integer types would overflow
    try:
        if isinstance(block, list | tuple):
            block = np.asarray(block)  # check_array would take a list of floats for float32
        checked = check_array(
            block,
            accept_sparse="csr",
            dtype=[np.float32, np.float64],
            order="C",
            ensure_all_finite=False,  # the places of NaN and inf are told below
        )
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"view {name!r}: {error}") from error
    return _as_sparse(checked, name) if is_sparse else _finite_dense(checked, name)


def _as_sparse(block: Any, name: str) -> sparse.csr_array[Any]:
    matrix: sparse.csr_array[Any] = sparse.csr_array(block)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    bad = np.flatnonzero(~np.isfinite(matrix.data))
    if bad.size:
        row = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
        raise _not_finite(name, row, int(matrix.indices[bad[0]]), matrix.data[bad[0]])
    index = sparse.get_index_dtype(maxval=max(matrix.nnz, matrix.shape[1]))
    parts = (matrix.data, matrix.indices.astype(index, copy=False), matrix.indptr.astype(index, copy=False))
    return sparse.csr_array(parts, shape=matrix.shape)


def _finite_dense(block: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    finite = np.isfinite(block)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise _not_finite(name, row, column, block[row, column])
    return block


def _not_finite(name: str, row: int, column: int, value: float) -> ValueError:
    # np.nan prints as "nan", while scikit-learn's estimator checks look for its own spelling, "NaN".
    shown = "NaN" if np.isnan(value) else str(value)
    return ValueError(f"view {name!r} is {shown} in row {row}, column {column}; mend it or leave the row out")


class HasNames(Protocol):
    """Whatever has named views."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the views, in order."""


def player_views(views: HasNames, n_players: int | None) -> tuple[str, ...]:
    """The view of each player: one player a view, or several of a single view.

    Parameters
    ----------
    views : Views, or anything with the names of views
    n_players : int, optional
        None: as many as there are views.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        If there are several views, and not one player for each.

    Examples
    --------
    >>> player_views(Views.of([[1.0], [2.0]]), 2)
    ('all', 'all')
    """
    if n_players is None:
        return views.names
    if len(views.names) > 1 and n_players != len(views.names):
        raise ValueError(
            f"n_players is {n_players}, but there are {len(views.names)} views;"
            " each view has one player: leave n_players out"
        )
    return views.names * n_players if len(views.names) == 1 else views.names
