"""Models on disk: a folder with ``model.json`` and one safetensors file, and nothing that runs when read.

`write_folder` says how the folder is kept whole. What a model is made of is checked again when it is read:
its version, options, label count, shapes and the places of its sparse weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from evenhand.multilabel.decoding import PooledCalibration, decoders_from_states
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.extreme import state as trees
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.fusion import Fusion
from evenhand.multilabel.game import Space
from evenhand.multilabel.players import player_from_state
from evenhand.multilabel.predictions import DecoderName
from evenhand.multilabel.storage import (
    FolderError,
    Kind,
    array_entry,
    entry,
    kind_of,
    names_entry,
    names_state,
    read_folder,
    sizes_entry,
    write_folder,
)
from evenhand.multilabel.text_views import TextViews
from evenhand.multilabel.training import TrainedTeam
from evenhand.multilabel.views import Views

_KIND = Kind("evenhand model", 1, "model.json")
_TREES = Kind("evenhand label trees", 1, "model.json")
_NOT_OF_THE_MODEL = {"checkpoint"}  # where a training kept its files says nothing about the model


@dataclass(frozen=True)
class Model:
    """A classifier with what turns its input into views.

    Parameters
    ----------
    classifier : CuriosityGameClassifier or ExtremeGameClassifier
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

    classifier: CuriosityGameClassifier | ExtremeGameClassifier
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

    def views(self, X: Any) -> Views:
        """The input as the classifier's views.

        Parameters
        ----------
        X : sequence or array of str where the model has text views, else features as `Views.of` takes them

        Returns
        -------
        Views

        Raises
        ------
        ValueError
            If X is features and the model reads texts, or the other way round.
        """
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
    The estimator's ``checkpoint`` is not kept.

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
    is_game = isinstance(model.classifier, CuriosityGameClassifier)
    state: dict[str, Any] = {
        "notes": dict(model.notes),
        "classifier": _game_state(model.classifier) if is_game else trees.classifier_state(model.classifier),
        "text_views": None,
    }
    if model.text_views is not None:
        text_state, arrays = model.text_views.get_state()
        state["text_views"] = {"state": text_state, "arrays": arrays}
    write_folder(folder, _KIND if is_game else _TREES, state)


def load_model(folder: str | os.PathLike[str]) -> Model:
    """Read a model that `save_model` wrote.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    Model
        It predicts the same to the bit. The weights of label trees are mapped from the file: memory holds
        what searches have reached, and gives it back where memory is short. The folder must then stay as it
        is while the model is in use.

    Raises
    ------
    FolderError
        If the folder is no model, is of a newer version, or is damaged; the message names the place.

    Notes
    -----
    Everything is checked when it is loaded, which reads the file once from end to end.
    """
    kind = kind_of(folder, (_KIND, _TREES))
    state = read_folder(folder, kind, mapped=kind is _TREES)
    try:
        text_views = entry(state, "text_views", dict, type(None))
        if text_views is not None:
            text_views = TextViews.from_state(
                entry(text_views, "state", dict), entry(text_views, "arrays", dict)
            )
        rebuild = _game_from if kind is _KIND else trees.classifier_from
        classifier = rebuild(entry(state, "classifier", dict))
        return Model(classifier, text_views, entry(state, "notes", dict))
    except (ValueError, TypeError, ArithmeticError, AttributeError) as error:  # as a wrong type may bring
        raise FolderError(f"{os.fspath(folder)}: {error}") from error


def _game_state(classifier: CuriosityGameClassifier) -> dict[str, Any]:
    params = classifier.get_params(deep=False)
    team, calibration = classifier.team_, classifier.calibration_
    names = getattr(classifier, "feature_names_in_", None)
    return {
        "params": {name: value for name, value in params.items() if name not in _NOT_OF_THE_MODEL},
        "classes": names_state(classifier.classes_),
        "label_counts": classifier.label_counts_.astype(np.int64),
        "held_out_f1": classifier.held_out_f1_,
        "n_train": int(classifier.n_train_),
        "sparse_labels": bool(classifier.sparse_labels_),
        "views": classifier.views_,
        "feature_names_in": None if names is None else names_state(names),
        "team": {
            "players": [player.get_state() for player in team.players],
            "fusion": team.fusion.get_state(),
            "space": team.space,
            "history": team.history,
        },
        "calibration": None if calibration is None else calibration.get_state(),
        "decoders": {name: decoder.get_state() for name, decoder in classifier.decoders_.items()},
    }


