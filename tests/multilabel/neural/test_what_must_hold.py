"""What must hold of the game (docs/game.md), on neural players in float64."""

import itertools
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from evenhand.multilabel import game
from evenhand.multilabel.game import Rules, Team
from evenhand.multilabel.neural.ascent import Ascent, GameObjective, Part
from evenhand.multilabel.neural.encoders import ModuleEncoder
from evenhand.multilabel.neural.network import TeamNetwork

MODES = ["success", "divergence"]
SPACES = ["logit", "probability"]
ROWS, FEATURES, LABELS = 30, 5, 6
OWNERS = np.array([[1, 1, 0, 1, 0, 1], [1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 1, 1]], bool)


def make(encoder_of=(0, 0, 0), owners=OWNERS, dtype=torch.float64, seed=0):
    """A network with smooth encoders, one part with all rows, and ρ."""
    torch.manual_seed(seed)
    encoders = [
        ModuleEncoder(nn.Sequential(nn.Linear(FEATURES, 7), nn.Tanh()), 7, None)
        for _ in range(max(encoder_of) + 1)
    ]
    network = TeamNetwork(encoders, encoder_of, owners).to(dtype)
    with torch.no_grad():
        network.mixture.normal_(std=0.5)
    rng = np.random.default_rng(seed)
    tensors = [(torch.tensor(rng.normal(size=(ROWS, FEATURES)), dtype=dtype),) for _ in encoders]
    targets = torch.tensor(rng.uniform(size=(ROWS, LABELS)) < np.linspace(0.1, 0.6, LABELS), dtype=dtype)
    rho = game.rarity(targets.sum(0), ROWS).to(dtype)
    return network, Part(tensors, targets, 1.0), rho


def logits_of(network, part):
    return network.logits([network.encode(e, part.tensors[e]) for e in range(len(network.encoders))])


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("encoder_of", [(0, 0, 0), (0, 1, 2), (0, 1, 1)], ids=str)
@pytest.mark.parametrize(("mode", "space"), list(itertools.product(MODES, SPACES)))
def test_every_players_gradient_is_that_of_the_potential(mode, space, encoder_of):
    network, part, rho = make(encoder_of)
    rules = Rules(curiosity=mode, space=space, rarity_reward=0.7, disagreement_reward=1.3, negative_share=0.2)

    def slopes(value, parameters):
        return flat(torch.autograd.grad(value, parameters, retain_graph=True))

    team, logits = network.team(rho), logits_of(network, part)
    whole = game.potential(logits, part.targets, team, rules)
    for player in range(3):
        theta = network.player_parameters(player)
        mine = slopes(game.utility(logits, part.targets, team, player, rules), theta)
        everyones = slopes(whole, theta)
        assert everyones.norm() > 1e-3
        assert (mine - everyones).norm() <= 1e-8 * everyones.norm()


@dataclass(frozen=True)
class FrozenTeam(Team):
    """A team whose disagreement is what it was at the start."""

    doubts: tuple = ()

    def doubt(self, logits, player, rules):
        return self.doubts[player]


@dataclass(frozen=True)
class FrozenObjective:
    """The game with frozen ω and d, and an L2 prior without which there would be no optimum."""

    network: TeamNetwork
    team: FrozenTeam
    rules: Rules

    def potential(self, logits, targets, team, row_weights=None):
        return game.potential(logits, targets, self.team, self.rules, row_weights) - self.prior()

    def utility(self, logits, targets, team, player, row_weights=None):
        return game.utility(logits, targets, self.team, player, self.rules, row_weights) - self.prior()

    def prior(self):
        return 0.05 * sum(p.square().sum() for p in self.network.parameters())


@pytest.mark.parametrize("update", ["best_response", "joint"])
@pytest.mark.parametrize(("mode", "space"), list(itertools.product(MODES, SPACES)))
def test_ascent_with_frozen_weights_never_lowers_the_potential_and_comes_to_rest(mode, space, update):
    network, part, rho = make()
    network.mixture.requires_grad_(False)
    rules = Rules(curiosity=mode, space=space, disagreement_reward=0.3, negative_share=0.5)
    with torch.no_grad():
        team, logits = network.team(rho), logits_of(network, part)
        doubts = tuple(team.doubt(logits, i, rules) for i in range(3))
    frozen = FrozenTeam(team.weights, team.owners, rho, None, doubts)
    objective = FrozenObjective(network, frozen, rules)
    trained = [p for p in network.parameters() if p.requires_grad]
    ascent = Ascent(network, torch.optim.SGD(trained, lr=2.0), rho, nullcontext)

    def slope():
        value = objective.potential(logits_of(network, part), part.targets, None)
        return flat(torch.autograd.grad(value, trained)).norm().item()

    start, last = slope(), -np.inf
    for _ in range(300):
        value = ascent.step([part], objective, update)
        assert value >= last - 1e-13
        last = value
    assert start > 1e-2
    assert slope() < 1e-4 * start


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("mode", "space"), list(itertools.product(MODES, SPACES)))
def test_one_player_without_curiosity_is_binary_cross_entropy_to_the_bit(dtype, mode, space):
    """In logit space; in probability space the fusion passes through logarithms and rounds."""
    network, part, rho = make((0,), np.ones((1, LABELS), bool), dtype)
    rules = Rules(curiosity=mode, space=space, rarity_reward=0.0, disagreement_reward=0.0)
    theta = network.player_parameters(0)
    value = -game.potential(logits_of(network, part), part.targets, network.team(rho), rules)
    plain = network.heads[0](network.encoders[0](*part.tensors[0]))
    expected = binary_cross_entropy_with_logits(plain, part.targets)
    slopes, expected_slopes = torch.autograd.grad(value, theta), torch.autograd.grad(expected, theta)
    if space == "logit":
        assert value.item() == expected.item()
        assert all(torch.equal(a, b) for a, b in zip(slopes, expected_slopes, strict=True))
    else:
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_identical_players_do_not_disagree():
    network, part, rho = make(owners=np.ones((3, LABELS), bool))
    with torch.no_grad():
        for head in network.heads[1:]:
            head.load_state_dict(network.heads[0].state_dict())
        logits = logits_of(network, part)
        for space in SPACES:
            for player in range(3):
                assert network.team(rho).doubt(logits, player, Rules(space=space)).max() <= 1e-14


