"""Extreme classifiers as a state of numbers and arrays, and back; every part is checked."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from evenhand.multilabel.decoding import decoders_from_states
from evenhand.multilabel.extreme.estimator import DecoderName, ExtremeGameClassifier
from evenhand.multilabel.extreme.label_tree import LabelTree
from evenhand.multilabel.extreme.levels import MOST_CHILDREN, Level
from evenhand.multilabel.extreme.players import TreePlayer
from evenhand.multilabel.storage import FolderError, array_entry, entry, names_entry, names_state, sizes_entry


def classifier_state(model: ExtremeGameClassifier) -> dict[str, Any]:
    """A fitted classifier as a state that `storage.write_folder` takes.

    Parameters
    ----------
    model : ExtremeGameClassifier

    Returns
    -------
    dict
    """
    params = model.get_params(deep=False)
    del params["checkpoint"]  # where a training kept its files says nothing about the model
    names = getattr(model, "feature_names_in_", None)
    return {
        "params": params,
        "classes": names_state(model.classes_),
        "label_counts": model.label_counts_,
        "n_train": model.n_train_,
        "views": model.views_,
        "feature_names_in": None if names is None else names_state(names),
        "owners": model.owners_,
        "players": [_player_state(player) for player in model.players_],
        "decoders": {name: one.get_state() for name, one in getattr(model, "decoders_", {}).items()},
    }


def classifier_from(state: dict[str, Any]) -> ExtremeGameClassifier:
    """The classifier whose state this is, fully checked.

    Parameters
    ----------
    state : dict
        Its arrays may be mapped from a file.

    Returns
    -------
    ExtremeGameClassifier

    Raises
    ------
    FolderError
        If a part is missing or does not fit the others.
    """
    params = entry(state, "params", dict)
    known = ExtremeGameClassifier().get_params().keys() - {"checkpoint"}
    if unknown := sorted(params.keys() - known):
        raise FolderError(f"this release of evenhand knows no estimator parameter {', '.join(unknown)}")
    model = ExtremeGameClassifier(**params)
    model.check_options()
    model.label_counts_ = array_entry(state, "label_counts", ["int64"], (None,))
    n_labels = len(model.label_counts_)
    model.classes_ = names_entry(state, "classes", n_labels)
    model.n_train_ = entry(state, "n_train", int)
    model.views_ = sizes_entry(state, "views")
    model.n_features_in_ = sum(model.views_.values())
    if entry(state, "feature_names_in", dict, type(None)) is not None:
        model.feature_names_in_ = names_entry(state, "feature_names_in", model.n_features_in_)
    players = entry(state, "players", list)
    model.owners_ = array_entry(state, "owners", ["bool"], (len(players), n_labels))
    if not players or not model.owners_.any(axis=0).all():
        raise FolderError("a label has no player that owns it; the file is damaged")
    model.players_ = [_player_from(player, n_labels) for player in players]
    if strange := {player.view for player in model.players_} - model.views_.keys():
        raise FolderError(
            f"a player reads the view {min(strange)!r}, which is not there; the file is damaged"
        )
    if decoders := entry(state, "decoders", dict):
        model.decoders_ = decoders_from_states(decoders, get_args(DecoderName), n_labels)
    return model


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
    return bool(
        len(pointers)
        and pointers[0] == 0
        and pointers[-1] == end
        and _within(pointers, 0, end + 1)  # else differences could wrap round
        and (np.diff(pointers) >= 0).all()
    )


def _within(values: np.ndarray[Any, Any], low: int, high: int) -> bool:
    return bool(((values >= low) & (values < high)).all())


def _children_exist(level: Level) -> bool:
    """Whether no weight belongs to a child that its node does not have; a node at a time."""
    ends = level.row_ptr[level.feature_ptr]
    return all(
        level.child[start:stop].max(initial=0) < count
        for start, stop, count in zip(ends[:-1], ends[1:], np.diff(level.children))
    )
