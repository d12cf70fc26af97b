"""Models on disk: a folder with ``model.json`` and one safetensors file, and nothing that runs when read.

`write_folder` says how the folder is kept whole. What a model is made of is checked again when it is read:
its version, options, label count, shapes and the places of its sparse weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from evenhand.multilabel import state as game
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.extreme import state as trees
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.neural import state as neural
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.storage import FolderError, Kind, entry, kind_of, read_folder, write_folder
from evenhand.multilabel.text_views import TextViews
from evenhand.multilabel.views import Views

ModelKind = Literal["game", "trees", "neural"]

_KINDS: dict[ModelKind, Kind] = {
    "game": Kind("evenhand model", 1, "model.json"),
    "trees": Kind("evenhand label trees", 1, "model.json"),
    "neural": Kind("evenhand neural model", 1, "model.json"),
}
_STATES: dict[ModelKind, ModuleType] = {"game": game, "trees": trees, "neural": neural}
"""What turns a classifier of that kind into a state, and back."""


@dataclass(frozen=True)
class Model:
    """A classifier with what turns its input into views.

    Parameters
    ----------
    classifier : CuriosityGameClassifier, ExtremeGameClassifier or NeuralGameClassifier
        Fitted.
    text_views : TextViews, optional
        Fitted on the training texts, where the classifier was trained on texts.
    notes : mapping of str to str
        Whatever should be known of the model: data, date, results.

    Raises
    ------
    sklearn.exceptions.NotFittedError
    ValueError
        If the text views are not the views that the classifier was trained on, or a note is no text.
    """

    classifier: CuriosityGameClassifier | ExtremeGameClassifier | NeuralGameClassifier
    text_views: TextViews | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_is_fitted(self.classifier)
        if not all(isinstance(text, str) for note in self.notes.items() for text in note):
            raise ValueError("notes must map texts to texts")
        if self.text_views is None:
            return
        check_is_fitted(self.text_views)
        made = self.text_views.n_features_
        if made != self.classifier.views_:
            raise ValueError(
                f"the text views are {made}, but the classifier was trained on {self.classifier.views_}"
            )

    @property
    def kind(self) -> ModelKind:
        """Of which of the three classes the classifier is."""
        if isinstance(self.classifier, CuriosityGameClassifier):
            return "game"
        return "trees" if isinstance(self.classifier, ExtremeGameClassifier) else "neural"

    @property
    def reads_texts(self) -> bool:
        """Whether it was trained on texts."""
        kinds: dict[str, str] = getattr(self.classifier, "kinds_", {})
        return self.text_views is not None or set(kinds.values()) == {"texts"}

    def views(self, X: Any) -> Any:
        """The input as the classifier takes it.

        Parameters
        ----------
        X : sequence or array of str where the model has text views, else features as `Views.of` takes them;
            for neural players without text views whatever they were trained on

        Returns
        -------
        Views
            X itself for neural players without text views.

        Raises
        ------
        ValueError
            If X is features and the model reads texts, or the other way round.
        """
        if self.kind == "neural" and self.text_views is None:
            return X  # which the classifier checks
        first = _first_entry(X)
        if self.text_views is None:
            if isinstance(first, str):
                raise ValueError(
                    f"X is texts, but the model was trained on features ({self._trained_on()}); give these"
                )
            return Views.of(X)
        if first is not None and not isinstance(first, str):
            raise ValueError(
                "X is features, but the model was trained on texts"
                f" ({self.text_views.n_columns_} text columns); give the texts"
            )
        return self.text_views.transform(X)

    def _trained_on(self) -> str:
        return ", ".join(f"view {name!r}: {n}" for name, n in self.classifier.views_.items())


def save_model(model: Model, folder: str | os.PathLike[str]) -> None:
    """Write a model to a folder.

    Parameters
    ----------
    model : Model
    folder : path-like
        A new folder appears when it is complete. A model that is there already is replaced at one stroke;
        a folder with anything else in it is refused.

    Raises
    ------
    FolderError
        If the folder holds something else, or the model holds what cannot be saved, as labels that are
        neither text nor whole numbers.

    Notes
    -----
    The estimator's ``checkpoint``, ``log`` and ``device`` are not kept. Neural text encoders are saved with
    their configuration and tokenizer and need the folder they came from no more; image encoders need timm. A
    module of the user's own is saved without its code.

    Examples
    --------
    >>> import tempfile
    >>> from evenhand.multilabel.datasets import make_long_tail
    >>> data = make_long_tail(200, 20, 100, seed=0)
    >>> classifier = CuriosityGameClassifier().fit(data.X, data.Y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(Model(classifier, notes={"data": data.source}), folder)
    ...     loaded = load_model(folder)
    >>> bool((loaded.classifier.predict_proba(data.X) == classifier.predict_proba(data.X)).all())
    True
    """
    state: dict[str, Any] = {
        "notes": dict(model.notes),
        "classifier": _STATES[model.kind].classifier_state(model.classifier),
        "text_views": None,
    }
    if model.text_views is not None:
        text_state, arrays = model.text_views.get_state()
        state["text_views"] = {"state": text_state, "arrays": arrays}
    write_folder(folder, _KINDS[model.kind], state)


def load_model(folder: str | os.PathLike[str], encoders: Any = None) -> Model:
    """Read a model that `save_model` wrote.

    Parameters
    ----------
    folder : path-like
    encoders : Recipe or mapping of str to Recipe, optional
        For neural players that read through a module of the user's own: what the classifier had as
        ``encoders``.

    Returns
    -------
    Model
        It predicts the same to the bit. The weights of label trees are mapped from the file: memory holds
        what searches have reached, and gives it back where memory is short. The folder must then stay as it
        is while the model is in use.

    Raises
    ------
    FolderError
        If the folder is no model, is of a newer version, is damaged, or needs `encoders`; the message names
        the place.
    ValueError
        If there are `encoders` for a model without neural players.

    Notes
    -----
    Everything is checked when it is loaded, which reads the file once from end to end.
    """
    found = kind_of(folder, tuple(_KINDS.values()))
    kind = next(name for name, one in _KINDS.items() if one is found)
    state = read_folder(folder, found, mapped=kind == "trees")
    if encoders is not None and kind != "neural":
        raise ValueError(f"{os.fspath(folder)} has no neural players; leave encoders out")
    try:
        text_views = entry(state, "text_views", dict, type(None))
        if text_views is not None:
            text_views = TextViews.from_state(
                entry(text_views, "state", dict), entry(text_views, "arrays", dict)
            )
        given = {"encoders": encoders} if kind == "neural" else {}
        classifier = _STATES[kind].classifier_from(entry(state, "classifier", dict), **given)
        return Model(classifier, text_views, entry(state, "notes", dict))
    except (ValueError, TypeError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise FolderError(f"{os.fspath(folder)}: {error}") from error  # as a wrong type may bring


def _first_entry(X: Any) -> Any:
    """The first entry of X that is not None, to tell texts from features."""
    if isinstance(X, str | Views | Mapping) or sparse.issparse(X):
        return X
    if hasattr(X, "__array__") and not isinstance(X, np.ndarray):
        X = np.asarray(X)
    if not isinstance(X, list | tuple | np.ndarray) or (isinstance(X, np.ndarray) and not X.ndim):
        return X
    return next((found for found in map(_first_entry, X) if found is not None), None)
