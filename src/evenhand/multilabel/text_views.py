"""Texts to views: TF-IDF of words, of pairs of words and of runs of characters, and an embedding."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted

from evenhand.multilabel.embedding import DEFAULT_MODEL, TextEmbedder, model_folder
from evenhand.multilabel.texts import as_texts
from evenhand.multilabel.views import Views

_ANALYSES: dict[str, dict[str, Any]] = {
    "words": {"ngram_range": (1, 1)},
    "word_pairs": {"ngram_range": (2, 2)},
    "characters": {"analyzer": "char_wb", "ngram_range": (3, 5)},
}
_EMBEDDING = "embedding"
_KNOWN = (*_ANALYSES, _EMBEDDING)
_STATE_VERSION = 2  # 1 had no embedding


# No set_output: Views do not fit into a DataFrame.
class TextViews(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[misc, call-arg]
    """Texts to views: TF-IDF of words, of pairs of words and of runs of characters, and an embedding.

    Every view but the embedding is scikit-learn's `TfidfVectorizer` with lower-cased text, a term frequency
    of 1 + log(count), rows of Euclidean length 1, and float32 values.

    Parameters
    ----------
    views : sequence of {"words", "word_pairs", "characters", "embedding"}
        The views to make, in order. "words" are words of two or more characters, "word_pairs" are two of
        them in a row, "characters" are runs of 3 to 5 characters within a word and its borders, "embedding"
        is what the embedder makes.
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
    embedder : TextEmbedder, optional
        A frozen encoder for the view "embedding". None: MiniLM, ``TextEmbedder()``.

    Attributes
    ----------
    vectorizers_ : dict of str to TfidfVectorizer
        The fitted vectorizer of each view but the embedding.
    n_features_ : dict of str to int
        Features of each view, in order.
    model_digest_ : str or None
        Of the embedder's model at fitting, see `TextEmbedder.model_digest`; None without an embedding.
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

    A dense block of one's own goes beside them:

    >>> topics = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.1]], dtype=np.float32)
    >>> Views({**text_views.transform(texts).blocks, "topics": topics})
    Views(3 instances; words: 3 sparse float32, characters: 40 sparse float32, topics: 2 dense float32)
    """

    def __init__(
        self,
        views: Sequence[str] = ("words", "word_pairs", "characters"),
        *,
        min_df: int | float = 2,
        columns: Mapping[str, Sequence[int]] | None = None,
        max_characters: int | None = 200,
        embedder: TextEmbedder | None = None,
    ) -> None:
        self.views = views
        self.min_df = min_df
        self.columns = columns
        self.max_characters = max_characters
        self.embedder = embedder

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
            If X is not texts (the message names row and column), an option is wrong, no term of a view is
            in enough texts, or the embedder has no model.
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
        digest: str | None = None
        for name in self.views:
            if name == _EMBEDDING:
                digest = self._embedder().model_digest()
                blocks[name] = self._embedder().transform(self._documents(texts, name))
                continue
            vectorizers[name] = self._vectorizer(name)
            try:
                blocks[name] = vectorizers[name].fit_transform(self._documents(texts, name))
            except ValueError as error:  # options and texts are checked: what is left is an empty vocabulary
                raise ValueError(
                    f"view {name!r} is empty: no term is in at least min_df={self.min_df} of the "
                    f"{len(texts)} texts; lower min_df or leave the view out of views"
                ) from error
        self.vectorizers_, self.model_digest_ = vectorizers, digest
        self.n_features_: dict[str, int] = {name: int(block.shape[1]) for name, block in blocks.items()}
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
            If X is not texts or has another number of columns than the training texts, or the embedder has
            another model than in training.
        """
        check_is_fitted(self)
        texts = as_texts(X)
        if texts.shape[1] != self.n_columns_:
            raise ValueError(
                f"the texts have {texts.shape[1]} columns, but {self.n_columns_} were fitted; "
                "give the same columns in the same order"
            )
        return Views({name: self._block(name, self._documents(texts, name)) for name in self.n_features_})

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """Terms with their view's name before them ("words__editor"); numbers for those of an embedding.

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
        names = {name: range(n) for name, n in self.n_features_.items()} | {
            name: vectorizer.get_feature_names_out() for name, vectorizer in self.vectorizers_.items()
        }
        return np.array([f"{name}__{term}" for name, terms in names.items() for term in terms], dtype=object)

    def get_state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What `from_state` needs to build a transformer whose views are the same to the bit.

        Returns
        -------
        state : dict
            For JSON: kind, version, parameters, number of columns, the terms of each view in order, and what
            tells the embedder's model; the model itself is not in it.
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
                "views": list(self.n_features_),
                "min_df": int(self.min_df) if isinstance(self.min_df, Integral) else float(self.min_df),
                "columns": columns,
                "max_characters": None if self.max_characters is None else int(self.max_characters),
            },
            "n_columns": self.n_columns_,
            "vocabulary": {name: v.get_feature_names_out().tolist() for name, v in self.vectorizers_.items()},
            "embedding": None,
        }
        if self.model_digest_ is not None:
            embedder = self._embedder()
            state["embedding"] = {
                "model": _named(embedder),
                "max_tokens": None if embedder.max_tokens is None else int(embedder.max_tokens),
                "model_digest": self.model_digest_,
                "n_features": self.n_features_[_EMBEDDING],
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
        if state.get("kind") != cls.__name__ or state.get("version") not in (1, _STATE_VERSION):
            raise ValueError(
                f"the state is of {state.get('kind')!r} version {state.get('version')!r}, but this release "
                f"reads {cls.__name__!r} up to {_STATE_VERSION}; use the one that wrote it or fit again"
            )
        damaged = "the saved text views are damaged: "
        try:
            text_views = cls(**state["params"])
            n_columns, vocabulary = state["n_columns"], state["vocabulary"]
            if not isinstance(n_columns, int) or n_columns < 1:
                raise ValueError(f"n_columns must be a number of at least 1, not {n_columns!r}")
            text_views._check_options(n_columns)
            text_views._take_embedding(state.get("embedding"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{damaged}{error}") from error
        views = [name for name in text_views.views if name != _EMBEDDING]
        if not isinstance(vocabulary, dict) or set(vocabulary) != set(views):
            raise ValueError(f"{damaged}there must be one vocabulary for each of the views {views}")
        if set(arrays) != {f"{name}.idf" for name in views}:
            raise ValueError(f"{damaged}there must be one idf array for each of the views {views}")
        text_views.vectorizers_ = {}
        for name in views:
            vectorizer = text_views._vectorizer(name).set_params(vocabulary=_as_terms(vocabulary[name], name))
            vectorizer.idf_ = _as_idf(arrays[f"{name}.idf"], name, len(vocabulary[name]))
            text_views.vectorizers_[name] = vectorizer
            text_views.n_features_[name] = len(vocabulary[name])
        text_views.n_features_ = {name: text_views.n_features_[name] for name in text_views.views}
        text_views.n_columns_ = n_columns
        return text_views

    def _take_embedding(self, state: Mapping[str, Any] | None) -> None:
        """What `get_state` said of the embedding."""
        self.n_features_, self.model_digest_ = {}, None
        if (_EMBEDDING in self.views) != (state is not None):
            raise ValueError("the view 'embedding' and what is said of its model must both be there")
        if state is None:
            return
        model, limit, digest, n = (
            state[key] for key in ("model", "max_tokens", "model_digest", "n_features")
        )
        if not (isinstance(model, str) and isinstance(digest, str) and isinstance(limit, int | None)):
            raise ValueError("the embedding's model, max_tokens or digest is of a wrong type")
        if not (model == DEFAULT_MODEL or os.sep in model or Path(model).is_dir()):
            # Whoever made the files would choose what is imported here.
            raise ValueError(f"the embedding's model {model!r} is no folder; nothing is imported by its name")
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"the embedding's n_features must be a number of at least 1, not {n!r}")
        self.embedder = TextEmbedder(model, max_tokens=limit)
        self.model_digest_, self.n_features_[_EMBEDDING] = digest, n

    def _embedder(self) -> TextEmbedder:
        return TextEmbedder() if self.embedder is None else self.embedder

    def _block(self, name: str, documents: list[str]) -> Any:
        """One view of texts that were not fitted."""
        if name != _EMBEDDING:
            return self.vectorizers_[name].transform(documents)
        embedder = self._embedder()
        if embedder.model_digest() != self.model_digest_:
            raise ValueError(
                f"the embedder's model {embedder.model!r} is another than in training: its configuration,"
                " tokenizer or weights differ; give the one of the training as embedder, or train again"
            )
        return embedder.transform(documents)

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
        if unknown := [name for name in names if name not in _KNOWN]:
            raise ValueError(f"there is no view {unknown[0]!r}; views may hold {', '.join(_KNOWN)}")
        if not isinstance(self.embedder, TextEmbedder | None):
            raise ValueError(f"embedder must be a TextEmbedder or None, not {self.embedder!r}")
        if self.embedder is not None and _EMBEDDING not in names:
            raise ValueError("there is an embedder, but views hold no 'embedding'; add it, or leave that out")
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


def _named(embedder: TextEmbedder) -> str:
    """The folder of the embedder's model; the default one is found by its package on any machine."""
    is_portable = embedder.model == DEFAULT_MODEL or Path(embedder.model).is_dir()
    return str(embedder.model if is_portable else model_folder(embedder.model))


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
