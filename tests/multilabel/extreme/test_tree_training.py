import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.extreme.label_tree import build_label_tree
from evenhand.multilabel.extreme.levels import descend
from evenhand.multilabel.extreme.node import TreeSettings
from evenhand.multilabel.extreme.payoffs import paid
from evenhand.multilabel.extreme.training import search, train_tree

EXACT = TreeSettings(C=0.7, tolerance=1e-3, prune=0.0)


@pytest.fixture(scope="module")
def data():
    made = make_long_tail(600, 60, 200, seed=1)
    X = sparse.csr_array(made.X)
    X.sort_indices()
    return X, sparse.csr_array(made.Y)


def dense_weights(level, n_features):
    """(D, nodes) weights of a level, written out."""
    out = np.zeros((n_features, len(level.bias)))
    for node in range(len(level.children) - 1):
        for row in range(level.feature_ptr[node], level.feature_ptr[node + 1]):
            span = slice(level.row_ptr[row], level.row_ptr[row + 1])
            out[level.features[row], level.children[node] + level.child[span]] = level.value[span]
    return out


def path_scores(levels, X):
    """(n, leaves): −Σ max(0, 1 − s)² from the root to each leaf, dense, without a beam."""
    total = np.zeros((X.shape[0], 1))
    for level in levels:
        margins = X @ dense_weights(level, X.shape[1]) + level.bias
        total = np.repeat(total, np.diff(level.children), axis=1) - np.maximum(0, 1 - margins) ** 2
    return total


def svc(X, positive, C, weight):
    model = LinearSVC(C=C, dual=True, tol=1e-8, max_iter=100_000, class_weight={1: weight, 0: 1})
    model.fit(X, positive)
    return model.coef_[0], model.intercept_[0]


def test_one_level_is_one_vs_rest(data):
    """N = 1, α = β = 0 and no level between: liblinear's weights."""
    X, Y = data
    tree = build_label_tree(X, Y, leaf_size=100)
    (level,) = train_tree(X, Y, tree, EXACT)
    weights = dense_weights(level, X.shape[1])
    for at in (0, 17, 41):
        w, b = svc(X, Y[:, [tree.labels[at]]].toarray().ravel(), EXACT.C, 1.0)
        assert np.allclose(weights[:, at], w, atol=2e-3)
        assert level.bias[at] == pytest.approx(b, abs=2e-3)


@pytest.mark.parametrize("matcher_beam", [0, 2])
def test_a_node_is_judged_on_the_instances_that_come_to_it(data, matcher_beam):
    X, Y = data
    tree = build_label_tree(X, Y, branching=4, leaf_size=16)
    rewards = np.linspace(1, 4, 60)
    settings = TreeSettings(C=0.7, tolerance=1e-3, prune=0.0, matcher_beam=matcher_beam)
    top, leaves = train_tree(X, paid(Y, rewards - 1), tree, settings)
    node = 1
    mine = tree.labels[tree.children[1][node] : tree.children[1][node + 1]]
    comes = Y[:, mine].toarray().any(axis=1)
    if matcher_beam:
        margins = X @ dense_weights(top, X.shape[1]) + top.bias
        best = np.argsort(np.maximum(0, 1 - margins) ** 2, axis=1, kind="stable")[:, :matcher_beam]
        comes |= (best == node).any(axis=1)
    weights = dense_weights(leaves, X.shape[1])
    for place in (0, 5):
        positive = Y[:, [mine[place]]].toarray().ravel()[comes]
        w, b = svc(X[comes], positive, 0.7, rewards[mine[place]])
        at = tree.children[1][node] + place
        assert np.allclose(weights[:, at], w, atol=3e-3)
        assert leaves.bias[at] == pytest.approx(b, abs=3e-3)


def test_above_the_leaves_the_best_rewarded_label_counts(data):
    X, Y = data
    tree = build_label_tree(X, Y, branching=4, leaf_size=16)
    rewards = np.linspace(1, 4, 60)
    top, _ = train_tree(X, paid(Y, rewards - 1), tree, EXACT)
    below = tree.nodes_of_labels(0) == 2
    greatest = (Y[:, below].toarray() * rewards[below]).max(axis=1)
    model = LinearSVC(C=EXACT.C, dual=True, tol=1e-8, max_iter=100_000)
    model.fit(X, greatest > 0, sample_weight=np.where(greatest > 0, greatest, 1))
    assert np.allclose(dense_weights(top, X.shape[1])[:, 2], model.coef_[0], atol=3e-3)


def test_a_wide_beam_finds_what_an_exhaustive_search_finds(data):
    X, Y = data
    tree = build_label_tree(X, Y, branching=4, leaf_size=8)
    levels = train_tree(X, Y, tree, TreeSettings(prune=0.02))
    nodes, scores = descend(levels, X, beam=1000, last=10)
    wanted = path_scores(levels, X)
    assert np.allclose(scores, -np.sort(-wanted, axis=1)[:, :10], atol=1e-4)
    assert np.allclose(np.take_along_axis(wanted, nodes, axis=1), scores, atol=1e-4)


def test_a_narrow_beam_keeps_the_best_of_each_level(data):
    X, Y = data
    tree = build_label_tree(X, Y, branching=4, leaf_size=8)
    levels = train_tree(X, Y, tree, TreeSettings())
    nodes, _ = descend(levels, X, beam=1, last=7)
    parents = np.searchsorted(tree.children[-1], nodes, side="right") - 1
    assert (parents == parents[:, :1]).all()
    assert (descend(levels, X, beam=1, last=9)[0][:, -1] == -1).all()


def test_pruned_weights_are_gone_and_biases_stay(data):
    X, Y = data
    tree = build_label_tree(X, Y, leaf_size=16)
    whole, pruned = (train_tree(X, Y, tree, TreeSettings(prune=bound, tolerance=0.01)) for bound in (0, 0.1))
    for full, less in zip(whole, pruned):
        dense = dense_weights(full, X.shape[1])
        assert np.array_equal(dense_weights(less, X.shape[1]), np.where(np.abs(dense) > 0.1, dense, 0))
        assert np.array_equal(full.bias, less.bias)


def test_the_number_of_threads_does_not_matter(data):
    X, Y = data
    tree = build_label_tree(X, Y, leaf_size=8)
    one, three = (train_tree(X, Y, tree, TreeSettings(matcher_beam=3), n_jobs=n) for n in (1, 3))
    for a, b in zip(one, three):
        assert all(np.array_equal(x, y) for x, y in zip(a.parts, b.parts))
    for a, b in zip(search(one, X, beam=3, last=5), search(one, X, beam=3, last=5, n_jobs=3)):
        assert np.array_equal(a, b)


def test_progress_counts_nodes(data):
    X, Y = data
    seen = []
    tree = build_label_tree(X, Y, leaf_size=16)
    train_tree(X, Y, tree, TreeSettings(), on_progress=lambda *at: seen.append(at))
    assert seen == [(done, 5) for done in range(1, 6)]


def test_nodes_that_give_up_are_told_once_for_each_tree(data):
    X, Y = data
    tree = build_label_tree(X[:60], Y[:60], leaf_size=16)
    settings = TreeSettings(tolerance=1e-30)
    with pytest.warns(ConvergenceWarning) as caught:
        train_tree(X[:60], Y[:60], tree, settings, whose="tree 1, of view 'all'")
    (told,) = [str(one.message) for one in caught if one.category is ConvergenceWarning]
    n_nodes = sum(len(children) - 1 for children in tree.children)
    assert told.startswith(f"tree 1, of view 'all': {n_nodes} of the solves ended at 1,000 sweeps")
