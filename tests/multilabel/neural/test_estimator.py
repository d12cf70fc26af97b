import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.metrics import mean_average_precision
from evenhand.multilabel.neural.encoders import DenseLayers, OwnEncoder, SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.neural.training import train
from evenhand.multilabel.splitting import stratified_split
from evenhand.multilabel.views import Views

DATA = make_long_tail(300, 15, 80, seed=0, noise=0.0)
TRAIN, TEST = np.arange(220), np.arange(220, 300)
X, Y = DATA.X[TRAIN], DATA.Y[TRAIN]
TAGS = [[f"tag {label}" for label in row] for row in np.split(Y.indices, Y.indptr[1:-1])]


def make(encoders=None, **options):
    return NeuralGameClassifier(encoders, **{"epochs": 2, "device": "cpu"} | options)


@pytest.fixture(scope="module")
def model():
    return make(SparseBag(32), epochs=12).fit(X, Y)


LABEL_SETS = "it learns label sets, two-dimensional y; the check passes classes"
ONE_COLUMN = "its y is one label, so probabilities are (n, 1); the check wants a column for each class"
BATCHES = "batches and the held-out part are drawn from rows, whatever they weigh"
EXPECTED_FAILURES = {
    "check_classifiers_classes": LABEL_SETS,
    "check_decision_proba_consistency": LABEL_SETS,
    "check_classifier_not_supporting_multiclass": "the message it wants names binary classes, not label sets",
    "check_classifiers_train": ONE_COLUMN,
    "check_estimator_sparse_array": ONE_COLUMN,
    "check_estimator_sparse_matrix": ONE_COLUMN,
    "check_classifier_multioutput": "the threshold is learned; the check wants a decision above 0",
    "check_sample_weight_equivalence_on_dense_data": BATCHES,
    "check_sample_weight_equivalence_on_sparse_data": BATCHES,
}


@parametrize_with_checks([make(epochs=1)], expected_failed_checks=lambda estimator: EXPECTED_FAILURES)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_it_learns_and_says_how(model):
    unseen = DATA.X[TEST]
    assert mean_average_precision(DATA.Y[TEST], model.predict_proba(unseen)) > 0.45
    assert model.score(unseen, DATA.Y[TEST]) > 0.6
    assert {"potential", "payoff", "curiosity", "rare_f1_bound", "map"} <= model.history_[0].keys()
    best = max(one["map"] for one in model.history_)
    assert best > model.history_[0]["map"]
    assert model.n_train_ < len(TRAIN)
    assert (model.label_counts_ <= np.bincount(Y.indices, minlength=15)).all()


def test_the_face_of_the_linear_game(model):
    unseen = DATA.X[TEST]
    p = model.predict_proba(unseen)
    assert p.shape == (80, 15)
    assert ((p >= 0) & (p <= 1)).all()
    best = model.predict_topk(unseen, 2)
    assert (best.toarray().max(1) == p.max(1)).all()
    odds = model.decision_function(unseen)
    assert np.isfinite(odds).all()
    assert np.array_equal(np.argsort(odds, 1), np.argsort(p, 1))
    for name in ("micro", "macro", "per_label", "macro_f1"):
        sets = model.predict(unseen, decoder=name)
        assert sparse.issparse(sets)
        assert sets.shape == (80, 15)
    assert len(model.label_sets(model.predict(unseen))) == 80
    with pytest.raises(ValueError, match="decoder is 'other'; choose one of micro"):
        model.predict(unseen, decoder="other")
    with pytest.raises(ValueError, match="max_dense_bytes"):
        clone(model).set_params(max_dense_bytes=10).fit(X, Y).predict_proba(unseen)


def test_scores_do_not_depend_on_the_rows_beside_them(model):
    unseen = DATA.X[TEST]
    parts = [model.predict_proba(unseen[[row]]) for row in range(5)]
    np.testing.assert_allclose(np.concatenate(parts), model.predict_proba(unseen)[:5], atol=1e-5)


DENSE = X.toarray()
PICTURES = (DENSE.reshape(220, 8, 10, 1).clip(0, 5) * 50).astype(np.uint8)
CNN = OwnEncoder(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(8)), 8)


