import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch.distributions import Bernoulli, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from evenhand.multilabel.game import (
    Rules,
    Team,
    curiosity,
    disagreement,
    fuse,
    fuse_others,
    jensen_shannon,
    payoff,
    potential,
    rare_f1_bound,
    rarity,
    shared_divergence,
    success,
    utility,
)

SPACES = ["logit", "probability"]
PAYOFFS = ["log_likelihood", "squared_hinge", "soft_macro_f1"]
MODES = ["success", "divergence"]
ALL_RULES = [
    Rules(
        payoff=pay,
        curiosity=mode,
        space=space,
        rarity_reward=0.7,
        disagreement_reward=1.3,
        negative_share=0.2,
        own_share=own,
    )
    for pay, mode, space, own in itertools.product(PAYOFFS, MODES, SPACES, [0.0, 0.4])
]
N, ROWS, K, D = 3, 7, 6, 4


def rule_id(rules):
    return f"{rules.payoff}-{rules.curiosity}-{rules.space}-{rules.own_share}"


def game(seed=0, dtype=torch.float64, spread=1.5):
    """Logits, targets and a team in which labels have three, two and one owners; ω on the simplex."""
    rng = np.random.default_rng(seed)
    owners = torch.tensor([[1, 1, 0, 1, 0, 1], [1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 1, 1]], dtype=torch.bool)
    raw = torch.tensor(rng.uniform(0.2, 1.0, size=(N, K)), dtype=dtype) * owners
    team = Team(
        weights=raw / raw.sum(0),
        owners=owners,
        label_rarity=torch.tensor(rng.uniform(size=K), dtype=dtype),
        bias=torch.tensor(rng.normal(size=K), dtype=dtype),
    )
    logits = torch.tensor(rng.normal(scale=spread, size=(N, ROWS, K)), dtype=dtype)
    targets = torch.tensor(rng.uniform(size=(ROWS, K)) < 0.4, dtype=dtype)
    return logits, targets, team


def linear_players(seed=0):
    """Parameters (N, D, K) and a feature view (ROWS, D) of each of the N linear players."""
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(N, D, K))), torch.tensor(rng.normal(size=(N, ROWS, D)))


def relative_gap(a, b):
    return float((a - b).norm() / b.norm())


def slope_by_differences(function, point, direction, step=1e-5):
    """The central difference of a scalar function along a direction."""
    return (function(point + step * direction) - function(point - step * direction)) / (2 * step)


# --- rarity -----------------------------------------------------------------------------------------------


def test_rarity_is_the_closed_form():
    counts, n = [1, 3, 10, 200, 0], 1000
    expected = [np.log2(1001 / (c + 1)) / np.log2(1001 / 1) for c in counts]
    np.testing.assert_allclose(rarity(torch.tensor(counts), n).numpy(), expected, rtol=1e-14)


def test_rarity_stays_between_0_and_1_and_falls_with_the_count():
    rho = rarity(torch.arange(101), 100)
    assert rho[0] == 1
    assert rho[-1] == 0
    assert (rho.diff() < 0).all()


def test_rarity_of_labels_that_are_everywhere_and_of_no_labels():
    assert rarity(torch.tensor([5, 5]), 5).tolist() == [0, 0]
    assert rarity(torch.tensor([], dtype=torch.int64), 5).shape == (0,)


# --- fusion -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
def test_fuse_against_a_loop(space):
    logits, _, team = game()
    fused = fuse(logits, team.weights, team.owners, team.bias, space)
    for n, c in np.ndindex(ROWS, K):
        players = [i for i in range(N) if team.owners[i, c]]
        if space == "logit":
            expected = team.bias[c] + sum(team.weights[i, c] * logits[i, n, c] for i in players)
        else:
            p = sum(float(team.weights[i, c]) / (1 + np.exp(-float(logits[i, n, c]))) for i in players)
            expected = np.log(p / (1 - p))
        assert fused[n, c].item() == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("player", range(N))
