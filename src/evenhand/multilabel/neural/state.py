"""Neural classifiers as a state of numbers and arrays, and back; every part is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evenhand.multilabel.neural.checkpoint import load_arrays, module_arrays
from evenhand.multilabel.neural.encoders import (
    Encoder,
    Recipe,
    check_encoder_weights,
    encoder_from_state,
    encoder_state,
    recipe_from_state,
    recipe_state,
)
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.neural.network import TeamNetwork
from evenhand.multilabel.predictor_state import new_predictor, predictor_state, take_decisions, take_labels
from evenhand.multilabel.storage import (
    FolderError,
    array_entry,
    entry,
    names_entry,
)

_NOT_OF_THE_MODEL = {"checkpoint", "log", "device", "encoders"}  # the encoders are kept apart

Encoders = Recipe | Mapping[str, Recipe] | None


def classifier_state(model: NeuralGameClassifier) -> dict[str, Any]:
    """A fitted classifier as a state that `storage.write_folder` takes.

    Parameters
    ----------
    model : NeuralGameClassifier

    Returns
    -------
    dict
    """
    network = model.network_
    return {
        **predictor_state(model, _NOT_OF_THE_MODEL),
        "recipes": _recipes_state(model.encoders),
        "kinds": model.kinds_,
        "encoder_views": list(model.encoder_views_),
        "encoders": [encoder_state(one) for one in _encoders_of(network)],
        "encoder_of": list(network.encoder_of),
        "owners": network.owners.cpu().numpy(),
        "network": module_arrays(network),
        "history": list(model.history_),
    }


def classifier_from(state: dict[str, Any], encoders: Encoders = None) -> NeuralGameClassifier:
    """The classifier whose state this is, fully checked, on the CPU.

    Parameters
    ----------
    state : dict
    encoders : Recipe or mapping of str to Recipe, optional
        As the classifier had it; needed where an encoder is the user's own module.

    Returns
    -------
    NeuralGameClassifier

    Raises
    ------
    FolderError
        If a part is missing, does not fit the others, or needs `encoders`.
    """
    model = new_predictor(NeuralGameClassifier, entry(state, "params", dict), _NOT_OF_THE_MODEL)
    model.encoders = (
        _recipes_from(entry(state, "recipes", dict, type(None))) if encoders is None else encoders
    )
    n_labels = take_labels(model, state)
    model.views_, model.kinds_ = entry(state, "views", dict), entry(state, "kinds", dict)
    if model.views_.keys() != model.kinds_.keys() or not model.views_:
        raise FolderError("the views and their kinds are not of the same names; the file is damaged")
    model.n_features_in_ = sum(entry(model.views_, name, int) for name in model.views_)
    if entry(state, "feature_names_in", dict, type(None)) is not None:
        model.feature_names_in_ = names_entry(state, "feature_names_in", model.n_features_in_)
    model.encoder_views_ = tuple(entry(state, "encoder_views", list))
    if strange := [view for view in model.encoder_views_ if view not in model.views_]:
        raise FolderError(
            f"an encoder reads the view {strange[0]!r}, which there is not; the file is damaged"
        )
    model.network_ = _network_from(state, model, n_labels)
    history = entry(state, "history", list)
    if not all(isinstance(record, dict) for record in history):
        raise FolderError("the history is damaged")
    model.history_ = tuple(history)
    take_decisions(model, state)
    return model


def _network_from(state: dict[str, Any], model: NeuralGameClassifier, n_labels: int) -> TeamNetwork:
    owners = array_entry(state, "owners", ["bool"], (None, n_labels))
    states, encoder_of = entry(state, "encoders", list), entry(state, "encoder_of", list)
    if not owners.any(axis=0).all():
        raise FolderError("a label has no player that owns it; the file is damaged")
    if len(states) != len(model.encoder_views_) or len(encoder_of) != len(owners):
        raise FolderError("the players, encoders and views do not fit together; the file is damaged")
    if not all(type(e) is int and 0 <= e < len(states) for e in encoder_of):
        raise FolderError("a player reads an encoder that there is not; the file is damaged")
    arrays = entry(state, "network", dict)
    for number, one in enumerate(states):
        check_encoder_weights(one, arrays, f"encoders.{number}.")
    encoders = [
        _encoder_from(one, model.encoders, view, model) for one, view in zip(states, model.encoder_views_)
    ]
    network = TeamNetwork(encoders, encoder_of, owners)
    load_arrays(network, arrays)
    if not np.array_equal(network.owners.numpy(), owners):
        raise FolderError("the network has other owners than the model; the file is damaged")
    return network.eval()


def _encoder_from(state: Any, recipes: Encoders, view: str, model: NeuralGameClassifier) -> Encoder:
    recipe = recipes.get(view) if isinstance(recipes, Mapping) else recipes
    encoder = encoder_from_state(state, recipe)
    if model.kinds_[view] not in encoder.kinds:
        raise FolderError(f"view {view!r} holds {model.kinds_[view]}, which its encoder does not read")
    options = encoder.architecture()
    if options.get("n_features", model.views_[view]) != model.views_[view]:
        raise FolderError(
            f"the encoder of view {view!r} reads {options['n_features']} features, but the view has"
            f" {model.views_[view]}; the file is damaged"
        )
    return encoder


def _recipes_state(recipes: Encoders) -> dict[str, Any] | None:
    if recipes is None:
        return None
    if isinstance(recipes, Mapping):
        return {"by_view": {view: recipe_state(recipe) for view, recipe in recipes.items()}}
    return {"of_all": recipe_state(recipes)}


def _recipes_from(state: dict[str, Any] | None) -> Encoders:
    """Recipes of users' modules are left out; whoever needs one says so."""
    if state is None:
        return None
    if "by_view" in state:
        by_view = entry(state, "by_view", dict)
        return {view: recipe_from_state(one) for view, one in by_view.items() if one is not None}
    of_all = entry(state, "of_all", dict, type(None))
    return None if of_all is None else recipe_from_state(of_all)


def _encoders_of(network: TeamNetwork) -> list[Encoder]:
    return [one for one in network.encoders if isinstance(one, Encoder)]
