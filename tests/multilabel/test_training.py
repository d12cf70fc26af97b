import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from evenhand.multilabel import game, training
from evenhand.multilabel.fusion import Fusion
from evenhand.multilabel.solver import _hinge_terms, _Logistic
from evenhand.multilabel.training import Settings, train
from evenhand.multilabel.views import Views

LOSSES = ["squared_hinge", "log_likelihood"]
N_ROWS, N_LABELS, SIZES = 90, 5, {"a": 8, "b": 6, "c": 7}


def problem(seed=0, n=N_ROWS, n_labels=N_LABELS, sizes=SIZES):
    """Three small float64 views, one of them sparse, and labels that depend on all of them."""
    rng = np.random.default_rng(seed)
    blocks = {name: rng.normal(size=(n, size)) for name, size in sizes.items()}
    score = sum(block @ rng.normal(size=(block.shape[1], n_labels)) for block in blocks.values())
    score += rng.normal(scale=2, size=score.shape)
    share = np.linspace(0.45, 0.06, n_labels)
    Y = score > [np.quantile(score[:, c], 1 - share[c]) for c in range(n_labels)]
    blocks["a"] = sparse.csr_array(np.where(np.abs(blocks["a"]) > 0.5, blocks["a"], 0))
    return Views(blocks), labels_of(Y)


def labels_of(Y):
    return sparse.csr_array(np.asarray(Y, dtype=np.float32))


def settings(loss="log_likelihood", **options):
    rules = {"rarity_reward": 2.0, "disagreement_reward": 0.0, "negative_share": 0.3}
    rules |= {name: options.pop(name) for name in [*game.Rules.__dataclass_fields__] if name in options}
    given = {
        "regularization": 0.2,
        "rounds": 0,
        "n_folds": 0,
        "fusion_pull": 5.0,
        "tolerance": 1e-6,
        "prune": 0.0,
        "n_jobs": 1,
        "seed": 0,
    }
    return Settings(game.Rules(loss, **rules), **given | options)


def everybody(n_players=3, n_labels=N_LABELS):
    return np.ones((n_players, n_labels), np.bool_)


def some_owners():
    """Every label has an owner, and no two players own equally many."""
    owners = everybody()
    owners[1, [0, 3]] = owners[2, [1, 2, 3]] = False
    return owners


def play(views, labels, chosen, owners=None, **options):
    owners = everybody(len(views.names), labels.shape[1]) if owners is None else owners
    return train(views, labels, owners, views.names, chosen, **options)


def table_of(views, labels, chosen, owners=None, row_weights=None):
    owners = everybody(len(views.names), labels.shape[1]) if owners is None else owners
    return training._Game(
        views, labels, owners, views.names, chosen, row_weights, None, None, None, ("linear",) * len(owners)
    )


def weights_of(trained):
    return [player.weights.toarray() for player in trained.team.players]


# --- one player is one-vs-rest ------------------------------------------------------------------------------


def one_vs_rest(X, Y, loss, C=0.2):
    if loss == "squared_hinge":
        model = LinearSVC(C=C, tol=1e-8, max_iter=1_000_000, random_state=0)
    else:
        model = LogisticRegression(C=C, tol=1e-10, max_iter=100_000, solver="liblinear")
    return OneVsRestClassifier(model).fit(X, Y)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_player_without_rewards_is_one_vs_rest(loss):
    views, labels = problem()
    X, Y = views.blocks["b"], labels.toarray().astype(int)
    trained = play(Views({"b": X}), labels, settings(loss, rarity_reward=0.0, n_folds=3, rounds=2))
    peer = one_vs_rest(X, Y, loss)
    expected = np.vstack([np.hstack([m.coef_, m.intercept_[:, None]]) for m in peer.estimators_]).T
    np.testing.assert_allclose(weights_of(trained)[0], expected, atol=1e-4)
    np.testing.assert_allclose(trained.team.logits(Views({"b": X})), peer.decision_function(X), atol=1e-4)
    assert len(trained.team.history) == 1  # nobody to answer to