def _game_from(state: dict[str, Any]) -> CuriosityGameClassifier:
    classifier = _with_params(entry(state, "params", dict))
    counts = array_entry(state, "label_counts", ["int64"], (None,))
    if not len(counts) or (counts < 0).any():
        raise FolderError("the label counts must be numbers of at least 0; the file is damaged")
    classifier.label_counts_ = counts
    classifier.classes_ = names_entry(state, "classes", len(counts))
    classifier.held_out_f1_ = None
    if state.get("held_out_f1") is not None:
        classifier.held_out_f1_ = array_entry(state, "held_out_f1", ["float64"], (len(counts),))
    classifier.n_train_ = entry(state, "n_train", int)
    classifier.sparse_labels_ = entry(state, "sparse_labels", bool)
    classifier.views_ = sizes_entry(state, "views")
    classifier.n_features_in_ = sum(classifier.views_.values())
    if entry(state, "feature_names_in", dict, type(None)) is not None:
        names = names_entry(state, "feature_names_in", classifier.n_features_in_)
        classifier.feature_names_in_ = names
    classifier.team_ = _team_from(entry(state, "team", dict), classifier.views_, len(counts))
    calibration = entry(state, "calibration", dict, type(None))
    classifier.calibration_ = None
    if calibration is not None:
        classifier.calibration_ = PooledCalibration.from_state(calibration)
        check_size("the calibration", len(classifier.calibration_.buckets_), len(counts))
    classifier.decoders_ = decoders_from_states(
        entry(state, "decoders", dict), get_args(DecoderName), len(counts)
    )
    return classifier


def _with_params(params: dict[str, Any]) -> CuriosityGameClassifier:
    known = set(CuriosityGameClassifier().get_params()) - _NOT_OF_THE_MODEL
    if unknown := sorted(params.keys() - known):
        raise FolderError(f"this release of evenhand knows no estimator parameter {', '.join(unknown)}")
    if isinstance(params.get("players"), list):  # JSON has no tuples
        params = {**params, "players": [tuple(player) for player in params["players"]]}
    classifier = CuriosityGameClassifier(**params)
    classifier.check_options()
    return classifier


def _team_from(state: dict[str, Any], views: dict[str, int], n_labels: int) -> TrainedTeam:
    players = tuple(player_from_state(player) for player in entry(state, "players", list))
    for player in players:
        if views.get(player.view) != player.n_features:
            raise FolderError(
                f"a player reads {player.n_features} features of view {player.view!r}, but the"
                f" views are {views}; the file is damaged"
            )
        check_size("a player", len(player.owned), n_labels)
    if not players or not np.any([player.owned for player in players], axis=0).all():
        raise FolderError("a label has no player that owns it; the file is damaged")
    fusion = Fusion.from_state(entry(state, "fusion", dict), (len(players), n_labels))
    space, history = entry(state, "space", str), entry(state, "history", list)
    if space not in get_args(Space) or not all(isinstance(record, dict) for record in history):
        raise FolderError("the team's space or history is damaged")
    return TrainedTeam(players, fusion, space, tuple(history))


def check_size(what: str, found: int, n_labels: int) -> None:
    """Refuse what is for another number of labels.

    Raises
    ------
    FolderError
    """
    if found != n_labels:
        raise FolderError(f"{what} is for {found} labels, but there are {n_labels}; the file is damaged")


def _first_entry(X: Any) -> Any:
    """The first entry of X that is not None, to tell texts from features."""
    if isinstance(X, str | Views | Mapping) or sparse.issparse(X):
        return X
    if hasattr(X, "__array__") and not isinstance(X, np.ndarray):
        X = np.asarray(X)
    if not isinstance(X, list | tuple | np.ndarray) or (isinstance(X, np.ndarray) and not X.ndim):
        return X
    return next((found for found in map(_first_entry, X) if found is not None), None)
