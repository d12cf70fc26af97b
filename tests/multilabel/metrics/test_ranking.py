import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import ndcg_score, recall_score

from evenhand.multilabel.metrics import (
    ndcg_at_k,
    precision_at_k,
    propensities,
    psndcg_at_k,
    psp_at_k,
    recall_at_k,
)
from evenhand.multilabel.scores import top_k

KS = (1, 3, 5)


def problem(seed: int, n: int = 40, n_labels: int = 15, *, ties: bool = False):
    rng = np.random.default_rng(seed)
    Y = rng.random((n, n_labels)) < rng.uniform(0.02, 0.4, n_labels)
    scores = rng.standard_normal((n, n_labels)) + Y
    if ties:
        scores = np.round(scores)
    p = propensities(rng.integers(0, 100, n_labels), 1000)
    return Y, scores, p


def all_metrics(Y, scores, p, ks=KS):
    plain = [metric(Y, scores, ks) for metric in (precision_at_k, recall_at_k, ndcg_at_k)]
    return np.array(
        [list(m.values()) for m in [*plain, psp_at_k(Y, scores, p, ks), psndcg_at_k(Y, scores, p, ks)]]
    )


def test_propensities_are_the_formula_in_plain_python():
    counts, n_instances, a, b = [0, 1, 7, 500], 1234, 0.6, 2.6
    c = (math.log(n_instances) - 1) * (b + 1) ** a
    expected = [1 / (1 + c * math.exp(-a * math.log(n + b))) for n in counts]
    np.testing.assert_allclose(propensities(counts, n_instances, a=a, b=b), expected, rtol=1e-12)


def brute_force_ps(Y, scores, p, k, *, discounted):
    """PSP@k or PSnDCG@k by plain loops, the ideal by trying the true labels in order of 1/p."""
    got = best = 0.0
    for truth, row in zip(Y, scores):
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))[:k]
        ideal = sorted((c for c in range(len(row)) if truth[c]), key=lambda c: p[c])[:k]
        weight = [1 / math.log2(r + 2) if discounted else 1.0 for r in range(k)]
        scale = sum(weight[: max(1, min(k, int(truth.sum())))]) if discounted else 1.0
        got += sum(weight[r] * truth[c] / p[c] for r, c in enumerate(order)) / scale
        best += sum(weight[r] / p[c] for r, c in enumerate(ideal)) / scale
    return got / best


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_propensity_scored_metrics_against_plain_loops(seed, ties):
    Y, scores, p = problem(seed, ties=ties)
    for k in (*KS, 20):
        assert psp_at_k(Y, scores, p, k)[k] == pytest.approx(
            brute_force_ps(Y, scores, p, k, discounted=False), rel=1e-12
        )
        assert psndcg_at_k(Y, scores, p, k)[k] == pytest.approx(
            brute_force_ps(Y, scores, p, k, discounted=True), rel=1e-12
        )


