"""Views of the features: named blocks over the same instances, one for each kind of evidence.

A player of the game reads one view. `Views` holds them, `TextViews` makes them from texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_array, check_is_fitted

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


_ANALYSES: dict[str, dict[str, Any]] = {
    "words": {"ngram_range": (1, 1)},
    "word_pairs": {"ngram_range": (2, 2)},
    "characters": {"analyzer": "char_wb", "ngram_range": (3, 5)},
}
_STATE_VERSION = 1


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


# No set_output: Views do not fit into a DataFrame.
class TextViews(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[misc, call-arg]
    """Texts to views: TF-IDF of words, of pairs of words and of runs of characters.

    Every view is scikit-learn's `TfidfVectorizer` with lower-cased text, a term frequency of
    1 + log(count), rows of Euclidean length 1, and float32 values.

    Parameters
    ----------
    views : sequence of {"words", "word_pairs", "characters"}
        The views to make, in order. "words" are words of two or more characters, "word_pairs" are two of
        them in a row, "characters" are runs of 3 to 5 characters within a word and its borders.
    min_df : int or float
        A term is kept if at least this many of the training texts (a float in [0, 1]: this share) hold it.
    columns : mapping of str to sequence of int, optional
        For texts in several columns, which of them a view reads, counted from 0: with columns name, short and
        long description, `{"characters": (0, 1)}` keeps the long one from the characters. A view that is not
        named reads every column. The columns are joined by a space, so that a pair of words may reach from
        one column into the next.
    max_characters : int, optional
        The characters view reads this many characters of a text and no more, so that long texts stay cheap.
        None: the whole text.

    Attributes
    ----------
    vectorizers_ : dict of str to TfidfVectorizer
        The fitted vectorizer of each view.
    n_columns_ : int
        Number of text columns; 1 for a sequence of texts.

    Examples
    --------
    >>> texts = ["a plain text editor", "an editor of plain music", "a music player"]
    >>> text_views = TextViews(("words", "characters"))
    >>> views = text_views.fit_transform(texts)
    >>> views.names
    ('words', 'characters')
    >>> text_views.get_feature_names_out()[:3].tolist()
    ['words__editor', 'words__music', 'words__plain']

    A dense block of one's own, here an embedding, goes beside them:

    >>> embedding = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.1]], dtype=np.float32)
    >>> Views({**text_views.transform(texts).blocks, "embedding": embedding})
    Views(3 instances; words: 3 sparse float32, characters: 40 sparse float32, embedding: 2 dense float32)
    """

    def __init__(
        self,
        views: Sequence[str] = ("words", "word_pairs", "characters"),
        *,
        min_df: int | float = 2,
        columns: Mapping[str, Sequence[int]] | None = None,
        max_characters: int | None = 200,
    ) -> None:
        self.views = views
        self.min_df = min_df
        self.columns = columns
        self.max_characters = max_characters

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the vocabularies and document frequencies.

        Parameters
        ----------
        X : sequence of str, or array of str, shape (n, text columns)
            None is the empty text.
        y : None
            Ignored.

        Returns
        -------
        TextViews
            Itself.

        Raises
        ------
        ValueError
            If X is not texts (the message names row and column), an option is wrong, or no term of a view is
            in enough texts.
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Views:
        """Fit, and return the views of the same texts.

        Parameters
        ----------
        X : sequence of str, or array of str, shape (n, text columns)
        y : None
            Ignored.

        Returns
        -------
        Views

        Raises
        ------
        ValueError
            As `fit` does.
        """
        texts = as_texts(X)
        self._check_options(texts.shape[1])
        vectorizers, blocks = {}, {}
        for name in self.views:
            vectorizers[name] = self._vectorizer(name)
            try:
                blocks[name] = vectorizers[name].fit_transform(self._documents(texts, name))
            except ValueError as error:  # options and texts are checked: what is left is an empty vocabulary
                raise ValueError(
                    f"view {name!r} is empty: no term is in at least min_df={self.min_df} of the "
                    f"{len(texts)} texts; lower min_df or leave the view out of views"
                ) from error
        self.vectorizers_ = vectorizers
        self.n_columns_ = int(texts.shape[1])
        return Views(blocks)

    def transform(self, X: Any) -> Views:
        """Views of texts by the vocabularies of the training texts.

        Parameters
        ----------
        X : sequence of str, or array of str, shape (n, text columns)
            None is the empty text. A text without a known term gets a row of zeros.

        Returns
        -------
        Views

        Raises
        ------
        sklearn.exceptions.NotFittedError
        ValueError
            If X is not texts or has another number of columns than the training texts.
        """
        check_is_fitted(self)
        texts = as_texts(X)
        if texts.shape[1] != self.n_columns_:
            raise ValueError(
                f"the texts have {texts.shape[1]} columns, but {self.n_columns_} were fitted; "
                "give the same columns in the same order"
            )
        return Views(
            {
                name: vectorizer.transform(self._documents(texts, name))
                for name, vectorizer in self.vectorizers_.items()
            }
        )

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """The terms of all views, each with its view's name before it ("words__editor").

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        ndarray of object, shape (total number of features,)

        Raises
        ------
        sklearn.exceptions.NotFittedError
        """
        check_is_fitted(self)
        return np.array(
            [
                f"{name}__{term}"
                for name, vectorizer in self.vectorizers_.items()
                for term in vectorizer.get_feature_names_out()
            ],
            dtype=object,
        )

    def get_state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What `from_state` needs to build a transformer whose views are the same to the bit.

        Returns
        -------
        state : dict
            For JSON: kind, version, parameters, number of columns, and the terms of each view in order.
        arrays : dict of str to ndarray of float32
            "VIEW.idf": the inverse document frequency of each term of that view.

        Raises
        ------
        sklearn.exceptions.NotFittedError

        Examples
        --------
        >>> state, arrays = TextViews(["words"], min_df=1).fit(["red", "green"]).get_state()
        >>> state["vocabulary"], arrays["words.idf"].shape
        ({'words': ['green', 'red']}, (2,))
        """
        check_is_fitted(self)
        columns = self.columns
        if columns is not None:
            columns = {name: [int(column) for column in chosen] for name, chosen in columns.items()}
        state = {
            "kind": type(self).__name__,
            "version": _STATE_VERSION,
            "params": {
                "views": list(self.vectorizers_),
                "min_df": int(self.min_df) if isinstance(self.min_df, Integral) else float(self.min_df),
                "columns": columns,
                "max_characters": None if self.max_characters is None else int(self.max_characters),
            },
            "n_columns": self.n_columns_,
            "vocabulary": {name: v.get_feature_names_out().tolist() for name, v in self.vectorizers_.items()},
        }
        return state, {f"{name}.idf": v.idf_ for name, v in self.vectorizers_.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """A fitted transformer from what `get_state` returned.

        Parameters
        ----------
        state : mapping
        arrays : mapping of str to ndarray

        Returns
        -------
        TextViews

        Raises
        ------
        ValueError
            If the state is of another kind or version, is not complete, or its parts do not fit together.
        """
        if state.get("kind") != cls.__name__ or state.get("version") != _STATE_VERSION:
            raise ValueError(
                f"the state is of {state.get('kind')!r} version {state.get('version')!r}, but this release "
                f"reads {cls.__name__!r} version {_STATE_VERSION}; use the one that wrote it or fit again"
            )
        damaged = "the saved text views are damaged: "
        try:
            text_views = cls(**state["params"])
            n_columns, vocabulary = state["n_columns"], state["vocabulary"]
            if not isinstance(n_columns, int) or n_columns < 1:
                raise ValueError(f"n_columns must be a number of at least 1, not {n_columns!r}")
            text_views._check_options(n_columns)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{damaged}{error}") from error
        views = list(text_views.views)
        if not isinstance(vocabulary, dict) or set(vocabulary) != set(views):
            raise ValueError(f"{damaged}there must be one vocabulary for each of the views {views}")
        if set(arrays) != {f"{name}.idf" for name in views}:
            raise ValueError(f"{damaged}there must be one idf array for each of the views {views}")
        text_views.vectorizers_ = {}
        for name in views:
            vectorizer = text_views._vectorizer(name).set_params(vocabulary=_as_terms(vocabulary[name], name))
            vectorizer.idf_ = _as_idf(arrays[f"{name}.idf"], name, len(vocabulary[name]))
            text_views.vectorizers_[name] = vectorizer
        text_views.n_columns_ = n_columns
        return text_views

    def _vectorizer(self, view: str) -> Any:
        return TfidfVectorizer(sublinear_tf=True, min_df=self.min_df, dtype=np.float32, **_ANALYSES[view])

    def _documents(self, texts: npt.NDArray[Any], view: str) -> list[str]:
        if self.columns is not None and view in self.columns:
            texts = texts[:, list(self.columns[view])]
        limit = self.max_characters if view == "characters" else None
        return [" ".join(row)[:limit] for row in texts]

    def _check_options(self, n_columns: int) -> None:
        names = [self.views] if isinstance(self.views, str) else list(self.views)
        if isinstance(self.views, str) or not names or len(set(names)) < len(names):
            raise ValueError(f"views must be a list of different names, not {self.views!r}")
        if unknown := [name for name in names if name not in _ANALYSES]:
            raise ValueError(f"there is no view {unknown[0]!r}; views may hold {', '.join(_ANALYSES)}")
        is_count = isinstance(self.min_df, Integral) and self.min_df >= 1
        is_share = isinstance(self.min_df, Real) and not isinstance(self.min_df, Integral)
        if not is_count and not (is_share and 0 <= self.min_df <= 1):
            raise ValueError(
                f"min_df must be a whole number from 1 or a share in [0, 1], not {self.min_df!r}"
            )
        limit = self.max_characters
        if limit is not None and not (isinstance(limit, Integral) and limit >= 1):
            raise ValueError(f"max_characters must be None or a whole number from 1, not {limit!r}")
        for name, chosen in (self.columns or {}).items():
            if name not in names:
                raise ValueError(f"columns names the view {name!r}, but views are {', '.join(names)}")
            given = chosen if np.iterable(chosen) else [None]
            is_column = [isinstance(column, Integral) and 0 <= column < n_columns for column in given]
            if not is_column or not all(is_column):
                raise ValueError(
                    f"columns[{name!r}] must be numbers from 0 to {n_columns - 1} (the texts have "
                    f"{n_columns} columns), not {chosen!r}"
                )


def as_texts(X: Any) -> npt.NDArray[Any]:
    """Texts as a new array; None becomes the empty text.

    Parameters
    ----------
    X : sequence of str, or array of str, shape (n,) or (n, text columns)

    Returns
    -------
    ndarray of str, dtype object, shape (n, text columns)

    Raises
    ------
    ValueError
        If something is not a text; the message names row and column.
    """
    texts = np.array(X, dtype=object)
    if texts.ndim == 1:
        texts = texts[:, None]
    if texts.ndim != 2 or not texts.size:
        raise ValueError(
            "X must be a list of texts, or an array of texts (instances by text columns), and not empty"
        )
    for at, text in enumerate(texts.flat):
        if text is None:
            texts.flat[at] = ""
        elif not isinstance(text, str):
            row, column = divmod(at, texts.shape[1])
            raise ValueError(
                f"row {row}, text column {column} is {text!r}, not a text; turn it into one "
                "(no text: '' or None)"
            )
    return texts


def _as_terms(terms: Any, view: str) -> list[str]:
    is_terms = isinstance(terms, list) and all(isinstance(term, str) for term in terms)
    if not is_terms or not terms or len(set(terms)) < len(terms):
        raise ValueError(
            f"the saved vocabulary of view {view!r} is damaged: it must be a list of different terms"
        )
    return list(terms)


def _as_idf(idf: Any, view: str, n_terms: int) -> npt.NDArray[np.float32]:
    array = np.asarray(idf)
    if array.dtype != np.float32 or array.shape != (n_terms,) or not np.isfinite(array).all():
        raise ValueError(
            f"the saved idf of view {view!r} is damaged: it must be {n_terms} finite float32 numbers, "
            f"one for each term, and is {array.dtype} of shape {array.shape}"
        )
    return array.copy()
