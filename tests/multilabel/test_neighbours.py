import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel import neighbours, training
from evenhand.multilabel.commands.inspect import inspect_model
from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.game import Rules
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.neighbours import NeighbourPlayer, NeighbourRule, _nearest
from evenhand.multilabel.players import chosen_players, player_from_state
from evenhand.multilabel.storage import FolderError
from evenhand.multilabel.training import Settings, train
from evenhand.multilabel.views import Views

RULE = NeighbourRule(n_neighbors=4, sharpness=2.0, prior=0.3)
DATA = make_long_tail(120, 20, 40, seed=2)
VIEWS = Views({"words": DATA.X, "dense": DATA.X[:, :25].toarray()})
TEAM = [("words", "linear"), ("dense", "linear"), ("words", "neighbours"), ("dense", "neighbours")]
SETTINGS = Settings(
    Rules("squared_hinge", "success", 3.0, 1.0, 0.0, "logit"),
    regularization=0.3,
    rounds=0,
    n_folds=3,
    fusion_pull=10.0,
    tolerance=0.1,
    prune=0.0,
    n_jobs=1,
    seed=0,
    neighbours=RULE,
)


def problem(seed=0, n=60, n_features=8, n_labels=5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_features))
    X[3] = 0  # near nothing
    X[7] = X[5]  # equally near to all
    Y = sparse.csr_array((rng.random((n, n_labels)) < 0.3).astype(np.float32))
    return X, Y, rng.random(n) + 0.5


def remember(X, Y, weights, owned=None, rule=RULE):
    owned = np.ones(Y.shape[1], np.bool_) if owned is None else owned
    return NeighbourPlayer.of("v", X, Y, weights, owned, owned, rule)


def by_hand(X, Y, weights, queries, rule=RULE):
    """The formula, one instance and label at a time."""
    y, scores = Y.toarray(), np.zeros((len(queries), Y.shape[1]))
    for i, q in enumerate(queries):
        norms = np.linalg.norm(X, axis=1) * np.linalg.norm(q)
        cosine = np.where(norms > 0, X @ q / np.where(norms > 0, norms, 1), 0)
        near = np.argsort(-np.round(cosine, 9), kind="stable")[: rule.n_neighbors]
        a = weights[near] * np.maximum(cosine[near], 0) ** rule.sharpness
        for c in range(y.shape[1]):
            share = (weights @ y[:, c] + 0.5) / (weights.sum() + 1)
            p = (a @ y[near, c] + rule.prior * share) / (a.sum() + rule.prior)
            scores[i, c] = np.log(p / (1 - p))
    return scores


@pytest.mark.parametrize("as_block", [sparse.csr_array, np.ascontiguousarray])
@pytest.mark.parametrize("n_neighbors", [1, 4, 1000])
def test_scores_are_those_of_the_formula(as_block, n_neighbors):
    X, Y, weights = problem()
    queries = np.vstack([problem(1)[0], X[:9]])
    rule = NeighbourRule(n_neighbors, 2.0, 0.3)
    got = remember(as_block(X), Y, weights, rule=rule).logits(as_block(queries))
    np.testing.assert_allclose(got, by_hand(X, Y, weights, queries, rule), atol=1e-9)


def test_blocks_of_instances_change_nothing(monkeypatch):
    X, Y, weights = problem()
    whole = remember(X, Y, weights).logits(X)
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 7 * 60 * 8)
    np.testing.assert_allclose(remember(X, Y, weights).logits(X), whole, atol=1e-12)


def test_scores_are_finite_where_all_neighbours_agree():
    X, Y, weights = problem()
    Y = sparse.csr_array(np.ones(Y.shape, np.float32))
    got = remember(X.astype(np.float32), Y, weights, rule=NeighbourRule(5, 0.0, 1e-12)).logits(X[:9])
    assert np.isfinite(got).all()
    assert (got > 10).all()


def test_it_says_nothing_of_labels_that_it_does_not_own():
    X, Y, weights = problem()
    owned = np.array([True, False, True, True, False])
    got = remember(X, Y, weights, owned).logits(X)
    assert not got[:, ~owned].any()
    np.testing.assert_array_equal(got[:, owned], remember(X, Y, weights).logits(X)[:, owned])


def test_of_equally_near_instances_the_first_count():
    similarity = np.array([[1, 3, 3, 3, 2], [5, 5, 5, 5, 5], [0, 0, 0, 0, 1.0]])
    assert _nearest(similarity, 2).tolist() == [[1, 2], [0, 1], [0, 4]]
    assert _nearest(similarity, 5).tolist() == [[0, 1, 2, 3, 4]] * 3


