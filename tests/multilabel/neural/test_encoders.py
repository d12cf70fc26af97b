import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
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
    encoder_state,
    recipe_from_state,
    recipe_state,
)
from evenhand.multilabel.neural.inputs import Column
from evenhand.multilabel.storage import FolderError

ROWS = np.array([2, 0])
SPARSE = Column("sparse", sparse.random_array((4, 6), density=0.4, format="csr", rng=0, dtype=np.float32))
DENSE = Column("dense", np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
IMAGES = Column("images", np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))
TEXTS = Column("texts", ["a red tree", "tree", "", "red red leaf of a tree"])


def encode(encoder, column, rows=ROWS):
    with torch.no_grad():
        return encoder.eval()(*encoder.tensors(column.take(rows)))


def again(encoder, recipe):
    """The encoder built from its state, through JSON, and its weights."""
    state = json.loads(json.dumps(encoder_state(encoder)))
    other = encoder_from_state(state, recipe)
    other.load_state_dict(encoder.state_dict())
    return other


def test_a_sparse_bag_is_the_matrix_product():
    bag = SparseBag(5).build(SPARSE)
    with torch.no_grad():
        bag.bias += 0.5
    expected = SPARSE.rows[ROWS].toarray() @ bag.bag.weight.detach().numpy() + 0.5
    np.testing.assert_allclose(encode(bag, SPARSE), expected, rtol=1e-5)


def test_a_row_without_features_is_the_bias():
    column = Column("sparse", sparse.csr_array(np.array([[0, 0], [1, 2], [0, 0]], np.float32)))
    bag = SparseBag(3).build(column)
    assert torch.equal(encode(bag, column, np.array([2, 0])), torch.zeros(2, 3))


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
def test_an_encoder_is_built_again_from_its_state(recipe, column, dim):
    encoder = recipe.build(column)
    assert encoder.dim == dim
    features = encode(encoder, column)
    assert features.shape == (2, dim)
    assert torch.equal(encode(again(encoder, recipe), column), features)


def test_recipes_go_through_json():
    for recipe in (SparseBag(5, (4,)), DenseLayers((3,), 0.1), PretrainedText("x"), ImageModel("y", size=9)):
        assert recipe_from_state(json.loads(json.dumps(recipe_state(recipe)))) == recipe
    assert recipe_state(OwnEncoder(nn.Identity(), 3)) is None


def test_the_users_module_is_copied_and_its_lazy_layers_take_shape():
    module = nn.Linear(3, 2)
    encoder = OwnEncoder(module, 2).build(DENSE)
    with torch.no_grad():
        encoder.module.weight += 1
    assert not torch.equal(encoder.module.weight, module.weight)
    lazy = OwnEncoder(nn.LazyLinear(2), 2).build(DENSE)
    assert encode(lazy, DENSE).shape == (2, 2)


@pytest.mark.parametrize("layer", [nn.Linear(3, 2), nn.LazyLinear(2)])
def test_the_users_module_may_read_rows_in_float64(layer):
    column = Column("dense", np.ones((4, 3), np.float64))
    assert OwnEncoder(layer, 2).build(column).dim == 2


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


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    """A tiny BERT with its tokenizer, as save_pretrained writes them."""
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (evenhand[text])"
    )
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[PAD]", "[UNK]", "a", "red", "tree", "leaf", "of"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return str(folder)


def test_a_text_encoder_takes_the_mean_of_its_tokens(text_folder):
    encoder = PretrainedText(text_folder).build(TEXTS)
    assert encoder.dim == 8
    together = encode(encoder, TEXTS, np.arange(4))
    for row in (0, 1, 3):  # padding has no say
        alone = encode(encoder, TEXTS, np.array([row]))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)
        tokens, _ = encoder.tensors([TEXTS.rows[row]])
        with torch.no_grad():
            hidden = encoder.model(input_ids=tokens).last_hidden_state
        torch.testing.assert_close(hidden.mean(1), alone, rtol=1e-4, atol=1e-5)
    assert (together[2] == 0).all()
    assert encoder.tensors(["a red tree"])[0].tolist() == [[2, 3, 4]]


def test_a_text_encoder_needs_its_folder_no_more(text_folder):
    recipe = PretrainedText(text_folder, max_length=2)
    encoder = recipe.build(TEXTS)
    assert encoder.tensors(TEXTS.rows)[0].shape == (4, 2)
    assert torch.equal(encode(again(encoder, None), TEXTS), encode(encoder, TEXTS))


def test_a_text_encoder_that_is_not_here_is_named(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed (evenhand[text])")
    with pytest.raises(ValueError, match="is no text encoder that is on this machine"):
        PretrainedText(str(tmp_path / "nothing")).build(TEXTS)


@pytest.fixture
def timm():
    """Skips too where torchvision was built for another torch, which then cannot be imported."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported (evenhand[images]): {error}")
    return timm


def test_an_image_encoder_is_timms_model(timm):
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


def test_importing_pulls_neither_transformers_nor_timm():
    script = (
        "import sys, evenhand.multilabel.estimator, evenhand.multilabel.neural.estimator\n"
        "print([name for name in ('transformers', 'timm') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
