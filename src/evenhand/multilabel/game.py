"""The game of CD-GTMLL as pure functions on tensors: fusion, payoff, disagreement, curiosity, potential.

Shapes throughout: ``logits`` (N, n, K) holds s_{i,c}(x) of N players for n instances and K labels;
``targets`` (n, K) is 0 or 1; ``owners`` (N, K) is True where player i owns label c (c ∈ L_i);
``weights`` (N, K) holds ω_{i,c}; ``row_weights`` (n,), of the logits' dtype, holds weights ≥ 0 of the
instances in the mean E, None where all weigh the same. Logits of labels that a player does not own are never
read. Everything is differentiable and works in any floating dtype. Source of all formulas: our
reading of arXiv:2510.17520, as docs/game.md has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

Space = Literal["logit", "probability"]
Payoff = Literal["log_likelihood", "squared_hinge", "soft_macro_f1"]
Curiosity = Literal["success", "divergence"]


@dataclass(frozen=True)
class Rules:
    """What the players are paid for.

    Parameters
    ----------
    payoff : {"log_likelihood", "squared_hinge", "soft_macro_f1"}
        The shared accuracy payoff R.
    curiosity : {"success", "divergence"}
        The form of the curiosity reward C_i.
    rarity_reward : float
        α ≥ 0, pay for rare labels.
    disagreement_reward : float
        β ≥ 0, pay for labels on which the owners do not agree.
    negative_share : float
        κ ≥ 0, the share of the curiosity reward that negatives earn ("success" mode).
    space : {"logit", "probability"}
        Where the players are fused.
    own_share : float
        η in [0, 1]: the share of the payoff that a player gets for its own score instead of the team's. 0 is
        the paper's game; for every η the game has an exact potential. [D]
    """

    payoff: Payoff = "log_likelihood"
    curiosity: Curiosity = "success"
    rarity_reward: float = 1.0
    disagreement_reward: float = 1.0
    negative_share: float = 0.0
    space: Space = "logit"
    own_share: float = 0.0


def rarity(counts: Tensor, n_instances: int) -> Tensor:
    """ρ_c = log((M+1)/(n_c+1)) / max_c' log((M+1)/(n_c'+1)).

    Parameters
    ----------
    counts : Tensor, shape (K,)
        n_c, the training positives of each label.
    n_instances : int
        M, the number of training instances.

    Returns
    -------
    Tensor, shape (K,), float64
        Between 0 (on every instance) and 1 (the rarest label); all 0 where every label is on every instance.

    Examples
    --------
    >>> rarity(torch.tensor([1, 7, 31]), 31)
    tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    raw = torch.log((n_instances + 1) / (counts.double() + 1))
    top = raw.max() if raw.numel() else raw.new_tensor(0.0)
    return raw / top if top > 0 else torch.zeros_like(raw)


def fuse(
    logits: Tensor, weights: Tensor, owners: Tensor, bias: Tensor | None = None, space: Space = "logit"
) -> Tensor:
    """The team's logit s̄_c: Σ_i ω_{i,c} s_{i,c} + b_c, or the logit of p̄_c = Σ_i ω_{i,c} σ(s_{i,c}).

    Parameters
    ----------
    logits : Tensor, shape (N, n, K)
    weights : Tensor, shape (N, K)
        ω; on the simplex over the owners of each label where ``space`` is "probability".
    owners : Tensor of bool, shape (N, K)
    bias : Tensor, shape (K,), optional
        b_c, in logit space only.
    space : {"logit", "probability"}

    Returns
    -------
    Tensor, shape (n, K)

    Examples
    --------
    >>> s = torch.tensor([[[2.0]], [[0.0]]])
    >>> fuse(s, torch.tensor([[0.5], [0.5]]), torch.ones(2, 1, dtype=torch.bool))
    tensor([[1.]])
    """
    logits = _owned_only(logits, owners)
    weights = torch.where(owners, weights, 0.0).unsqueeze(1)
    if space == "logit":
        fused = (weights * logits).sum(0)
        return fused if bias is None else fused + bias
    tiny = torch.finfo(weights.dtype).tiny  # the slope of log 0 is infinite
    log_weights = torch.where(weights > 0, weights.clamp_min(tiny).log(), -math.inf)
    log_p = torch.logsumexp(log_weights + logsigmoid(logits), 0)
    log_q = torch.logsumexp(log_weights + logsigmoid(-logits), 0)
    return log_p - log_q


