"""Recipes and encoders as plain state, and back; the recipe of a column that none was given for."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from evenhand.multilabel.neural.encoders.base import Encoder, Recipe
from evenhand.multilabel.neural.encoders.images import ImageEncoder, ImageModel
from evenhand.multilabel.neural.encoders.matrices import BagEncoder, DenseEncoder, DenseLayers, SparseBag
from evenhand.multilabel.neural.encoders.own import ModuleEncoder, OwnEncoder
from evenhand.multilabel.neural.encoders.texts import PretrainedText, TextEncoder
from evenhand.multilabel.neural.inputs import Column
from evenhand.multilabel.storage import FolderError, array_entry, entry

_RECIPES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (SparseBag, DenseLayers, PretrainedText, ImageModel)
}
_ENCODERS: dict[str, type[Encoder]] = {
    kind.__name__: kind for kind in (BagEncoder, DenseEncoder, TextEncoder, ImageEncoder)
}

_SIZED = (BagEncoder.__name__, DenseEncoder.__name__, TextEncoder.__name__)  # whose options are any sizes


def default_recipe(column: Column, name: str) -> Recipe:
    """The recipe for a column that none was given for.

    Raises
    ------
    ValueError
        For texts and images: there is no model that all machines have.
    """
    if column.kind == "sparse":
        return SparseBag()
    if column.kind == "dense":
        return DenseLayers()
    wanted = (
        "PretrainedText(FOLDER)" if column.kind == "texts" else "ImageModel(NAME) or OwnEncoder(MODULE, DIM)"
    )
    raise ValueError(f"view {name!r} holds {column.kind}; say what reads it: encoders={{{name!r}: {wanted}}}")


def recipe_state(recipe: Recipe) -> dict[str, Any] | None:
    """A recipe for JSON; None for one that holds a user's module."""
    if type(recipe).__name__ not in _RECIPES:
        return None
    return {"kind": type(recipe).__name__, **asdict(recipe)}  # type: ignore[call-overload]


def recipe_from_state(state: Mapping[str, Any]) -> Recipe:
    """The recipe whose state this is.

    Raises
    ------
    FolderError
        If the kind is unknown or a field is damaged.
    """
    kind = entry(state, "kind", str)
    if kind not in _RECIPES:
        raise FolderError(f"there is no recipe {kind!r}; known are {', '.join(_RECIPES)}")
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in state.items() if name != "kind"}
    try:
        recipe: Recipe = _RECIPES[kind](**fields)
    except TypeError as error:
        raise FolderError(f"the recipe {kind} is damaged: {error}") from error
    return recipe


def encoder_state(encoder: Encoder) -> dict[str, Any]:
    """An encoder's architecture for JSON, without its weights."""
    return {"kind": type(encoder).__name__, "options": encoder.architecture()}


def encoder_from_state(state: Mapping[str, Any], recipe: Recipe | None) -> Encoder:
    """An encoder of the architecture whose state this is, its weights to be loaded.

    Parameters
    ----------
    state : mapping
    recipe : Recipe, optional
        Where the encoder is a user's module: the `OwnEncoder` with it.

    Raises
    ------
    FolderError
        If the kind is unknown, a field is damaged or the user's module is missing.
    """
    kind, options = entry(state, "kind", str), entry(state, "options", dict)
    if kind == ModuleEncoder.__name__:
        if not isinstance(recipe, OwnEncoder) or options != {"dim": recipe.dim, "size": recipe.size}:
            raise FolderError(
                "the model has an encoder of the user's own, which is not saved; give load_model the"
                f" OwnEncoder with the module, and with {options}, in encoders"
            )
        if any(is_lazy(part) for part in recipe.module.parameters()):
            raise FolderError("the module in encoders has lazy layers; give it with their shapes")
        return ModuleEncoder(copy.deepcopy(recipe.module), recipe.dim, recipe.size)
    if kind not in _ENCODERS:
        raise FolderError(f"there is no encoder {kind!r}; known are {', '.join(_ENCODERS)}")
    try:
        return _ENCODERS[kind](**options)
    except Exception as error:  # whatever transformers or timm say of options that are not sound
        raise FolderError(f"the options of the encoder {kind} are damaged: {error}") from error


def check_encoder_weights(state: Any, arrays: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse an encoder whose weights are not there, before memory is taken for them.

    Parameters
    ----------
    state : Any
        As for `encoder_from_state`.
    arrays : mapping of str to ndarray
        The weights that were saved.
    prefix : str
        Of their names.

    Raises
    ------
    FolderError
    """
    if entry(state, "kind", str) not in _SIZED:
        return
    with torch.device("meta"):
        outline = encoder_from_state(state, None)
    for name, weight in outline.state_dict().items():
        dtype = str(weight.dtype).removeprefix("torch.")
        array_entry(arrays, prefix + name, [dtype], tuple(weight.shape))
