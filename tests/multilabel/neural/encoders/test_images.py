import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

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
    with pytest.raises(ValueError, match="does not hold the weights of 'test_resnet'"):
        ImageModel("test_resnet", str(file)).build(IMAGES)
    with pytest.raises(ValueError, match=r"weights must be a .safetensors file that is there, not 'a.pth'"):
        ImageModel("test_efficientnet", "a.pth").build(IMAGES)


def test_an_image_model_that_timm_does_not_know(timm):
    with pytest.raises(ValueError, match="timm knows no model 'nothing'"):
        ImageModel("nothing").build(IMAGES)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm cannot be imported .*; install evenhand\[images\]"):
        ImageModel("x").build(IMAGES)
