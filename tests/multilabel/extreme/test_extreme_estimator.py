import contextlib
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.decoding import GlobalThreshold
from evenhand.multilabel.extreme import forest, workers
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.game import rarity
from evenhand.multilabel.metrics import f1, precision_at_k
from evenhand.multilabel.storage import FolderError


@pytest.fixture(scope="module")
def data():
    made = make_long_tail(900, 120, 400, noise=0.02, seed=5)
    return replace(made, X=normalize(made.X))


def fit(data, **options):
    return ExtremeGameClassifier(**{"leaf_size": 16, "branching": 4} | options).fit(
        data.X[:700], data.Y[:700]
    )


def fit_rows(data, rows, Y=None, **options):
    Y = data.Y if Y is None else Y
    return ExtremeGameClassifier(leaf_size=16, branching=4, **options).fit(data.X[rows], Y[rows])


def known_only(Y, earlier):
    """Y without the labels that had no positive earlier."""
    return sparse.csr_array(Y * (earlier.sum(axis=0) > 0))


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
        ({"n_players": 1.5}, "n_players must be a whole number of at least 1, or None, not 1.5"),
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


def levels_equal(one, other):
    return all(
        np.array_equal(a, b)
        for level, level_too in zip(one.levels, other.levels, strict=True)
        for a, b in zip(level.parts, level_too.parts, strict=True)
    )


def test_each_view_has_a_player(data):
    views = {"left": data.X[:700, :250], "right": data.X[:700, 250:].toarray()}
    model = ExtremeGameClassifier(leaf_size=16).fit(views, data.Y[:700])
    assert [player.view for player in model.players_] == ["left", "right"]
    assert model.views_ == {"left": 250, "right": 150}
    alone = ExtremeGameClassifier(leaf_size=16).fit(data.X[:700, :250], data.Y[:700])
    assert levels_equal(model.players_[0], alone.players_[0])
    with pytest.raises(ValueError, match="n_players is 3, but there are 2 views"):
        ExtremeGameClassifier(n_players=3).fit(views, data.Y[:700])
    with pytest.raises(ValueError, match="X has the views"):
        model.predict_topk(data.X[700:], 3)


class TestResuming:
    options = MappingProxyType({"n_players": 2, "disagreement_reward": 1.0, "matcher_beam": 2})

    def interrupted(self, data, monkeypatch, folder, after):
        """A training that ends when so many nodes are solved; how many it solved."""
        solved, real = [], workers.NodeProblem.solve

        def solve(problem):
            if len(solved) == after:
                raise KeyboardInterrupt
            solved.append(problem)
            return real(problem)

        with monkeypatch.context() as patch:
            patch.setattr(workers.NodeProblem, "solve", solve)
            with contextlib.suppress(KeyboardInterrupt):
                fit(data, checkpoint=str(folder), **self.options)
        return len(solved)

    @pytest.mark.parametrize("after", [0, 3, 40])
    def test_a_training_that_was_interrupted_ends_the_same(self, data, tmp_path, monkeypatch, after):
        whole = fit(data, **self.options)
        assert self.interrupted(data, monkeypatch, tmp_path / "run", after) == after
        rest = self.interrupted(data, monkeypatch, tmp_path / "run", 10**6)
        resumed = fit(data, checkpoint=str(tmp_path / "run"), **self.options)
        assert all(map(levels_equal, whole.players_, resumed.players_))
        assert after + rest == len(list((tmp_path / "run").glob("tree-*")))  # none is solved twice

    def test_another_training_is_refused(self, data, tmp_path):
        fit(data, checkpoint=str(tmp_path / "run"))
        with pytest.raises(FolderError, match=r"another training: other settings \(C was 0.3 and is 0.5\)"):
            fit(data, C=0.5, checkpoint=str(tmp_path / "run"))
        with pytest.raises(FolderError, match=r"other data \(labels\)"):
            ExtremeGameClassifier(leaf_size=16, branching=4, checkpoint=str(tmp_path / "run")).fit(
                data.X[:700], data.Y[1:701]
            )
        fit(data, beam=3, n_jobs=2, checkpoint=str(tmp_path / "run"))  # which training does not depend on

    def test_a_damaged_node_is_told(self, data, tmp_path):
        fit(data, checkpoint=str(tmp_path / "run"))
        next((tmp_path / "run").glob("tree-0000-level-00-node-*/block.json")).write_text("{}")
        with pytest.raises(FolderError, match="tree-0000-level-00-node-00000000"):
            fit(data, checkpoint=str(tmp_path / "run"))