@pytest.mark.parametrize("loss", LOSSES)
def test_outputs_are_those_of_models_that_never_saw_the_fold(loss):
    views, labels = problem(1)
    trained = play(views, labels, settings(loss, rarity_reward=0.0, n_folds=3))
    fold_of = trained.outputs.fold_of
    assert set(fold_of) == {0, 1, 2}
    for i, name in enumerate(views.names):
        X, Y = views.blocks[name], labels.toarray().astype(int)
        for f in range(3):
            peer = one_vs_rest(X[np.flatnonzero(fold_of != f)], Y[fold_of != f], loss)
            expected = peer.decision_function(X[np.flatnonzero(fold_of == f)])
            np.testing.assert_allclose(trained.outputs.logits[i][:, fold_of == f].T, expected, atol=1e-4)


@pytest.mark.parametrize("n_folds", [0, 3])
def test_what_the_team_said_is_the_fusion_of_the_outputs(n_folds):
    views, labels = problem(2)
    owners = some_owners()
    trained = play(views, labels, settings(n_folds=n_folds, rounds=1), owners)
    expected = np.einsum("ik,ikn->nk", trained.team.fusion.weights, trained.outputs.logits)
    np.testing.assert_allclose(trained.fused, expected + trained.team.fusion.bias, atol=1e-4)
    if not n_folds:
        np.testing.assert_allclose(trained.fused, trained.team.logits(views), atol=1e-4)
    for player, owned, logits in zip(trained.team.players, owners, trained.outputs.logits):
        assert not player.weights.toarray()[:, ~owned].any()
        assert not logits[~owned].any()


# --- cross-fitting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_outputs_of_a_row_do_not_know_its_labels(loss, monkeypatch):
    views, labels = problem(3)
    fold_of = np.arange(N_ROWS) % 3
    monkeypatch.setattr(training._Game, "_deal_folds", lambda table: fold_of)
    Y = labels.toarray()
    one = next(r for r in range(0, N_ROWS, 3) if Y[r, 0] and not Y[r, 1])
    two = next(r for r in range(0, N_ROWS, 3) if Y[r, 1] and not Y[r, 0])
    swapped = Y.copy()
    swapped[[one, two]] = Y[[two, one]]  # n_c and with it the rarity stay
    before, after = (
        play(views, labels_of(y), settings(loss, n_folds=3)).outputs.logits for y in (Y, swapped)
    )
    assert before[:, :, fold_of == 0].tobytes() == after[:, :, fold_of == 0].tobytes()
    assert np.abs(before - after).max() > 1e-3


def test_groups_share_a_fold():
    views, labels = problem(4)
    groups = np.random.default_rng(0).integers(0, 20, N_ROWS).astype(str)
    fold_of = play(views, labels, settings(n_folds=3), groups=groups).outputs.fold_of
    assert len(np.unique(fold_of)) == 3
    assert all(len(np.unique(fold_of[groups == group])) == 1 for group in np.unique(groups))


@pytest.mark.parametrize("n_folds", [0, 3])
def test_folds_that_never_saw_a_positive_are_known(n_folds):
    views, labels = problem(5)
    Y = labels.toarray()
    Y[:, 3:] = 0
    Y[7, 3] = 1  # one positive: the models of its fold saw none
    trained = play(views, labels_of(Y), settings(n_folds=n_folds))
    fold_of, usable = trained.outputs.fold_of, trained.outputs.usable
    assert usable[:3].all()
    assert not usable[4].any()
    if n_folds:
        np.testing.assert_array_equal(usable[3], np.arange(3) != fold_of[7])
    else:
        assert usable[3].all()


@pytest.mark.parametrize("n_folds", [0, 3])
def test_a_label_without_a_positive_is_constant_and_changes_nobody(n_folds, monkeypatch):
    monkeypatch.setattr(training._Game, "_deal_folds", lambda table: np.arange(N_ROWS) % max(n_folds, 1))
    views, labels = problem(6)
    Y = labels.toarray()
    Y[:, 4] = 0
    Y[:4, 3] = [1, 1, 1, 0]
    Y[4:, 3] = 0  # in the same bucket as the label without a positive
    with_it = play(views, labels_of(Y), settings(n_folds=n_folds, rarity_reward=0.0))
    without = play(views, labels_of(Y[:, :4]), settings(n_folds=n_folds, rarity_reward=0.0))
    assert not any(weights[:, 4].any() for weights in weights_of(with_it))
    assert np.ptp(with_it.team.logits(views)[:, 4]) == 0
    np.testing.assert_allclose(with_it.team.fusion.weights[:, :4], without.team.fusion.weights, atol=1e-9)
    np.testing.assert_allclose(with_it.team.fusion.bias[:4], without.team.fusion.bias, atol=1e-9)


