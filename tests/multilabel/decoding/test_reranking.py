import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel import scores as scores_module
from evenhand.multilabel.decoding import PropensityReranking, TopK, rerank
from evenhand.multilabel.metrics import psp_at_k


def probabilities(seed: int, n: int = 40, n_labels: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).random((n, n_labels))


@pytest.mark.parametrize("k", [1, 3, 10, 15, 10**9])
def test_top_k_takes_the_highest(k):
    p = probabilities(0)
    decided = TopK(k).decode(p)
    expected = np.zeros(p.shape)
    np.put_along_axis(expected, np.argsort(-p, axis=1)[:, :k], 1, axis=1)
    np.testing.assert_array_equal(decided.toarray(), expected)
    assert decided.has_sorted_indices
    np.testing.assert_array_equal(TopK(k).decode(sparse.csr_array(p)).toarray(), expected)


def test_reranking_is_top_k_of_the_weighted_probabilities(monkeypatch):
    p, propensities = probabilities(1), np.random.default_rng(2).uniform(0.05, 1, 10)
    expected = TopK(3).decode(p / propensities).toarray()
    decoder = PropensityReranking(propensities, 3)
    np.testing.assert_array_equal(decoder.decode(p).toarray(), expected)
    np.testing.assert_array_equal(decoder.decode(sparse.csr_array(p)).toarray(), expected)
    monkeypatch.setattr(scores_module, "_CHUNK", 25)
    np.testing.assert_array_equal(decoder.decode(p).toarray(), expected)
    np.testing.assert_allclose(rerank(p, propensities), p / propensities)
    np.testing.assert_allclose(rerank(sparse.csr_array(p), propensities).toarray(), p / propensities)


def test_reranking_raises_psp_where_probabilities_are_true():
    rng = np.random.default_rng(3)
    p = rng.random((4000, 10)) ** 2 * np.linspace(1, 0.2, 10)
    propensities = np.linspace(1, 0.1, 10)
    Y = rng.random(p.shape) < p
    plain, reranked = (psp_at_k(Y, s, propensities, 3)[3] for s in (p, rerank(p, propensities)))
    assert reranked > plain + 0.05


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="k must be a whole number"):
        TopK(0)
    with pytest.raises(ValueError, match="k must be a whole number"):
        PropensityReranking([0.5], 0)
    with pytest.raises(ValueError, match="propensity of label 1 is 0"):
        PropensityReranking([0.5, 0.0], 1)
    with pytest.raises(ValueError, match=r"reach from -2 to 0\.5; calibrate the scores first"):
        PropensityReranking([0.5, 0.5], 1).decode([[-2.0, 0.5]])
    with pytest.raises(ValueError, match="scores are of 3 labels, but 2 labels were fitted"):
        PropensityReranking([0.5, 0.5], 1).decode([[0.5, 0.5, 0.5]])
    with pytest.raises(ValueError, match="scores are nan in row 0, column 1"):
        rerank([[0.5, np.nan]], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"propensities must have shape \(2,\)"):
        rerank([[0.5, 0.5]], [0.5])