class TestPartialFit:
    def test_it_learns_from_further_instances(self, data):
        model = fit_rows(data, slice(0, 200))
        before = precision_at_k(data.Y[700:], model.predict_topk(data.X[700:], 5), 3)[3]
        model.partial_fit(data.X[200:700], known_only(data.Y[200:700], data.Y[:200]))
        after = precision_at_k(data.Y[700:], model.predict_topk(data.X[700:], 5), 3)[3]
        assert after > before + 0.02
        assert model.n_train_ == 700

    def test_the_first_call_is_fit(self, data):
        one, other = fit(data), ExtremeGameClassifier(leaf_size=16, branching=4)
        other.partial_fit(data.X[:700], data.Y[:700])
        assert levels_equal(one.players_[0], other.players_[0])

    def test_the_move_is_the_optimum_around_the_old_weights(self, data):
        """w = v + d with d the optimum of ½‖d‖² + Σ C ℓ(y (v·x + d·x)): its gradient in d is 0."""
        options = {"leaf_size": 200, "rarity_reward": 0.0, "prune": 0.0, "tolerance": 1e-3, "C": 0.7}
        model = ExtremeGameClassifier(**options).fit(data.X[:300], data.Y[:300])
        (old,) = model.players_[0].levels
        X, Y = data.X[300:500], known_only(data.Y[300:500], data.Y[:300])
        model.partial_fit(X, Y)
        (new,) = model.players_[0].levels
        every = np.arange(400)
        w, v = (part.block(0).dense(every).astype(float) for part in (new, old))
        rows = np.hstack([X.toarray(), np.ones((200, 1))])
        y = 2 * dense(Y)[:, model.players_[0].tree.labels] - 1
        slope = (w - v) - 2 * 0.7 * rows.T @ (y * np.maximum(0, 1 - y * (rows @ w)))
        assert np.abs(slope).max() < 0.02
        assert np.abs(w - v).max() > 0.1

    def test_nodes_without_an_instance_stay_to_the_bit(self, data):
        model = fit(data)
        (player,) = model.players_
        label = player.tree.labels[0]
        rows = np.flatnonzero(dense(data.Y[:700])[:, label])[:1]
        only = np.zeros((1, 120))
        only[0, label] = 1
        model.partial_fit(data.X[rows], only)
        last, last_new = player.levels[-1], model.players_[0].levels[-1]
        touched = [
            node
            for node in range(len(last.children) - 1)
            if not np.array_equal(last.block(node).bias, last_new.block(node).bias)
        ]
        assert touched == [0]

    def test_what_it_refuses(self, data):
        Y = sparse.lil_array(data.Y[:700])
        Y[:, 3] = 0
        model = ExtremeGameClassifier(leaf_size=16).fit(data.X[:700], sparse.csr_array(Y))
        with pytest.raises(ValueError, match="label '3' had no positive so far"):
            model.partial_fit(data.X[:700], data.Y[:700])
        with pytest.raises(ValueError, match="Y has 119 labels, but the model was trained on 120"):
            model.partial_fit(data.X[:700], data.Y[:700, :119])
        assert model.n_train_ == 700
        tags = [data.tags(row) for row in range(700)]
        model = ExtremeGameClassifier(leaf_size=16).fit(data.X[:700], tags)
        with pytest.raises(ValueError, match="the tag 'new' is not known"):
            model.partial_fit(data.X[:1], [["new"]])


