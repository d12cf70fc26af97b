from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.preprocessing import normalize

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.metrics import precision_at_k


@pytest.fixture(scope="module")
def data():
    made = make_long_tail(900, 120, 400, noise=0.02, seed=5)
    return replace(made, X=normalize(made.X))


def fit(data, **options):
    return ExtremeGameClassifier(**{"leaf_size": 16, "branching": 4} | options).fit(
        data.X[:700], data.Y[:700]
    )


def dense(matrix):
    return matrix.toarray()


def test_it_finds_labels(data):
    best = fit(data).predict_topk(data.X[700:], 5)
    assert best.dtype == np.float32
    assert (np.diff(best.indptr) == 5).all()
    assert ((best.data > 0) & (best.data <= 1)).all()
    assert precision_at_k(data.Y[700:], best, 1)[1] > 0.8


def test_the_team_is_the_mean_over_owners(data):
    model = fit(data, n_players=3, partition="frequency", beam=100)
    X = sparse.csr_array(data.X[700:])
    total, everything = np.zeros((200, 120)), {"beam": 100, "n_labels": 120, "n_jobs": None}
    for player, owned in zip(model.players_, model.owners_):
        p = dense(player.probabilities(X, **everything))
        assert (p[:, ~owned] == 0).all()
        total += p
    total /= model.owners_.sum(axis=0)
    assert set(model.owners_.sum(axis=0)) == {1, 2}
    assert np.allclose(dense(model.predict_topk(X, 120)), total, atol=1e-6)


def test_players_with_the_same_labels_have_different_trees(data):
    first, second = fit(data, n_players=2).players_
    assert not np.array_equal(first.tree.labels, second.tree.labels)


def test_a_reward_for_rarity_raises_rare_labels_that_are_true(data):
    counts = data.Y[:700].sum(axis=0)
    rare_truth = dense(data.Y[700:]) * ((counts > 0) & (counts <= 10))
    found = [
        (dense(fit(data, rarity_reward=alpha).predict_topk(data.X[700:], 120)) * rare_truth).sum()
        for alpha in (0.0, 10.0)
    ]
    assert found[1] > 1.1 * found[0]


def test_same_seed_same_bits_for_any_number_of_threads(data):
    options = {"n_players": 2, "matcher_beam": 2, "random_state": 7}
    one, four = (fit(data, n_jobs=n, **options).predict_topk(data.X, 10) for n in (1, 4))
    assert np.array_equal(one.data, four.data)
    assert np.array_equal(one.indices, four.indices)
    other = fit(data, n_players=2, matcher_beam=2, random_state=8).predict_topk(data.X, 10)
    assert not np.array_equal(one.data, other.data)


def test_tags_give_names(data):
    tags = [data.tags(row) for row in range(700)]
    model = ExtremeGameClassifier(leaf_size=16).fit(data.X[:700], tags)
    assert set(model.classes_) == {tag for row in tags for tag in row}


def test_labels_without_a_positive_are_never_named(data):
    Y = sparse.lil_array(data.Y[:700])
    Y[:, 3] = 0
    model = ExtremeGameClassifier(leaf_size=16).fit(data.X[:700], sparse.csr_array(Y))
    assert model.predict_topk(data.X, 120)[:, [3]].nnz == 0


def test_dense_features_are_the_same_as_sparse_ones(data):
    model = fit(data)
    X = sparse.csr_array(data.X[700:])
    assert np.array_equal(dense(model.predict_topk(X, 3)), dense(model.predict_topk(X.toarray(), 3)))


def test_params_survive_a_clone():
    model = ExtremeGameClassifier(n_players=4, beam=3)
    assert clone(model).get_params() == model.get_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "even"}, "partition is 'even'; choose one of all, frequency, random, cooccurrence"),
        ({"C": 0}, "C must be a finite number above 0, not 0"),
        ({"rarity_reward": float("nan")}, "rarity_reward must be a finite number of at least 0, not nan"),
        ({"beam": 0}, "beam must be a whole number of at least 1, not 0"),
        ({"n_players": 1.5}, "n_players must be a whole number of at least 1, not 1.5"),
        ({"branching": 6}, "branching must be a power of two of at least 2, not 6"),
        ({"branching": 1 << 17}, "branching must be at most 65536, not 131072"),
        ({"leaf_size": 65_537}, "leaf_size must be at most 65536, not 65537"),
        ({"n_jobs": 0}, "n_jobs must be a whole number, -1 for all cores, or None, not 0"),
    ],
)
def test_bad_options(data, options, message):
    with pytest.raises(ValueError, match=message):
        fit(data, **options)


def test_bad_data(data):
    with pytest.raises(ValueError, match="Y has 699 rows, but X has 700"):
        ExtremeGameClassifier().fit(data.X[:700], data.Y[:699])
    bad = sparse.csr_array(data.X[:700]).copy()
    bad.data[0] = np.nan
    with pytest.raises(ValueError, match="NaN in row 0"):
        ExtremeGameClassifier().fit(bad, data.Y[:700])
    model = fit(data)
    with pytest.raises(ValueError, match="400 features"):
        model.predict_topk(data.X[:, :399], 3)
    with pytest.raises(ValueError, match="k must be"):
        model.predict_topk(data.X, 0)