# --- the objective ------------------------------------------------------------------------------------------


def with_random_play(table, seed=0, space="logit"):
    """Outputs, ω and b as they might stand in the middle of a game."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=table.outputs.logits.shape) * table.owners[:, :, None]
    table.outputs = replace(table.outputs, logits=logits.astype(np.float32))
    weights = rng.uniform(0.2, 1.0, table.owners.shape) * table.owners
    bias = rng.normal(size=table.owners.shape[1])
    if space == "probability":
        weights, bias = weights / weights.sum(0), np.zeros_like(bias)
    table.fusion = Fusion(weights, bias)
    return table


def torch_team(table):
    return game.Team(
        torch.from_numpy(table.fusion.weights),
        torch.from_numpy(table.owners),
        torch.from_numpy(table.rarity),
        torch.from_numpy(table.fusion.bias),
    )


def utility(table, logits, player, doubt, alone):
    """u_i, with R of the player's own score where it plays alone."""
    rules, team = table.settings.rules, torch_team(table)
    targets = torch.from_numpy(table.labels.toarray()).double()
    own = logits[player]
    owned = team.owners[player]
    reward = game.curiosity(own, targets, owned, team.label_rarity, doubt, rules)
    if alone:
        return game.payoff(own[:, owned], targets[:, owned], rules.payoff) * owned.double().mean() + reward
    fused = game.fuse(logits, team.weights, team.owners, team.bias, rules.space)
    shared = game.shared_divergence(logits, team.owners, team.label_rarity, rules)
    team_share = (1 - rules.own_share) * game.payoff(fused, targets, rules.payoff)
    own_share = rules.own_share * game.payoff(own[:, owned], targets[:, owned], rules.payoff)
    return team_share + own_share * owned.double().mean() + shared + reward


def slope_of(objective, scores, loss):
    """The solver's own derivative of its losses in the scores (n, B)."""
    if loss == "squared_hinge":
        weight, target = _hinge_terms(objective)
        return (-2 * weight * objective.signs * np.maximum(0, target - objective.signs * scores)).sum(0)
    nothing = np.zeros((1, scores.shape[1]))
    return _Logistic(objective, scores.dtype).expand(scores, np.arange(len(scores)), nothing)[1]


CASES = [
    ("squared_hinge", "success", "logit"),
    ("log_likelihood", "success", "logit"),
    ("log_likelihood", "divergence", "logit"),
    ("log_likelihood", "success", "probability"),
    ("log_likelihood", "divergence", "probability"),
]


@pytest.mark.parametrize(("loss", "curiosity", "space"), CASES)
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("own_share", [0.0, 0.4, 1.0])
def test_the_solver_is_given_the_gradient_of_the_utility(loss, curiosity, space, alone, own_share):
    views, labels = problem(7)
    row_weights = np.random.default_rng(1).uniform(0.2, 3.0, N_ROWS)
    rules = {"curiosity": curiosity, "space": space, "own_share": own_share}
    chosen = settings(loss, disagreement_reward=1.5, **rules)
    table = table_of(views, labels, chosen, some_owners(), row_weights)
    table = with_random_play(table, space=space)
    for player in range(3):
        owned = np.flatnonzero(table.owners[player])
        doubt = None if alone else table._doubt(player)
        objective = table._objective(player, owned, None if alone else doubt.numpy(), alone)
        logits = torch.from_numpy(table.outputs.logits.transpose(0, 2, 1)).double().requires_grad_()
        value = utility(table, logits, player, 0.0 if alone else doubt.double(), alone)
        (gradient,) = torch.autograd.grad(value, logits)
        units = N_ROWS * N_LABELS * table.settings.regularization
        expected = -units * gradient[player][:, owned].numpy() * table.row_weights[:, None]
        scores = table.outputs.logits[player][owned].T.astype(float)
        np.testing.assert_allclose(slope_of(objective, scores, loss), expected, atol=1e-6, rtol=1e-5)


# --- ascent of the potential --------------------------------------------------------------------------------


