import warnings

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.text_views import TextViews
from evenhand.multilabel.views import Views

LABEL_SETS = "it learns label sets, two-dimensional y; the check passes classes"
ONE_COLUMN = "its y is one label, so probabilities are (n, 1); the check wants a column for each class"
NOT_LABEL_SETS = {
    "check_classifiers_classes": LABEL_SETS,
    "check_decision_proba_consistency": LABEL_SETS,
    "check_classifier_not_supporting_multiclass": "the message it wants names binary classes, not label sets",
    "check_classifiers_train": ONE_COLUMN,
    "check_estimator_sparse_array": ONE_COLUMN,
    "check_estimator_sparse_matrix": ONE_COLUMN,
}
FOLDS = "a row stands in one fold, its copies in several: weights and copies agree only without folds"


BATCHES = "a neural player's batches and its held-out part are drawn from rows, whatever they weigh"
THRESHOLD = "the threshold is learned; the check wants a decision above 0"
NEURAL = {"players": [("all", "neural")], "n_hidden": 8, "max_epochs": 3}


def expected_failures(estimator):
    if not estimator.n_folds and not estimator.players:
        return NOT_LABEL_SETS
    why = BATCHES if estimator.players else FOLDS
    weights = ("dense", "sparse")
    known = NOT_LABEL_SETS | {f"check_sample_weight_equivalence_on_{kind}_data": why for kind in weights}
    if estimator.players and estimator.n_folds:
        known["check_classifier_multioutput"] = THRESHOLD
    return known


@parametrize_with_checks(
    [
        CuriosityGameClassifier(),
        CuriosityGameClassifier(n_folds=0, tolerance=1e-7),
        CuriosityGameClassifier(**NEURAL),
        CuriosityGameClassifier(**NEURAL, n_folds=0),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    return make_long_tail(240, 12, 150, seed=0)


@pytest.fixture(scope="module")
def model(data):
    return CuriosityGameClassifier(n_jobs=1).fit(data.X[:160], data.Y[:160])


def two_views(data, rows):
    X = data.X[rows]
    return Views({"first": X[:, :90], "second": X[:, 60:].toarray()})


# --- X and Y in every form -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        sparse.csr_array,
        sparse.csr_matrix,
        sparse.csc_array,
        lambda X: X.toarray(),
        lambda X: Views({"all": X}),
    ],
    ids=["csr_array", "csr_matrix", "csc_array", "dense", "views"],
)
def test_features_in_every_form_give_the_same_model(data, model, form):
    X, Y = data.X, data.Y
    got = CuriosityGameClassifier().fit(form(X[:160]), Y[:160]).predict_proba(form(X[160:]))
    np.testing.assert_allclose(got, model.predict_proba(X[160:]), atol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        lambda Y: sparse.csr_matrix(Y).astype(np.int64),
        lambda Y: sparse.coo_array(Y).astype(np.bool_),
        lambda Y: Y.toarray().astype(np.int64),
        lambda Y: Y.toarray() > 0,
        lambda Y: 0.5 * Y.toarray(),
        lambda Y: pl.DataFrame(Y.toarray().astype(int), schema=[f"label {c}" for c in range(12)]),
        lambda Y: Y.toarray().astype(int).tolist(),
    ],
    ids=["csr_matrix", "coo_bool", "int", "bool", "float", "polars", "lists"],
)
def test_labels_in_every_form_give_the_same_model(data, model, form):
    X, Y = data.X, form(data.Y[:160])
    got = CuriosityGameClassifier().fit(X[:160], Y)
    np.testing.assert_array_equal(got.predict_proba(X[160:]), model.predict_proba(X[160:]))
    predicted, expected = got.predict(X[160:]), model.predict(X[160:])
    assert sparse.issparse(predicted) == sparse.issparse(Y)
    dense = predicted.toarray() if sparse.issparse(predicted) else predicted
    assert sparse.issparse(predicted) or predicted.dtype == np.int64
    np.testing.assert_array_equal(dense, expected.toarray())
    names = [f"label {c}" for c in range(12)] if hasattr(Y, "columns") else list(range(12))
    assert got.classes_.tolist() == names


