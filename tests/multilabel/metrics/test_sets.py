import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import f1_score, precision_recall_fscore_support

from evenhand.multilabel.metrics import confusion, f1, rare_f1


def problem(seed: int, n: int = 50, n_labels: int = 12):
    """Some labels never true, some never predicted, some neither; some instances empty."""
    rng = np.random.default_rng(seed)
    Y = rng.random((n, n_labels)) < 0.15
    predicted = (rng.random((n, n_labels)) < 0.1) | (Y & (rng.random((n, n_labels)) < 0.5))
    Y[:, [0, 2]] = predicted[:, [1, 2]] = False
    Y[:3] = predicted[2:5] = False
    return Y, predicted


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_against_scikit_learn(seed, form):
    Y, predicted = problem(seed)
    result, counts = f1(form(Y), form(predicted)), confusion(form(Y), form(predicted))
    for average in ("micro", "macro", "samples"):
        expected = f1_score(Y, predicted, average=average, zero_division=0)
        assert getattr(result, average) == pytest.approx(expected, rel=1e-12)
    precision, recall, label_f1, support = precision_recall_fscore_support(Y, predicted, zero_division=0)
    np.testing.assert_allclose(counts.precision, precision)
    np.testing.assert_allclose(counts.recall, recall)
    np.testing.assert_allclose(counts.f1, label_f1)
    np.testing.assert_array_equal(counts.support, support)
    present = np.flatnonzero(Y.any(axis=0))
    expected = f1_score(Y, predicted, labels=present, average="macro", zero_division=0)
    assert result.macro_present == pytest.approx(expected)
    assert result.macro_present > result.macro


def test_rare_f1_is_macro_f1_over_present_rare_labels():
    Y, predicted = problem(0)
    rare = np.zeros(Y.shape[1], dtype=bool)
    rare[[0, 1, 5, 7]] = True  # label 0 is never true in the test set
    expected = f1_score(Y, predicted, labels=[1, 5, 7], average="macro", zero_division=0)
    assert rare_f1(Y, predicted, rare) == pytest.approx(expected)


def test_rare_f1_without_a_present_rare_label_is_nan():
    assert np.isnan(rare_f1([[1, 0]], [[1, 1]], [False, True]))


@given(seed=st.integers(0, 1000), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_order_of_instances_and_labels_does_not_matter(seed, shuffle):
    Y, predicted = problem(seed)
    rows, labels = list(range(Y.shape[0])), list(range(Y.shape[1]))
    shuffle.shuffle(rows)
    shuffle.shuffle(labels)
    got, expected = f1(Y[np.ix_(rows, labels)], predicted[np.ix_(rows, labels)]), f1(Y, predicted)
    for average in ("micro", "macro", "macro_present", "samples"):
        assert getattr(got, average) == pytest.approx(getattr(expected, average), rel=1e-12)


def test_explicit_zeros_and_duplicates_change_nothing():
    Y = sparse.csr_array((np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2))
    assert confusion(Y, [[1, 1]]).tp.tolist() == [1, 0]
    assert Y.nnz == 3


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"Y_true has shape \(1, 2\) and Y_pred \(1, 3\)"):
        f1([[1, 0]], [[1, 0, 0]])
    with pytest.raises(ValueError, match=r"rare must be a mask of shape \(2,\)"):
        rare_f1([[1, 0]], [[1, 0]], [0, 1])
    with pytest.raises(ValueError, match=r"rare must be a mask of shape \(2,\)"):
        rare_f1([[1, 0]], [[1, 0]], [True])
    with pytest.raises(ValueError, match="nan in row 0, column 1"):
        f1([[1, np.nan]], [[1, 0]])
