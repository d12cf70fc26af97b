import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from evenhand.multilabel import scores as module
from evenhand.multilabel.scores import (
    as_scores,
    as_truth,
    hits,
    rank_labels,
    sorted_columns,
    sorted_hits,
    top_k,
    value_chunks,
)


def random_scores(seed: int, n: int = 30, n_labels: int = 12, *, ties: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, n_labels))
    return np.round(values) if ties else values


def reference_ranking(scores: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@given(seed=st.integers(0, 10_000), k=st.integers(1, 12), ties=st.booleans())
@settings(max_examples=30, deadline=None)
def test_rank_labels_is_a_stable_sort(seed, k, ties):
    scores = random_scores(seed, ties=ties)
    np.testing.assert_array_equal(rank_labels(scores, k), reference_ranking(scores, k))
    np.testing.assert_array_equal(rank_labels(as_scores(full_csr(scores)), k), reference_ranking(scores, k))


def full_csr(scores: np.ndarray) -> sparse.csr_array:
    """All entries stored, zeros too."""
    n, n_labels = scores.shape
    indices = np.tile(np.arange(n_labels), n)
    return sparse.csr_array((scores.ravel(), indices, np.arange(n + 1) * n_labels), shape=scores.shape)


def test_rank_labels_marks_missing_candidates():
    scores = sparse.csr_array((np.array([0.0, -1.0]), np.array([3, 1]), np.array([0, 2, 2])), shape=(2, 5))
    np.testing.assert_array_equal(rank_labels(as_scores(scores), 3), [[3, 1, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(rank_labels(np.array([[1.0, 2.0]]), 4), [[1, 0, -1, -1]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_top_k_keeps_scores_stored_zeros_and_dtype(dtype):
    scores = np.array([[0.0, -1.0, -2.0], [5.0, 4.0, 6.0]], dtype=dtype)
    for given_scores in (scores, full_csr(scores)):
        best = top_k(given_scores, 2)
        assert best.dtype == dtype
        assert best.has_canonical_format
        np.testing.assert_array_equal(best.indices, [0, 1, 0, 2])
        np.testing.assert_array_equal(best.data, [0.0, -1.0, 5.0, 6.0])


def test_top_k_does_not_touch_the_callers_unsorted_array():
    scores = sparse.csr_array((np.array([1.0, 2.0]), np.array([2, 0]), np.array([0, 2])), shape=(1, 3))
    top_k(scores, 1)
    np.testing.assert_array_equal(scores.indices, [2, 0])


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "3"])
def test_bad_k_names_itself(k):
    with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
        top_k(np.zeros((1, 2)), k)


def some_stored(seed: int, *, stored: float) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """Sparse scores (some of them 0.0) of a share of the places, where these are, and the truth."""
    scores = random_scores(seed, ties=True)
    rng = np.random.default_rng(seed + 1)
    kept = rng.random(scores.shape) < stored
    indptr = np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
    return sparse.csr_array((scores[kept], np.nonzero(kept)[1], indptr), shape=scores.shape), kept, scores


@given(seed=st.integers(0, 1000), chunk=st.sampled_from([1, 70, 1 << 20]), some=st.booleans())
@settings(max_examples=20, deadline=None)
def test_sorted_columns_are_the_sorted_columns(seed, chunk, some):
    partial, kept, scores = some_stored(seed, stored=0.5)
    before = partial.copy()
    labels = np.array([1, 2, 7, 11]) if some else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        for given_scores, places in ((scores, np.ones_like(kept)), (partial, kept)):
            seen = []
            for block, starts, values in sorted_columns(given_scores, labels):
                for label, start, stop in zip(block, starts, starts[1:], strict=False):
                    expected = np.sort(scores[places[:, label], label])
                    np.testing.assert_array_equal(values[start:stop], expected)
                    seen.append(label)
            assert seen == list(range(12) if labels is None else labels)
    np.testing.assert_array_equal(partial.data, before.data)
    np.testing.assert_array_equal(partial.indices, before.indices)


@given(seed=st.integers(0, 1000), stored=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=20, deadline=None)
def test_hits_are_the_positives_among_the_candidates(seed, stored):
    partial, kept, scores = some_stored(seed, stored=stored)
    truth = np.random.default_rng(seed).random(scores.shape) < 0.2
    for given_scores, places in ((scores, truth), (partial, truth & kept)):
        found = hits(given_scores, as_truth(truth))
        np.testing.assert_array_equal(found.data, scores[places])
        np.testing.assert_array_equal(found.indices, np.nonzero(places)[1])
        starts, values = sorted_hits(given_scores, as_truth(truth))
        for label in range(12):
            expected = np.sort(scores[places[:, label], label])
            np.testing.assert_array_equal(values[starts[label] : starts[label + 1]], expected)


def test_64_bit_indices_change_nothing(wide):
    partial, kept, _ = some_stored(0, stored=0.5)
    Y = as_truth(kept & (np.random.default_rng(0).random(kept.shape) < 0.3))
    np.testing.assert_array_equal(top_k(wide(partial), 3).toarray(), top_k(partial, 3).toarray())
    found = hits(as_scores(wide(partial)), as_truth(wide(Y)))
    np.testing.assert_array_equal(found.toarray(), hits(partial, Y).toarray())


_LARGE = """
import numpy as np
from scipy import sparse
from evenhand.multilabel import metrics
from evenhand.multilabel.decoding import GlobalThreshold, LabelThresholds, MacroF1, TopK

def some(n, n_labels, per_row, rng):
    labels = (n_labels * rng.random((n, per_row), dtype=np.float32) ** 4).astype(np.int32)
    starts = np.arange(n + 1, dtype=np.int32) * per_row
    values = rng.random(labels.size, dtype=np.float32)
    matrix = sparse.csr_array((values, labels.ravel(), starts), shape=(n, n_labels))
    matrix.sum_duplicates()
    matrix.data %= 1
    return matrix

def use_all(n, n_labels, rng):
    Y, scores = some(n, n_labels, 5, rng), some(n, n_labels, 20, rng)
    counts = np.bincount(Y.indices, minlength=n_labels)
    thresholds = (GlobalThreshold(), GlobalThreshold("macro"), LabelThresholds())
    for decoder in (*(one.fit(scores, Y) for one in thresholds), MacroF1(), MacroF1(5), TopK(5)):
        metrics.evaluate(Y, scores, decoder.decode(scores), counts, n)
"""


@pytest.mark.slow
def test_memory_follows_the_stored_scores(peak_growth):
    n, n_labels, per_row = 200_000, 1_000_000, 25  # dense: 800 GB
    prepare = f"{_LARGE}\nuse_all(300, 50, np.random.default_rng(0))"
    grown = peak_growth(prepare, f"use_all({n}, {n_labels}, np.random.default_rng(0))")
    stored = n * per_row * 8  # float32 and an index
    assert grown < 6 * stored + 20 * 8 * n_labels


def test_value_chunks_hold_everything_once(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 25)
    scores = random_scores(0)
    for given_scores in (scores, as_scores(full_csr(scores))):
        pieces = list(value_chunks(given_scores))
        assert max(piece.size for piece in pieces) <= 25
        np.testing.assert_array_equal(np.concatenate(pieces), scores.ravel())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_matrix])
def test_a_score_that_is_not_finite_is_named(value, form, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 4)
    scores = np.ones((5, 3))
    scores[3, 2] = value
    with pytest.raises(ValueError, match=r"scores are -?(nan|inf) in row 3, column 2"):
        as_scores(form(scores))


def test_wrong_shapes_and_types_are_named():
    with pytest.raises(ValueError, match=r"scores have shape \(2, 3\) and the labels \(2, 4\)"):
        as_scores(np.zeros((2, 3)), shape=(2, 4))
    with pytest.raises(ValueError, match="scores are of 3 labels, but 4 labels were fitted"):
        as_scores(np.zeros((2, 3)), n_labels=4)
    with pytest.raises(ValueError, match="two-dimensional"):
        as_scores(np.zeros(3))
    with pytest.raises(ValueError, match="scores must be numbers"):
        as_scores(np.array([["a"]]))
    twice = sparse.csr_array((np.ones(2), np.array([1, 1]), np.array([0, 0, 2])), shape=(2, 3))
    with pytest.raises(ValueError, match="label 1 twice in row 1"):
        as_scores(twice)
    with pytest.raises(ValueError, match="nothing to learn from"):
        as_truth(np.zeros((0, 3)))


def test_whole_numbers_become_float64_and_float32_is_not_copied():
    assert as_scores(np.array([[1, 0]])).dtype == np.float64
    scores = np.zeros((2, 2), dtype=np.float32)
    assert as_scores(scores) is scores