def potential(table, weights=None):
    """M·K·C·Φ − ½Σ‖w‖² of the players' weights on the training rows; weights are tensors (D+1, K)."""
    if weights is None:
        weights = [torch.from_numpy(player.weights.toarray()) for player in table.players]
    logits = []
    for name, w in zip(table.player_views, weights):
        block = table.views.blocks[name]
        dense = torch.from_numpy(block.toarray() if sparse.issparse(block) else block)
        logits.append(dense @ w[:-1] + w[-1])
    targets = torch.from_numpy(table.labels.toarray()).double()
    value = game.potential(torch.stack(logits), targets, torch_team(table), table.settings.rules)
    units = N_ROWS * N_LABELS * table.settings.regularization
    return units * value - sum((w**2).sum() for w in weights) / 2


def frozen(table, space="logit"):
    """The players as they play alone, then ω and b that stay."""
    table.play_alone()
    outputs = table.outputs
    table = with_random_play(table, space=space)
    table.outputs = outputs
    return table


def turns(table, n_rounds):
    values = [potential(table).item()]
    for _ in range(n_rounds):
        for player in range(len(table.owners)):
            table.players[player] = table._respond(player, alone=False)
            values.append(potential(table).item())
    return np.array(values)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("own_share", [0.0, 0.4])
def test_every_turn_raises_the_potential_up_to_its_maximum(loss, own_share):
    views, labels = problem(8)
    chosen = settings(loss, tolerance=1e-7, own_share=own_share)
    table = frozen(table_of(views, labels, chosen, some_owners()))
    values = turns(table, 25)
    assert (np.diff(values) > -1e-5).all()
    assert values[3] - values[0] > 0.1
    owners = torch.from_numpy(table.owners)
    shapes = [(size + 1, N_LABELS) for size in SIZES.values()]
    ends = np.cumsum([0] + [rows * columns for rows, columns in shapes])

    def lower(flat):
        w = torch.from_numpy(flat).requires_grad_()
        parts = [
            w[start:end].reshape(shape) * owners[i]
            for i, (start, end, shape) in enumerate(zip(ends[:-1], ends[1:], shapes))
        ]
        value = -potential(table, parts)
        value.backward()
        return value.item(), w.grad.numpy()

    options = {"maxiter": 5000, "maxfun": 10_000, "ftol": 1e-15, "gtol": 1e-8}
    best = minimize(lower, np.zeros(ends[-1]), jac=True, method="L-BFGS-B", options=options)
    assert values[-1] == pytest.approx(-best.fun, abs=1e-3)
    found = np.concatenate([player.weights.toarray().ravel() for player in table.players])
    np.testing.assert_allclose(found, best.x, atol=0.01)


@pytest.mark.parametrize(("curiosity", "space"), [case[1:] for case in CASES[2:]])
def test_no_turn_lowers_the_potential_where_it_is_not_concave(curiosity, space):
    views, labels = problem(9)
    chosen = settings(curiosity=curiosity, space=space, disagreement_reward=1.0 * (curiosity == "divergence"))
    table = frozen(table_of(views, labels, chosen, some_owners()), space)
    values = turns(table, 6)
    assert (np.diff(values) > -1e-4).all()
    assert values[3] - values[0] > 0.01


# --- rounds -------------------------------------------------------------------------------------------------


def same(one, two):
    assert one.outputs.logits.tobytes() == two.outputs.logits.tobytes()
    assert one.fused.tobytes() == two.fused.tobytes()
    assert one.team.fusion.weights.tobytes() == two.team.fusion.weights.tobytes()
    assert one.team.fusion.bias.tobytes() == two.team.fusion.bias.tobytes()
    for first, second in zip(weights_of(one), weights_of(two)):
        assert first.tobytes() == second.tobytes()


def test_a_round_that_lowers_the_potential_is_taken_back(monkeypatch):
    views, labels = problem(10)
    plain = play(views, labels, settings(n_folds=3, disagreement_reward=1.0))
    one_round = play(views, labels, settings(n_folds=3, disagreement_reward=1.0, rounds=1))
    summarise = training.summarise
    for potentials, kept in (([-2.0, -3.0], plain), ([-2.0, -1.0, -1.0], one_round)):
        left = iter(potentials)
        monkeypatch.setattr(
            training, "summarise", lambda *a, left=left: {**summarise(*a), "potential": next(left)}
        )
        rounds = 3
        trained = play(views, labels, settings(n_folds=3, disagreement_reward=1.0, rounds=rounds))
        assert [record["potential"] for record in trained.team.history] == potentials
        assert [record["round"] for record in trained.team.history] == list(range(len(potentials)))
        for got, expected in zip(weights_of(trained), weights_of(kept)):
            np.testing.assert_allclose(got, expected, atol=1e-4)
        np.testing.assert_allclose(trained.outputs.logits, kept.outputs.logits, atol=1e-4)
        np.testing.assert_allclose(trained.fused, kept.fused, atol=1e-3)


