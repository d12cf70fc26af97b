"""Losses of other methods, the controls that a claim for the game needs; each on the team's fused logits.

Shapes: ``logits`` and ``targets`` (n, K), ``counts`` (K,): n_c, training positives, ``row_weights`` (n,):
weights ≥ 0 of the instances, None where all weigh the same. Each loss is a mean over labels and, by weight,
over instances, differentiable, in the dtype of the logits.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from evenhand.multilabel.game import expectation, payoff, rarity

LossName = Literal["bce", "positive_weight", "focal", "asymmetric", "class_balanced", "distribution_balanced"]


class Loss(Protocol):
    """From logits and targets, both (n, K), to a scalar."""

    def __call__(self, logits: Tensor, targets: Tensor, *, row_weights: Tensor | None = None) -> Tensor:
        """The loss, by the weights of the instances."""


def cross_entropy(logits: Tensor, targets: Tensor, *, row_weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy: minus the game's payoff, to the bit.

    Parameters
    ----------
    logits, targets : Tensor, shape (n, K)
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar

    Examples
    --------
    >>> cross_entropy(torch.zeros(1, 1), torch.ones(1, 1))
    tensor(0.6931)
    """
    return -payoff(logits, targets, "log_likelihood", row_weights)


def positive_weight(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    n_instances: int,
    *,
    alpha: float = 10.0,
    row_weights: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy whose positives count 1 + αρ_c times (ρ: docs/game.md).

    Parameters
    ----------
    logits, targets : Tensor, shape (n, K)
    counts : Tensor, shape (K,)
    n_instances : int
        M.
    alpha : float
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar

    Examples
    --------
    >>> positive_weight(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([1, 1]), 9)
    tensor(4.1589)
    """
    weight = 1 + alpha * rarity(counts, n_instances).to(logits)
    loss = binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")
    return expectation(loss, row_weights)


def focal(
    logits: Tensor, targets: Tensor, *, gamma: float = 2.0, row_weights: Tensor | None = None
) -> Tensor:
    """Focal loss: −(1 − p_t)^γ log p_t, p_t the probability of what is true.

    Parameters
    ----------
    logits, targets : Tensor, shape (n, K)
    gamma : float
        γ ≥ 0; 0 is binary cross-entropy.
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar

    Notes
    -----
    Lin et al., 2017 (arXiv:1708.02002), equation 4; without their α_t.

    Examples
    --------
    >>> focal(torch.zeros(1, 1), torch.ones(1, 1))  # (1/2)² log 2
    tensor(0.1733)
    """
    log_p = logsigmoid(torch.where(targets > 0, logits, -logits))
    return expectation(-((1 - log_p.exp()) ** gamma * log_p), row_weights)


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    *,
    positive_gamma: float = 1.0,
    negative_gamma: float = 4.0,
    margin: float = 0.05,
    row_weights: Tensor | None = None,
) -> Tensor:
    """Asymmetric loss: −(1 − p)^γ₊ log p for positives, −p_m^γ₋ log(1 − p_m) for others, p_m = max(p − m, 0).

    Parameters
    ----------
    logits, targets : Tensor, shape (n, K)
    positive_gamma, negative_gamma : float
        γ₊ and γ₋.
    margin : float
        m: negatives below this probability cost nothing.
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar

    Notes
    -----
    Ridnik et al., 2021 (arXiv:2009.14119), with the values of their public code.

    Examples
    --------
    >>> asymmetric(torch.tensor([[-9.0]]), torch.zeros(1, 1)).abs()
    tensor(0.)
    """
    p = torch.sigmoid(logits)
    shifted = (p - margin).clamp_min(0)
    positive = (1 - p) ** positive_gamma * logsigmoid(logits)
    negative = shifted**negative_gamma * torch.log1p(-shifted)
    return expectation(-torch.where(targets > 0, positive, negative), row_weights)


def class_balanced(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    beta: float = 0.999,
    row_weights: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy with a label's weight ∝ (1 − β)/(1 − β^n_c), the inverse of its effective number.

    Parameters
    ----------
    logits, targets : Tensor, shape (n, K)
    counts : Tensor, shape (K,)
        A label without a positive counts as if it had one.
    beta : float
        β in [0, 1).
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar

    Notes
    -----
    Cui et al., 2019 (arXiv:1901.05555), with the sigmoid loss; weights scaled to mean 1, as there.

    Examples
    --------
    >>> class_balanced(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([1, 1000]))
    tensor(0.6931)
    """
    weight = (1 - beta) / (1 - beta ** counts.clamp_min(1).to(logits))
    weight = weight / weight.mean()
    loss = binary_cross_entropy_with_logits(logits, targets, weight=weight, reduction="none")
    return expectation(loss, row_weights)


def distribution_balanced(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    n_instances: int,
    *,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.3,
    negative_scale: float = 5.0,
    kappa: float = 0.05,
    row_weights: Tensor | None = None,
) -> Tensor:
    """Distribution-balanced loss: re-balanced weights and negative-tolerant regularisation.

    r̂ [y log(1 + e^{−(z−ν)}) + (1/λ)(1 − y) log(1 + e^{λ(z−ν)})], with r̂ = α + σ(β(r − μ)),
    r_c = n_c⁻¹ / Σ_{j: y_j = 1} n_j⁻¹, and ν_c = κ log(M/n_c − 1).

    Parameters
    ----------
    logits, targets : Tensor, shape (n, K)
    counts : Tensor, shape (K,)
        A label without a positive counts as if it had one, one on every instance as if on all but one.
    n_instances : int
        M.
    alpha, beta, mu : float
        Of r̂.
    negative_scale : float
        λ.
    kappa : float
        κ.
    row_weights : Tensor, shape (n,), optional

    Returns
    -------
    Tensor, scalar

    Notes
    -----
    Wu et al., 2020 (arXiv:2007.09654), with the values of their public code for VOC-MLT; without the focal
    factor that the code adds. An instance without a label has r = ∞, so r̂ = α + 1, as in that code.

    Examples
    --------
    >>> distribution_balanced(torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([5]), 10)
    tensor(0.7618)
    """
    n_c = counts.clamp(1, n_instances - 1).to(logits)
    repeats = (targets / n_c).sum(1, keepdim=True)
    weight = alpha + torch.sigmoid(beta * (1 / n_c / repeats - mu))
    shifted = logits - kappa * torch.log(n_instances / n_c - 1)
    negative = softplus(negative_scale * shifted) / negative_scale
    return expectation(weight * torch.where(targets > 0, softplus(-shifted), negative), row_weights)


def loss_of(name: LossName, counts: Tensor, n_instances: int) -> Loss:
    """A loss by name, with its default values.

    Parameters
    ----------
    name : {"bce", "positive_weight", "focal", "asymmetric", "class_balanced", "distribution_balanced"}
    counts : Tensor, shape (K,)
    n_instances : int

    Returns
    -------
    Loss

    Examples
    --------
    >>> loss_of("bce", torch.tensor([1]), 2)(torch.zeros(1, 1), torch.ones(1, 1))
    tensor(0.6931)
    """
    losses: dict[LossName, Loss] = {
        "bce": cross_entropy,
        "positive_weight": partial(positive_weight, counts=counts, n_instances=n_instances),
        "focal": focal,
        "asymmetric": asymmetric,
        "class_balanced": partial(class_balanced, counts=counts),
        "distribution_balanced": partial(distribution_balanced, counts=counts, n_instances=n_instances),
    }
    return losses[name]
