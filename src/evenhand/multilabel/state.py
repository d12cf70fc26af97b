"""Game classifiers as a state of numbers and arrays, and back; every part is checked."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from evenhand.multilabel.decoding import PooledCalibration, decoders_from_states
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.fusion import Fusion
from evenhand.multilabel.game import Space
from evenhand.multilabel.players import player_from_state
from evenhand.multilabel.predictions import DecoderName
from evenhand.multilabel.storage import (
    FolderError,
    array_entry,
    check_size,
    entry,
    names_entry,
    names_state,
    sizes_entry,
)
from evenhand.multilabel.training import TrainedTeam

_NOT_OF_THE_MODEL = {"checkpoint"}  # where a training kept its files says nothing about the model


def classifier_state(classifier: CuriosityGameClassifier) -> dict[str, Any]:
    """A fitted classifier as a state that `storage.write_folder` takes.

    Parameters
    ----------
    classifier : CuriosityGameClassifier

    Returns
    -------
    dict
    """
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


def classifier_from(state: dict[str, Any]) -> CuriosityGameClassifier:
    """The classifier whose state this is, fully checked.

    Parameters
    ----------
    state : dict

    Returns
    -------
    CuriosityGameClassifier

    Raises
    ------
    FolderError
        If a part is missing or does not fit the others.
    """
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