class TestAddLabels:
    @pytest.mark.parametrize("n_players", [1, 2])
    def test_old_labels_keep_their_scores_to_the_bit(self, data, n_players):
        model = fit_rows(data, slice(0, 700), data.Y[:, :100], n_players=n_players)
        before = model.predict_topk(data.X, 50)
        old = model.players_
        model.add_labels(data.X[:700], data.Y[:700, 100:])
        after = model.predict_topk(data.X, 50)
        assert after.shape == (900, 120)
        assert all(map(levels_equal, old, model.players_))
        kept = sparse.csr_array(after[:, :100])
        assert kept.nnz > 0.8 * before.nnz
        assert (before * (kept != 0) != kept).nnz == 0
        assert model.classes_.tolist() == list(range(120))

    def test_new_labels_are_found(self, data):
        common = np.argsort(-data.label_counts())[:20]
        rest = np.setdiff1d(np.arange(120), common)
        model = fit_rows(data, slice(0, 700), data.Y[:, rest])
        model.add_labels(data.X[:700], data.Y[:700][:, common])
        whole = np.concatenate([rest, common])
        alone = fit_rows(data, slice(0, 700), data.Y[:, whole])
        Y, X = data.Y[700:][:, whole], data.X[700:]
        p, p_alone = (precision_at_k(Y, one.predict_topk(X, 5), 1)[1] for one in (model, alone))
        assert p > p_alone - 0.05

    def test_names(self, data):
        tags = [data.tags(row) for row in range(700)]
        model = ExtremeGameClassifier(leaf_size=16).fit(data.X[:700], tags)
        n = len(model.classes_)
        model.add_labels(data.X[:2], [["new", "newer"], ["new"]])
        assert model.classes_[n:].tolist() == ["new", "newer"]
        model.partial_fit(data.X[2:4], [["new"], ["newer"]])
        assert model.label_counts_[n:].tolist() == [3, 2]
        with pytest.raises(ValueError, match="label 'new' is known already"):
            model.add_labels(data.X[:1], [["new"]])
        with pytest.raises(ValueError, match="the labels have names"):
            model.add_labels(data.X[:1], np.ones((1, 1)))


class TestPredict:
    def test_label_sets_by_thresholds_of_unseen_instances(self, data):
        model = fit_rows(data, slice(0, 500))
        with pytest.raises(NotFittedError, match="call fit_decoders"):
            model.predict(data.X[700:])
        model.fit_decoders(data.X[500:700], data.Y[500:700])
        sets = model.predict(data.X[700:])
        best = GlobalThreshold("micro").fit(model.predict_topk(data.X[500:700], 50), data.Y[500:700])
        assert (sets != best.decode(model.predict_topk(data.X[700:], 50))).nnz == 0
        assert f1(data.Y[700:], sets).micro > 0.6
        assert model.label_sets(sets)[0] == tuple(sets[[0]].indices)

    @pytest.mark.parametrize("decoder", ["micro", "macro", "per_label"])
    def test_every_decoder(self, data, decoder):
        model = fit_rows(data, slice(0, 500), decoder=decoder).fit_decoders(data.X[500:700], data.Y[500:700])
        assert (model.predict(data.X[700:]) != model.predict(data.X[700:], decoder)).nnz == 0
        assert f1(data.Y[700:], model.predict(data.X[700:])).micro > 0.4


class TestDisagreement:
    def test_without_common_labels_it_changes_nothing(self, data):
        assert levels_equal(fit(data).players_[0], fit(data, disagreement_reward=2.0).players_[0])

    def test_it_weighs_positives_by_doubt(self, data, monkeypatch):
        seen = []
        real = forest.train_tree
        monkeypatch.setattr(forest, "train_tree", lambda *a, **k: seen.append(a[1]) or real(*a, **k))
        fit(data, n_players=2, disagreement_reward=5.0)
        plain, paid = seen[0], seen[-1]
        counts = np.bincount(data.Y[:700].indices, minlength=120)
        rho = rarity(torch.from_numpy(counts), 700).numpy()[data.Y[:700].indices]
        extra = paid.data - (1 + 3 * rho)
        assert plain.shape[0] == 350  # a fold
        assert extra.min() > -1e-6
        assert (extra <= 5 * rho + 1e-6).all()
        assert extra.max() > 0.1
