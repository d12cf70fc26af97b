from pathlib import Path

import numpy as np
import pytest
import torch

from evenhand.multilabel.neural.encoders import PretrainedText
from evenhand.multilabel.neural.inputs import Column

TEXTS = Column("texts", ["a red tree", "tree", "", "red red leaf of a tree"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Saves a tiny model of a kind with its tokenizer, as save_pretrained writes them."""
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (evenhand[text])"
    )
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[PAD]", "[UNK]", "a", "red", "tree", "leaf", "of"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()

    def save(kind, limit=None, **config):
        folder = tmp_path_factory.mktemp("text")
        torch.manual_seed(0)
        shape = getattr(transformers, f"{kind}Config")(vocab_size=len(words), **config)
        getattr(transformers, f"{kind}Model")(shape).save_pretrained(folder)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=limit
        ).save_pretrained(folder)
        return str(folder)

    return save


BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.fixture(scope="module")
def text_folder(saved):
    return saved("Bert", **BERT)


def test_a_text_encoder_takes_the_mean_of_its_tokens(text_folder, encode):
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


def test_a_text_encoder_needs_its_folder_no_more(text_folder, encode, again):
    recipe = PretrainedText(text_folder, max_length=2)
    encoder = recipe.build(TEXTS)
    assert encoder.tensors(TEXTS.rows)[0].shape == (4, 2)
    assert torch.equal(encode(again(encoder, None), TEXTS), encode(encoder, TEXTS))


def test_a_text_encoder_that_is_not_here_is_named(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed (evenhand[text])")
    with pytest.raises(ValueError, match="is no text encoder that is on this machine"):
        PretrainedText(str(tmp_path / "nothing")).build(TEXTS)


def test_a_width_of_another_name_is_found(saved, encode, again):
    folder = saved("DistilBert", dim=6, n_layers=1, n_heads=2, hidden_dim=8)
    encoder = PretrainedText(folder).build(TEXTS)
    assert encode(encoder, TEXTS).shape == (2, encoder.dim) == (2, 6)
    assert torch.equal(encode(again(encoder, None), TEXTS), encode(encoder, TEXTS))


@pytest.mark.parametrize(("positions", "limit", "longest"), [(32, None, 32), (512, 30, 30)])
def test_no_more_is_read_than_model_and_tokenizer_allow(saved, positions, limit, longest):
    folder = saved("Bert", limit, max_position_embeddings=positions, **BERT)
    long = Column("texts", ["tree " * 200])
    assert PretrainedText(folder).build(long).tensors(long.rows)[0].shape == (1, longest)
    with pytest.raises(
        ValueError, match=rf"max_length is {longest + 1}, but .* reads no more than {longest}"
    ):
        PretrainedText(folder, max_length=longest + 1).build(long)
    with pytest.raises(ValueError, match="max_length must be a whole number of at least 1, not 0"):
        PretrainedText(folder, max_length=0).build(long)


def test_128_tokens_are_read_unless_one_says_otherwise(text_folder):
    encoder = PretrainedText(text_folder).build(TEXTS)
    assert encoder.tensors(["tree " * 200])[0].shape == (1, 128)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "config.json"),
        ("model.safetensors", "1", "is no text encoder that is on this machine"),
    ],
)
def test_a_damaged_folder_is_told(saved, file, content, message):
    folder = saved("Bert", **BERT)
    Path(folder, file).write_text(content)
    with pytest.raises(ValueError, match=message):
        PretrainedText(folder).build(TEXTS)