def test_explicit_zeros_and_doubles_in_labels_are_no_labels_and_one(data, model):
    Y = data.Y[:160].tocoo()
    rows, columns = np.append(Y.row, [0, Y.row[0]]), np.append(Y.col, [0, Y.col[0]])
    zero = 0.0 if data.Y[[0]].toarray()[0, 0] == 0 else 1.0
    odd = sparse.csr_array((np.append(Y.data, [zero, 1.0]), (rows, columns)), Y.shape)
    got = CuriosityGameClassifier().fit(data.X[:160], odd)
    np.testing.assert_array_equal(got.predict_proba(data.X[160:]), model.predict_proba(data.X[160:]))


def test_tags_in_label_sets_out(data):
    tags = [[f"tag{c:02}" for c in row.indices] for row in (data.Y[[i]] for i in range(240))]
    model = CuriosityGameClassifier().fit(data.X[:160], tags[:160])
    assert model.classes_.tolist() == [f"tag{c:02}" for c in range(12)]
    sets = model.predict(data.X[160:])
    assert sparse.issparse(sets)
    named = model.label_sets(sets)
    assert len(named) == 80
    for i, names in enumerate(named):
        assert names == tuple(f"tag{c:02}" for c in np.flatnonzero(sets[[i]].toarray()[0]))
    expected = f1_score(data.Y[160:].toarray(), sets.toarray(), average="micro")
    assert model.score(data.X[160:], tags[160:]) == pytest.approx(expected)
    with pytest.raises(ValueError, match="Y has 3 labels, but the model was trained on 12"):
        model.label_sets(np.ones((2, 3)))


def test_tags_that_training_did_not_know_are_missed_ones(data):
    tags = [[f"tag{c:02}" for c in row.indices] for row in (data.Y[[i]] for i in range(240))]
    model = CuriosityGameClassifier().fit(data.X[:160], tags[:160])
    known = model.score(data.X[160:], tags[160:])
    more = [{*names, "new"} for names in tags[160:]]
    truth = np.hstack([data.Y[160:].toarray(), np.ones((80, 1))])
    sets = np.hstack([model.predict(data.X[160:]).toarray(), np.zeros((80, 1))])
    assert model.score(data.X[160:], more) == pytest.approx(f1_score(truth, sets, average="micro"))
    assert model.score(data.X[160:], more) < known


def test_names_of_features_are_kept_and_compared(data):
    frame = pl.DataFrame(data.X[:160].toarray(), schema=[f"word{j}" for j in range(150)])
    model = CuriosityGameClassifier().fit(frame, data.Y[:160])
    assert model.feature_names_in_[0] == "word0"
    assert model.n_features_in_ == 150
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename({"word0": "other"}))
    model.fit(two_views(data, range(160)), data.Y[:160])
    assert not hasattr(model, "feature_names_in_")
    assert model.n_features_in_ == 180
    assert model.views_ == {"first": 90, "second": 90}


def test_callers_arrays_are_not_changed(data):
    X, Y, weights = data.X[:160].toarray(), data.Y[:160].toarray(), np.ones(160)
    kept = X.copy(), Y.copy(), weights.copy()
    for array in (X, Y, weights):
        array.flags.writeable = False
    CuriosityGameClassifier(n_players=2, rounds=1).fit(X, Y, sample_weight=weights).predict(X)
    for array, before in zip((X, Y, weights), kept):
        np.testing.assert_array_equal(array, before)


# --- what it predicts ------------------------------------------------------------------------------


def test_probabilities_lie_between_0_and_1_in_the_order_of_the_teams_scores(data, model):
    X = data.X[160:]
    p, fused = model.predict_proba(X), model.team_.logits(Views({"all": X}))
    assert p.shape == (80, 12)
    assert p.dtype == np.float32
    assert p.min() > 0
    assert p.max() < 1
    order = np.argsort(fused, axis=0, kind="stable")
    assert (np.diff(np.take_along_axis(p, order, axis=0), axis=0) >= 0).all()
    np.testing.assert_allclose(model.decision_function(X), logit(p), rtol=1e-6)