@pytest.mark.parametrize(
    ("features", "encoders", "options", "n_encoders"),
    [
        (DENSE, None, {}, 1),
        (pl.DataFrame(DENSE), DenseLayers((8,)), {}, 1),
        (X, SparseBag(8), {"n_players": 1}, 1),
        (X, SparseBag(8), {"shared_encoder": False, "n_players": 2}, 2),
        (Views({"a": X[:, :40], "b": DENSE[:, 40:]}), None, {}, 2),
        ([X[:, :40], X[:, 40:]], SparseBag(8), {"update": "joint"}, 2),
        (PICTURES, CNN, {}, 1),
        ({"words": X, "picture": list(PICTURES)}, {"words": SparseBag(8), "picture": CNN}, {}, 2),
        (X, SparseBag(8), {"partition": "frequency"}, 1),
        (X, SparseBag(8), {"space": "logit", "curiosity": "divergence", "annealing": True}, 1),
        (X, SparseBag(8), {"payoff": "soft_macro_f1"}, 1),
        (X, SparseBag(8), {"loss": "asymmetric"}, 1),
        (X, SparseBag(8), {"own_share": 0.5, "schedule": "cosine", "schedule_warmup": 0.1}, 1),
    ],
)
def test_what_it_can_read_and_play(features, encoders, options, n_encoders):
    model = make(encoders, **options).fit(features, Y)
    assert len(model.network_.encoders) == n_encoders
    assert np.isfinite(model.predict_proba(features)).all()


def test_tags_and_named_columns():
    model = make(SparseBag(8)).fit(X, TAGS)
    assert all(str(name).startswith("tag ") for name in model.classes_)
    assert 0 <= model.score(X, TAGS) <= 1
    named = make(SparseBag(8)).fit(X, pl.DataFrame(Y.toarray(), schema=[f"c{i}" for i in range(15)]))
    assert named.classes_[3] == "c3"
    assert isinstance(named.predict(X), np.ndarray)


def test_validation_data_of_ones_own():
    model = make(SparseBag(8)).fit(X, TAGS, validation_data=(X[:50], TAGS[:50]))
    assert model.n_train_ == len(TRAIN)
    with pytest.raises(ValueError, match="the tag 'new' is not known"):
        make(SparseBag(8)).fit(X, TAGS, validation_data=(X[:1], [["new"]]))
    with pytest.raises(ValueError, match="X has 79 features, but NeuralGameClassifier is expecting 80"):
        make(SparseBag(8)).fit(X, Y, validation_data=(X[:50, :79], Y[:50]))


def test_weights_of_instances_count():
    weights = np.arange(220) % 3
    plain, ones, weighed, scaled = (
        make(SparseBag(8)).fit(X, Y, sample_weight=w).predict_proba(X)
        for w in (None, np.ones(220), weights, 4 * weights)
    )
    np.testing.assert_array_equal(plain, ones)
    np.testing.assert_array_equal(weighed, scaled)  # a power of 2 does not even round
    assert np.abs(weighed - plain).max() > 0.01
    given = make(SparseBag(8)).fit(X, Y, weights, validation_data=(X[:50], Y[:50]))
    assert np.abs(given.predict_proba(X) - weighed).max() > 1e-3
    with pytest.raises(ValueError, match=r"sample_weight.shape"):
        make(SparseBag(8)).fit(X, Y, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match=r"[Nn]egative values in .*sample_weight"):
        make(SparseBag(8)).fit(X, Y, sample_weight=-np.ones(220))
    held_out = np.zeros(220)
    held_out[stratified_split(Y, 0.15, seed=0)[1]] = 1
    with pytest.raises(ValueError, match="sample_weight is 0 for every instance that is learned from"):
        make(SparseBag(8)).fit(X, Y, sample_weight=held_out)


@pytest.mark.parametrize("options", [{"own_share": 1.0}, {"schedule": "linear"}, {"schedule_warmup": 0.5}])
def test_options_reach_the_training(options):
    one, other = (make(SparseBag(8), **given).fit(X, Y).predict_proba(X) for given in ({}, options))
    assert np.abs(one - other).max() > 1e-3


def test_same_seed_same_bits_and_the_callers_random_numbers_stay_his():
    one, other = make(SparseBag(8, (8,), 0.3)), make(SparseBag(8, (8,), 0.3))
    torch.manual_seed(1)
    first = one.fit(X, Y).predict_proba(X)
    drawn = torch.rand(1)
    assert np.array_equal(first, other.fit(X, Y).predict_proba(X))
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    assert not np.array_equal(first, make(SparseBag(8, (8,), 0.3), random_state=1).fit(X, Y).predict_proba(X))


def test_an_interrupted_fit_is_taken_up(tmp_path, monkeypatch):
    options = {"epochs": 3, "checkpoint": str(tmp_path / "kept"), "checkpoint_steps": 2}
    expected = make(SparseBag(8, (8,), 0.3), epochs=3).fit(X, Y)

    def stopping(*given, on_step, **others):
        def stop(epoch, step, value):
            if (epoch, step) == (1, 2):
                raise KeyboardInterrupt

        return train(*given, on_step=stop, **others)

    with monkeypatch.context() as patched:
        patched.setattr("evenhand.multilabel.neural.estimator.train", stopping)
        with pytest.raises(KeyboardInterrupt):
            make(SparseBag(8, (8,), 0.3), **options).fit(X, Y)
    resumed = make(SparseBag(8, (8,), 0.3), log=str(tmp_path / "log"), **options).fit(X, Y)
    assert np.array_equal(resumed.predict_proba(X), expected.predict_proba(X))
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log").read_text().splitlines()] == [0, 1, 2]