def fuse_others(
    logits: Tensor,
    weights: Tensor,
    owners: Tensor,
    player: int,
    bias: Tensor | None = None,
    space: Space = "logit",
) -> Tensor:
    """The logit of p̄_{−i}: the fusion of the other owners, their weights scaled up to the team's sum of ω.

    Parameters
    ----------
    logits, weights, owners, bias, space
        As in `fuse`.
    player : int
        i, the player who is left out.

    Returns
    -------
    Tensor, shape (n, K)
        Zero where nobody else owns the label.
    """
    others = owners.clone()
    others[player] = False
    total = torch.where(owners, weights, 0.0).sum(0)
    rest = torch.where(others, weights, 0.0).sum(0)
    scaled = weights * torch.where(rest > 0, total / rest.clamp_min(1e-30), 0.0)
    alone = ~(others.any(0) & (rest > 0))
    if space == "probability":  # the weights of absent others are replaced so that no log of 0 is taken
        scaled = torch.where(alone, torch.ones_like(scaled), scaled)
        others = others | alone
    return torch.where(alone, 0.0, fuse(logits, scaled, others, bias, space))


def expectation(values: Tensor, row_weights: Tensor | None = None) -> Tensor:
    """E[(1/K) Σ_c v_c]: the mean over labels and, by weight, over instances.

    Parameters
    ----------
    values : Tensor, shape (n, K)
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar
        0 where every weight is.

    Examples
    --------
    >>> expectation(torch.tensor([[1.0, 3.0], [4.0, 4.0]]), torch.tensor([1.0, 0.0]))
    tensor(2.)
    """
    if row_weights is None:
        return values.mean()
    return (row_weights @ values).sum() / (_total(row_weights) * values.shape[1])


def payoff(
    fused: Tensor, targets: Tensor, kind: Payoff = "log_likelihood", row_weights: Tensor | None = None
) -> Tensor:
    """R = E[(1/K) Σ_c y_c log p̄_c + (1−y_c) log(1−p̄_c)], the negative squared hinge, or the soft macro-F1.

    Parameters
    ----------
    fused : Tensor, shape (n, K)
        s̄.
    targets : Tensor, shape (n, K)
    kind : {"log_likelihood", "squared_hinge", "soft_macro_f1"}
        "squared_hinge" is −E[(1/K) Σ_c max(0, 1 − (2y_c−1) s̄_c)²]; "soft_macro_f1" is the mean over labels of
        2 Σ y p̄ / (Σ y + Σ p̄), weighted sums where there are weights.
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar
        The higher, the better.
    """
    if kind == "log_likelihood":
        targets = targets.to(fused.dtype)
        if row_weights is None:  # to the bit what everybody else computes
            return -binary_cross_entropy_with_logits(fused, targets)
        loss = binary_cross_entropy_with_logits(fused, targets, reduction="none")
        return -expectation(loss, row_weights)
    if kind == "squared_hinge":
        return -expectation(_squared_hinge(fused, targets), row_weights)
    p = torch.sigmoid(fused)
    hits, sizes = targets * p, targets + p
    if row_weights is not None:
        hits, sizes = (row_weights.unsqueeze(1) * each for each in (hits, sizes))
    return (2 * hits.sum(0) / sizes.sum(0).clamp_min(1e-12)).mean()


def disagreement(player: Tensor, others: Tensor, owner_count: Tensor) -> Tensor:
    """d_{i,c} = min(1, KL(Ber(p_{i,c}) ‖ Ber(p̄_{−i,c})) / log 2), and 0 where the label has one owner.

    Parameters
    ----------
    player : Tensor, shape (n, K)
        s_i, the player's logits.
    others : Tensor, shape (n, K)
        The logit of p̄_{−i} (`fuse_others`).
    owner_count : Tensor, shape (K,)
        m_c.

    Returns
    -------
    Tensor, shape (n, K)
        In [0, 1].

    Examples
    --------
    >>> disagreement(torch.tensor([[0.0, 30.0]]), torch.tensor([[0.0, -30.0]]), torch.tensor([2, 2]))
    tensor([[0., 1.]])
    """
    p = torch.sigmoid(player)
    kl = p * (logsigmoid(player) - logsigmoid(others)) + (1 - p) * (logsigmoid(-player) - logsigmoid(-others))
    return torch.where(owner_count > 1, (kl / math.log(2)).clamp(0.0, 1.0), 0.0)


def success(player: Tensor, targets: Tensor, rules: Rules) -> Tensor:
    """y log p_{i,c} + κ (1−y) log(1−p_{i,c}) of each instance and label, or the same of the squared hinge.

    Parameters
    ----------
    player : Tensor, shape (n, K)
        s_i.
    targets : Tensor, shape (n, K)
    rules : Rules

    Returns
    -------
    Tensor, shape (n, K)
        Never positive.
    """
    if rules.payoff == "squared_hinge":
        reward = -_squared_hinge(player, targets)
    else:
        reward = logsigmoid(torch.where(targets > 0, player, -player))
    return torch.where(targets > 0, reward, rules.negative_share * reward)