@pytest.mark.parametrize(("loss", "curiosity", "space"), CASES)
def test_a_whole_game_of_some_rounds(loss, curiosity, space):
    views, labels = problem(11)
    chosen = settings(
        loss, curiosity=curiosity, space=space, disagreement_reward=1.0, n_folds=3, rounds=3, tolerance=1e-3
    )
    trained = play(views, labels, chosen, some_owners())
    potentials = [record["potential"] for record in trained.team.history]
    assert np.isfinite(potentials).all()
    assert 2 <= len(potentials) <= 4
    assert (np.diff(potentials[:-1]) > 0).all()  # only the last round may have been taken back
    assert np.isfinite(trained.fused).all()
    if space == "probability":
        np.testing.assert_allclose(trained.team.fusion.weights.sum(0), 1)


@pytest.mark.parametrize("space", ["logit", "probability"])
def test_players_of_one_view_have_no_doubt(space):
    views, labels = problem(12)
    twins = Views({"one": views.blocks["b"], "two": views.blocks["b"]})
    table = table_of(twins, labels, settings(space=space, n_folds=3))
    table.play_alone()
    strangers = table_of(views, labels, settings(space=space, n_folds=3))
    strangers.play_alone()
    assert table._doubt(0).max() < 0.01
    assert strangers._doubt(0).max() > 0.2


@pytest.mark.parametrize("loss", LOSSES)
def test_players_without_labels_do_no_harm(loss):
    views, labels = problem(13)
    owners = everybody()
    owners[2] = False
    trained = play(views, labels, settings(loss, n_folds=3, rounds=1, disagreement_reward=1.0), owners)
    assert np.isfinite(trained.team.history[0]["potential"])
    assert not trained.team.players[2].weights.nnz
    two = Views({name: views.blocks[name] for name in "ab"})
    expected = play(two, labels, settings(loss, n_folds=3, rounds=1, disagreement_reward=1.0))
    np.testing.assert_allclose(trained.fused, expected.fused, atol=0.02)


def test_weights_of_players_whom_the_team_ceases_to_hear_stay_finite():
    views, labels = problem(14)
    table = table_of(views, labels, settings("squared_hinge", rounds=3))
    table.play_alone()
    table._respond(1, alone=False)
    table.fusion = replace(table.fusion, weights=table.fusion.weights * np.array([[1.0], [0.0], [1.0]]))
    warm = table._respond(1, alone=False).weights.toarray()
    table.duals.clear()
    cold = table._respond(1, alone=False).weights.toarray()
    np.testing.assert_allclose(warm, cold, atol=1e-4)


# --- weights of rows, seeds, order --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rounds", [0, 1])
def test_a_row_of_weight_two_is_the_row_twice(loss, rounds):
    views, labels = problem(15)
    common = np.flatnonzero(labels.toarray()[:, 3:].sum(1) == 0)  # so that no label changes its bucket
    rows = np.append(np.arange(N_ROWS), common[:8])
    weights = np.bincount(rows).astype(float)
    chosen = settings(loss, rarity_reward=0.0, rounds=rounds)
    weighted = play(views, labels, chosen, row_weights=weights)
    repeated = play(views[rows], labels[rows], chosen)
    plain = play(views, labels, chosen)
    for got, expected, without in zip(weights_of(weighted), weights_of(repeated), weights_of(plain)):
        np.testing.assert_allclose(got, expected, atol=3e-3)
        assert np.abs(got - without).max() > 0.01
    np.testing.assert_allclose(weighted.fused, repeated.fused[:N_ROWS], atol=0.01)