def test_decision_scores_are_finite_and_rise_with_the_probabilities(data):
    X = data.X.toarray()
    model = CuriosityGameClassifier(n_folds=0, C=100.0).fit(1e3 * X[:160], data.Y[:160])
    p, scores = model.predict_proba(1e5 * X), model.decision_function(1e5 * X)
    assert p.max() == 1
    assert np.isfinite(scores).all()
    order = np.argsort(p.ravel(), kind="stable")
    assert (np.diff(scores.ravel()[order]) >= 0).all()


def test_without_folds_it_is_one_vs_rest_with_a_threshold_at_one_half(data):
    X, Y = data.X[:160].toarray().astype(float), data.Y[:160].toarray().astype(int)
    options = {"n_folds": 0, "tolerance": 1e-7, "rarity_reward": 0.0, "C": 0.5, "prune": 0.0}
    for payoff, peer in (
        ("squared_hinge", LinearSVC(C=0.5, tol=1e-8, max_iter=1_000_000)),
        ("log_likelihood", LogisticRegression(C=0.5, solver="liblinear", tol=1e-10, max_iter=100_000)),
    ):
        model = CuriosityGameClassifier(payoff=payoff, **options).fit(X, Y)
        peer = OneVsRestClassifier(peer).fit(X, Y)
        scores = peer.decision_function(X)
        np.testing.assert_allclose(model.decision_function(X), scores, atol=1e-4)
        np.testing.assert_allclose(model.predict_proba(X), expit(scores), atol=1e-4)
        np.testing.assert_array_equal(model.predict(X), scores > 0)
        assert model.calibration_ is None


def test_top_k_are_the_k_most_probable(data, model):
    X = data.X[160:]
    p, best = model.predict_proba(X), model.predict_topk(X, 3)
    assert isinstance(best, sparse.csr_array)
    assert best.shape == (80, 12)
    assert (np.diff(best.indptr) == 3).all()
    assert best.has_sorted_indices
    for i in range(80):
        row = best[[i]]
        np.testing.assert_array_equal(row.data, p[i, row.indices])
        assert row.data.min() >= np.sort(p[i])[-3]
    assert (np.diff(model.predict_topk(X, 99).indptr) == 12).all()
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, not 0"):
        model.predict_topk(X, 0)


def test_small_chunks_change_nothing(data, model, monkeypatch):
    X = data.X[160:]
    whole = model.predict_proba(X), model.predict_topk(X, 3), model.predict(X)
    monkeypatch.setattr("evenhand.multilabel.estimator._CHUNK_BYTES", 1000)
    np.testing.assert_allclose(model.predict_proba(X), whole[0], atol=1e-6)
    np.testing.assert_allclose(model.predict_topk(X, 3).toarray(), whole[1].toarray(), atol=1e-6)
    np.testing.assert_array_equal(model.predict(X).toarray(), whole[2].toarray())


def test_each_decoder_decides_by_what_training_taught_it(data, model):
    X, p = data.X[160:], model.predict_proba(data.X[160:])
    default = model.predict(X).toarray()
    np.testing.assert_array_equal(default, model.predict(X, decoder="micro").toarray())
    thresholds = {name: model.decoders_[name].threshold_ for name in ("micro", "macro")}
    for name, threshold in thresholds.items():
        np.testing.assert_array_equal(model.predict(X, decoder=name).toarray(), p >= threshold)
    sets = {name: model.predict(X, decoder=name).toarray() for name in ("per_label", "macro_f1")}
    for name, found in sets.items():
        assert found.shape == (80, 12)
        assert 0 < found.sum() < 480
        np.testing.assert_array_equal(found, model.decoders_[name].decode(p).toarray())
    other = clone(model).set_params(decoder="macro").fit(data.X[:160], data.Y[:160])
    np.testing.assert_array_equal(other.predict(X).toarray(), p >= thresholds["macro"])
    with pytest.raises(ValueError, match="decoder is 'best'; choose one of micro, macro"):
        model.predict(X, decoder="best")


