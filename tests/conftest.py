import gzip
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def public_data():
    """The folder of a public collection that is not shipped, or a skip."""
    root = Path(os.environ.get("EVENHAND_DATA", Path(__file__).parents[1].parent / "shared" / "data"))

    def folder_of(name):
        if not (root / name).is_dir():
            pytest.skip(f"the data sets {name}/ are not here; set EVENHAND_DATA to their folder's parent")
        return root / name

    return folder_of


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """A folder with a BERT of two layers of 16 dimensions with random weights."""
    torch = pytest.importorskip("torch")
    reason = "needs transformers: pip install 'evenhand[text]'"
    transformers = pytest.importorskip("transformers", reason=reason)
    place = tmp_path_factory.mktemp("model")
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [
        "a",
        "plain",
        "text",
        "editor",
        "an",
        "of",
        "music",
        "player",
        "for",
        "the",
        "web",
        "server",
        "fast",
    ]
    terms = marks + words
    (place / "vocab.txt").write_text("\n".join(terms) + "\n")
    transformers.BertTokenizer(str(place / "vocab.txt")).save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(terms),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(place, safe_serialization=True)
    return place


@pytest.fixture
def write(tmp_path):
    """Write a file into the test's folder (gzipped for .gz) and return its path."""

    def write_file(name, content):
        content = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write_file