def test_fuse_others_against_a_loop(space, player):
    logits, _, team = game(1)
    weights = team.weights * 1.7 if space == "logit" else team.weights  # free ω in logit space
    fused = fuse_others(logits, weights, team.owners, player, team.bias, space)
    for n, c in np.ndindex(ROWS, K):
        everyone = [i for i in range(N) if team.owners[i, c]]
        others = [i for i in everyone if i != player]
        expected = 0.0
        if others:
            up = float(sum(weights[i, c] for i in everyone) / sum(weights[i, c] for i in others))
            if space == "logit":
                expected = team.bias[c] + sum(up * weights[i, c] * logits[i, n, c] for i in others)
            else:
                p = sum(up * weights[i, c] * torch.sigmoid(logits[i, n, c]) for i in others)
                expected = torch.logit(p)
        assert fused[n, c].item() == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("space", SPACES)
def test_fuse_others_is_0_where_the_others_have_no_weight(space):
    logits, _, team = game()
    weights = torch.zeros(N, K, dtype=torch.float64)
    weights[0] = 1.0
    assert (fuse_others(logits, weights, team.owners, 0, None, space) == 0).all()


@pytest.mark.parametrize("space", SPACES)
def test_an_owner_without_weight_has_no_say(space):
    logits, _, team = game()
    weights = team.weights.clone()
    weights[0] = 0
    weights = weights / weights.sum(0).clamp_min(1e-9)
    weights[:, 3] = team.weights[:, 3]  # label 3 has no other owner
    changed = logits.clone()
    changed[0, :, [0, 1, 5]] += 3
    fused = [fuse(s, weights, team.owners, None, space)[:, [0, 1, 5]] for s in (logits, changed)]
    assert torch.equal(fused[0], fused[1])


def test_an_owner_without_weight_keeps_gradients_finite():
    logits, targets, team = game()
    raw = torch.zeros(N, K, dtype=torch.float64)
    raw[0] = -1000.0  # softmax underflows to 0
    raw.requires_grad_()
    logits.requires_grad_()
    weights = torch.where(team.owners, raw, -torch.inf).softmax(0)
    payoff(fuse(logits, weights, team.owners, None, "probability"), targets).backward()
    assert raw.grad.isfinite().all()
    assert logits.grad.isfinite().all()


# --- payoff, disagreement, divergence, curiosity ------------------------------------------------------------


def test_payoffs_against_numpy():
    fused, targets = game(2)[0][0], game(2)[1]
    s, y = fused.numpy(), targets.numpy()
    p = 1 / (1 + np.exp(-s))
    log_likelihood = np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    hinge = -np.mean(np.maximum(0, 1 - (2 * y - 1) * s) ** 2)
    f1 = np.mean([2 * (y[:, c] @ p[:, c]) / (y[:, c].sum() + p[:, c].sum()) for c in range(K)])
    for kind, expected in zip(PAYOFFS, [log_likelihood, hinge, f1], strict=True):
        assert payoff(fused, targets, kind).item() == pytest.approx(expected, abs=1e-12)


def test_disagreement_against_torch_distributions():
    logits = game(3, spread=0.6)[0]
    got = disagreement(logits[0], logits[1], torch.full((K,), 2))
    kl = kl_divergence(Bernoulli(logits=logits[0]), Bernoulli(logits=logits[1])) / np.log(2)
    assert (kl < 1).any()
    torch.testing.assert_close(got, kl.clamp(max=1), rtol=1e-10, atol=1e-13)


def test_disagreement_is_cut_at_one_bit():
    far = torch.tensor([[9.0]])
    assert disagreement(far, -far, torch.tensor([2])).item() == 1


def test_jensen_shannon_against_scipy():
    logits, _, team = game(4)
    got = jensen_shannon(logits, team.owners)
    p = torch.sigmoid(logits).numpy()
    for n, c in np.ndindex(ROWS, K):
        owned = [i for i in range(N) if team.owners[i, c]]
        if len(owned) == 2:
            first, second = (np.array([p[i, n, c], 1 - p[i, n, c]]) for i in owned)
            expected = jensenshannon(first, second) ** 2
        else:
            expected = _entropy(np.mean([p[i, n, c] for i in owned]))
            expected -= np.mean([_entropy(p[i, n, c]) for i in owned])
        assert got[n, c].item() == pytest.approx(expected, abs=1e-13)


