"""Game classifiers as a state of numbers and arrays, and back; every part is checked."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.fusion import Fusion
from evenhand.multilabel.game import Space
from evenhand.multilabel.players import player_from_state
from evenhand.multilabel.predictor_state import new_predictor, predictor_state, take_decisions, take_labels
from evenhand.multilabel.storage import FolderError, check_size, entry, names_entry, sizes_entry
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
    team = classifier.team_
    return {
        **predictor_state(classifier, _NOT_OF_THE_MODEL),
        "team": {
            "players": [player.get_state() for player in team.players],
            "fusion": team.fusion.get_state(),
            "space": team.space,
            "history": team.history,
        },
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
    params = entry(state, "params", dict)
    if isinstance(params.get("players"), list):  # JSON has no tuples
        params = {**params, "players": [tuple(player) for player in params["players"]]}
    classifier = new_predictor(CuriosityGameClassifier, params, _NOT_OF_THE_MODEL)
    n_labels = take_labels(classifier, state)
    classifier.views_ = sizes_entry(state, "views")
    classifier.n_features_in_ = sum(classifier.views_.values())
    if entry(state, "feature_names_in", dict, type(None)) is not None:
        names = names_entry(state, "feature_names_in", classifier.n_features_in_)
        classifier.feature_names_in_ = names
    classifier.team_ = _team_from(entry(state, "team", dict), classifier.views_, n_labels)
    take_decisions(classifier, state)
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
