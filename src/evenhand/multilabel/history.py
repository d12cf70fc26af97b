"""What a round of the game leaves as evidence: potential, division of labour, consensus, Rare-F1 bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import softplus

from evenhand.multilabel import game
from evenhand.multilabel.metrics.buckets import frequency_deciles, rare_labels
from evenhand.multilabel.players import label_blocks


def summarise(
    logits: Tensor,
    doubts: Tensor,
    calibrated: Tensor,
    labels: sparse.csc_array[Any],
    team: game.Team,
    rules: game.Rules,
    train_counts: npt.NDArray[np.int64] | None = None,
    row_weights: Tensor | None = None,
) -> dict[str, Any]:
    """The state of play on outputs that training has not seen, as plain numbers.

    Parameters
    ----------
    logits : Tensor, shape (N, n, K)
        s of the players.
    doubts : Tensor, shape (N, n, K)
        d of the players.
    calibrated : Tensor, shape (n, K)
        The team's logits, calibrated.
    labels : csc_array, shape (n, K)
    team : Team
    rules : Rules
    train_counts : ndarray of int64, shape (K,), optional
        n_c, which say what is rare, where the labels are those of other instances.
    row_weights : Tensor, shape (n,), optional
        Of the instances, in Φ, R and C_i. The other figures count each instance once.

    Returns
    -------
    dict
        ``potential`` Φ, ``payoff`` R and ``curiosity`` Σ_i C_i, with it the team's divergence where that is
        paid; ``rare_f1_bound``, the mean of `game.rare_f1_bound` over the rare labels; ``disagreement_rare``
        and ``disagreement_head``, the mean of d on the positives of the rarest tenth and the most frequent
        tenth of the labels (consensus); ``weights_by_decile`` (10 lists of N) and
        ``weight_entropy_by_decile`` (10), the players' share of Σω and its entropy in nats, rarest first
        (division of labour).
    """
    present = np.diff(labels.indptr) > 0
    counts = np.diff(labels.indptr) if train_counts is None else train_counts
    payoff, own, curiosity = _rewards(logits, doubts, labels, team, rules, row_weights)
    deciles = frequency_deciles(counts).index
    shares = _shares(team)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(0)
    seen = [np.flatnonzero((deciles == d) & present) for d in range(10)]
    by_label = _doubt_on_positives(doubts, labels, team)
    return {
        "potential": (1 - rules.own_share) * payoff + rules.own_share * own + curiosity,
        "payoff": payoff,
        "curiosity": curiosity,
        "rare_f1_bound": _mean(_rare_f1_bound(calibrated, labels)[rare_labels(counts) & present]),
        "disagreement_rare": _mean(by_label[seen[0]]),
        "disagreement_head": _mean(by_label[seen[-1]]),
        "weights_by_decile": [[_mean(player[at]) for player in shares] for at in seen],
        "weight_entropy_by_decile": [_mean(entropy[at]) for at in seen],
    }


def _rewards(
    logits: Tensor,
    doubts: Tensor,
    labels: sparse.csc_array[Any],
    team: game.Team,
    rules: game.Rules,
    row_weights: Tensor | None,
) -> tuple[float, float, float]:
    """R, Σ_i R_i and Σ_i C_i, summed up over blocks of labels: all are means over labels."""
    n_labels, owned = labels.shape[1], team.owners.sum(1)
    payoff = own = curiosity = 0.0
    for at in label_blocks(np.arange(n_labels)):
        targets = torch.from_numpy(labels[:, at].toarray()).to(logits.dtype)
        part = logits[:, :, at]
        owners, rare, share = team.owners[:, at], team.label_rarity[at], len(at) / n_labels
        bias = None if team.bias is None else team.bias[at]
        fused = game.fuse(part, team.weights[:, at], owners, bias, rules.space)
        payoff += share * game.payoff(fused, targets, rules.payoff, row_weights).item()
        curiosity += share * game.shared_divergence(part, owners, rare, rules, row_weights).item()
        for i in range(len(part)):
            own += share * game.own_payoff(part[i], targets, owners[i], rules.payoff, row_weights).item()
            doubt = doubts[i][:, at]
            one = game.curiosity(part[i], targets, owners[i], rare, doubt, rules, row_weights)
            curiosity += one.item() * float(owners[i].sum() / owned[i].clamp_min(1))
    return payoff, own, curiosity


def _shares(team: game.Team) -> npt.NDArray[np.float64]:
    """Each player's share of its label's Σω, shape (N, K)."""
    weights = torch.where(team.owners, team.weights, 0.0).double().numpy()
    total = weights.sum(0)
    shares: npt.NDArray[np.float64] = weights / np.where(total > 0, total, 1.0)
    return shares


def _doubt_on_positives(
    doubts: Tensor, labels: sparse.csc_array[Any], team: game.Team
) -> npt.NDArray[np.float64]:
    """The mean of d over a label's owners and positives, shape (K,); NaN where it has one owner."""
    counts = np.diff(labels.indptr)
    columns = np.repeat(np.arange(labels.shape[1]), counts)
    owners = team.owners.numpy()
    at_positives = doubts.numpy()[:, labels.indices, columns] * owners[:, columns]
    sums = np.bincount(columns, weights=at_positives.sum(0), minlength=labels.shape[1])
    several = owners.sum(0) > 1
    mean: npt.NDArray[np.float64] = np.where(several, sums / np.maximum(counts * owners.sum(0), 1), np.nan)
    return mean


def _rare_f1_bound(calibrated: Tensor, labels: sparse.csc_array[Any]) -> npt.NDArray[np.float64]:
    """`game.rare_f1_bound` of every label; 0 for a label without a positive."""
    n, counts = labels.shape[0], torch.from_numpy(np.diff(labels.indptr)).double()
    negative = softplus(calibrated).double().sum(0)
    columns = np.repeat(np.arange(labels.shape[1]), np.diff(labels.indptr))
    at_positives = calibrated[torch.from_numpy(labels.indices).long(), torch.from_numpy(columns)].double()
    zeros = torch.zeros_like(counts)
    positive = zeros.scatter_add(0, torch.from_numpy(columns), softplus(-at_positives))
    negative = negative - zeros.scatter_add(0, torch.from_numpy(columns), softplus(at_positives))
    bound = game.rare_f1_bound(positive / counts, negative / (n - counts).clamp_min(1), counts / n)
    array: npt.NDArray[np.float64] = torch.where(counts > 0, bound, 0.0).numpy()
    return array


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    """A mean that JSON can hold: None where there is nothing to average."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