def _entropy(p):
    return Bernoulli(probs=torch.tensor(p, dtype=torch.float64)).entropy().item()


@pytest.mark.parametrize("pay", PAYOFFS)
def test_success_curiosity_against_a_loop(pay):
    logits, targets, team = game(5)
    rules = Rules(payoff=pay, rarity_reward=0.7, disagreement_reward=1.3, negative_share=0.2)
    for i in range(N):
        doubt = team.doubt(logits, i, rules)
        owned = [c for c in range(K) if team.owners[i, c]]
        total = 0.0
        for n, c in itertools.product(range(ROWS), owned):
            s, y = float(logits[i, n, c]), float(targets[n, c])
            z = s if y else -s
            reward = -(max(0, 1 - z) ** 2) if pay == "squared_hinge" else -np.log1p(np.exp(-z))
            share = 1.0 if y else 0.2
            total += float(team.label_rarity[c]) * (0.7 + 1.3 * float(doubt[n, c])) * share * reward
        got = curiosity(logits[i], targets, team.owners[i], team.label_rarity, doubt, rules)
        assert got.item() == pytest.approx(total / ROWS / len(owned), abs=1e-12)


def test_divergence_is_paid_once_a_label_to_the_team():
    logits, targets, team = game(6)
    with_it = Rules(curiosity="divergence", rarity_reward=0.0, disagreement_reward=1.3)
    expected = 1.3 * (team.label_rarity * jensen_shannon(logits, team.owners)).sum() / (ROWS * K)
    assert expected > 1e-3
    plain = payoff(fuse(logits, team.weights, team.owners, team.bias), targets)
    assert (potential(logits, targets, team, with_it) - plain).item() == pytest.approx(
        expected.item(), abs=1e-13
    )
    assert shared_divergence(logits, team.owners, team.label_rarity, Rules()).item() == 0


def test_a_player_without_labels_earns_no_curiosity():
    logits, targets, team = game()
    nothing = torch.zeros(K, dtype=torch.bool)
    assert curiosity(logits[0], targets, nothing, team.label_rarity, 0.0, Rules()).item() == 0


# --- 1. exact potential -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ALL_RULES, ids=rule_id)
def test_every_players_gradient_is_that_of_the_potential(rules):
    theta, views = linear_players()
    _, targets, team = game()
    theta.requires_grad_()
    (of_potential,) = torch.autograd.grad(potential(views @ theta, targets, team, rules), theta)
    for i in range(N):
        (of_utility,) = torch.autograd.grad(utility(views @ theta, targets, team, i, rules), theta)
        assert relative_gap(of_utility[i], of_potential[i]) <= 1e-8


@pytest.mark.parametrize("rules", ALL_RULES, ids=rule_id)
def test_gradient_of_the_potential_is_that_of_finite_differences_with_frozen_doubt(rules):
    # autograd of both u_i and Φ could be wrong alike; differences know only values
    logits, targets, team = game(7)
    logits, targets = logits[:, :3], targets[:3]
    doubts = [team.doubt(logits, i, rules) for i in range(N)]

    def frozen(at):
        fused = fuse(at, team.weights, team.owners, team.bias, rules.space)
        total = (1 - rules.own_share) * payoff(fused, targets, rules.payoff)
        total = total + shared_divergence(at, team.owners, team.label_rarity, rules)
        for i in range(N):
            owned = team.owners[i]
            parts = (targets, owned, team.label_rarity, doubts[i], rules)
            total = total + curiosity(at[i], *parts)
            own = payoff(at[i][:, owned], targets[:, owned], rules.payoff) * owned.sum() / K
            total = total + rules.own_share * own
        return total

    assert frozen(logits).item() == pytest.approx(potential(logits, targets, team, rules).item(), abs=1e-14)
    at = logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(potential(at, targets, team, rules), at)
    for seed in range(5):
        direction = torch.tensor(np.random.default_rng(seed).normal(size=at.shape))
        expected = slope_by_differences(frozen, logits, direction).item()
        assert (slope * direction).sum().item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("space", SPACES)