@pytest.mark.parametrize("seed", range(4))
def test_ndcg_against_scikit_learn(seed):
    Y, scores, _ = problem(seed)
    for k, value in ndcg_at_k(Y, scores, KS).items():
        assert value == pytest.approx(ndcg_score(Y, scores, k=k, ignore_ties=True), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_precision_and_recall_against_the_sets_of_the_first_k(seed):
    Y, scores, _ = problem(seed)
    for k in KS:
        chosen = np.zeros(Y.shape, dtype=bool)
        np.put_along_axis(chosen, np.argsort(-scores, axis=1)[:, :k], True, axis=1)
        assert precision_at_k(Y, scores, k)[k] == pytest.approx((chosen & Y).sum() / (len(Y) * k))
        expected = recall_score(Y, chosen, average="samples", zero_division=0)
        assert recall_at_k(Y, scores, k)[k] == pytest.approx(expected)


def test_equal_propensities_make_psp_the_precision_over_its_best():
    Y, scores, _ = problem(0)
    p = np.full(Y.shape[1], 0.3)
    for k in KS:
        best = np.minimum(Y.sum(axis=1), k).sum() / (len(Y) * k)
        assert psp_at_k(Y, scores, p, k)[k] == pytest.approx(precision_at_k(Y, scores, k)[k] / best)


def test_perfect_scores_give_one():
    Y, _, p = problem(1)
    figures = all_metrics(Y, Y / p, p)
    np.testing.assert_allclose(figures[3:], 1.0)
    assert precision_at_k(Y[Y.sum(axis=1) >= 3], (Y / p)[Y.sum(axis=1) >= 3], 3)[3] == 1.0


@given(seed=st.integers(0, 1000), rows=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_order_of_instances_and_labels_does_not_matter(seed, rows):
    Y, scores, p = problem(seed)
    order, labels = list(range(Y.shape[0])), list(range(Y.shape[1]))
    rows.shuffle(order)
    rows.shuffle(labels)
    expected = all_metrics(Y, scores, p)
    permuted = all_metrics(Y[np.ix_(order, labels)], scores[np.ix_(order, labels)], p[labels])
    np.testing.assert_allclose(permuted, expected, rtol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_top_k_and_dense_scores_agree(ties):
    Y, scores, p = problem(3, ties=ties)
    expected = all_metrics(sparse.csr_array(Y), scores, p)
    np.testing.assert_array_equal(all_metrics(Y, top_k(scores, max(KS)), p), expected)
    np.testing.assert_array_equal(all_metrics(Y, sparse.csr_matrix(top_k(scores, 9)), p), expected)


def test_of_equal_scores_the_lower_label_comes_first():
    scores = np.array([[0.0, 1.0, 1.0, 1.0]])
    assert precision_at_k([[0, 1, 0, 0]], scores, 1)[1] == 1.0
    assert precision_at_k([[0, 0, 0, 1]], scores, (1, 2, 3)) == {1: 0.0, 2: 0.0, 3: pytest.approx(1 / 3)}


def test_missing_candidates_and_unlabelled_instances_count_as_nothing():
    scores = sparse.csr_array((np.array([0.5]), np.array([2]), np.array([0, 1, 1, 1])), shape=(3, 4))
    Y = [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert precision_at_k(Y, scores, (1, 2)) == {1: pytest.approx(1 / 3), 2: pytest.approx(1 / 6)}
    assert recall_at_k(Y, scores, 2)[2] == pytest.approx(1 / 3)
    assert ndcg_at_k(Y, scores, 2)[2] == pytest.approx(1 / 3)
    assert psp_at_k(Y, scores, np.full(4, 0.5), 1)[1] == pytest.approx(1 / 2)


def test_no_true_label_at_all_is_zero_everywhere():
    figures = all_metrics(np.zeros((3, 6)), np.ones((3, 6)), np.full(6, 0.5))
    np.testing.assert_array_equal(figures, 0.0)


def test_k_beyond_the_number_of_labels():
    Y, scores, p = problem(2)
    assert precision_at_k(Y, scores, 30)[30] == pytest.approx(Y.sum() / (len(Y) * 30))
    assert ndcg_at_k(Y, scores, 30)[30] == pytest.approx(ndcg_score(Y, scores, ignore_ties=True))
    assert psp_at_k(Y, scores, p, 30)[30] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: propensities([1, 2], 2), "at least 3 training instances"),
        (lambda: propensities([1, -2], 20), "count of label 1 is -2"),
        (lambda: propensities([1.5], 20), "count of label 0 is 1.5"),
        (lambda: propensities([np.nan], 20), "count of label 0 is nan"),
        (lambda: propensities([[1]], 20), r"shape \(L,\)"),
        (lambda: propensities([1], 20, a=0), "a and b must be positive"),
        (lambda: psp_at_k([[1, 0]], [[1, 0]], [0.5], 1), r"propensities must have shape \(2,\)"),
        (lambda: psp_at_k([[1, 0]], [[1, 0]], [0.5, 1.5], 1), r"propensity of label 1 is 1.5"),
        (lambda: precision_at_k([[1, 0]], [[1, 0, 0]], 1), r"scores have shape \(1, 3\)"),
        (lambda: precision_at_k([[1, 0]], [[1, np.nan]], 1), "scores are nan in row 0, column 1"),
        (lambda: precision_at_k([[1, 0]], [[1, 0]], ()), "k is empty"),
        (lambda: precision_at_k([[1, 0]], [[1, 0]], (1, 0)), "k must be a whole number"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
