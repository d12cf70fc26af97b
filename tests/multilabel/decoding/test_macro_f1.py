from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from evenhand.multilabel import scores as scores_module
from evenhand.multilabel.decoding import MacroF1, expected_macro_f1


def objective(p: np.ndarray, chosen: np.ndarray) -> float:
    """The definition, label by label, in plain Python."""
    terms = []
    for column, taken in zip(p.T, chosen.T):
        whole = taken.sum() + column.sum()
        terms.append(2 * column[taken.astype(bool)].sum() / whole if whole > 0 else 0.0)
    return float(np.mean(terms))


def sets_of_at_most(k: int, n_labels: int):
    for size in range(k + 1):
        for labels in combinations(range(n_labels), size):
            row = np.zeros(n_labels)
            row[list(labels)] = 1
            yield row


def probabilities(seed: int, n: int, n_labels: int, *, ties: bool = False) -> np.ndarray:
    p = np.random.default_rng(seed).beta(0.4, 1.5, (n, n_labels))
    return np.round(p, 1) if ties else p


@given(seed=st.integers(0, 1000), ties=st.booleans(), chunk=st.sampled_from([3, 1 << 20]))
@settings(max_examples=20, deadline=None)
def test_without_a_limit_it_is_the_best_of_all_sets(seed, ties, chunk):
    p = probabilities(seed, 8, 3, ties=ties)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "_CHUNK", chunk)
        decided = MacroF1(least_f1=0).decode(p).toarray()
    for label in range(3):
        best = max(objective(p[:, [label]], np.array(s)[:, None]) for s in product((0, 1), repeat=8))
        assert objective(p[:, [label]], decided[:, [label]]) == pytest.approx(best, rel=1e-12)
    np.testing.assert_array_equal(MacroF1(least_f1=0).decode(sparse.csr_array(p)).toarray(), decided)


@given(seed=st.integers(0, 1000), ties=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_limit_that_does_not_bind_changes_nothing(seed, ties):
    p = probabilities(seed, 12, 4, ties=ties)
    free = MacroF1(least_f1=0).decode(p).toarray()
    for limited in (MacroF1(k=4, least_f1=0).decode(p), MacroF1(k=9, least_f1=0).decode(sparse.csr_array(p))):
        if ties:  # an instance with 2p = F1 may be in or out
            assert objective(p, limited.toarray()) == pytest.approx(objective(p, free), rel=1e-12)
        else:
            np.testing.assert_array_equal(limited.toarray(), free)


@given(seed=st.integers(0, 1000), k=st.integers(1, 3), form=st.sampled_from([np.asarray, sparse.csr_array]))
@settings(max_examples=25, deadline=None)
def test_with_a_limit_no_instance_can_do_better_alone(seed, k, form):
    p = probabilities(seed, 9, 5)
    decided = MacroF1(k=k, least_f1=0).decode(form(p)).toarray()
    assert decided.sum(axis=1).max() <= k
    reached = objective(p, decided)
    for row in range(p.shape[0]):
        for other in sets_of_at_most(k, 5):
            changed = decided.copy()
            changed[row] = other
            assert objective(p, changed) <= reached + 1e-9


def test_with_a_limit_it_is_near_the_best_of_all_sets():
    gaps = []
    for seed in range(20):
        p = probabilities(seed, 4, 4)
        best = max(objective(p, np.array(rows)) for rows in product(list(sets_of_at_most(1, 4)), repeat=4))
        reached = objective(p, MacroF1(k=1, least_f1=0).decode(p).toarray())
        assert reached <= best + 1e-12
        gaps.append(best - reached)
    assert np.mean(np.array(gaps) < 1e-12) >= 0.7
    assert max(gaps) < 0.05


def test_a_limit_beats_taking_the_k_most_probable():
    p = probabilities(0, 300, 20) * np.linspace(1, 0.05, 20)
    most_probable = np.zeros(p.shape)
    np.put_along_axis(most_probable, np.argsort(-p, axis=1)[:, :2], 1, axis=1)
    assert expected_macro_f1(p, MacroF1(k=2).decode(p)) > expected_macro_f1(p, most_probable) + 0.04


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_expected_macro_f1_is_the_definition(seed):
    p = probabilities(seed, 10, 4)
    p[:, 2] = 0
    chosen = np.random.default_rng(seed).random(p.shape) < 0.3
    chosen[:, 2] = False
    for form in (np.asarray, sparse.csr_array):
        assert expected_macro_f1(form(p), chosen) == pytest.approx(objective(p, chosen), rel=1e-12)


def test_certain_labels_are_decoded_as_they_are():
    Y = np.random.default_rng(0).random((30, 6)) < 0.3
    for decoder in (MacroF1(), MacroF1(k=6)):
        np.testing.assert_array_equal(decoder.decode(Y.astype(np.float32)).toarray(), Y)


@pytest.mark.parametrize("k", [None, 2])
def test_a_label_that_nothing_tells_apart_is_left_out(k):
    p = np.column_stack([np.r_[np.ones(5), np.zeros(45)], np.full(50, 0.004)])
    assert MacroF1(k=k).decode(p).sum(axis=0).tolist() == [5, 0]
    assert MacroF1(k=k, least_f1=0).decode(p).sum(axis=0).tolist() == [5, 50]
    assert MacroF1(k=k, least_f1=0).decode(np.zeros((3, 2))).nnz == 0


@pytest.mark.parametrize("k", [None, 2])
def test_least_f1_costs_less_than_its_value(k):
    p = probabilities(1, 200, 30) * np.geomspace(1, 1e-3, 30)
    free, limited = (expected_macro_f1(p, MacroF1(k=k, least_f1=m).decode(p)) for m in (0, 0.05))
    assert free - 0.05 < limited < free


def test_same_input_same_sets():
    p = probabilities(2, 100, 10, ties=True)
    first, second = MacroF1(k=2).decode(p), MacroF1(k=2).decode(p)
    np.testing.assert_array_equal(first.toarray(), second.toarray())


@pytest.mark.parametrize("k", [None, 2])
def test_the_callers_sparse_array_stays_as_it_is(k):
    p = sparse.csr_array(probabilities(2, 100, 10))
    before = p.copy()
    MacroF1(k=k, least_f1=0).decode(p)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(p, part), getattr(before, part))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="k must be a whole number"):
        MacroF1(k=0)
    with pytest.raises(ValueError, match="least_f1 must lie in"):
        MacroF1(least_f1=1)
    with pytest.raises(ValueError, match="calibrate the scores first"):
        MacroF1().decode([[0.5, 1.5]])
    with pytest.raises(ValueError, match="scores are nan in row 0, column 0"):
        MacroF1().decode([[np.nan, 0.5]])
    with pytest.raises(ValueError, match=r"probabilities have shape \(1, 2\) and Y_pred \(1, 3\)"):
        expected_macro_f1([[0.5, 0.5]], [[1, 0, 0]])