def test_a_live_asymmetric_divergence_has_no_potential(space):
    """The known negative: pay each player its own KL to the rest, and the identity breaks."""
    theta, views = linear_players()
    _, targets, team = game()
    theta.requires_grad_()
    logits = views @ theta

    def reward(i):
        others = fuse_others(logits, team.weights, team.owners, i, team.bias, space)
        kl = kl_divergence(Bernoulli(logits=logits[i]), Bernoulli(logits=others))
        live = torch.where(team.owners[i] & (team.owners.sum(0) > 1), kl, 0.0)
        return (team.label_rarity * live).mean()

    shared = payoff(fuse(logits, team.weights, team.owners, team.bias, space), targets)
    everyone = shared + sum(reward(i) for i in range(N))
    (of_potential,) = torch.autograd.grad(everyone, theta, retain_graph=True)
    for i in range(N):
        (of_utility,) = torch.autograd.grad(shared + reward(i), theta, retain_graph=True)
        assert relative_gap(of_utility[i], of_potential[i]) > 1e-3


# --- 2. monotone ascent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pay", ["log_likelihood", "squared_hinge"])
@pytest.mark.parametrize("space", SPACES)
def test_ascent_with_frozen_doubt_never_lowers_the_potential_and_ends_at_rest(pay, mode, space):
    theta, views = linear_players(1)
    _, targets, team = game(1)
    owned = team.owners.unsqueeze(1)
    rules = Rules(payoff=pay, curiosity=mode, space=space, disagreement_reward=0.3, negative_share=0.5)
    doubts = [team.doubt(views @ theta, i, rules) for i in range(N)]

    def frozen(at):
        """Φ with d as it was at the start, and the L2 prior of linear players."""
        logits = views @ at
        total = payoff(fuse(logits, team.weights, team.owners, team.bias, space), targets, pay)
        total = total + shared_divergence(logits, team.owners, team.label_rarity, rules)
        for i in range(N):
            total = total + curiosity(logits[i], targets, team.owners[i], team.label_rarity, doubts[i], rules)
        return total - 0.3 * torch.where(owned, at, 0.0).square().sum()

    step, last, norms = 0.5, -np.inf, []
    for turn in range(200):
        at = theta.clone().requires_grad_()
        value = frozen(at)
        (slope,) = torch.autograd.grad(value, at)
        assert value.item() >= last - 1e-14
        last = value.item()
        norms.append(slope.norm().item())
        player = turn % N  # in turn, the fusion refreshed between turns
        theta[player] += step * slope[player]
    assert norms[0] > 1e-2
    assert norms[-1] < 1e-8


# --- 3. degenerate cases ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", MODES)
def test_one_player_without_curiosity_is_binary_cross_entropy_to_the_bit(dtype, mode):
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(scale=4, size=(1, 50, 20)), dtype=dtype, requires_grad=True)
    targets = torch.tensor(rng.uniform(size=(50, 20)) < 0.2, dtype=dtype)
    everything = torch.ones(1, 20, dtype=torch.bool)
    rho = rarity(targets.sum(0), 50)
    team = Team(torch.ones(1, 20, dtype=dtype), everything, rho)
    rules = Rules(curiosity=mode, rarity_reward=0.0, disagreement_reward=0.0)
    value = -potential(logits, targets, team, rules)
    (slope,) = torch.autograd.grad(value, logits)
    plain = logits.detach()[0].clone().requires_grad_()
    expected = binary_cross_entropy_with_logits(plain, targets)
    expected.backward()
    assert value.dtype == dtype
    assert value.item() == expected.item()
    assert torch.equal(slope[0], plain.grad)