def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads():
    views, labels = problem(16, n=60, n_labels=70)
    chosen = settings(
        "squared_hinge", n_folds=2, rounds=1, disagreement_reward=1.0, tolerance=0.05, fusion_pull=50.0
    )
    one = play(views, labels, chosen)
    same(one, play(views, labels, chosen))
    same(one, play(views, labels, replace(chosen, n_jobs=2)))
    other = play(views, labels, replace(chosen, seed=1))
    assert np.abs(other.fused - one.fused).max() > 1e-3


@pytest.mark.parametrize("loss", LOSSES)
def test_permuted_labels_give_permuted_results(loss, monkeypatch):
    monkeypatch.setattr(training._Game, "_deal_folds", lambda table: np.arange(N_ROWS) % 3)
    views, labels = problem(17)
    order, owners = np.array([3, 0, 4, 2, 1]), some_owners()
    chosen = settings(loss, n_folds=3, rounds=1, disagreement_reward=1.0)
    straight = play(views, labels, chosen, owners)
    turned = play(views, labels_of(labels.toarray()[:, order]), chosen, owners[:, order])
    for got, expected in zip(weights_of(turned), weights_of(straight)):
        np.testing.assert_allclose(got, expected[:, order], atol=1e-3)
    np.testing.assert_allclose(turned.fused, straight.fused[:, order], atol=1e-2)


def test_pruned_weights_are_not_stored():
    views, labels = problem(18)
    full, pruned = (play(views, labels, settings(prune=prune)) for prune in (0.0, 0.1))
    for whole, left in zip(weights_of(full), weights_of(pruned)):
        np.testing.assert_array_equal(left[:-1], np.where(np.abs(whole[:-1]) < 0.1, 0, whole[:-1]))
        np.testing.assert_array_equal(left[-1], whole[-1])
    stored = [player.weights.data for player in pruned.team.players]
    assert all((data != 0).all() for data in stored)


def test_progress_is_told_for_every_block_of_labels():
    views, labels = problem(19, n=60, n_labels=70)
    told = []
    chosen = settings("squared_hinge", n_folds=2, rounds=1, tolerance=0.05)
    play(views, labels, chosen, on_progress=lambda *report: told.append(report))
    assert [done for _, done, _ in told] == list(range(1, 13))
    assert {total for _, _, total in told} == {12}  # 3 players, 2 blocks, 2 rounds
    assert told[0][0] == "player a"


def test_a_payoff_that_is_not_concave_is_refused():
    views, labels = problem(20)
    with pytest.raises(ValueError, match="need a concave payoff"):
        play(views, labels, settings("soft_macro_f1"))


def test_the_potential_of_the_rounds_heeds_the_weights_of_instances():
    views, labels = problem(11)
    weights = np.linspace(0.1, 2.0, N_ROWS)
    chosen = settings(n_folds=3, disagreement_reward=0.0, tolerance=1e-3)
    trained = play(views, labels, chosen, row_weights=weights)
    logits = torch.from_numpy(trained.outputs.logits).transpose(1, 2).double()
    counts = np.asarray(labels.sum(axis=0))
    fusion = trained.team.fusion
    team = game.Team(
        torch.from_numpy(fusion.weights),
        torch.from_numpy(everybody()),
        game.rarity(torch.from_numpy(counts), N_ROWS),
        torch.from_numpy(fusion.bias),
    )
    targets = torch.from_numpy(labels.toarray()).double()
    expected = game.potential(logits, targets, team, chosen.rules, torch.from_numpy(weights)).item()
    assert trained.team.history[0]["potential"] == pytest.approx(expected, rel=1e-4)
    without = game.potential(logits, targets, team, chosen.rules).item()
    assert expected != pytest.approx(without, rel=1e-3)


def test_solves_that_give_up_are_told_once_with_player_and_mend():
    views, labels = problem(12)
    with pytest.warns(ConvergenceWarning) as caught:
        play(views, labels, settings("squared_hinge", tolerance=1e-30))
    (told,) = [str(one.message) for one in caught if one.category is ConvergenceWarning]
    assert re.search(
        r"player 'a', 'b', 'c': 3 of the solves ended at 1,000 sweeps, up to .* from the optimum \(tolerance"
        r" 1e-30\); scale the columns of the view alike, or give a larger tolerance or a smaller C",
        told,
    )


def test_a_solve_that_reaches_its_optimum_is_not_told_of():
    views, labels = problem(13)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        play(views, labels, settings("squared_hinge", tolerance=1e-3, n_folds=2))
