import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.extreme.label_tree import build_label_tree


@pytest.fixture(scope="module")
def data():
    return make_long_tail(800, 150, 400, seed=3)


@pytest.mark.parametrize(("branching", "leaf_size"), [(2, 10), (4, 10), (16, 5), (16, 200)])
def test_every_label_stands_at_one_place_and_clusters_are_of_equal_size(data, branching, leaf_size):
    tree = build_label_tree(data.X, data.Y, branching=branching, leaf_size=leaf_size)
    used = np.flatnonzero(data.label_counts())
    assert sorted(tree.labels) == list(used)
    assert tree.sizes[-1] == len(used)
    for above, below in zip(tree.children[:-1], tree.children[1:]):
        assert above[-1] == len(below) - 1
        assert np.diff(above).max() <= branching
    in_leaf = np.diff(tree.children[-1])
    assert in_leaf.max() <= leaf_size
    assert in_leaf.max() - in_leaf.min() <= 1


def test_nodes_of_labels_follows_the_children(data):
    tree = build_label_tree(data.X, data.Y, branching=4, leaf_size=5)
    for level in range(len(tree.children)):
        nodes = tree.nodes_of_labels(level)
        below = tree.nodes_of_labels(level + 1) if level + 1 < len(tree.children) else None
        assert set(nodes[nodes >= 0]) == set(range(tree.sizes[level]))
        if below is not None:
            start, stop = tree.children[level + 1][nodes], tree.children[level + 1][nodes + 1]
            known = nodes >= 0
            assert ((start <= below) & (below < stop))[known].all()


def test_labels_of_the_same_instances_stand_together():
    """Two groups of labels on disjoint features: the first split must tell them apart."""
    rng = np.random.default_rng(0)
    group = rng.integers(2, size=400)
    X = sparse.csr_array((rng.random((400, 40)) * np.kron(np.eye(2), np.ones(20))[group]).astype(np.float32))
    of_label = rng.permutation(np.arange(20) % 2)
    Y = sparse.csr_array((of_label == group[:, None]) & (rng.random((400, 20)) < 0.3))
    nodes = build_label_tree(X, Y, branching=2, leaf_size=10).nodes_of_labels(0)
    assert len(set(nodes[of_label == 0])) == len(set(nodes[of_label == 1])) == 1


def test_labels_without_a_positive_are_left_out():
    X = sparse.csr_array(np.eye(3, dtype=np.float32))
    tree = build_label_tree(X, sparse.csr_array(np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]])))
    assert tree.labels.tolist() == [0, 2]
    assert tree.nodes_of_labels(0).tolist() == [0, -1, 1]


def test_the_number_of_threads_does_not_matter(data):
    one, four = (build_label_tree(data.X, data.Y, leaf_size=5, n_jobs=n) for n in (1, 4))
    assert (one.labels == four.labels).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branching": 3}, "branching must be a power of two of at least 2, not 3"),
        ({"branching": 0}, "branching must be a power of two"),
        ({"leaf_size": 1}, "leaf_size must be at least 2, not 1"),
    ],
)
def test_bad_options(data, options, message):
    with pytest.raises(ValueError, match=message):
        build_label_tree(data.X, data.Y, **options)


def test_no_positive_at_all(data):
    with pytest.raises(ValueError, match="no label has a positive"):
        build_label_tree(data.X, sparse.csr_array(data.Y.shape))
