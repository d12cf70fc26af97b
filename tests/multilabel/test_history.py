import json
import math

import numpy as np
import pytest
import torch
from scipy import sparse

from evenhand.multilabel import game
from evenhand.multilabel.history import summarise
from evenhand.multilabel.metrics.buckets import frequency_deciles, rare_labels

N_PLAYERS, N_ROWS, N_LABELS = 3, 40, 70  # more labels than one block holds


def state(seed=0, space="logit", n_labels=N_LABELS):
    """Logits (N, n, K), labels and a team in which players own different numbers of labels."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(scale=2, size=(N_PLAYERS, N_ROWS, n_labels)))
    Y = rng.random((N_ROWS, n_labels)) < np.linspace(0.02, 0.5, n_labels)
    Y[:, 3:4] = False
    owners = rng.random((N_PLAYERS, n_labels)) < [[0.9], [0.5], [0.3]]
    owners[0] |= ~owners.any(0)
    weights = rng.uniform(0.1, 1, owners.shape) * owners
    if space == "probability":
        weights = weights / weights.sum(0)
    team = game.Team(
        torch.from_numpy(weights),
        torch.from_numpy(owners),
        game.rarity(torch.from_numpy(Y.sum(0)), N_ROWS),
        torch.from_numpy(rng.normal(size=n_labels)) if space == "logit" else None,
    )
    return logits, sparse.csc_array(Y.astype(np.float32)), team


def summary_of(logits, labels, team, rules, calibrated=None, **options):
    doubts = torch.stack([team.doubt(logits, i, rules) for i in range(len(logits))])
    fused = game.fuse(logits, team.weights, team.owners, team.bias, rules.space)
    calibrated = fused if calibrated is None else calibrated
    return summarise(logits, doubts, calibrated, labels, team, rules, **options)


@pytest.mark.parametrize(
    "rules",
    [
        game.Rules("log_likelihood", "success", 2.0, 1.5, 0.3),
        game.Rules("squared_hinge", "success", 2.0, 1.5, 0.3),
        game.Rules("log_likelihood", "divergence", 2.0, 1.5, 0.3),
        game.Rules("log_likelihood", "success", 2.0, 1.5, 0.0, "probability"),
        game.Rules("log_likelihood", "divergence", 2.0, 1.5, 0.0, "probability"),
    ],
    ids=lambda rules: f"{rules.payoff}-{rules.curiosity}-{rules.space}",
)
def test_potential_and_payoff_in_blocks_are_those_of_the_whole(rules):
    logits, labels, team = state(space=rules.space)
    got = summary_of(logits, labels, team, rules)
    targets = torch.from_numpy(labels.toarray()).double()
    fused = game.fuse(logits, team.weights, team.owners, team.bias, rules.space)
    assert got["payoff"] == pytest.approx(game.payoff(fused, targets, rules.payoff).item(), rel=1e-10)
    assert got["potential"] == pytest.approx(game.potential(logits, targets, team, rules).item(), rel=1e-7)


@pytest.mark.parametrize(
    "rules",
    [
        game.Rules("squared_hinge", "success", 2.0, 1.5, 0.3, own_share=0.4),
        game.Rules("log_likelihood", "divergence", 2.0, 1.5, 0.3, own_share=0.4),
    ],
    ids=lambda rules: rules.curiosity,
)
def test_an_instance_that_weighs_twice_counts_in_the_rewards_as_if_it_stood_twice(rules):
    logits, labels, team = state(8)
    twice = torch.tensor([1, 2] * (N_ROWS // 2))
    rows = torch.arange(N_ROWS).repeat_interleave(twice)
    given = summary_of(logits, labels, team, rules, row_weights=twice.double())
    repeated = summary_of(logits[:, rows], labels[rows.numpy()], team, rules)
    for name in ("potential", "payoff", "curiosity"):
        assert given[name] == pytest.approx(repeated[name], rel=1e-7)
        assert given[name] != pytest.approx(summary_of(logits, labels, team, rules)[name], rel=1e-5)


def test_a_player_without_labels_adds_nothing():
    rules = game.Rules()
    logits, labels, team = state(1)
    team.owners[0] |= team.owners[2]
    team.owners[2] = False
    two = game.Team(team.weights[:2], team.owners[:2], team.label_rarity, team.bias)
    three = summary_of(logits, labels, team, rules)
    assert three["potential"] == pytest.approx(summary_of(logits[:2], labels, two, rules)["potential"])


def test_disagreement_is_the_mean_over_owners_and_positives_of_labels_with_several_owners():
    logits, labels, team = state(2)
    rules = game.Rules()
    got = summary_of(logits, labels, team, rules)
    Y, owners = labels.toarray(), team.owners.numpy()
    deciles = frequency_deciles(Y.sum(0).astype(int)).index
    for name, decile in (("disagreement_rare", 0), ("disagreement_head", 9)):
        means = []
        for c in np.flatnonzero(deciles == decile):
            if owners[:, c].sum() < 2 or not Y[:, c].any():
                continue
            doubts = [
                team.doubt(logits, i, rules)[row, c].item()
                for i in np.flatnonzero(owners[:, c])
                for row in np.flatnonzero(Y[:, c])
            ]
            means.append(np.mean(doubts))
        assert got[name] == pytest.approx(np.mean(means))


def test_the_bound_is_the_mean_over_rare_labels_with_a_positive():
    _, labels, team = state(3)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(N_PLAYERS, N_ROWS, N_LABELS)))
    Y = labels.toarray()
    # Well told apart, so that the bounds are above 0.
    calibrated = torch.from_numpy(6 * Y - 3.0 + np.random.default_rng(1).normal(size=Y.shape))
    got = summary_of(logits, labels, team, game.Rules(), calibrated)
    bounds = []
    for c in np.flatnonzero(rare_labels(Y.sum(0).astype(int))):
        if not Y[:, c].any():
            continue
        p = [1 / (1 + math.exp(-s)) for s in calibrated[:, c].tolist()]
        positive = np.mean([-math.log(q) for q, y in zip(p, Y[:, c]) if y])
        negative = np.mean([-math.log(1 - q) for q, y in zip(p, Y[:, c]) if not y])
        share = Y[:, c].mean()
        bound = 2 * (1 - positive) / (2 - positive + (1 - share) / share * negative)
        bounds.append(bound if positive < 1 else 0.0)
    assert max(bounds) > 0.3
    assert got["rare_f1_bound"] == pytest.approx(np.mean(bounds), rel=1e-6)


def test_weights_by_decile_are_the_players_shares():
    logits, labels, team = state(4)
    got = summary_of(logits, labels, team, game.Rules())
    counts = labels.toarray().sum(0).astype(int)
    weights = team.weights.numpy()
    for decile in range(10):
        members = np.flatnonzero((frequency_deciles(counts).index == decile) & (counts > 0))
        shares = np.array([weights[:, c] / weights[:, c].sum() for c in members])
        np.testing.assert_allclose(got["weights_by_decile"][decile], shares.mean(0))
        entropies = [-sum(s * math.log(s) for s in row if s > 0) for row in shares]
        assert got["weight_entropy_by_decile"][decile] == pytest.approx(np.mean(entropies))
    for row in got["weights_by_decile"]:
        assert sum(row) == pytest.approx(1)


def test_a_label_that_no_player_is_heard_on_has_no_share():
    logits, labels, team = state(5)
    team.weights[:, 60] = 0
    got = summary_of(logits, labels, team, game.Rules())
    assert np.isfinite(got["weight_entropy_by_decile"]).all()


def test_what_cannot_be_averaged_is_none_and_the_record_is_json():
    logits, labels, team = state(6, n_labels=4)  # fewer labels than deciles, the last without a positive
    team.owners[1:] = False
    team.owners[0] = True
    got = summary_of(logits, labels, team, game.Rules())
    assert got["disagreement_rare"] is None
    assert None in got["weight_entropy_by_decile"]
    assert json.loads(json.dumps(got, allow_nan=False)) == got


def test_a_label_on_every_instance_has_a_bound():
    logits, _, team = state(7, n_labels=2)
    labels = sparse.csc_array(np.ones((N_ROWS, 2), np.float32))
    got = summary_of(logits, labels, team, game.Rules(), torch.full((N_ROWS, 2), 30.0))
    assert got["rare_f1_bound"] == pytest.approx(1.0)