def test_the_score_is_micro_f1(data, model):
    X, Y = data.X[160:], data.Y[160:]
    expected = f1_score(Y.toarray(), model.predict(X).toarray(), average="micro")
    assert model.score(X, Y) == pytest.approx(expected)
    assert expected > 0.3
    with pytest.raises(ValueError, match="score takes no sample_weight"):
        model.score(X, Y, sample_weight=np.ones(80))


def test_a_label_without_a_positive_has_a_constant_score_and_one_warning(data):
    Y = data.Y[:160].toarray()
    Y[:, [4, 7]] = 0
    with pytest.warns(
        UserWarning, match="2 of 12 labels have no positive; they get a constant score"
    ) as record:
        model = CuriosityGameClassifier().fit(data.X[:160], Y)
    assert len(record) == 1
    assert record[0].filename == __file__
    p = model.predict_proba(data.X[160:])
    assert np.ptp(p[:, [4, 7]], axis=0).tolist() == [0, 0]
    assert p[:, [4, 7]].max() < 0.01
    assert np.ptp(p[:, 0]) > 0
    assert not model.predict(data.X[160:])[:, [4, 7]].any()


def test_no_warning_where_every_label_has_a_positive(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CuriosityGameClassifier(n_players=2, rounds=1).fit(data.X[:160], data.Y[:160]).predict(data.X[160:])


def test_the_same_seed_gives_the_same_bits(data):
    views = two_views(data, range(160))
    fit = [
        CuriosityGameClassifier(rounds=1, random_state=seed, n_jobs=n_jobs)
        .fit(views, data.Y[:160])
        .predict_proba(views)
        for seed, n_jobs in ((3, None), (3, 2), (4, None))
    ]
    assert fit[0].tobytes() == fit[1].tobytes()
    assert np.abs(fit[0] - fit[2]).max() > 0


# --- weights and groups ----------------------------------------------------------------------------


def test_weights_of_rows_count(data):
    X, Y = data.X[:160], data.Y[:160]
    plain = CuriosityGameClassifier().fit(X, Y).predict_proba(X)
    ones = CuriosityGameClassifier().fit(X, Y, sample_weight=np.ones(160)).predict_proba(X)
    np.testing.assert_array_equal(plain, ones)
    half = CuriosityGameClassifier().fit(X, Y, sample_weight=np.arange(160) % 2).predict_proba(X)
    assert np.abs(half - plain).max() > 0.01
    with pytest.raises(ValueError, match=r"[Nn]egative values in .*sample_weight"):
        CuriosityGameClassifier().fit(X, Y, sample_weight=np.full(160, -1.0))
    with pytest.raises(ValueError, match=r"sample_weight.shape"):
        CuriosityGameClassifier().fit(X, Y, sample_weight=np.ones(3))


def test_groups_stay_in_one_fold(data, monkeypatch):
    seen = []
    from evenhand.multilabel import estimator

    train = estimator.train
    monkeypatch.setattr(
        estimator, "train", lambda *a, **k: seen.append(train(*a, **k)) or seen[-1], raising=True
    )
    groups = [f"source {i // 4}" for i in range(160)]
    CuriosityGameClassifier().fit(data.X[:160], data.Y[:160], groups=groups)
    fold_of = seen[0].outputs.fold_of.reshape(40, 4)
    assert (fold_of == fold_of[:, :1]).all()
    with pytest.raises(ValueError, match="groups has 3 entries, but there are 160 instances"):
        CuriosityGameClassifier().fit(data.X[:160], data.Y[:160], groups=groups[:3])
    with pytest.raises(ValueError, match="only 1 groups"):
        CuriosityGameClassifier().fit(data.X[:160], data.Y[:160], groups=["one"] * 160)


# --- players and views -----------------------------------------------------------------------------


def test_every_view_has_a_player(data):
    views = two_views(data, range(240))
    model = CuriosityGameClassifier(rounds=1, disagreement_reward=1.0).fit(views[:160], data.Y[:160])
    assert [player.view for player in model.team_.players] == ["first", "second"]
    assert all(player.owned.all() for player in model.team_.players)
    as_mapping = model.predict_proba(dict(views[160:].blocks))
    np.testing.assert_array_equal(model.predict_proba(views[160:]), as_mapping)
    with pytest.raises(ValueError, match="X has 150 features"):
        model.predict(data.X)
    with pytest.raises(ValueError, match=r"X has the views .*but the model was trained on"):
        model.predict({"first": views.blocks["second"]})
    with pytest.raises(ValueError, match="n_players is 3, but there are 2 views"):
        CuriosityGameClassifier(n_players=3).fit(views, data.Y)
    with pytest.raises(ValueError, match="view 'second' has 239 rows"):
        model.predict({"first": views.blocks["first"], "second": views.blocks["second"][1:]})


def test_a_list_of_matrices_is_several_views(data):
    X = data.X
    blocks = [X[:, :90], X[:, 60:]]
    model = CuriosityGameClassifier().fit([b[:160] for b in blocks], data.Y[:160])
    assert model.views_ == {"view1": 90, "view2": 90}
    assert model.predict([b[160:] for b in blocks]).shape == (80, 12)


@pytest.mark.parametrize("partition", ["frequency", "random", "cooccurrence", "all"])
def test_players_share_the_labels(data, partition):
    model = CuriosityGameClassifier(n_players=3, partition=partition, rounds=1).fit(
        data.X[:160], data.Y[:160]
    )
    owners = np.stack([player.owned for player in model.team_.players])
    assert owners.shape == (3, 12)
    assert owners.any(0).all()
    if partition == "all":
        assert owners.all()
    else:
        rare = model.label_counts_ < np.median(model.label_counts_)
        np.testing.assert_array_equal(owners.sum(0), np.where(rare, 2, 1))
    assert np.isfinite(model.predict_proba(data.X[160:])).all()


def test_quality_by_label_is_that_of_the_out_of_fold_decisions(data):
    Y = data.Y[:160].toarray()
    Y[:, 3] = 0
    with pytest.warns(UserWarning, match="1 of 12 labels"):
        model = CuriosityGameClassifier().fit(data.X[:160], Y)
    assert model.held_out_f1_[3] == 0
    inside = f1_score(Y, model.predict(data.X[:160]), average=None, zero_division=0)
    assert model.held_out_f1_.mean() < inside.mean()  # they were not trained on
    with pytest.warns(UserWarning, match="1 of 12 labels"):
        alone = CuriosityGameClassifier(n_folds=0).fit(data.X[:160], Y)
    assert alone.held_out_f1_ is None


def test_more_players_than_labels_can_play(data):
    Y = data.Y[:160, :2]
    model = CuriosityGameClassifier(n_players=5, partition="frequency", rounds=1).fit(data.X[:160], Y)
    assert np.isfinite(model.predict_proba(data.X[160:])).all()
    assert np.isfinite(model.team_.history[0]["potential"])


@pytest.mark.parametrize(
    "options",
    [
        {"payoff": "log_likelihood", "space": "probability"},
        {"payoff": "log_likelihood", "curiosity": "divergence"},
        {"payoff": "log_likelihood", "negative_share": 0.5},
        {"n_folds": 0},
    ],
    ids=["probability", "divergence", "negative_share", "no_folds"],
)
def test_every_game_can_be_played(data, options):
    views = two_views(data, range(240))
    model = CuriosityGameClassifier(rounds=2, **options).fit(views[:160], data.Y[:160])
    assert model.score(views[160:], data.Y[160:]) > 0.3
    assert len(model.team_.history) >= 2


# --- with scikit-learn's tools ---------------------------------------------------------------------


def test_clone_keeps_every_option():
    options = CuriosityGameClassifier(C=2.0, rounds=3, decoder="macro", verbose=True).get_params()
    assert clone(CuriosityGameClassifier(**options)).get_params() == options


@pytest.mark.parametrize("kind", ["csr", "views"])
def test_grid_search_over_the_strength(data, kind):
    X = data.X if kind == "csr" else two_views(data, range(240))
    strengths = [1e-4, 0.5]
    dense = data.Y.toarray()  # cross_val_score takes no sparse y
    search = GridSearchCV(CuriosityGameClassifier(n_folds=2), {"C": strengths}, cv=2, error_score="raise")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]* of 12 labels have no positive")
        search.fit(X, data.Y)
        by_hand = [
            cross_val_score(CuriosityGameClassifier(n_folds=2, C=C), X, dense, cv=2).mean() for C in strengths
        ]
    assert search.cv_results_["mean_test_score"].tolist() == by_hand
    assert len(set(by_hand)) == 2
    assert search.best_params_ == {"C": strengths[int(np.argmax(by_hand))]}
    assert search.predict(X).shape == (240, 12)