def jensen_shannon(logits: Tensor, owners: Tensor) -> Tensor:
    """JS_c: the Jensen–Shannon divergence of the owners' Bernoullis, H(mean p) − mean H(p), in nats.

    Parameters
    ----------
    logits : Tensor, shape (N, n, K)
    owners : Tensor of bool, shape (N, K)

    Returns
    -------
    Tensor, shape (n, K)
    """
    share = (owners.to(logits.dtype) / owners.sum(0)).unsqueeze(1)
    safe = _owned_only(logits, owners)
    p = torch.sigmoid(safe)
    entropy = -p * logsigmoid(safe) - (1 - p) * logsigmoid(-safe)
    mean = (share * p).sum(0)
    tiny = torch.finfo(logits.dtype).tiny
    mean_entropy = -mean * mean.clamp_min(tiny).log() - (1 - mean) * (1 - mean).clamp_min(tiny).log()
    return mean_entropy - (share * entropy).sum(0)


def curiosity(
    player: Tensor,
    targets: Tensor,
    owned: Tensor,
    label_rarity: Tensor,
    doubt: Tensor | float,
    rules: Rules,
    row_weights: Tensor | None = None,
) -> Tensor:
    """C_i = E[(1/|L_i|) Σ_{c∈L_i} ρ_c (α + β·sg[d_{i,c}]) (y_c log p_{i,c} + κ(1−y_c) log(1−p_{i,c}))].

    In mode "divergence" the disagreement is paid by `shared_divergence` and β is left out here:
    the part of C_i that is the player's own is α E[(1/|L_i|) Σ ρ_c (…)].

    Parameters
    ----------
    player : Tensor, shape (n, K)
        s_i.
    targets : Tensor, shape (n, K)
    owned : Tensor of bool, shape (K,)
        L_i.
    label_rarity : Tensor, shape (K,)
        ρ.
    doubt : Tensor, shape (n, K), or 0.0
        d_i; no gradient flows through it.
    rules : Rules
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar
    """
    rate: Tensor | float = rules.rarity_reward
    if rules.curiosity == "success" and isinstance(doubt, Tensor):
        rate = rules.rarity_reward + rules.disagreement_reward * torch.where(owned, doubt.detach(), 0.0)
    player = torch.where(owned, player, 0.0)
    reward = label_rarity.to(player.dtype) * rate * success(player, targets, rules)
    reward = torch.where(owned, reward, 0.0)
    if row_weights is None:
        return reward.sum() / (len(player) * owned.sum().clamp_min(1))
    return (row_weights @ reward).sum() / (_total(row_weights) * owned.sum().clamp_min(1))


def shared_divergence(
    logits: Tensor,
    owners: Tensor,
    label_rarity: Tensor,
    rules: Rules,
    row_weights: Tensor | None = None,
) -> Tensor:
    """β E[(1/K) Σ_c ρ_c JS_c], paid once a label to the team in mode "divergence", else 0.

    Parameters
    ----------
    logits : Tensor, shape (N, n, K)
    owners : Tensor of bool, shape (N, K)
    label_rarity : Tensor, shape (K,)
    rules : Rules
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar
    """
    if rules.curiosity != "divergence":
        return logits.new_zeros(())
    divergence = label_rarity.to(logits.dtype) * jensen_shannon(logits, owners)
    return rules.disagreement_reward * expectation(divergence, row_weights)


@dataclass(frozen=True)
class Team:
    """The state of play that turns players' logits into utilities.

    Parameters
    ----------
    weights : Tensor, shape (N, K)
        ω.
    owners : Tensor of bool, shape (N, K)
    label_rarity : Tensor, shape (K,)
        ρ.
    bias : Tensor, shape (K,), optional
        b.
    """

    weights: Tensor
    owners: Tensor
    label_rarity: Tensor
    bias: Tensor | None = None

    def doubt(self, logits: Tensor, player: int, rules: Rules) -> Tensor:
        """d_i of `disagreement`, shape (n, K), against the rest of this team; 0 where i is no owner."""
        others = fuse_others(logits, self.weights, self.owners, player, self.bias, rules.space)
        doubt = disagreement(logits[player], others, self.owners.sum(0))
        return torch.where(self.owners[player], doubt, 0.0)