def test_labels_without_a_positive_get_a_constant_score():
    empty = sparse.hstack([Y, sparse.csr_array((220, 1))], format="csr")
    with pytest.warns(UserWarning, match="1 of 16 labels have no positive"):
        model = make(SparseBag(8)).fit(X, empty)
    assert len(np.unique(model.predict_proba(X)[:, 15])) == 1


def test_scikit_learns_tools_take_it():
    model = make(SparseBag(8), epochs=1)
    assert clone(model).get_params() == model.get_params()
    assert len(cross_val_score(model, X, Y.toarray(), cv=2)) == 2
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "x"}, "partition is 'x'; choose one of auto, all"),
        ({"payoff": "x"}, "payoff is 'x'; choose one of log_likelihood"),
        ({"loss": "x"}, "loss is 'x'; choose one of bce"),
        ({"update": None}, "update is None; choose one of best_response, joint"),
        ({"monitor": "x"}, "monitor is 'x'; choose one of map"),
        ({"rarity_reward": -1}, "rarity_reward must be a finite number of at least 0"),
        ({"own_share": 1.5}, "own_share must lie between 0 and 1"),
        ({"schedule": "x"}, "schedule is 'x'; choose one of constant, cosine, linear"),
        ({"schedule_warmup": 1.0}, r"schedule_warmup must lie in \[0, 1\)"),
        ({"learning_rate": 0}, "learning_rate must be a finite number above 0"),
        ({"validation_share": 1.0}, "validation_share must lie between 0 and 1"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"batch_size": 1.5}, "batch_size must be a whole number of at least 1"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be a whole number of at least 1"),
        ({"checkpoint": ""}, "checkpoint must be the name of a folder"),
        ({"device": "gpu"}, "device is 'gpu', which torch cannot use here .*; give 'cpu'"),
        ({"device": "cuda:999"}, "device is 'cuda:999', which torch cannot use here"),
        ({"n_players": 0}, "n_players must be a whole number of at least 1"),
        ({"encoders": nn.Linear(3, 3)}, r"the encoder of view 'all' is Linear; give a recipe"),
        ({"encoders": {"words": SparseBag()}}, "encoders names the view 'words', but the views are all"),
        (
            {"encoders": DenseLayers()},
            "the encoder of view 'all': DenseEncoder reads dense, but the view holds sparse",
        ),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options).fit(X, Y)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (X, None, "requires y to be passed"),
        (X, Y[:5], "Y has 5 rows, but X has 220"),
        (X[:1], Y[:1], "1 sample"),
        (["text"], Y[:1], "X has one instance"),
        (X, sparse.csr_array((220, 3)), "Y has no positive at all"),
        (["text"] * 220, Y, r"view 'all' holds texts; say what reads it"),
    ],
)
def test_wrong_data_are_named(features, labels, message):
    with pytest.raises(ValueError, match=message):
        make().fit(features, labels)


def test_other_features_than_in_training_are_refused(model):
    with pytest.raises(
        ValueError, match="X has 79 features, but NeuralGameClassifier is expecting 80 features"
    ):
        model.predict(X[:, :79])
    with pytest.raises(ValueError, match=r"\(dense\), but the model was trained on \{'all': 80\} \(sparse\)"):
        model.predict(DENSE)
    with pytest.raises(
        ValueError, match=r"X has the views \{'all': 0\} \(texts\), but the model was trained on"
    ):
        model.predict(["a text"])
    seer = make(CNN, epochs=1).fit(PICTURES, Y)
    with pytest.raises(ValueError, match=r"X has the views .* \(dense\), but the model was .* \(images\)"):
        seer.predict(DENSE)
    with pytest.raises(ValueError, match=r"X has the views \{'pictures': 0\} \(images\)"):
        seer.predict({"pictures": PICTURES})


def test_a_recipe_is_not_changed_by_training():
    recipe = SparseBag(8)
    make(recipe).fit(X, Y)
    assert recipe == replace(recipe)
    before = [p.clone() for p in CNN.module[0].parameters()]
    make(CNN).fit(PICTURES, Y)
    assert all(torch.equal(a, b) for a, b in zip(before, CNN.module[0].parameters(), strict=True))