def test_features_that_were_not_trained_on_are_refused():
    X, Y, weights = problem()
    with pytest.raises(ValueError, match="view 'v' has 3 features, but the model was trained on 8"):
        remember(X, Y, weights).logits(np.ones((2, 3)))


@pytest.mark.parametrize("as_block", [sparse.csr_array, np.ascontiguousarray])
def test_a_state_gives_back_the_player(as_block):
    X, Y, weights = problem()
    one = remember(as_block(X), Y, weights)
    again = player_from_state(one.get_state())
    assert (again.kind, again.view, again.n_features, again.n_stored) == ("neighbours", "v", 8, one.n_stored)
    assert again.logits(as_block(X)).tobytes() == one.logits(as_block(X)).tobytes()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "oracle", "no player of kind 'oracle'"),
        ("row_weights", np.ones(59), r"of shape \(60\)"),
        ("row_weights", -np.ones(60), "out of range"),
        ("shares", np.ones(5), "out of range"),
        ("owned", np.zeros(5, np.bool_), "out of range"),
        ("owned", np.ones(4, np.bool_), r"'shares' should be float64 of shape \(4\)"),
        ("memory", np.ones((0, 8)), r"of shape \(0\)"),
        ("memory", np.ones(60), "of shape"),
        ("memory", 5, "'memory' should be of type dict or ndarray"),
        ("rule", {"n_neighbors": 0, "sharpness": 1.0, "prior": 1.0}, "the rule of a player"),
        ("rule", {"n_neighbors": 3, "sharpness": 1.0}, "'prior' is missing"),
    ],
)
def test_a_damaged_state_is_refused(field, value, message):
    X, Y, weights = problem()
    with pytest.raises(FolderError, match=message):
        player_from_state({**remember(X, Y, weights).get_state(), field: value})


# --- in the game --------------------------------------------------------------------------------------------


def play(chosen=SETTINGS, team=TEAM, **options):
    views, kinds = zip(*team)
    owners = np.ones((len(team), 20), np.bool_)
    return train(VIEWS, DATA.Y, owners, views, chosen, player_kinds=kinds, **options)


def test_outputs_are_of_neighbours_outside_of_the_fold():
    trained = play()
    fold_of = trained.outputs.fold_of
    for player, (view, kind) in enumerate(TEAM):
        if kind == "linear":
            continue
        X = VIEWS.blocks[view]
        for f in range(3):
            inside, outside = np.flatnonzero(fold_of != f), np.flatnonzero(fold_of == f)
            expected = remember(X[inside], DATA.Y[inside], np.ones(len(inside))).logits(X[outside])
            seen = DATA.Y.sum(0) > 0
            np.testing.assert_array_equal(
                trained.outputs.logits[player][:, outside].T[:, seen], expected[:, seen]
            )


def test_groups_have_no_neighbours_of_their_own():
    groups = np.arange(120) // 10
    fold_of = play(groups=groups).outputs.fold_of
    assert all(len(set(fold_of[groups == g])) == 1 for g in range(12))


def test_linear_players_do_not_know_who_else_plays_in_round_0():
    alone, beside = play(team=TEAM[:2]), play()
    for player in range(2):
        assert alone.outputs.logits[player].tobytes() == beside.outputs.logits[player].tobytes()


@pytest.fixture
def always_on(monkeypatch):
    """Every round counts as a gain, so that the game goes through all of them."""
    seen, real = iter(range(1000)), training.summarise
    monkeypatch.setattr(training, "summarise", lambda *a: {**real(*a), "potential": float(next(seen))})


@pytest.mark.usefixtures("always_on")
def test_neighbours_say_the_same_in_every_round_and_linear_players_answer():
    first, told = play(), []
    later = play(replace(SETTINGS, rounds=1), on_progress=lambda *r: told.append(r))
    same = [np.array_equal(a, b) for a, b in zip(first.outputs.logits, later.outputs.logits)]
    assert same == [False, False, True, True]
    assert [r[1:] for r in told] == [(i, 12) for i in range(1, 13)]  # 4 solves, 2 x (3 folds + all)
    assert {r[0] for r in told} == {
        f"player {n}" for n in ("words", "dense", "words, neighbours", "dense, neighbours")
    }
    only = play(replace(SETTINGS, rounds=1), team=TEAM[2:])
    assert len(only.team.history) == 1  # nobody answers