def test_cross_val_predict(data):
    Y = data.Y.toarray().astype(int)
    keep = Y.sum(0) > 10
    p = cross_val_predict(
        CuriosityGameClassifier(n_folds=2), data.X, Y[:, keep], cv=2, method="decision_function"
    )
    assert p.shape == (240, keep.sum())


def test_a_pipeline_from_texts():
    words = np.array(["editor", "player", "library", "server", "music", "text", "web", "game"])
    rng = np.random.default_rng(0)
    rows = [rng.choice(8, 4, replace=False) for _ in range(120)]
    texts = [" ".join(words[row]) for row in rows]
    tags = [[str(words[c]) + "!" for c in row[:2]] for row in rows]
    pipeline = make_pipeline(TextViews(("words", "characters")), CuriosityGameClassifier())
    pipeline.fit(texts[:80], tags[:80])
    classifier = pipeline[-1]
    assert [player.view for player in classifier.team_.players] == ["words", "characters"]
    named = classifier.label_sets(pipeline.predict(texts[80:]))
    right = np.mean([len(set(names) & set(true)) for names, true in zip(named, tags[80:])])
    assert right > 0.5
    assert all(name.endswith("!") for names in named for name in names)


# --- progress --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose", [False, True])
def test_progress_goes_to_the_error_stream(data, verbose, capsys):
    CuriosityGameClassifier(verbose=verbose).fit(data.X[:160], data.Y[:160])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("player all" in shown.err) == verbose


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("partition", "some", "partition is 'some'; choose one of auto, all, frequency"),
        ("payoff", "soft_macro_f1", "payoff is 'soft_macro_f1'; choose one of squared_hinge, log_likelihood"),
        ("curiosity", "none", "curiosity is 'none'; choose one of success, divergence"),
        ("space", "log", "space is 'log'; choose one of logit, probability"),
        ("decoder", "best", "decoder is 'best'; choose one of micro, macro, per_label, macro_f1"),
        ("rarity_reward", -1, "rarity_reward must be a finite number of at least 0, not -1"),
        ("disagreement_reward", np.nan, "disagreement_reward must be a finite number of at least 0, not nan"),
        ("negative_share", "much", "negative_share must be a finite number of at least 0, not 'much'"),
        ("fusion_pull", -0.5, "fusion_pull must be a finite number"),
        ("prune", None, "prune must be a finite number"),
        ("C", 0, "C must be a finite number above 0, not 0"),
        ("tolerance", 0.0, "tolerance must be a finite number above 0"),
        ("max_dense_bytes", -1, "max_dense_bytes must be a finite number above 0"),
        ("rounds", 1.5, "rounds must be a whole number of at least 0, not 1.5"),
        ("n_folds", 1, "n_folds is 1; take at least 2, or 0 for no cross-fitting"),
        ("n_folds", -2, "n_folds must be a whole number of at least 0"),
        ("tail_owners", 0, "tail_owners must be a whole number of at least 1, not 0"),
        (
            "random_state",
            None,
            "random_state must be a whole number of at least 0 and at most 4294967295, not None",
        ),
        ("n_players", 0, "n_players must be a whole number of at least 1, or None, not 0"),
        ("n_jobs", 0, "n_jobs must be a whole number, -1 for all cores, or None, not 0"),
        ("n_jobs", "two", "n_jobs must be a whole number, -1 for all cores, or None, not 'two'"),
    ],
)
def test_every_option_is_checked_by_name(data, option, value, message):
    with pytest.raises(ValueError, match=message):
        CuriosityGameClassifier(**{option: value}).fit(data.X, data.Y)


