import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from evenhand.multilabel.neural.encoders import ImageModel
from evenhand.multilabel.neural.inputs import Column

IMAGES = Column("images", np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))


@pytest.fixture
def timm():
    """Skips too where torchvision was built for another torch, which then cannot be imported."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported (evenhand[images]): {error}")
    return timm


def test_an_image_encoder_is_timms_model(timm, encode, again):
    recipe = ImageModel("test_efficientnet", size=32)
    torch.manual_seed(0)
    encoder = recipe.build(IMAGES)
    assert encode(encoder, IMAGES).shape == (2, encoder.dim)
    assert torch.equal(encode(again(encoder, recipe), IMAGES), encode(encoder, IMAGES))
    (pixels,) = encoder.tensors(IMAGES.rows[:1])
    mean, deviation = timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
    expected = (IMAGES.rows[0] / 255 - np.array(mean)) / np.array(deviation)
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0), expected, atol=1e-5)


def test_an_image_encoder_takes_weights_from_a_file(timm, tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model("test_efficientnet", num_classes=7)
    file = tmp_path / "whole.safetensors"
    save_file(whole.state_dict(), file)
    encoder = ImageModel("test_efficientnet", str(file), 32).build(IMAGES)
    assert torch.equal(encoder.model.conv_stem.weight, whole.conv_stem.weight)
    with pytest.raises(ValueError, match=r"weights: .* does not hold those of the model 'test_resnet'"):
        ImageModel("test_resnet", str(file)).build(IMAGES)
    with pytest.raises(ValueError, match=r"weights must be a .safetensors file that is there, not 'a.pth'"):
        ImageModel("test_efficientnet", "a.pth").build(IMAGES)


def test_an_image_model_that_timm_does_not_know(timm):
    with pytest.raises(ValueError, match="name is 'nothing', but timm knows no such model"):
        ImageModel("nothing").build(IMAGES)


class Model(nn.Module):
    """A model as timm makes them, of images of 16 x 16 pixels."""

    def __init__(self, channels=3, dim=4, **sizes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * 256, dim))
        for name, size in sizes.items():
            setattr(self, name, size)

    def forward(self, pixels):
        if pixels.shape[2] != 16:
            raise AssertionError("Input height doesn't match model (16)")
        return self.layers(pixels)


@pytest.fixture
def stand_in(monkeypatch):
    """timm with one model, whether timm is installed or not."""

    def install(**options):
        config = {"input_size": (3, 16, 16), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        timm = SimpleNamespace(
            is_model=lambda name: name == "model",
            create_model=lambda name, **_: Model(**options),
            data=SimpleNamespace(resolve_data_config=lambda given, model: config),
        )
        monkeypatch.setitem(sys.modules, "timm", timm)

    return install


@pytest.mark.parametrize(
    ("sizes", "dim"), [({"num_features": 4}, 4), ({"num_features": 9, "head_hidden_size": 4}, 4)]
)
def test_the_features_are_what_the_model_gives(stand_in, sizes, dim, encode):
    stand_in(**sizes)
    encoder = ImageModel("model").build(IMAGES)
    assert encoder.training
    assert encode(encoder, IMAGES).shape == (2, encoder.dim) == (2, dim)


@pytest.mark.parametrize(
    ("options", "recipe", "message"),
    [
        ({}, ImageModel("model", size=8), r"'model' does not read .* 8 x 8 pixels .*match model.*; set size"),
        (
            {"channels": 1},
            ImageModel("model"),
            r"'model' does not read colour images .*; set size .* or name",
        ),
        (
            {"dim": 5},
            ImageModel("model"),
            r"'model' gives features of shape \(1, 5\), not a row of 4; set name",
        ),
        ({}, ImageModel("models"), "name is 'models', but timm knows no such model"),
        ({}, ImageModel(5), "name is 5, but timm knows no such model"),
        ({}, ImageModel("model", size=0), "size must be a whole number of at least 1, not 0"),
    ],
)
def test_what_an_image_model_cannot_read_is_told(stand_in, options, recipe, message):
    stand_in(num_features=4, **options)
    with pytest.raises(ValueError, match=message):
        recipe.build(IMAGES)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm cannot be imported .*; install evenhand\[images\]"):
        ImageModel("x").build(IMAGES)
