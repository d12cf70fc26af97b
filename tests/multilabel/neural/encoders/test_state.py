import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from evenhand.multilabel.neural.encoders import (
    DenseLayers,
    ImageModel,
    OwnEncoder,
    PretrainedText,
    SparseBag,
    default_recipe,
    encoder_from_state,
    recipe_from_state,
    recipe_state,
)
from evenhand.multilabel.neural.inputs import Column
from evenhand.multilabel.storage import FolderError

SPARSE = Column("sparse", sparse.random_array((4, 6), density=0.4, format="csr", rng=0, dtype=np.float32))
DENSE = Column("dense", np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
IMAGES = Column("images", np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))
TEXTS = Column("texts", ["a red tree", "tree"])


@pytest.mark.parametrize(
    ("recipe", "column", "dim"),
    [
        (SparseBag(5, (4, 3), 0.5), SPARSE, 3),
        (DenseLayers((7, 4), 0.5), DENSE, 4),
        (OwnEncoder(nn.Linear(3, 2), 2), DENSE, 2),
        (OwnEncoder(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), 2, size=4), IMAGES, 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_encoder_is_built_again_from_its_state(recipe, column, dim, encode, again):
    encoder = recipe.build(column)
    assert encoder.dim == dim
    features = encode(encoder, column)
    assert features.shape == (2, dim)
    assert torch.equal(encode(again(encoder, recipe), column), features)


def test_recipes_go_through_json():
    for recipe in (SparseBag(5, (4,)), DenseLayers((3,), 0.1), PretrainedText("x"), ImageModel("y", size=9)):
        assert recipe_from_state(json.loads(json.dumps(recipe_state(recipe)))) == recipe
    assert recipe_state(OwnEncoder(nn.Identity(), 3)) is None


@pytest.mark.parametrize(
    ("recipe", "column", "message"),
    [
        (SparseBag(0), SPARSE, "the width of an encoder's layer must be a whole number of at least 1, not 0"),
        (SparseBag(dropout=1), SPARSE, r"dropout must lie in \[0, 1\), not 1"),
        (DenseLayers(()), DENSE, "hidden is empty"),
        (SparseBag(), DENSE, "BagEncoder reads sparse, but the view holds dense"),
        (DenseLayers(), SPARSE, "DenseEncoder reads dense, but the view holds sparse"),
        (OwnEncoder(nn.Identity(), 2), DENSE, r"gives \(1, 3\) for one instance, not \(1, 2\); set dim"),
        (OwnEncoder(nn.Identity(), 2), TEXTS, "reads dense or images, but the view holds texts"),
    ],
)
def test_what_cannot_be_built_is_refused(recipe, column, message):
    with pytest.raises(ValueError, match=message):
        recipe.build(column)


def test_texts_and_images_have_no_default():
    assert default_recipe(SPARSE, "all") == SparseBag()
    assert default_recipe(DENSE, "all") == DenseLayers()
    with pytest.raises(ValueError, match=r"say what reads it: encoders=\{'t': PretrainedText\(FOLDER\)\}"):
        default_recipe(TEXTS, "t")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"kind": "Other", "options": {}}, "there is no encoder 'Other'"),
        ({"kind": "BagEncoder", "options": {"dim": 3}}, "the options of the encoder BagEncoder are damaged"),
        ({"kind": "ModuleEncoder", "options": {"dim": 3, "size": None}}, "encoder of the user's own"),
    ],
)
def test_damaged_states_are_refused(state, message):
    with pytest.raises(FolderError, match=message):
        encoder_from_state(state, None)
    with pytest.raises(FolderError, match="the recipe SparseBag is damaged"):
        recipe_from_state({"kind": "SparseBag", "strange": 1})


def test_importing_pulls_neither_transformers_nor_timm():
    script = (
        "import sys, evenhand.multilabel.estimator, evenhand.multilabel.neural.estimator\n"
        "print([name for name in ('transformers', 'timm') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
