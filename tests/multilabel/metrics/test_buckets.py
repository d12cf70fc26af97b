import numpy as np
import pytest

from evenhand.multilabel.metrics import (
    bottom_half,
    by_bucket,
    frequency_buckets,
    frequency_deciles,
    head_middle_tail,
    rare_labels,
)


def test_rare_set_of_few_labels_is_the_lowest_30_percent():
    counts = np.arange(101)[::-1] * 10
    assert rare_labels(counts).sum() == 30
    assert counts[rare_labels(counts)].max() < counts[~rare_labels(counts)].min()
    assert rare_labels([5, 5, 5, 5]).tolist() == [True, False, False, False]
    assert rare_labels([7]).tolist() == [True]


def test_rare_set_of_many_labels_has_1_to_10_positives():
    counts = np.r_[np.zeros(50, int), 1, 10, 11, np.full(49, 100)]
    assert counts.size == 102
    assert np.flatnonzero(rare_labels(counts)).tolist() == [50, 51]


def test_bottom_half():
    assert bottom_half([3, 1, 2, 1, 9]).tolist() == [False, True, False, True, False]


def test_default_buckets_are_those_of_the_methods():
    buckets = frequency_buckets([0, 5, 6, 10, 11, 20, 21, 50, 51, 100, 101, 300, 301])
    assert buckets.names == ("<=5", "6-10", "11-20", "21-50", "51-100", "101-300", ">300")
    assert buckets.index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert buckets.sizes.tolist() == [2, 2, 2, 2, 2, 2, 1]


def test_bucket_of_one_count_has_a_short_name():
    assert frequency_buckets([1], edges=(0, 1, 3)).names == ("<=0", "1", "2-3", ">3")


@pytest.mark.parametrize("edges", [(), (5, 5), (5, 3), (-1, 3)])
def test_bad_edges_are_named(edges):
    with pytest.raises(ValueError, match="edges must be whole numbers that rise"):
        frequency_buckets([1], edges=edges)


def test_head_middle_tail_of_many_labels():
    counts = np.r_[np.full(100, 50), 0, 10, 11, 100, 101]
    parts = head_middle_tail(counts)
    assert parts.index[100:].tolist() == [-1, 2, 1, 1, 0]
    assert parts.sizes.tolist() == [1, 102, 1]
    np.testing.assert_array_equal(parts.index == 2, rare_labels(counts))


def test_head_middle_tail_of_few_labels_are_shares():
    counts = np.arange(10) + 1000
    assert head_middle_tail(counts).index.tolist() == [2, 2, 2, 1, 1, 1, 1, 0, 0, 0]
    assert head_middle_tail([4]).index.tolist() == [2]


def test_deciles_are_of_equal_size_and_rise():
    counts = np.random.default_rng(0).permutation(57)
    deciles = frequency_deciles(counts)
    assert set(deciles.sizes.tolist()) == {5, 6}
    assert np.all(np.diff(deciles.index[np.argsort(counts)]) >= 0)


def test_by_bucket_means_leave_out_nan_and_labels_of_no_bucket():
    buckets = head_middle_tail(np.r_[np.full(100, 50), 0, 10, 7, 101])
    values = np.r_[np.full(100, np.nan), 9.0, 0.5, 0.7, 0.1]
    np.testing.assert_allclose(by_bucket(values, buckets), [0.1, np.nan, 0.6])
    with pytest.raises(ValueError, match="buckets are of 104 labels"):
        by_bucket([1.0], buckets)
