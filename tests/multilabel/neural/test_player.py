"""The neural player of the linear game's team."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn.functional import logsigmoid

from evenhand.multilabel import training
from evenhand.multilabel.commands.inspect import inspect_model
from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.game import Rules
from evenhand.multilabel.metrics import mean_average_precision
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.neural.alone import NeuralRule, _split, learn_alone
from evenhand.multilabel.neural.encoders import DenseLayers
from evenhand.multilabel.neural.inputs import Column
from evenhand.multilabel.players import player_from_state
from evenhand.multilabel.storage import FolderError
from evenhand.multilabel.training import Settings, train
from evenhand.multilabel.views import Views

DATA = make_long_tail(120, 20, 40, seed=2)
VIEWS = Views({"words": DATA.X, "dense": DATA.X[:, :25].toarray()})
TEAM = [("words", "linear"), ("dense", "neural"), ("dense", "neighbours"), ("words", "neural")]
RULE = NeuralRule(n_hidden=6, max_epochs=4)
RULES = Rules("squared_hinge", "success", 3.0, 1.0, 0.0, "logit")
SETTINGS = Settings(
    RULES,
    regularization=0.3,
    rounds=0,
    n_folds=3,
    fusion_pull=10.0,
    tolerance=0.1,
    prune=0.0,
    n_jobs=1,
    seed=0,
    neural=RULE,
)


def exclusive_or(n=400, seed=0):
    """Each label is whether two of the features differ in sign: no linear score says so."""
    X = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    signs = X > 0
    pairs = [signs[:, i] ^ signs[:, j] for i, j in ((0, 1), (1, 2), (0, 2))]
    return X, sparse.csr_array(np.stack(pairs, axis=1).astype(np.float32))


def problem(seed=0, n=60, n_features=8, n_labels=5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_features)).astype(np.float32)
    return X, sparse.csr_array((rng.random((n, n_labels)) < 0.3).astype(np.float32)), rng.random(n) + 0.5


def learn(X, Y, weights, *, owned=None, rule=RULE, rules=RULES, groups=None, seed=7):
    owned = np.ones(Y.shape[1], np.bool_) if owned is None else owned
    rarity = np.linspace(1, 0, Y.shape[1])
    return learn_alone("v", X, Y, weights, owned, rarity, rules, rule, groups=groups, seed=seed)


def test_it_learns_what_a_linear_player_cannot():
    X, Y = exclusive_or()
    options = {"n_folds": 0, "n_hidden": 32}
    linear, neural = (
        CuriosityGameClassifier(players=[("all", kind)], **options).fit(X, Y) for kind in ("linear", "neural")
    )
    unseen, truth = exclusive_or(seed=1)
    assert mean_average_precision(truth, linear.predict_proba(unseen)) < 0.65
    assert mean_average_precision(truth, neural.predict_proba(unseen)) > 0.95
    assert neural.score(unseen, truth) > 0.8 > linear.score(unseen, truth) + 0.1


def test_a_step_ascends_the_utility_of_a_team_of_its_own():
    """One batch and one epoch against AdamW by hand on R + C_i, written out."""
    X, Y, weights = problem()
    owned = np.array([True, True, False, True, True])
    rule = replace(RULE, max_epochs=1, batch_size=1000, weight_decay=0.1)
    player = learn(X, Y, weights, owned=owned, rule=rule, rules=replace(RULES, negative_share=0.2))
    own = sparse.csr_array(Y * owned)
    own.eliminate_zeros()
    inside, held_out = _split(own, None, 7)
    assert len(inside) + len(held_out) == 60
    assert len(held_out) in (8, 9)
    torch.manual_seed(7)
    encoder = DenseLayers((6,)).build(Column("dense", X))
    head = torch.nn.Linear(6, 4)
    y = torch.from_numpy(Y[inside].toarray()[:, owned])
    n_c = y.sum(0)
    with torch.no_grad():
        head.bias.copy_(torch.log((n_c + 1) / (len(inside) - n_c + 1)))
    decays = [encoder.layers[0].weight, head.weight]
    others = [encoder.layers[0].bias, head.bias]
    optimizer = torch.optim.AdamW(
        [{"params": decays, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}],
        lr=rule.learning_rate,
    )
    s = head(encoder(torch.from_numpy(X[inside])))
    right, wrong = y * logsigmoid(s), (1 - y) * logsigmoid(-s)
    rho = torch.from_numpy(np.linspace(1, 0, 5)[owned]).float()
    share = torch.from_numpy(weights[inside] / weights[inside].sum()).float()
    payoff = (share @ (right + wrong)).sum() / 5
    curiosity = (share @ (rho * 3.0 * (right + 0.2 * wrong))).sum() / 4
    (-(payoff + curiosity)).backward()
    optimizer.step()
    for mine, hand in ((player.encoder, encoder), (player.head, head)):
        for one, other in zip(mine.parameters(), hand.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_weights_of_rows_are_heeded():
    X, Y, weights = problem()
    plain = learn(X, Y, np.ones(60)).logits(X)
    np.testing.assert_array_equal(learn(X, Y, np.full(60, 0.3)).logits(X), plain)
    weighed = learn(X, Y, weights).logits(X)
    assert np.abs(weighed - plain).max() > 0.01
    np.testing.assert_allclose(learn(X, Y, 7 * weights).logits(X), weighed, atol=1e-4)
    # Instances without weight might as well not be there.
    some = np.arange(60) % 3 > 0
    without = learn(X[some], Y[some], weights[some]).logits(X)
    np.testing.assert_array_equal(learn(X, Y, weights * some).logits(X), without)


@pytest.mark.parametrize("as_block", [sparse.csr_array, np.ascontiguousarray])
def test_same_seed_same_bits_and_the_callers_random_numbers_stay_his(as_block):
    X, Y, weights = problem()
    torch.manual_seed(1)
    one = learn(as_block(X), Y, weights).logits(as_block(X))
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    assert learn(as_block(X), Y, weights).logits(as_block(X)).tobytes() == one.tobytes()
    assert learn(as_block(X), Y, weights, seed=8).logits(as_block(X)).tobytes() != one.tobytes()


@pytest.mark.parametrize("as_block", [sparse.csr_array, np.ascontiguousarray])
def test_a_view_may_come_sparse_or_dense_and_in_any_float(as_block):
    X, Y, weights = problem()
    player = learn(as_block(X), Y, weights)
    expected = player.logits(as_block(X))
    assert expected.dtype == np.float32
    for other in (X, X.astype(np.float64), sparse.csr_array(X), sparse.csr_array(X.astype(np.float64))):
        np.testing.assert_allclose(player.logits(other), expected, atol=1e-6)


def test_blocks_of_instances_change_nothing(monkeypatch):
    X, Y, weights = problem()
    player = learn(X, Y, weights)
    whole = player.logits(X)
    monkeypatch.setattr("evenhand.multilabel.neural.player._ROWS", 7)
    np.testing.assert_allclose(player.logits(X), whole, atol=1e-6)


def test_it_says_nothing_of_labels_that_it_does_not_own():
    X, Y, weights = problem()
    owned = np.array([True, False, True, True, False])
    got = learn(X, Y, weights, owned=owned).logits(X)
    assert not got[:, ~owned].any()
    assert got[:, owned].all()


def test_a_label_is_learned_from_though_its_positives_are_held_out():
    labels = sparse.csr_array(np.eye(30, 12, dtype=np.float32) + np.eye(30, 12, -12, dtype=np.float32))
    inside, held_out = _split(labels, None, 0)
    assert set(inside) | set(held_out) == set(range(30))
    assert not set(inside) & set(held_out)
    assert (labels[inside].sum(axis=0) > 0).all()
    alone = sparse.csr_array(np.eye(30, dtype=np.float32))  # every instance has a label's only positive
    assert [len(part) for part in _split(alone, None, 0)] == [30, 30]


def test_groups_are_held_out_together():
    _, Y, _ = problem()
    groups = np.arange(60) // 6
    inside, held_out = _split(Y, groups, 0)
    assert len(held_out)
    assert not set(groups[inside]) & set(groups[held_out])


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_hardly_any_instances(n):
    X, Y, weights = (
        problem(n=n) if n else (np.ones((3, 8), np.float32), sparse.csr_array((3, 5)), np.zeros(3))
    )
    assert np.isfinite(learn(X, sparse.csr_array(Y, dtype=np.float32), weights).logits(X)).all()


def test_features_that_were_not_trained_on_are_refused():
    X, Y, weights = problem()
    with pytest.raises(ValueError, match="view 'v' has 3 features, but the model was trained on 8"):
        learn(X, Y, weights).logits(np.ones((2, 3), np.float32))


def test_divergence_is_named():
    X, Y, weights = problem()
    message = "the neural player of view 'v' diverges .* scale the view's features"
    with pytest.raises(FloatingPointError, match=message):
        learn(3e38 * np.sign(X), Y, weights)


@pytest.mark.parametrize("as_block", [sparse.csr_array, np.ascontiguousarray])
def test_a_state_gives_back_the_player(as_block):
    X, Y, weights = problem()
    one = learn(as_block(X), Y, weights, owned=np.arange(5) != 2)
    again = player_from_state(one.get_state())
    assert (again.kind, again.view, again.n_features, again.n_stored) == ("neural", "v", 8, one.n_stored)
    assert one.n_stored == (8 * 6 + 6) + (6 * 4 + 4) + (6 * 6 + 6 if as_block is sparse.csr_array else 0)
    assert again.logits(as_block(X)).tobytes() == one.logits(as_block(X)).tobytes()


ENCODER = {"kind": "DenseEncoder", "options": {"n_features": 8, "hidden": [6], "dropout": 0.0}}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "oracle", "no player of kind 'oracle'"),
        ("view", None, "'view' should be of type str"),
        ("owned", np.ones(4, np.bool_), r"'weight' should be float32 of shape \(4, 6\)"),
        ("owned", np.zeros(5, np.bool_), "the player of view 'v' owns no label"),
        ("encoder", {**ENCODER, "kind": "TextEncoder"}, "not one of BagEncoder, DenseEncoder"),
        (
            "encoder",
            {"kind": "DenseEncoder", "options": {}},
            "options of the encoder DenseEncoder are damaged",
        ),
        (
            "encoder",
            {**ENCODER, "options": {**ENCODER["options"], "hidden": []}},
            "options of the encoder DenseEncoder are damaged",
        ),
        (
            "encoder",
            {**ENCODER, "options": {**ENCODER["options"], "n_features": 9}},
            r"should be float32 of shape \(6, 9\)",
        ),
        ("encoder_weights", {}, "'layers.0.weight' is missing"),
        ("encoder_weights", np.ones(3), "'encoder_weights' should be of type dict"),
        (
            "head_weights",
            {"weight": np.zeros((5, 6), np.float32), "bias": np.zeros(5)},
            "'bias' should be float32",
        ),
        ("head_weights", {"other": np.zeros(5)}, "'other' belongs to no part of the network"),
    ],
)
def test_a_damaged_state_is_refused(field, value, message):
    X, Y, weights = problem()
    state = learn(X, Y, weights).get_state()
    assert player_from_state({**state, "encoder": ENCODER}).n_features == 8
    with pytest.raises(FolderError, match=message):
        player_from_state({**state, field: value})


# --- in the game --------------------------------------------------------------------------------------------


def play(chosen=SETTINGS, team=TEAM, **options):
    views, kinds = zip(*team)
    owners = np.ones((len(team), 20), np.bool_)
    return train(VIEWS, DATA.Y, owners, views, chosen, player_kinds=kinds, **options)


def fit(**options):
    return CuriosityGameClassifier(
        **{"players": TEAM, "tolerance": 0.2, "n_hidden": 6, "max_epochs": 3} | options
    )


def test_outputs_are_of_networks_that_never_saw_the_fold():
    weights = np.random.default_rng(0).random(120) + 0.5
    trained = play(row_weights=weights)
    fold_of, rarity = trained.outputs.fold_of, np.log(121 / (DATA.Y.sum(axis=0) + 1))
    for player, (view, kind) in enumerate(TEAM):
        if kind != "neural":
            continue
        X = VIEWS.blocks[view]
        seed = int(np.random.SeedSequence([0, player]).generate_state(1)[0])
        for f in range(3):
            inside, outside = np.flatnonzero(fold_of != f), np.flatnonzero(fold_of == f)
            expected = learn_alone(
                view,
                X[inside],
                DATA.Y[inside],
                weights[inside],
                np.ones(20, np.bool_),
                rarity / rarity.max(),
                RULES,
                RULE,
                groups=None,
                seed=seed,
            ).logits(X[outside])
            np.testing.assert_allclose(trained.outputs.logits[player][:, outside].T, expected, atol=1e-4)


def test_two_neural_players_of_a_view_are_not_the_same():
    one, other = play(team=[("dense", "neural")] * 2).outputs.logits
    assert np.abs(one - other).max() > 0.01


def test_linear_players_do_not_know_who_else_plays_in_round_0():
    alone, beside = play(team=TEAM[:1]), play()
    assert alone.outputs.logits[0].tobytes() == beside.outputs.logits[0].tobytes()


@pytest.fixture
def always_on(monkeypatch):
    """Every round counts as a gain, so that the game goes through all of them."""
    seen, real = iter(range(1000)), training.summarise
    monkeypatch.setattr(training, "summarise", lambda *a: {**real(*a), "potential": float(next(seen))})


@pytest.mark.usefixtures("always_on")
def test_it_says_the_same_in_every_round():
    first, told = play(), []
    later = play(replace(SETTINGS, rounds=1), on_progress=lambda *r: told.append(r))
    same = [np.array_equal(a, b) for a, b in zip(first.outputs.logits, later.outputs.logits)]
    assert same == [False, True, True, True]
    assert [r[1:] for r in told] == [(i, 14) for i in range(1, 15)]  # 2 solves, 3 x (3 folds + all)
    assert {"player dense, neural", "player words, neural"} < {r[0] for r in told}


@pytest.mark.parametrize("n_folds", [0, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"payoff": "log_likelihood", "space": "probability", "curiosity": "divergence"},
        {"rounds": 1, "own_share": 0.0},
        {"partition": "frequency"},
    ],
)
def test_every_game_can_be_played_by_a_mixed_team(n_folds, options):
    model = fit(n_folds=n_folds, max_epochs=20, **options).fit(VIEWS, DATA.Y)
    assert np.isfinite(model.predict_proba(VIEWS)).all()
    assert model.score(VIEWS, DATA.Y) > 0.3


def test_groups_and_weights_go_through_the_estimator():
    weights = np.arange(120) % 4
    model = fit().fit(VIEWS, DATA.Y, sample_weight=weights, groups=np.arange(120) // 5)
    plain = fit().fit(VIEWS, DATA.Y, groups=np.arange(120) // 5)
    one, other = (m.team_.players[1].logits(VIEWS.blocks["dense"]) for m in (model, plain))
    assert np.abs(one - other).max() > 0.01


def test_the_same_seed_gives_the_same_bits_in_any_number_of_threads():
    one, two = (fit(n_jobs=n).fit(VIEWS, DATA.Y) for n in (1, 2))
    assert one.predict_proba(VIEWS).tobytes() == two.predict_proba(VIEWS).tobytes()


def test_a_saved_team_predicts_the_same(tmp_path):
    model = fit().fit(VIEWS, DATA.Y)
    save_model(Model(model), tmp_path / "model")
    loaded = load_model(tmp_path / "model").classifier
    assert loaded.get_params() == model.get_params()
    assert [player.kind for player in loaded.team_.players] == [kind for _, kind in TEAM]
    assert loaded.predict_proba(VIEWS).tobytes() == model.predict_proba(VIEWS).tobytes()
    again = loaded.fit(VIEWS, DATA.Y)
    assert again.predict_proba(VIEWS).tobytes() == model.predict_proba(VIEWS).tobytes()


def test_inspect_names_it(tmp_path, capsys):
    save_model(Model(fit().fit(VIEWS, DATA.Y)), tmp_path / "model")
    inspect_model(tmp_path / "model", 1)
    players, shares = capsys.readouterr().out.split("Share of the fusion weights")
    for shown in (players, shares):
        assert re.search(r"^ *dense, neural  ", shown, re.MULTILINE)
    assert str(25 * 6 + 6 + 6 * 20 + 20) in players  # weights


class StopNowError(Exception):
    pass


@pytest.mark.usefixtures("always_on")
@pytest.mark.parametrize("turns", [1, 2, 4])
def test_an_interrupted_training_ends_the_same(tmp_path, turns):
    settings, place = replace(SETTINGS, rounds=1), tmp_path / "run"

    def stop(what, done, total):
        if len(list(place.glob("turn-*"))) == turns:
            raise StopNowError

    whole = play(settings)
    with pytest.raises(StopNowError):
        play(settings, checkpoint=place, on_progress=stop)
    resumed = play(settings, checkpoint=place)
    assert len(list(place.glob("turn-*"))) == 5  # only the linear player has a second turn
    assert whole.fused.tobytes() == resumed.fused.tobytes()
    assert whole.team.logits(VIEWS).tobytes() == resumed.team.logits(VIEWS).tobytes()
    with pytest.raises(FolderError, match="n_hidden was 6 and is 7"):
        play(replace(settings, neural=replace(RULE, n_hidden=7)), checkpoint=place)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_hidden": 0}, "n_hidden must be a whole number of at least 1"),
        ({"max_epochs": 1.5}, "max_epochs must be a whole number of at least 1"),
        (
            {"partition": "frequency", "players": [("dense", "neural")] * 21, "tail_owners": 1},
            "the player 'dense, neural' owns no label; take fewer players or another partition",
        ),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options).fit(VIEWS, DATA.Y)


_WITHOUT_ACCELERATE = """
import sys
import evenhand.multilabel.estimator
import evenhand.multilabel.model_io
strange = {"accelerate", "transformers"} & sys.modules.keys()
assert not strange, strange
sys.modules["accelerate"] = None  # as if it were not installed
import numpy as np
X = np.load(sys.argv[2])
model = evenhand.multilabel.model_io.load_model(sys.argv[1]).classifier
np.save(sys.argv[3], model.predict_proba(X))
try:
    model.fit(X, np.eye(len(X), 3))
except ValueError as error:
    assert "install evenhand[neural]" in str(error), error
else:
    raise AssertionError("it was trained")
"""


def test_a_model_is_read_and_used_without_accelerate(tmp_path):
    X, Y = exclusive_or(30)
    model = fit(players=[("all", "neural")]).fit(X, Y)
    save_model(Model(model), tmp_path / "model")
    np.save(tmp_path / "X.npy", X)
    places = [str(tmp_path / name) for name in ("model", "X.npy", "p.npy")]
    subprocess.run([sys.executable, "-c", _WITHOUT_ACCELERATE, *places], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), model.predict_proba(X))
