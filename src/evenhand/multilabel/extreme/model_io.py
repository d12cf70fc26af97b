"""Extreme models on disk: a folder of JSON and safetensors whose weights stay on disk while it predicts."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from evenhand.multilabel.decoding import GlobalThreshold, LabelThresholds, decoder_from_state
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.extreme.label_tree import LabelTree
from evenhand.multilabel.extreme.levels import MOST_CHILDREN, Level
from evenhand.multilabel.extreme.players import TreePlayer
from evenhand.multilabel.storage import (
    FolderError,
    Kind,
    array_entry,
    entry,
    names_entry,
    names_state,
    read_folder,
    write_folder,
)

_KIND = Kind("evenhand extreme model", 1, "model.json")


def save_extreme_model(model: ExtremeGameClassifier, folder: str | os.PathLike[str]) -> None:
    """Write a fitted model to a folder.

    Parameters
    ----------
    model : ExtremeGameClassifier
    folder : path-like
        A new folder appears when it is complete. A model that is there already is replaced at one stroke; a
        folder with anything else in it is refused.

    Raises
    ------
    FolderError
        If the folder holds something else, or a label is neither a text nor a whole number.

    Examples
    --------
    >>> import tempfile
    >>> from evenhand.multilabel.datasets import make_long_tail
    >>> data = make_long_tail(200, 50, 100, seed=0)
    >>> model = ExtremeGameClassifier(leaf_size=16).fit(data.X, data.Y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_extreme_model(model, folder)
    ...     loaded = load_extreme_model(folder)
    ...     same = loaded.predict_topk(data.X, 3).data == model.predict_topk(data.X, 3).data
    >>> bool(same.all())
    True
    """
    check_is_fitted(model)
    state = {
        "params": model.get_params(deep=False),
        "classes": names_state(model.classes_),
        "label_counts": model.label_counts_,
        "n_train": model.n_train_,
        "n_features_in": model.n_features_in_,
        "owners": model.owners_,
        "views": model.views_,
        "decoder": model.decoder_.get_state() if hasattr(model, "decoder_") else None,
        "players": [_player_state(player) for player in model.players_],
    }
    write_folder(folder, _KIND, state)


def load_extreme_model(folder: str | os.PathLike[str]) -> ExtremeGameClassifier:
    """Read a model that `save_extreme_model` wrote; it predicts the same to the bit.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    ExtremeGameClassifier
        Its weights are mapped from the file: memory holds what searches have reached, and gives it back where
        memory is short. The folder must stay as it is while the model is in use.

    Raises
    ------
    FolderError
        If the folder is no such model, is of another version, or is damaged; the message names the place.

    Notes
    -----
    Everything is checked when it is loaded, which reads the file once from end to end.
    """
    state = read_folder(folder, _KIND, mapped=True)
    try:
        return _model_from(state)
    except (ValueError, TypeError) as error:
        raise FolderError(f"{os.fspath(folder)}: {error}") from error


def _model_from(state: dict[str, Any]) -> ExtremeGameClassifier:
    params = entry(state, "params", dict)
    if unknown := sorted(params.keys() - ExtremeGameClassifier().get_params().keys()):
        raise FolderError(f"this release of evenhand knows no estimator parameter {', '.join(unknown)}")
    model = ExtremeGameClassifier(**params)
    model.check_options()
    model.label_counts_ = array_entry(state, "label_counts", ["int64"], (None,))
    n_labels = len(model.label_counts_)
    model.classes_ = names_entry(state, "classes", n_labels)
    model.n_train_, model.n_features_in_ = entry(state, "n_train", int), entry(state, "n_features_in", int)
    model.views_ = _views_from(entry(state, "views", dict), model.n_features_in_)
    players = entry(state, "players", list)
    model.owners_ = array_entry(state, "owners", ["bool"], (len(players), n_labels))
    if not players or not model.owners_.any(axis=0).all():
        raise FolderError("a label has no player that owns it; the file is damaged")
    model.players_ = [_player_from(player, n_labels) for player in players]
    if strange := {player.view for player in model.players_} - model.views_.keys():
        raise FolderError(
            f"a player reads the view {min(strange)!r}, which there is not; the file is damaged"
        )
    decoder = entry(state, "decoder", dict, type(None))
    if decoder is not None:
        model.decoder_ = _decoder_from(decoder, n_labels)
    return model


def _views_from(views: dict[str, Any], n_features: int) -> dict[str, int]:
    if sum(entry(views, name, int) for name in views) != n_features:
        raise FolderError("the views do not have as many features as the model; the file is damaged")
    return views


def _decoder_from(state: dict[str, Any], n_labels: int) -> GlobalThreshold | LabelThresholds:
    decoder = decoder_from_state(state)
    if not isinstance(decoder, GlobalThreshold | LabelThresholds):
        raise FolderError(f"{type(decoder).__name__} is no decoder of an extreme model; the file is damaged")
    thresholds = decoder.thresholds_ if isinstance(decoder, LabelThresholds) else None
    if thresholds is not None and len(thresholds) != n_labels:
        raise FolderError("the decoder is for another number of labels; the file is damaged")
    return decoder


def _player_state(player: TreePlayer) -> dict[str, Any]:
    levels = [{name: getattr(level, name) for name in Level.ARRAYS} for level in player.levels]
    return {"view": player.view, "labels": player.tree.labels, "levels": levels}


def _player_from(state: Any, n_labels: int) -> TreePlayer:
    labels = array_entry(state, "labels", ["int64"], (None,))
    if len(np.unique(labels)) < len(labels) or not _within(labels, 0, n_labels):
        raise FolderError("the labels of a tree are damaged")
    levels = [_level_from(level) for level in entry(state, "levels", list)]
    n_nodes = [1, *(len(level.bias) for level in levels)]
    if [len(level.children) - 1 for level in levels] != n_nodes[:-1] or n_nodes[-1] != len(labels):
        raise FolderError("the levels of a tree do not fit each other or its labels; the file is damaged")
    tree = LabelTree(tuple(level.children for level in levels), labels, n_labels)
    return TreePlayer(entry(state, "view", str), tree, levels)


def _level_from(state: Any) -> Level:
    """A level, checked so that the compiled search cannot leave its arrays."""
    parts = {
        name: array_entry(state, name, [dtype], (None,))  # lengths are checked against each other below
        for name, dtype in Level.ARRAYS.items()
    }
    level = Level(**parts)
    sound = (
        _counts_up(level.children, len(level.bias))
        and _counts_up(level.feature_ptr, len(level.features))
        and _counts_up(level.row_ptr, len(level.child))
        and len(level.feature_ptr) == len(level.children)
        and len(level.row_ptr) == len(level.features) + 1
        and len(level.value) == len(level.child)
        and _within(np.diff(level.children), 1, MOST_CHILDREN + 1)
    )
    if not sound or not _children_exist(level):
        raise FolderError("the places of a level's weights are damaged")
    return level


def _counts_up(pointers: np.ndarray[Any, Any], end: int) -> bool:
    return bool(len(pointers) and pointers[0] == 0 and pointers[-1] == end and (np.diff(pointers) >= 0).all())


def _within(values: np.ndarray[Any, Any], low: int, high: int) -> bool:
    return bool(((values >= low) & (values < high)).all())


def _children_exist(level: Level) -> bool:
    """Whether no weight belongs to a child that its node does not have; a node at a time."""
    ends = level.row_ptr[level.feature_ptr]
    return all(
        level.child[start:stop].max(initial=0) < count
        for start, stop, count in zip(ends[:-1], ends[1:], np.diff(level.children))
    )