@pytest.mark.parametrize("space", SPACES)
def test_identical_players_do_not_disagree(space):
    logits, _, team = game()
    same = logits[:1].expand(N, ROWS, K).contiguous()
    for i in range(N):
        doubt = Team(team.weights, team.owners, team.label_rarity).doubt(same, i, Rules(space=space))
        assert doubt.max() <= 1e-14
    assert jensen_shannon(same, team.owners).abs().max() <= 1e-15


def test_a_label_with_one_owner_has_no_disagreement():
    logits, _, team = game()
    alone = team.owners.sum(0) == 1
    assert alone.sum() == 2
    for i in range(N):
        doubt = team.doubt(logits, i, Rules())
        assert (doubt[:, alone] == 0).all()
        assert (doubt[:, ~alone & team.owners[i]] > 0).all()
    assert jensen_shannon(logits, team.owners)[:, alone].abs().max() <= 1e-15


@pytest.mark.parametrize("rules", ALL_RULES, ids=rule_id)
@pytest.mark.parametrize("weight_elsewhere", [0.0, 5.0])
def test_what_a_player_does_not_own_is_never_read(rules, weight_elsewhere):
    logits, targets, team = game()
    unowned = ~team.owners.unsqueeze(1).expand_as(logits)
    results = []
    for poison in (0.0, float("nan"), float("inf")):
        at = torch.where(unowned, poison, logits).requires_grad_()
        weights = torch.where(team.owners, team.weights, weight_elsewhere).requires_grad_()
        poisoned = Team(weights, team.owners, team.label_rarity, team.bias)
        values = [potential(at, targets, poisoned, rules)]
        values += [utility(at, targets, poisoned, i, rules) for i in range(N)]
        slopes = [torch.stack(torch.autograd.grad(v, [at, weights])[:1])[0] for v in values]
        slopes += [torch.autograd.grad(potential(at, targets, poisoned, rules), weights)[0]]
        doubts = [poisoned.doubt(at, i, rules).detach() for i in range(N)]
        results.append([v.detach() for v in values] + slopes + doubts)
    for clean, *poisoned in zip(*results, strict=True):
        assert clean.isfinite().all()
        assert all(torch.equal(clean, other) for other in poisoned)


# --- 4. Jensen --------------------------------------------------------------------------------------------

logit_values = st.floats(-30, 30)


@given(
    data=st.data(), n_players=st.integers(1, 4), space=st.sampled_from(SPACES), y=st.sampled_from([0.0, 1.0])
)
@settings(max_examples=200, deadline=None)
def test_the_team_loses_no_more_than_its_players_do_on_average(data, n_players, space, y):
    logits = torch.tensor(data.draw(st.lists(logit_values, min_size=n_players, max_size=n_players)))
    raw = torch.tensor(data.draw(st.lists(st.floats(-4, 4), min_size=n_players, max_size=n_players)))
    weights, targets = raw.double().softmax(0), torch.tensor([[y]], dtype=torch.float64)
    logits = logits.double()[:, None, None]
    everyone = torch.ones(n_players, 1, dtype=torch.bool)
    fused = fuse(logits, weights[:, None], everyone, None, space)
    kinds = ["log_likelihood", "squared_hinge"] if space == "logit" else ["log_likelihood"]
    for kind in kinds:
        team = -payoff(fused, targets, kind)
        mean = sum(w * -payoff(s, targets, kind) for w, s in zip(weights, logits, strict=True))
        assert team <= mean + 1e-12 * (1 + mean)


# --- 5. the bound on soft F1 --------------------------------------------------------------------------------