@pytest.mark.parametrize("n_folds", [0, 3])
@pytest.mark.parametrize(
    "options", [{}, {"payoff": "log_likelihood", "space": "probability"}, {"rounds": 1, "own_share": 0.0}]
)
def test_every_game_can_be_played_by_a_mixed_team(n_folds, options):
    model = CuriosityGameClassifier(players=TEAM, n_folds=n_folds, tolerance=0.2, **options)
    p = model.fit(VIEWS, DATA.Y).predict_proba(VIEWS)
    assert np.isfinite(p).all()
    assert model.score(VIEWS, DATA.Y) > 0.3


def test_the_same_seed_gives_the_same_bits_in_any_number_of_threads():
    one, two = (
        CuriosityGameClassifier(players=TEAM, tolerance=0.2, n_jobs=n).fit(VIEWS, DATA.Y) for n in (1, 2)
    )
    assert one.predict_proba(VIEWS).tobytes() == two.predict_proba(VIEWS).tobytes()


def test_a_saved_team_predicts_the_same(tmp_path):
    model = CuriosityGameClassifier(players=TEAM, tolerance=0.2, n_neighbors=3).fit(VIEWS, DATA.Y)
    save_model(Model(model), tmp_path / "model")
    loaded = load_model(tmp_path / "model").classifier
    assert loaded.get_params() == model.get_params()
    assert [player.kind for player in loaded.team_.players] == [kind for _, kind in TEAM]
    assert loaded.team_.players[2].rule.n_neighbors == 3
    assert loaded.predict_proba(VIEWS).tobytes() == model.predict_proba(VIEWS).tobytes()


def test_inspect_tells_the_kinds_apart(tmp_path, capsys):
    model = CuriosityGameClassifier(players=TEAM, tolerance=0.2).fit(VIEWS, DATA.Y)
    save_model(Model(model), tmp_path / "model")
    inspect_model(tmp_path / "model", 1)
    players, shares = capsys.readouterr().out.split("Share of the fusion weights")
    for shown in (players, shares):
        assert re.search(r"^ *dense, neighbours  ", shown, re.MULTILINE)
        assert re.search(r"^ *dense  ", shown, re.MULTILINE)
    assert "3,000" in players  # values of 120 instances x 25 features


class StopNowError(Exception):
    pass


@pytest.mark.usefixtures("always_on")
@pytest.mark.parametrize("turns", [1, 3, 4, 5])
def test_an_interrupted_training_ends_the_same(tmp_path, turns):
    settings, place = replace(SETTINGS, rounds=1), tmp_path / "run"

    def stop(what, done, total):
        if len(list(place.glob("turn-*"))) == turns:
            raise StopNowError

    whole = play(settings)
    with pytest.raises(StopNowError):
        play(settings, checkpoint=place, on_progress=stop)
    resumed = play(settings, checkpoint=place)
    assert len(list(place.glob("turn-*"))) == 6  # neighbours have no second turn
    assert whole.fused.tobytes() == resumed.fused.tobytes()
    with pytest.raises(FolderError, match="players was"):
        play(settings, checkpoint=place, team=TEAM[:3])
    with pytest.raises(FolderError, match="n_neighbors was 4 and is 5"):
        play(replace(settings, neighbours=NeighbourRule(5, 2.0, 0.3)), checkpoint=place)


@pytest.mark.parametrize(
    ("players", "message"),
    [
        ([], "players is empty"),
        (
            [("words", "linear"), ("image", "linear")],
            "names the view 'image', but the views are words, dense",
        ),
        ([("words", "oracle")], "of kind 'oracle'; choose one of linear, neighbours"),
        ("words", "must be pairs of a view and a kind"),
        ([3], "must be pairs of a view and a kind"),
        (3, "must be pairs of a view and a kind"),
        ({"words": 3}, "must be pairs of a view and a kind"),
    ],
)
def test_players_that_do_not_exist_are_refused(players, message):
    with pytest.raises(ValueError, match=message):
        CuriosityGameClassifier(players=players).fit(VIEWS, DATA.Y)


def test_players_and_their_number_are_not_given_both():
    with pytest.raises(ValueError, match="give players or n_players, not both"):
        CuriosityGameClassifier(players=TEAM, n_players=4).fit(VIEWS, DATA.Y)


def test_players_by_view():
    by_view = {"words": ["linear", "neighbours"], "dense": "linear"}
    expected = (("words", "linear"), ("words", "neighbours"), ("dense", "linear"))
    assert chosen_players(VIEWS, None, by_view) == expected
    assert chosen_players(VIEWS, None, None) == (("words", "linear"), ("dense", "linear"))
