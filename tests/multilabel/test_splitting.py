import time
import warnings

import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel.splitting import (
    _rounded_at_random,
    group_split,
    grouped_folds,
    stratified_folds,
    stratified_split,
)


def long_tail(n, n_labels, per_instance, seed=0):
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, n_labels + 1)
    size = n * per_instance
    labels = rng.choice(n_labels, size=size, p=frequency / frequency.sum())
    Y = sparse.csr_array((np.ones(size), (rng.integers(n, size=size), labels)), shape=(n, n_labels))
    Y.data[:] = 1
    return Y


def positives(Y, rows):
    return np.asarray(Y[rows].sum(axis=0)).astype(int)


@pytest.mark.parametrize("test_size", [0.1, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", [0, 1])
def test_split_keeps_label_proportions_better_than_chance(test_size, seed):
    Y = long_tail(4000, 500, 4, seed)
    train, test = stratified_split(Y, test_size, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(4000))
    assert abs(test.size / 4000 - test_size) < 0.02
    wanted = positives(Y, np.arange(4000)) * test_size
    off = np.abs(positives(Y, test) - wanted)
    by_chance = np.abs(positives(Y, np.random.default_rng(9).permutation(4000)[: test.size]) - wanted)
    assert off.mean() < 0.6 * by_chance.mean()
    assert off[:10].mean() < 0.5 * by_chance[:10].mean()


@pytest.mark.parametrize("test_size", [0.2, 0.5, 0.9])
def test_split_leaves_a_training_positive_to_every_label_with_two(test_size):
    for seed in range(5):
        Y = long_tail(600, 900, 4, seed)
        count = positives(Y, np.arange(600))
        train, test = stratified_split(Y, test_size, seed=seed)
        assert (positives(Y, train)[count >= 2] >= 1).all()
        assert test.size > 0


def test_rare_labels_come_to_the_test_side_as_often_as_their_share_says():
    # 300 labels with two positives each, test_size 0.25: rounding would leave none of the 600 for the test.
    Y = sparse.csr_array((np.ones(600), (np.arange(600), np.repeat(np.arange(300), 2))), shape=(600, 300))
    _, test = stratified_split(Y, 0.25, seed=3)
    assert positives(Y, test).sum() == 150


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_folds_spread_every_label(n_folds):
    for seed in range(3):
        Y = long_tail(2000, 300, 4, seed)
        folds = stratified_folds(Y, n_folds, seed=seed)
        held = np.stack([positives(Y, folds == fold) for fold in range(n_folds)])
        count = held.sum(axis=0)
        assert (held.min(axis=0)[count >= n_folds] >= 1).all()
        assert (held.max(axis=0) < count)[count >= 2].all()
        assert (held.max(axis=0) - held.min(axis=0)).mean() < 1.5
        assert np.bincount(folds).max() - np.bincount(folds).min() < 40


def test_folds_put_few_positives_in_more_than_one_fold():
    Y = long_tail(500, 800, 3)
    count = positives(Y, np.arange(500))
    few = (count >= 2) & (count < 5)
    assert few.sum() > 50
    folds = stratified_folds(Y, 5, seed=0)
    held = np.stack([positives(Y, folds == fold) for fold in range(5)])
    assert (held.max(axis=0) < count)[few].all()


@pytest.mark.filterwarnings("ignore:. labels with two or more positives have all of them in one fold")
@pytest.mark.parametrize(("n_folds", "missing_by_placing"), [(2, 17), (3, 44), (5, 60)])
def test_folds_are_mended_where_rows_share_many_rare_labels(n_folds, missing_by_placing):
    missing, lonely = 0, 0
    for seed in range(5):
        Y = long_tail(300, 600, 8, seed)
        folds = stratified_folds(Y, n_folds, seed=seed)
        held = np.stack([positives(Y, folds == fold) for fold in range(n_folds)])
        count = held.sum(axis=0)
        missing += ((held.min(axis=0) == 0) & (count >= n_folds)).sum()
        lonely += ((held.max(axis=0) == count) & (count >= 2)).sum()
    assert missing < missing_by_placing / 2
    assert lonely <= (3 if n_folds == 2 else 0)


def test_folds_warn_of_what_cannot_be():
    triangle = [[1, 1, 0], [1, 0, 1], [0, 1, 1]]
    with pytest.warns(UserWarning, match="1 labels with two or more positives"):
        stratified_folds(triangle, 2, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stratified_folds(triangle, 3, seed=0)


def test_same_seed_same_split_and_other_seed_another():
    Y = long_tail(500, 60, 3)
    first, again, other = (stratified_split(Y, 0.3, seed=seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    folds = [stratified_folds(Y, 3, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(folds[0], folds[1])
    assert not np.array_equal(folds[0], folds[2])


def test_any_form_of_labels_gives_the_same_split_and_is_left_alone():
    Y = long_tail(200, 30, 3)
    expected = stratified_folds(Y, 3, seed=0)
    with_zeros = Y.copy()
    with_zeros.data[::7] = 0
    kept = with_zeros.copy()
    without = with_zeros.copy()
    without.eliminate_zeros()
    for form in (Y.toarray().astype(int), sparse.csc_matrix(Y), Y.astype(bool), 3 * Y):
        assert np.array_equal(stratified_folds(form, 3, seed=0), expected)
    assert np.array_equal(stratified_folds(with_zeros, 3, seed=0), stratified_folds(without, 3, seed=0))
    assert (with_zeros != kept).nnz == 0
    assert with_zeros.nnz == kept.nnz


def test_instances_and_labels_without_positives():
    Y = np.zeros((10, 3), dtype=int)
    Y[:4, 1] = 1
    train, test = stratified_split(Y, 0.5, seed=0)
    assert train.size == test.size == 5
    assert Y[test].sum() == 2
    assert np.bincount(stratified_folds(np.zeros((9, 0)), 3, seed=0)).tolist() == [3, 3, 3]


@pytest.mark.parametrize("test_size", [0, 1, -0.1, 1.5, float("nan")])
def test_split_refuses_sizes_out_of_range(test_size):
    with pytest.raises(ValueError, match="test_size must lie between 0 and 1"):
        stratified_split(np.eye(4), test_size, seed=0)


def test_rounding_at_random_keeps_expectation_and_sum():
    shares = np.array([0.2, 1.5, 0, 3, 0.7, 0.05])
    rng = np.random.default_rng(0)
    drawn = np.array([_rounded_at_random(shares, rng) for _ in range(4000)])
    assert (np.abs(drawn - shares) < 1).all()
    assert (np.abs(drawn.sum(axis=1) - shares.sum()) < 1).all()
    assert np.abs(drawn.mean(axis=0) - shares).max() < 0.03


def test_size_holds_where_all_labels_are_rare():
    Y = sparse.csr_array((np.ones(300), (np.arange(300), np.repeat(np.arange(100), 3))), shape=(300, 100))
    assert {stratified_split(Y, 0.1, seed=seed)[1].size for seed in range(20)} <= {29, 30, 31}


def test_split_refuses_an_empty_side():
    with pytest.raises(ValueError, match="no row for the test side"):
        stratified_split([[1, 1, 1], [0, 1, 1]], 0.3207770231514252, seed=18522)
    with pytest.raises(ValueError, match="leaves one side of 3 instances empty"):
        stratified_split(np.eye(3), 0.1, seed=0)


@pytest.mark.parametrize("n_folds", [1, 5, 2.5, 2.0, "3", None])
def test_folds_refuse_numbers_out_of_range(n_folds):
    with pytest.raises(ValueError, match="n_folds must be a whole number between 2 and the number of inst"):
        stratified_folds(np.eye(4), n_folds, seed=0)
    if n_folds != 5:
        with pytest.raises(ValueError, match="n_folds must be a whole number between 2 and"):
            grouped_folds(np.eye(4), n_folds, groups=[0, 1, 2, 3], seed=0)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros((4, 1)), r"groups must be of shape \(n,\), one name for each instance, not \(4, 1\)"),
        ("a", r"groups must be of shape \(n,\)"),
        ([["a"], ["a", "b"], ["b"], ["b"]], "groups must be texts or whole numbers"),
        (np.array(["a", None, "b", "b"], dtype=object), "groups must be texts or whole numbers"),
        ([1.0, np.nan, 2.0, 2.0], "groups is nan for instance 1; name its group"),
    ],
)
def test_groups_that_are_none_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        grouped_folds(np.eye(4), 2, groups=groups, seed=0)
    with pytest.raises(ValueError, match=message):
        group_split(groups, {"train": 0.5, "test": 0.5}, seed=0)


def test_large_split_takes_seconds():
    stratified_split(long_tail(100, 10, 2), 0.2, seed=0)  # compiles
    Y = long_tail(200_000, 20_000, 5)
    start = time.perf_counter()
    train, _ = stratified_split(Y, 0.2, seed=0)
    stratified_folds(Y, 3, seed=0)
    assert time.perf_counter() - start < 5
    count = positives(Y, np.arange(200_000))
    assert (positives(Y, train)[count >= 2] >= 1).all()


def test_groups_stay_together_and_parts_have_their_size():
    rng = np.random.default_rng(0)
    groups = np.array([f"source-{number}" for number in rng.integers(400, size=5000)])
    fractions = {"train": 0.7, "validation": 0.1, "test": 0.2}
    rows = group_split(groups, fractions, seed=1)
    assert np.array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(5000))
    members = [set(groups[part]) for part in rows.values()]
    assert sum(len(part) for part in members) == len(set(groups))
    for name, fraction in fractions.items():
        assert abs(rows[name].size / 5000 - fraction) < 0.01


def test_group_split_is_seeded_and_does_not_favour_large_groups():
    groups = np.repeat(np.arange(50), [100] + [4] * 49)
    fractions = {"train": 0.75, "test": 0.25}
    again = [group_split(groups, fractions, seed=5)["test"] for _ in range(2)]
    assert np.array_equal(*again)
    large_in_test = np.mean([0 in groups[group_split(groups, fractions, seed=s)["test"]] for s in range(300)])
    assert 0.1 < large_in_test < 0.4


@pytest.mark.parametrize(
    "fractions", [{}, {"train": 0.5}, {"train": 1.0, "test": 0.0}, {"a": 1.5, "b": -0.5}]
)
def test_group_split_refuses_fractions_that_are_no_shares(fractions):
    with pytest.raises(ValueError, match="fractions must be above 0 and add up to 1"):
        group_split(np.arange(10), fractions, seed=0)


def test_group_split_refuses_an_empty_part():
    with pytest.raises(ValueError, match="stays empty: 1 groups"):
        group_split(["a"] * 10, {"train": 0.5, "test": 0.5}, seed=0)


@pytest.mark.parametrize("seed", range(3))
def test_grouped_folds_keep_groups_together_and_spread_labels(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(100), rng.integers(1, 6, 100))
    Y = sparse.csr_array(rng.random((len(groups), 8)) < 0.2)
    folds = grouped_folds(Y, 3, groups=groups, seed=seed)
    assert all(len(set(folds[groups == g])) == 1 for g in range(100))
    shares = np.stack([Y[np.flatnonzero(folds == f)].sum(axis=0) for f in range(3)]) / Y.sum(axis=0)
    assert np.abs(shares - 1 / 3).max() < 0.15
    assert np.array_equal(folds, grouped_folds(Y, 3, groups=groups, seed=seed))


def test_grouped_folds_name_what_is_wrong():
    Y = np.ones((4, 1))
    with pytest.raises(ValueError, match="groups has 3 entries, but there are 4 instances"):
        grouped_folds(Y, 2, groups=["a", "b", "c"], seed=0)
    with pytest.raises(ValueError, match="n_folds is 3, but there are only 2 groups"):
        grouped_folds(Y, 3, groups=["a", "a", "b", "b"], seed=0)


def test_64_bit_indices_change_nothing(wide):
    Y = long_tail(200, 30, 3)
    np.testing.assert_array_equal(stratified_folds(wide(Y), 3, seed=0), stratified_folds(Y, 3, seed=0))
    for narrow, widened in zip(stratified_split(Y, 0.3, seed=0), stratified_split(wide(Y), 0.3, seed=0)):
        np.testing.assert_array_equal(narrow, widened)