@pytest.mark.parametrize("space", SPACES)
def test_the_team_loses_no_more_than_its_players_do_on_average(space):
    for seed in range(20):
        network, part, rho = make(owners=np.ones((3, LABELS), bool), seed=seed)
        with torch.no_grad():
            logits, weights = logits_of(network, part), network.team(rho).weights
            torch.testing.assert_close(weights.sum(0), torch.ones(LABELS, dtype=torch.float64))
            fused = game.fuse(logits, weights, network.owners, None, space)
            lost = [binary_cross_entropy_with_logits(s, part.targets, reduction="none") for s in logits]
            mean = (weights[:, None] * torch.stack(lost)).sum(0)
            team = binary_cross_entropy_with_logits(fused, part.targets, reduction="none")
            assert (team <= mean + 1e-12).all()


def test_heads_hold_the_rows_of_owned_labels_alone():
    network, part, _ = make()
    assert [tuple(head.weight.shape) for head in network.heads] == [(4, 7), (4, 7), (4, 7)]
    logits = logits_of(network, part)
    owned = torch.from_numpy(OWNERS)
    assert (logits.transpose(0, 1)[:, ~owned] == 0).all()
    own = network.heads[1](network.encoders[0](*part.tensors[0]))
    assert torch.equal(logits[1][:, owned[1]], own)


def test_a_player_without_labels_is_refused():
    with pytest.raises(ValueError, match="player 1 owns no label; take fewer players"):
        make((0, 0), np.array([[1] * LABELS, [0] * LABELS], bool))


def test_a_turn_answers_to_the_others_as_they_then_are():
    """Two players in turn, by hand: the second one's gradient is taken at the first one's new weights."""
    rules, rate = Rules(space="probability", disagreement_reward=0.5), 0.5
    network, part, rho = make((0, 1), OWNERS[:2] | np.array([[0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 1, 0]], bool))
    by_hand, *_ = make((0, 1), network.owners.numpy())
    by_hand.load_state_dict(network.state_dict())
    ascent = Ascent(network, torch.optim.SGD(network.parameters(), lr=rate), rho, nullcontext)
    ascent.step([part], GameObjective(rules), "best_response")
    turns = [by_hand.player_parameters(0), by_hand.player_parameters(1), by_hand.shared_parameters()]
    for number, theta in enumerate(turns):
        team, logits = by_hand.team(rho), logits_of(by_hand, part)
        if number < 2:
            value = game.utility(logits, part.targets, team, number, rules)
        else:
            value = game.potential(logits, part.targets, team, rules)
        with torch.no_grad():
            for weight, slope in zip(theta, torch.autograd.grad(value, theta), strict=True):
                weight += rate * slope
    for (name, mine), hand in zip(network.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, hand, rtol=1e-12, atol=1e-14, msg=name)


@pytest.mark.parametrize("update", ["best_response", "joint"])
@pytest.mark.parametrize("encoder_of", [(0, 0, 0), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("weighed", [False, True])
def test_parts_of_a_batch_add_up_to_the_batch(update, encoder_of, weighed):
    results = []
    weights = torch.tensor(np.random.default_rng(5).uniform(0.1, 3, ROWS)) if weighed else torch.ones(ROWS)
    weights[20:] *= 1 - 1.0 * weighed  # the last part has no say
    for cuts in ([], [8, 20]):
        network, whole, rho = make(encoder_of)
        pieces = np.split(np.arange(ROWS), cuts)
        parts = [
            Part(
                [(t[0][p],) for t in whole.tensors],
                whole.targets[p],
                weights[p].sum().item() / ROWS,
                weights[p] if weighed else None,
            )
            for p in pieces
        ]
        ascent = Ascent(network, torch.optim.SGD(network.parameters(), lr=0.5), rho, nullcontext)
        values = [ascent.step(parts, GameObjective(Rules()), update) for _ in range(3)]
        results.append([torch.tensor(values, dtype=torch.float64), *network.parameters()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