def test_rare_f1_bound_holds_on_thousands_of_cases():
    rng = np.random.default_rng(0)
    soft, losses = [], []
    for _ in range(5000):
        n = rng.integers(5, 200)
        y = np.zeros(n)
        y[: rng.integers(1, n)] = 1
        centre, spread = rng.uniform(-2, 5), rng.uniform(0, 3)
        s = torch.tensor((2 * y - 1) * centre + rng.normal(scale=spread, size=n))
        p = torch.sigmoid(s).numpy()
        loss = -np.log(np.where(y > 0, p, 1 - p))
        soft.append(2 * (y @ p) / (y.sum() + p.sum()))
        losses.append([loss[y > 0].mean(), loss[y == 0].mean(), y.mean()])
    bound = rare_f1_bound(*torch.tensor(np.array(losses)).T).numpy()
    assert (bound <= np.array(soft) + 1e-12).all()
    assert (bound > 0).sum() > 1000  # the cases say something
    assert (bound > 0.9 * np.array(soft)).sum() > 100


def test_rare_f1_bound_says_nothing_where_the_positives_are_lost():
    assert rare_f1_bound(torch.tensor([1.0, 3.0]), torch.zeros(2), torch.full((2,), 0.1)).tolist() == [0, 0]


# --- extremes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rules", ALL_RULES, ids=rule_id)
@pytest.mark.parametrize("size", [30.0, 1e4])
def test_extreme_logits_give_finite_values_and_gradients(dtype, rules, size):
    _, targets, team = game(dtype=dtype)
    signs = torch.tensor(np.random.default_rng(1).choice([-1.0, 1.0], size=(N, ROWS, K)), dtype=dtype)
    logits = (size * signs).requires_grad_()
    weights = team.weights.clone().requires_grad_()
    extreme = Team(weights, team.owners, team.label_rarity, team.bias)
    for value in [potential(logits, targets, extreme, rules), utility(logits, targets, extreme, 1, rules)]:
        assert value.dtype == dtype
        assert value.isfinite()
        assert all(slope.isfinite().all() for slope in torch.autograd.grad(value, [logits, weights]))
    for i in range(N):
        doubt = extreme.doubt(logits, i, rules)
        assert ((doubt >= 0) & (doubt <= 1)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_success_of_extreme_logits(dtype):
    s = torch.tensor([[1e4, -1e4, 1e4, -1e4]], dtype=dtype)
    y = torch.tensor([[1, 1, 0, 0]], dtype=dtype)
    got = success(s, y, Rules(negative_share=0.5))
    torch.testing.assert_close(got, torch.tensor([[0, -1e4, -5e3, 0]], dtype=dtype))


def test_with_the_whole_payoff_its_own_a_player_is_paid_as_if_it_were_the_team():
    logits, targets, team = game()
    rules = Rules(rarity_reward=0.0, disagreement_reward=0.0, own_share=1.0)
    for i in range(N):
        owned = team.owners[i]
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits[i], targets, reduction="none")
        expected = -losses[:, owned].sum() / targets.numel()
        assert utility(logits, targets, team, i, rules).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("rules", ALL_RULES, ids=rule_id)
def test_an_instance_of_weight_two_counts_like_two(rules):
    logits, targets, team = game(3)
    weights = torch.tensor([2, 0, 1, 3, 1, 0, 2], dtype=torch.float64)
    rows = torch.arange(ROWS).repeat_interleave(weights.long())

    def of(row_weights, at):
        each = [utility(logits[:, at], targets[at], team, i, rules, row_weights) for i in range(N)]
        return torch.stack([potential(logits[:, at], targets[at], team, rules, row_weights), *each])

    expected = of(None, rows)
    torch.testing.assert_close(of(weights, slice(None)), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(of(0.3 * weights, slice(None)), expected, rtol=1e-12, atol=1e-14)
    plain = of(None, slice(None))
    assert (plain - expected).abs().min() > 1e-4
    torch.testing.assert_close(of(torch.ones_like(weights), slice(None)), plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rules", ALL_RULES, ids=rule_id)
def test_instances_without_weight_leave_no_reward_and_no_gradient(rules):
    logits, targets, team = game(3)
    logits.requires_grad_()
    value = potential(logits, targets, team, rules, torch.zeros(ROWS, dtype=torch.float64))
    (slope,) = torch.autograd.grad(value, logits)
    assert value == 0
    assert not slope.any()
