import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from evenhand.multilabel.game import Rules, Team, curiosity, jensen_shannon, potential, rarity
from evenhand.multilabel.solver import Divergence, Objective, Rows, best_response

LOSSES = ["squared_hinge", "log_likelihood"]
ROWS, D, B = 150, 30, 5


def problem(seed=0, n=ROWS, d=D, n_labels=B):
    """Sparse float64 features and signs of labels that depend on them, the last one rare."""
    rng = np.random.default_rng(seed)
    X = sparse.random_array((n, d), density=0.25, rng=rng, format="csr")
    score = X @ rng.normal(size=(d, n_labels)) + rng.normal(scale=0.3, size=(n, n_labels))
    share = np.linspace(0.5, 0.03, n_labels)
    return X, np.where(score > [np.quantile(score[:, b], 1 - share[b]) for b in range(n_labels)], 1.0, -1.0)


def team_objective(signs, seed=0):
    """Weights, offsets and scales as the other players would set them."""
    rng = np.random.default_rng(seed)
    return Objective(
        signs,
        own_weight=rng.uniform(0, 0.5, signs.shape),
        team_weight=rng.uniform(0.1, 1.0, signs.shape),
        offset=rng.normal(size=signs.shape),
        scale=np.linspace(0.3, 1.5, signs.shape[1]),
    )


def solve(X, objective, loss, **options):
    rows = Rows.of(X)
    return best_response(
        rows, objective, **{"loss": loss, "train_rows": np.arange(rows.n), "tolerance": 1e-7} | options
    )


def losses_of(margin, loss):
    """ℓ and dℓ/dmargin."""
    if loss == "squared_hinge":
        slack = np.maximum(0, 1 - margin)
        return slack**2, -2 * slack
    return np.logaddexp(0, -margin), -1 / (1 + np.exp(margin))


def value_and_gradient(w, X, objective, b, loss):
    """The objective in the module's docstring, of label b, written out on its own."""
    Z = np.hstack([X.toarray(), np.ones((X.shape[0], 1))])
    y, score = objective.signs[:, b], Z @ w
    of_score, slope = losses_of(y * score, loss)
    value = w @ w / 2 + objective.own_weight[:, b] @ of_score
    gradient = w + Z.T @ (objective.own_weight[:, b] * y * slope)
    if objective.team_weight is not None:
        scale, weight = objective.scale[b], objective.team_weight[:, b]
        of_score, slope = losses_of(y * (scale * score + objective.offset[:, b]), loss)
        value += weight @ of_score
        gradient = gradient + Z.T @ (weight * scale * y * slope)
    return value, gradient


def optimum(function, size, accepted=1e-5):
    """The minimum of a 1-strongly convex function, no farther than its gradient is long."""
    options = {"maxiter": 20_000, "maxfun": 50_000, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 50}
    found = minimize(function, np.zeros(size), jac=True, method="L-BFGS-B", options=options)
    assert np.linalg.norm(function(found.x)[1]) < accepted
    return found.x


def optima(X, objective, loss):
    return np.stack(
        [
            optimum(lambda w, b=b: value_and_gradient(w, X, objective, b, loss), X.shape[1] + 1)
            for b in range(objective.signs.shape[1])
        ],
        axis=1,
    )


# --- against scikit-learn ---------------------------------------------------------------------------------


def scikit_learn(X, signs, loss, C, class_weight=None, sample_weight=None):
    columns = []
    for y in signs.T:
        if loss == "squared_hinge":
            model = LinearSVC(C=C, tol=1e-8, max_iter=1_000_000, class_weight=class_weight, random_state=0)
        else:
            model = LogisticRegression(
                C=C, tol=1e-10, max_iter=100_000, class_weight=class_weight, solver="liblinear"
            )
        model.fit(sparse.csr_matrix(X), y, sample_weight=sample_weight)
        columns.append(np.append(model.coef_[0], model.intercept_))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("C", [0.1, 1.0, 5.0])