@pytest.mark.parametrize("option", ["curiosity", "space"])
def test_options_that_need_probabilities(data, option):
    value = {"curiosity": "divergence", "space": "probability"}[option]
    with pytest.raises(ValueError, match=f"{option}='{value}' needs probabilities"):
        CuriosityGameClassifier(**{option: value}).fit(data.X, data.Y)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_a_value_that_is_no_number_is_told_with_its_place(data, model, value, form):
    X = data.X.toarray()
    X[7, 11] = value
    shown = "NaN" if np.isnan(value) else "inf"
    with pytest.raises(ValueError, match=f"is {shown} in row 7, column 11"):
        CuriosityGameClassifier().fit(form(X), data.Y)
    with pytest.raises(ValueError, match=f"is {shown} in row 7, column 11"):
        model.predict(form(X))
    Y = data.Y.toarray()
    Y[5, 3] = value
    with pytest.raises(ValueError, match=f"Y is {value} in row 5, column 3"):
        CuriosityGameClassifier().fit(data.X, form(Y))


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 1],
        ["a", "b", "c"],
        np.array([[0.5], [1.5], [2.5]])[:, 0],
        np.array([["a"], ["b"], ["c"]], dtype=object),
        np.array([["a"], ["b"], ["c"]]),
        [[1, 2], [3], []],
        np.ones((3, 2, 2)),
    ],
    ids=["classes", "texts", "numbers", "objects", "strings", "ragged", "three-dimensional"],
)
def test_what_is_no_label_set_is_refused(y):
    with pytest.raises(ValueError, match=r"Unknown label type: y is .*label sets are needed, not classes"):
        CuriosityGameClassifier().fit(np.eye(3), y)