def utility(
    logits: Tensor,
    targets: Tensor,
    team: Team,
    player: int,
    rules: Rules,
    row_weights: Tensor | None = None,
) -> Tensor:
    """u_i = (1−η) R + η R_i + C_i, where R_i is the payoff of the player's own score on its labels.

    Parameters
    ----------
    logits : Tensor, shape (N, n, K)
    targets : Tensor, shape (n, K)
    team : Team
    player : int
        i.
    rules : Rules
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar
    """
    shared = _shared_reward(logits, targets, team, rules, row_weights)
    return shared + _own_reward(logits, targets, team, player, rules, row_weights)


def potential(
    logits: Tensor, targets: Tensor, team: Team, rules: Rules, row_weights: Tensor | None = None
) -> Tensor:
    """Φ = (1−η) R + Σ_i (η R_i + C_i), for which ∇_{θ_i} u_i = ∇_{θ_i} Φ holds exactly for every player.

    Parameters
    ----------
    logits : Tensor, shape (N, n, K)
    targets : Tensor, shape (n, K)
    team : Team
    rules : Rules
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar
    """
    shared = _shared_reward(logits, targets, team, rules, row_weights)
    own = [_own_reward(logits, targets, team, i, rules, row_weights) for i in range(len(logits))]
    return shared + torch.stack(own).sum()


def rare_f1_bound(positive_loss: Tensor, negative_loss: Tensor, frequency: Tensor) -> Tensor:
    """A lower bound on a label's soft F1: 2(1−CE⁺)/(2−CE⁺+r·CE⁻), r = (1−π)/π, where CE⁺ < 1; else 0.

    Parameters
    ----------
    positive_loss, negative_loss : Tensor, shape (K,)
        CE⁺ = mean −log p over the positives, CE⁻ = mean −log(1−p) over the negatives.
    frequency : Tensor, shape (K,)
        π, the label's share of positives, in (0, 1].

    Returns
    -------
    Tensor, shape (K,)

    Notes
    -----
    It is *a* bound, not necessarily the paper's.

    Examples
    --------
    >>> rare_f1_bound(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(0.1))
    tensor(1.)
    """
    ratio = (1 - frequency) / frequency
    bound = 2 * (1 - positive_loss) / (2 - positive_loss + ratio * negative_loss)
    return torch.where(positive_loss < 1, bound, 0.0)


def _owned_only(logits: Tensor, owners: Tensor) -> Tensor:
    """The logits with 0 where a player is no owner: a mask put on later would let a NaN into the gradient."""
    return torch.where(owners.unsqueeze(1), logits, 0.0)


def own_payoff(
    player: Tensor, targets: Tensor, owned: Tensor, kind: Payoff, row_weights: Tensor | None = None
) -> Tensor:
    """R_i = E[(1/K) Σ_{c∈L_i} (…)]: the payoff of a player's own score on its labels.

    Parameters
    ----------
    player : Tensor, shape (n, K)
        s_i.
    targets : Tensor, shape (n, K)
    owned : Tensor of bool, shape (K,)
        L_i.
    kind : {"log_likelihood", "squared_hinge", "soft_macro_f1"}
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar
    """
    if not owned.any():
        return player.new_zeros(())
    return payoff(player[:, owned], targets[:, owned], kind, row_weights) * (int(owned.sum()) / len(owned))


def _shared_reward(
    logits: Tensor, targets: Tensor, team: Team, rules: Rules, row_weights: Tensor | None
) -> Tensor:
    fused = fuse(logits, team.weights, team.owners, team.bias, rules.space)
    shared = (1 - rules.own_share) * payoff(fused, targets, rules.payoff, row_weights)
    return shared + shared_divergence(logits, team.owners, team.label_rarity, rules, row_weights)


def _own_reward(
    logits: Tensor, targets: Tensor, team: Team, player: int, rules: Rules, row_weights: Tensor | None
) -> Tensor:
    mine, owned = logits[player], team.owners[player]
    doubt = team.doubt(logits, player, rules) if rules.curiosity == "success" else 0.0
    reward = curiosity(mine, targets, owned, team.label_rarity, doubt, rules, row_weights)
    if not rules.own_share:
        return reward
    return reward + rules.own_share * own_payoff(mine, targets, owned, rules.payoff, row_weights)


def _total(row_weights: Tensor) -> Tensor:
    """Σ_n w_n, to divide by: instances that all weigh nothing add 0, not NaN."""
    return row_weights.sum().clamp_min(torch.finfo(row_weights.dtype).tiny)


def _squared_hinge(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.clamp(1 - torch.where(targets > 0, logits, -logits), min=0) ** 2
