import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import average_precision_score

from evenhand.multilabel import scores as scores_module
from evenhand.multilabel.metrics import average_precision, mean_average_precision


def problem(seed: int, *, ties: bool, n: int = 60, n_labels: int = 9):
    rng = np.random.default_rng(seed)
    Y = rng.random((n, n_labels)) < 0.1
    Y[:, 4] = False
    Y[:, 5] = True
    scores = rng.standard_normal((n, n_labels)) + Y
    return Y, np.round(scores) if ties else scores


@given(seed=st.integers(0, 1000), ties=st.booleans(), chunk=st.sampled_from([1, 100, 1 << 20]))
@settings(max_examples=30, deadline=None)
def test_against_scikit_learn_for_any_chunk_size(seed, ties, chunk):
    Y, scores = problem(seed, ties=ties)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "_CHUNK", chunk)
        result = average_precision(Y, scores)
    for label in range(Y.shape[1]):
        if Y[:, label].any():
            expected = average_precision_score(Y[:, label], scores[:, label])
            assert result[label] == pytest.approx(expected, rel=1e-9)
        else:
            assert np.isnan(result[label])
    present = Y.any(axis=0)
    expected = average_precision_score(Y[:, present], scores[:, present], average="macro")
    assert mean_average_precision(Y, scores) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ties", [False, True])
def test_sparse_scores_that_store_everything_are_dense_scores(ties):
    Y, scores = problem(0, ties=ties)
    n, n_labels = scores.shape
    indices, indptr = np.tile(np.arange(n_labels), n), np.arange(n + 1) * n_labels
    stored = sparse.csr_array((scores.ravel(), indices, indptr), shape=scores.shape)
    np.testing.assert_allclose(average_precision(Y, stored), average_precision(Y, scores))


def test_positives_that_are_no_candidates_add_nothing():
    Y = [[1], [1], [0], [1]]
    scores = sparse.csr_array(
        (np.array([0.9, 0.0]), np.array([0, 0]), np.array([0, 1, 1, 2, 2])), shape=(4, 1)
    )
    assert average_precision(Y, scores).tolist() == [pytest.approx(1 / 3)]
    none = sparse.csr_array((4, 1))
    assert average_precision(Y, none).tolist() == [0.0]


def test_constant_scores_give_the_share_of_positives():
    Y, _ = problem(1, ties=False)
    np.testing.assert_allclose(
        average_precision(Y, np.zeros(Y.shape)), np.where(Y.any(axis=0), Y.mean(axis=0), np.nan)
    )


def test_no_positive_at_all_is_nan():
    assert np.isnan(mean_average_precision(np.zeros((2, 2)), np.ones((2, 2))))
