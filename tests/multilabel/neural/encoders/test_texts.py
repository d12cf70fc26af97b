import numpy as np
import pytest
import torch

from evenhand.multilabel.neural.encoders import PretrainedText
from evenhand.multilabel.neural.inputs import Column

TEXTS = Column("texts", ["a red tree", "tree", "", "red red leaf of a tree"])


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
