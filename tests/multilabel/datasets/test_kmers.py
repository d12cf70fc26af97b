import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from evenhand.multilabel.datasets import kmer_counts, kmer_names, kmers


def some_sequences(n=300, seed=0):
    """Few letters, so that words repeat; unknown ones among them; lengths from 0, one long."""
    rng = np.random.default_rng(seed)
    lengths = [*rng.integers(0, 60, size=n), 3000]
    return ["".join(rng.choice(list("AACCWYYMXBUZOJ*a"), size=length)) for length in lengths]


def counted_elsewhere(sequences, k):
    vectorizer = CountVectorizer(
        analyzer="char", ngram_range=(k, k), lowercase=False, vocabulary=kmer_names(k), dtype=np.float32
    )
    return vectorizer.transform(sequences)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_counts_are_those_of_scikit_learn(k):
    sequences = some_sequences()
    counts = kmer_counts(sequences, k)
    assert counts.shape == (301, 20**k)
    assert counts.dtype == np.float32
    assert counts.indices.dtype == counts.indptr.dtype == np.int32
    assert counts.has_canonical_format
    assert counts.data.min() >= 1
    assert (counts != counted_elsewhere(sequences, k)).nnz == 0


def test_all_letters():
    rng = np.random.default_rng(1)
    sequences = ["".join(rng.choice(list(kmers.AMINO_ACIDS), size=500)) for _ in range(20)]
    assert (kmer_counts(sequences, 3) != counted_elsewhere(sequences, 3)).nnz == 0


@pytest.mark.parametrize("block", [1, 100])
def test_blocks_tell_nothing(monkeypatch, block):
    sequences = some_sequences()
    whole = kmer_counts(sequences)
    monkeypatch.setattr(kmers, "_BLOCK", block)
    assert (kmer_counts(sequences) != whole).nnz == 0


def test_long_indices(monkeypatch):
    sequences = some_sequences()
    whole = kmer_counts(sequences)
    monkeypatch.setattr(kmers.sparse, "get_index_dtype", lambda **_: np.int64)
    assert (kmer_counts(sequences) != whole).nnz == 0


def test_largest_words():
    counts = kmer_counts(["YYYYYYA", "AAAAAA"], 6)
    assert counts.indices.tolist() == [20**6 - 20, 20**6 - 1, 0]


@pytest.mark.parametrize("sequences", [[], [""], ["AC", "", "A"]])
def test_nothing_to_count(sequences):
    counts = kmer_counts(sequences)
    assert counts.shape == (len(sequences), 8000)
    assert counts.nnz == 0


def test_letters_of_other_alphabets_are_unknown():
    assert kmer_counts(["ACéAλCD"], 2).sum() == 2


@pytest.mark.parametrize("k", [0, 7, 2.0, True, "3"])
def test_bad_k(k):
    with pytest.raises(ValueError, match=r"k must be a whole number from 1 to 6, not"):
        kmer_counts(["ACD"], k)
    with pytest.raises(ValueError, match=r"k must be a whole number from 1 to 6, not"):
        kmer_names(k)


def test_bad_sequences():
    with pytest.raises(TypeError, match="a single text; give a list"):
        kmer_counts("ACD")
    with pytest.raises(TypeError, match="sequence 1 is None, not a text"):
        kmer_counts(["ACD", None])
