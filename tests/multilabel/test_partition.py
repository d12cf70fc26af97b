import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel.partition import partition_labels

METHODS = ["all", "frequency", "random", "cooccurrence"]
SHARED = ["frequency", "random", "cooccurrence"]


def long_tail(n=400, n_labels=60, seed=0):
    """Labels whose frequency falls like 1/rank; some of the last have no positive."""
    rng = np.random.default_rng(seed)
    share = 0.4 / np.arange(1, n_labels + 1)
    return sparse.csr_array((rng.uniform(size=(n, n_labels)) < share).astype(np.float32))


def counts_of(Y):
    return np.asarray(Y.sum(axis=0)).astype(int)


@pytest.mark.parametrize("method", METHODS)
def test_the_width_of_stored_label_numbers_changes_nothing(method):
    narrow = long_tail()
    wide = narrow.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    found, expected = (partition_labels(Y, 3, method=method) for Y in (wide, narrow))
    assert (found == expected).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_players", [1, 2, 5, 61])
def test_every_label_has_an_owner(method, n_players):
    owners = partition_labels(long_tail(), n_players, method=method)
    assert owners.shape == (n_players, 60)
    assert owners.dtype == np.bool_
    assert owners.any(axis=0).all()


@pytest.mark.parametrize("method", SHARED)
@pytest.mark.parametrize("tail_owners", [1, 2, 3])
def test_labels_below_the_median_frequency_have_tail_owners(method, tail_owners):
    Y = long_tail()
    counts = counts_of(Y)
    tail = counts < np.median(counts)
    assert 0 < tail.sum() < 60
    owners = partition_labels(Y, 4, method=method, tail_owners=tail_owners)
    assert (owners.sum(axis=0) == np.where(tail, tail_owners, 1)).all()


def test_all_means_everyone_owns_everything():
    assert partition_labels(long_tail(), 3, method="all").all()


@pytest.mark.parametrize("method", METHODS)
def test_one_player_owns_everything(method):
    assert partition_labels(long_tail(), 1, method=method).all()


@pytest.mark.parametrize("method", SHARED)
def test_no_label_has_more_owners_than_there_are_players(method):
    owners = partition_labels(long_tail(), 2, method=method, tail_owners=9)
    assert owners.sum(axis=0).max() == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_single_label_and_more_players_than_labels(method):
    Y = sparse.csr_array(np.array([[1.0], [0.0], [1.0]]))
    owners = partition_labels(Y, 3, method=method)
    assert owners.sum() == (3 if method == "all" else 1)
    few = sparse.csr_array(np.array([[1.0, 1, 0], [1, 0, 0], [1, 1, 0]]))
    owners = partition_labels(few, 5, method=method, tail_owners=4)
    assert owners.sum(axis=0).tolist() == ([5, 5, 5] if method == "all" else [1, 1, 4])


@pytest.mark.parametrize("method", METHODS)
def test_labels_without_a_positive_have_an_owner(method):
    owners = partition_labels(sparse.csr_array((5, 7)), 3, method=method)
    assert owners.any(axis=0).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_deals_the_same(method):
    first, second = (partition_labels(long_tail(), 4, method=method, seed=3) for _ in range(2))
    assert np.array_equal(first, second)


def test_another_seed_deals_the_random_labels_otherwise():
    first, second = (partition_labels(long_tail(), 4, method="random", seed=s) for s in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("method", ["frequency", "random"])
@pytest.mark.parametrize("n_players", [2, 3, 7])
def test_round_robin_is_balanced(method, n_players):
    load = partition_labels(long_tail(), n_players, method=method, tail_owners=1).sum(axis=1)
    assert np.ptp(load) <= 1


@pytest.mark.parametrize("n_players", [2, 3, 7])
def test_second_owners_of_the_tail_are_balanced_too(n_players):
    load = partition_labels(long_tail(), n_players, method="frequency").sum(axis=1)
    assert np.ptp(load) <= 2


def test_frequency_deals_head_and_tail_to_everyone_alike():
    Y = long_tail(n=4000)
    by_count = np.argsort(-counts_of(Y), kind="stable")
    owners = partition_labels(Y, 3, method="frequency", tail_owners=1)
    for third in np.split(by_count, [15, 30, 45]):
        assert owners[:, third].sum(axis=1).tolist() == [5, 5, 5]


def communities(seed=0):
    """Three groups of eight labels, shuffled; an instance wears labels of one group only."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(3), 8))
    of_instance = rng.integers(3, size=900)
    Y = (group == of_instance[:, None]) & (rng.uniform(size=(900, 24)) < 0.4)
    return sparse.csr_array(Y.astype(np.float32)), group


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cooccurrence_puts_labels_together_that_occur_together(seed):
    Y, group = communities(seed)
    owners = partition_labels(Y, 3, method="cooccurrence", tail_owners=1, seed=seed)
    owner = owners.argmax(axis=0)
    together = owner[:, None] == owner
    assert np.array_equal(together, group[:, None] == group)


def test_round_robin_does_not_find_communities():
    Y, group = communities()
    owner = partition_labels(Y, 3, method="frequency", tail_owners=1).argmax(axis=0)
    assert not np.array_equal(owner[:, None] == owner, group[:, None] == group)


def test_the_callers_labels_are_left_as_they_are():
    Y = long_tail()
    before = Y.copy()
    for method in METHODS:
        partition_labels(Y, 3, method=method)
    assert np.array_equal(Y.data, before.data)
    assert np.array_equal(Y.indices, before.indices)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"n_players": 2, "method": "rank"},
            "partition is 'rank'; choose one of all, frequency, random, coocc",
        ),
        ({"n_players": 0, "method": "all"}, "n_players is 0; a game needs at least one player"),
        ({"n_players": 2, "method": "random", "tail_owners": 0}, "tail_owners is 0; every label needs"),
    ],
)
def test_bad_options_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        partition_labels(long_tail(), **arguments)