def test_data_that_cannot_be_learnt_from_are_refused(data):
    X, Y = data.X, data.Y
    fit = CuriosityGameClassifier().fit
    with pytest.raises(ValueError, match="Found array with 1 sample"):
        fit(X[:1], Y[:1])
    with pytest.raises(ValueError, match="X has one instance; at least two are needed"):
        fit(two_views(data, [0]), Y[:1])
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        fit(X[:0], Y[:0])
    with pytest.raises(ValueError, match="0 feature"):
        fit(np.empty((240, 0)), Y)
    with pytest.raises(ValueError, match="Y has 239 rows, but X has 240"):
        fit(X, Y[:239])
    with pytest.raises(ValueError, match="no positive at all"):
        fit(X, np.zeros((240, 3)))
    with pytest.raises(ValueError, match="no positive at all"):
        fit(X, sparse.csr_array((240, 0)))
    with pytest.raises(ValueError, match="requires y to be passed"):
        fit(X, None)


def test_prediction_refuses_what_was_not_trained_on(data, model):
    with pytest.raises(NotFittedError):
        CuriosityGameClassifier().predict(data.X)
    with pytest.raises(ValueError, match=r"X has 149 features, but .* is expecting 150"):
        model.predict(data.X[:, :149])
    assert model.predict_proba(data.X[:1]).shape == (1, 12)


def test_two_instances_are_enough():
    model = CuriosityGameClassifier().fit(np.eye(2), np.eye(2))
    assert np.isfinite(model.predict_proba(np.eye(2))).all()


def test_arrays_beyond_the_budget_are_refused_with_the_alternative(data, model):
    small = clone(model).set_params(max_dense_bytes=12 * 4 * 79).fit(data.X[:160], data.Y[:160])
    message = (
        r"80 instances x 12 labels are an array of 0.00366 MiB, more than max_dense_bytes \(0.00362 MiB\)"
    )
    for refuse in (small.predict_proba, small.decision_function):
        with pytest.raises(ValueError, match=message + r"; use predict_topk\(X, k\)"):
            refuse(data.X[160:])
    assert small.predict_proba(data.X[161:]).shape == (79, 12)
    assert small.predict_topk(data.X[160:], 2).nnz == 160
    assert small.predict(data.X[160:]).shape == (80, 12)
    with pytest.raises(ValueError, match="max_dense_bytes"):
        small.predict(data.X[160:], decoder="macro_f1")
