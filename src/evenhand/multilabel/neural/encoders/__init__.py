"""Encoders: one view of the instances in, features for the players' heads out.

What a user gives is a recipe (`SparseBag`, `DenseLayers`, `PretrainedText`, `ImageModel`, `OwnEncoder`). What
it builds is an `Encoder`, a torch module that also turns rows of its view into tensors and says, as plain
JSON, how to build it again without the files that it came from.
"""

from evenhand.multilabel.neural.encoders.base import Encoder, Recipe, Tensors
from evenhand.multilabel.neural.encoders.images import ImageEncoder, ImageModel
from evenhand.multilabel.neural.encoders.matrices import BagEncoder, DenseEncoder, DenseLayers, SparseBag
from evenhand.multilabel.neural.encoders.own import ModuleEncoder, OwnEncoder
from evenhand.multilabel.neural.encoders.state import (
    check_encoder_weights,
    default_recipe,
    encoder_from_state,
    encoder_state,
    recipe_from_state,
    recipe_state,
)
from evenhand.multilabel.neural.encoders.texts import PretrainedText, TextEncoder

__all__ = [
    "BagEncoder",
    "DenseEncoder",
    "DenseLayers",
    "Encoder",
    "ImageEncoder",
    "ImageModel",
    "ModuleEncoder",
    "OwnEncoder",
    "PretrainedText",
    "Recipe",
    "SparseBag",
    "Tensors",
    "TextEncoder",
    "check_encoder_weights",
    "default_recipe",
    "encoder_from_state",
    "encoder_state",
    "recipe_from_state",
    "recipe_state",
]