def test_one_player_alone_is_liblinear(loss, C):
    X, signs = problem()
    got = solve(X, Objective(signs, np.full_like(signs, C)), loss)
    np.testing.assert_allclose(got.weights, scikit_learn(X, signs, loss, C), atol=1e-4, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_rows_and_classes_are_those_of_liblinear(loss):
    X, signs = problem(1)
    of_row = np.random.default_rng(0).uniform(0, 3, ROWS)
    own = 0.7 * of_row[:, None] * np.where(signs > 0, 4.0, 0.5)
    expected = scikit_learn(X, signs, loss, 0.7, {1: 4.0, -1: 0.5}, of_row)
    np.testing.assert_allclose(solve(X, Objective(signs, own), loss).weights, expected, atol=1e-4, rtol=0)
    plain = scikit_learn(X, signs, loss, 0.7)
    assert np.abs(expected - plain).max() > 0.1  # the weights matter here


@pytest.mark.parametrize("loss", LOSSES)
def test_float32_features_give_the_same_optimum(loss):
    X, signs = problem()
    single = Objective(signs.astype(np.float32), np.ones_like(signs, dtype=np.float32))
    got = solve(X.astype(np.float32), single, loss, tolerance=1e-4)
    assert got.weights.dtype == np.float32
    assert got.distance <= 1e-4
    np.testing.assert_allclose(got.weights, scikit_learn(X, signs, loss, 1.0), atol=2e-4, rtol=0)


# --- the team's term --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_response_to_a_team_against_scipy(loss, seed):
    X, signs = problem(seed)
    objective = team_objective(signs, seed)
    got = solve(X, objective, loss)
    np.testing.assert_allclose(got.weights, optima(X, objective, loss), atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_player_whom_the_team_does_not_hear_plays_alone(loss):
    X, signs = problem()
    objective = team_objective(signs)
    unheard = replace(objective, scale=np.zeros(B))
    alone = Objective(signs, objective.own_weight)
    got, expected = solve(X, unheard, loss), solve(X, alone, loss)
    np.testing.assert_allclose(got.weights, expected.weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_neutral_team_adds_its_weight_to_the_players_own(loss):
    X, signs = problem()
    a, e = np.full_like(signs, 0.4), np.full_like(signs, 0.3)
    split = Objective(signs, e, a, np.zeros_like(signs), np.ones(B))
    expected = scikit_learn(X, signs, loss, 0.7)
    np.testing.assert_allclose(solve(X, split, loss).weights, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pull", [0.05, 0.5])
@pytest.mark.parametrize("with_team", [False, True])
def test_divergence_ends_at_a_point_of_rest(pull, with_team):
    X, signs = problem(2)
    rng = np.random.default_rng(0)
    co_owners = rng.normal(scale=2, size=(2, ROWS, B))
    live = Divergence(
        others=(1 / (1 + np.exp(-co_owners))).mean(axis=0),
        owner_count=np.full(B, 3.0),
        weight=rng.uniform(0.5, 1.5, (ROWS, 1)) * np.append(np.full(B - 1, pull), 0.0),
    )
    plain = team_objective(signs) if with_team else Objective(signs, np.full_like(signs, 0.5))
    got = solve(X, replace(plain, divergence=live), "log_likelihood")
    everyone = torch.ones(3, 1, dtype=torch.bool)

    def value(w, b):
        scores = np.stack([X @ w[:-1] + w[-1], *co_owners[:, :, b]])
        js = jensen_shannon(torch.tensor(scores)[:, :, None], everyone)[:, 0].numpy()
        return value_and_gradient(w, X, plain, b, "log_likelihood")[0] - live.weight[:, b] @ js

    for b in range(B):
        at = got.weights[:, b]
        slope = [(value(at + step, b) - value(at - step, b)) / 2e-5 for step in 1e-5 * np.eye(D + 1)]
        assert np.linalg.norm(slope) < 1e-6
    expected = solve(X, plain, "log_likelihood").weights
    assert np.abs(got.weights - expected)[:, :-1].max() > 1e-3  # the reward moves the player
    np.testing.assert_allclose(got.weights[:, -1], expected[:, -1], atol=1e-6)  # but not without weight


# --- the certificate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("C", [0.05, 1.0, 10.0])
def test_the_reported_distance_is_honest(loss, C):
    X, signs = problem(3)
    objective = Objective(signs, np.full_like(signs, C))
    expected = optima(X, objective, loss)
    earlier = solve(X, Objective(signs, 0.8 * objective.own_weight), loss, tolerance=0.1).dual
    for tolerance, start in itertools.product([1.0, 0.1, 1e-2, 1e-4], [None, earlier]):
        got = solve(X, objective, loss, tolerance=tolerance, start=start, max_sweeps=5000)
        assert got.distance <= tolerance
        assert np.linalg.norm(got.weights - expected, axis=0).max() <= 1.5 * got.distance


@pytest.mark.parametrize("loss", LOSSES)
def test_giving_up_early_is_told(loss):
    X, signs = problem()
    objective = Objective(signs, np.full_like(signs, 10.0))
    got = solve(X, objective, loss, max_sweeps=3)
    assert got.distance > 1e-7
    assert np.linalg.norm(got.weights - optima(X, objective, loss), axis=0).max() <= 1.5 * got.distance


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_at_the_solution_is_near_0(loss):
    X, signs = problem()
    objective = team_objective(signs)
    got = solve(X, objective, loss, tolerance=1e-8)
    for b in range(B):
        assert np.linalg.norm(value_and_gradient(got.weights[:, b], X, objective, b, loss)[1]) < 1e-6


@pytest.mark.parametrize("loss", LOSSES)
def test_the_weights_are_those_of_the_dual_variables(loss):
    X, signs = problem()
    got = solve(X, team_objective(signs), loss)
    Z = np.hstack([X.toarray(), np.ones((ROWS, 1))])
    np.testing.assert_allclose(got.weights, Z.T @ got.dual.sum(axis=0), atol=1e-9)


# --- warm starts and held-out rows ------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_a_warm_start_finds_the_same_optimum_in_fewer_sweeps(loss):
    X, signs = problem()
    objective = team_objective(signs)
    nearby = replace(objective, own_weight=1.05 * objective.own_weight, offset=objective.offset + 0.02)
    earlier = solve(X, objective, loss)
    before = earlier.dual.copy()
    cold, warm = solve(X, nearby, loss, tolerance=1e-5), solve(X, nearby, loss, tolerance=1e-5, start=before)
    assert warm.sweeps < cold.sweeps
    np.testing.assert_allclose(warm.weights, cold.weights, atol=2e-5, rtol=0)
    assert np.array_equal(before, earlier.dual)  # the caller's array is left alone
    assert solve(X, objective, loss, tolerance=1e-5, start=before).sweeps <= 2


def test_a_player_that_was_alone_starts_warm_in_a_team():
    X, signs = problem()
    team = replace(team_objective(signs), offset=np.zeros(signs.shape), scale=np.ones(signs.shape[1]))
    alone = Objective(signs, team.own_weight + team.team_weight)  # the same problem, said with one loss
    start = solve(X, alone, "squared_hinge").dual
    cold, warm = (solve(X, team, "squared_hinge", tolerance=1e-4, start=s) for s in (None, start))
    assert warm.sweeps < cold.sweeps
    np.testing.assert_allclose(warm.weights, cold.weights, atol=2e-4, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("warm", [False, True])
def test_held_out_rows_have_no_say(loss, warm):
    X, signs = problem()
    objective = team_objective(signs)
    train = np.flatnonzero(np.arange(ROWS) % 3 != 1)
    out = np.setdiff1d(np.arange(ROWS), train)
    start = solve(X, objective, loss).dual if warm else None  # it knows the held-out rows
    expected = solve(X, objective, loss, train_rows=train, start=start)

    other = X.tolil()
    other[out] = np.random.default_rng(0).normal(size=(out.size, D))
    parts = [objective.signs, objective.own_weight, objective.team_weight, objective.offset]
    nonsense = [np.where(np.isin(np.arange(ROWS), out)[:, None], 1 - 7 * part, part) for part in parts]
    changed = Objective(*nonsense, objective.scale)
    got = solve(sparse.csr_array(other), changed, loss, train_rows=train, start=start)
    assert np.array_equal(got.weights, expected.weights)
    assert (got.dual[:, out] == 0).all()

    kept = Objective(*(part[train] for part in parts), objective.scale)
    np.testing.assert_allclose(got.weights, optima(X[train], kept, loss), atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_warm_start_forgets_rows_whose_weight_is_gone(loss):
    X, signs = problem()
    first = Objective(signs, np.ones_like(signs))
    half = Objective(signs, np.where(np.arange(ROWS)[:, None] < 75, 1.0, np.zeros_like(signs)))
    got = solve(X, half, loss, start=solve(X, first, loss).dual)
    np.testing.assert_allclose(got.weights, solve(X, half, loss).weights, atol=1e-6, rtol=0)


def test_newton_steps_that_overshoot_are_mended():
    X, signs = problem()
    X, objective = 3 * X, Objective(signs, np.ones_like(signs))
    opposite = solve(X, replace(objective, signs=-signs), "log_likelihood", tolerance=1e-2)
    expected = optima(X, objective, "log_likelihood")
    for start in (None, opposite.dual, 30 * opposite.dual):
        got = solve(X, objective, "log_likelihood", tolerance=1e-6, start=start)
        np.testing.assert_allclose(got.weights, expected, atol=1e-5, rtol=0)


# --- same input, same answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense_and_sparse_features_give_the_same_bits(loss, dtype):
    X, signs = problem()
    X, objective = X.astype(dtype), Objective(signs.astype(dtype), np.ones_like(signs, dtype=dtype))
    results = [solve(f, objective, loss, tolerance=1e-3) for f in (X, X.toarray(), sparse.csr_matrix(X))]
    assert all(r.weights.dtype == dtype for r in results)
    assert all(np.array_equal(r.weights, results[0].weights) for r in results)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_seed_gives_the_same_bits(loss):
    X, signs = problem()
    first, second = (solve(X, team_objective(signs), loss, seed=4, tolerance=1e-3) for _ in range(2))
    other = solve(X, team_objective(signs), loss, seed=5, tolerance=1e-3)
    assert np.array_equal(first.weights, second.weights)
    assert np.array_equal(first.dual, second.dual)
    assert (first.sweeps, first.distance) == (second.sweeps, second.distance)
    assert not np.array_equal(first.weights, other.weights)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_label_does_not_depend_on_the_others_in_its_block(loss):
    X, signs = problem()
    objective = team_objective(signs)
    together = solve(X, objective, loss).weights
    for b in range(B):
        parts = (objective.signs, objective.own_weight, objective.team_weight, objective.offset)
        alone = Objective(*(np.ascontiguousarray(part[:, [b]]) for part in parts), objective.scale[[b]])
        np.testing.assert_allclose(solve(X, alone, loss).weights[:, 0], together[:, b], atol=1e-6, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_feature_stored_in_pieces_counts_as_its_sum(loss):
    X, signs = problem()
    pieces = sparse.csr_array((np.repeat(X.data / 4, 4), np.repeat(X.indices, 4), 4 * X.indptr), X.shape)
    objective = Objective(signs, np.full_like(signs, 5.0))
    got, expected = solve(pieces, objective, loss), solve(X, objective, loss)
    np.testing.assert_allclose(got.weights, expected.weights, atol=1e-6, rtol=0)
    assert pieces.nnz == 4 * X.nnz  # the caller's matrix is left alone


# --- corners ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_a_label_without_a_positive_is_solved_like_any_other(loss):
    X, signs = problem()
    signs[:, 0] = -1
    objective = Objective(signs, np.ones_like(signs))
    got = solve(X, objective, loss)
    np.testing.assert_allclose(got.weights, optima(X, objective, loss), atol=1e-5, rtol=0)
    assert (Rows.of(X).scores(got.weights)[:, 0] < 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_without_any_weight_the_prior_wins(loss):
    X, signs = problem()
    got = solve(X, Objective(signs, np.zeros_like(signs)), loss)
    assert np.abs(got.weights).max() < 1e-20
    nobody = solve(X, Objective(signs, np.ones_like(signs)), loss, train_rows=np.array([], dtype=int))
    assert (nobody.weights == 0).all()


def test_rows_without_features_and_a_matrix_without_features():
    signs = np.array([[1.0], [-1.0], [1.0]])
    got = solve(sparse.csr_array((3, 0)), Objective(signs, np.ones_like(signs)), "squared_hinge")
    # ½b² + 2(1−b)² + (1+b)²: b = 2/7
    assert got.weights.tolist() == [[pytest.approx(2 / 7, abs=1e-7)]]


def test_scores_are_those_of_dense_algebra():
    X, _ = problem()
    weights = np.random.default_rng(0).normal(size=(D + 1, B))
    np.testing.assert_allclose(
        Rows.of(X).scores(weights), X.toarray() @ weights[:-1] + weights[-1], atol=1e-12
    )


def test_rows_keep_float32_unless_they_are_float64():
    X, _ = problem()
    for dtype, kept in [(np.float32, np.float32), (np.int64, np.float32), (np.float64, np.float64)]:
        rows = Rows.of(X.astype(dtype))
        assert rows.values.dtype == rows.squared_norms.dtype == kept
        expected = (X.astype(dtype).toarray().astype(float) ** 2).sum(axis=1) + 1
        np.testing.assert_allclose(rows.squared_norms, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"own_weight": np.ones((ROWS, 2))}, {}, r"own_weight has shape \(150, 2\); \(150, 5\) is needed"),
        ({"signs": np.ones((4, B))}, {}, r"signs has shape \(4, 5\); \(150, 5\) is needed"),
        ({"scale": np.ones(2)}, {}, r"scale has shape \(2,\); \(5,\) is needed"),
        ({"offset": None}, {}, "team_weight, offset and scale belong together"),
        ({}, {"train_rows": np.array([0, ROWS])}, "train_rows go from 0 to 150; there are 150 rows"),
        ({}, {"train_rows": np.array([-1, 3])}, "train_rows go from -1 to 3; there are 150 rows"),
        ({}, {"loss": "hinge"}, "loss is 'hinge'; choose one of squared_hinge, log_likelihood"),
        (
            {"divergence": Divergence(np.ones((ROWS, B)), np.ones(B), np.ones((ROWS, B)))},
            {},
            "divergence needs the loss",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, options, message):
    X, signs = problem()
    with pytest.raises(ValueError, match=message):
        solve(X, replace(team_objective(signs), **change), **{"loss": "squared_hinge"} | options)


# --- the game of two linear players -----------------------------------------------------------------------


class TwoPlayers:
    """Two views of the same instances, frozen ω, b and d, and the potential with its prior, times C n K."""

    def __init__(self, loss, n=100, n_labels=3, strength=0.8):
        rng = np.random.default_rng(0)
        self.X, self.signs = zip(
            *(problem(seed, n, d, n_labels) for seed, d in [(0, 12), (1, 9)]), strict=True
        )
        self.signs = self.signs[0]
        self.loss, self.strength = loss, strength
        self.targets = torch.tensor((self.signs > 0).astype(float))
        self.team = Team(
            weights=torch.tensor(rng.uniform(0.3, 1.2, size=(2, n_labels))),
            owners=torch.ones(2, n_labels, dtype=torch.bool),
            label_rarity=rarity(self.targets.sum(0), n),
            bias=torch.tensor(rng.normal(size=n_labels)),
        )
        self.doubt = torch.tensor(rng.uniform(size=(2, n, n_labels)))
        self.rules = Rules(payoff=loss, rarity_reward=1.0, disagreement_reward=0.0, negative_share=0.3)
        self.for_doubt = replace(self.rules, rarity_reward=0.0, disagreement_reward=0.5)

    def potential(self, weights):
        """C n K Φ − ½ Σ_i ‖w_i‖² at the players' weights, a list of (D_i + 1, K) tensors."""
        logits = torch.stack(
            [torch.tensor(X.toarray()) @ w[:-1] + w[-1] for X, w in zip(self.X, weights, strict=True)]
        )
        value = potential(logits, self.targets, self.team, self.rules)
        for i in range(2):
            parts = (self.targets, self.team.owners[i], self.team.label_rarity, self.doubt[i], self.for_doubt)
            value = value + curiosity(logits[i], *parts)
        return self.strength * self.signs.size * value - sum(w.square().sum() for w in weights) / 2

    def respond(self, player, weights):
        """The player's best response, its solver told what the game says."""
        other, team = 1 - player, self.team
        others_score = Rows.of(self.X[other]).scores(weights[other])
        kappa = np.where(self.signs > 0, 1.0, self.rules.negative_share)
        reward = team.label_rarity.numpy() * (1.0 + 0.5 * self.doubt[player].numpy()) * kappa
        objective = Objective(
            self.signs,
            own_weight=self.strength * reward,
            team_weight=np.full_like(self.signs, self.strength),
            offset=team.weights[other].numpy() * others_score + team.bias.numpy(),
            scale=team.weights[player].numpy(),
        )
        return solve(self.X[player], objective, self.loss, tolerance=1e-8).weights

    def joint_optimum(self):
        """All players' weights at once, by L-BFGS on the potential."""
        shapes = [(X.shape[1] + 1, self.signs.shape[1]) for X in self.X]
        sizes = [rows * columns for rows, columns in shapes]

        def unpack(flat):
            return [part.reshape(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]

        def loss_and_slope(flat):
            at = torch.tensor(flat, requires_grad=True)
            value = -self.potential(unpack(at))
            value.backward()
            return value.item(), at.grad.numpy()

        return [part.numpy() for part in unpack(torch.tensor(optimum(loss_and_slope, sum(sizes))))]


@pytest.mark.parametrize("loss", LOSSES)
def test_best_responses_in_turn_climb_the_potential_to_its_joint_optimum(loss):
    game = TwoPlayers(loss)
    weights = [np.zeros((X.shape[1] + 1, game.signs.shape[1])) for X in game.X]
    values = []
    for _ in range(40):
        for player in range(2):
            weights[player] = game.respond(player, weights)
            values.append(game.potential([torch.tensor(w) for w in weights]).item())
    assert values[3] > values[0] + 0.1  # the second round still had something to gain
    assert (np.diff(values) >= -1e-10 * abs(values[0])).all()
    for got, expected in zip(weights, game.joint_optimum(), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
