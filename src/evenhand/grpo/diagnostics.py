"""What length does to a batch of responses: figures for the log of a run, as pure functions of tensors.

Every tensor is (P, G), one row a prompt's group of G responses; `counted` is False on a response whose
completion was masked, which then has no part in any figure.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEARLY_DAPO = 0.02
"""|r·λ| below which a run is DAPO in all but name: most weights are then within 2 % of 1."""


def advantage_length_correlation(advantages: Tensor, z: Tensor, counted: Tensor) -> float:
    """Pearson's correlation of advantage A and standardised length z over all counted responses.

    Parameters
    ----------
    advantages, z : Tensor (P, G)
    counted : Tensor (P, G), bool

    Returns
    -------
    float
        0.0 where either is constant: then length says nothing of advantage, and λ does not move at λ = 0.

    Examples
    --------
    >>> z = torch.tensor([[-1.0, 0.0, 1.0]])
    >>> advantage_length_correlation(2 * z, z, torch.ones(1, 3, dtype=torch.bool))
    1.0
    """
    a, b = advantages[counted].double(), z[counted].double()
    if a.numel() == 0:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def longest_quarter_share(weights: Tensor, lengths: Tensor, counted: Tensor) -> float:
    """Share of all weighted tokens Σ f_i |o_i| that the longest quarter of each group holds.

    Parameters
    ----------
    weights, lengths : Tensor (P, G)
        f(o_i), and the number of tokens that count in the loss.
    counted : Tensor (P, G), bool

    Returns
    -------
    float
        Between 0 and 1; with f = 1 the share of plain tokens, as in DAPO. The quarter is rounded up.

    Examples
    --------
    >>> lengths = torch.tensor([[10, 10, 20, 60]])
    >>> round(longest_quarter_share(torch.ones(1, 4), lengths, lengths > 0), 3)
    0.6
    """
    order = torch.where(counted, lengths, -1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    quarter = (counted.sum(dim=1, keepdim=True) + 3) // 4
    tokens = torch.where(counted, weights * lengths, 0.0).double()
    total = tokens.sum()
    return float(tokens[rank < quarter].sum() / total) if total > 0 else 0.0


def weight_figures(weights: Tensor, lengths: Tensor, counted: Tensor) -> dict[str, float]:
    """What is logged of the weights f of a step, by the names in the log.

    Parameters
    ----------
    weights, lengths, counted
        As for `longest_quarter_share`.

    Returns
    -------
    dict of str to float
        Empty where no response is counted.

    Examples
    --------
    >>> weights, lengths = torch.tensor([[0.5, 1.5]]), torch.tensor([[10, 30]])
    >>> for name, figure in weight_figures(weights, lengths, lengths > 0).items():
    ...     print(name, figure)
    preference/weight_min 0.5
    preference/weight_max 1.5
    preference/weight_std 0.5
    preference/longest_quarter_share 0.9
    """
    f = weights[counted]
    if not len(f):
        return {}
    return {
        "preference/weight_min": float(f.min()),
        "preference/weight_max": float(f.max()),
        "preference/weight_std": float(f.std(correction=0)),
        "preference/longest_quarter_share": longest_quarter_share(weights, lengths, counted),
    }


def informative_fraction(advantages: Tensor, lengths: Tensor, counted: Tensor) -> float:
    """Fraction of groups from which λ can learn: rewards and lengths both vary among the counted responses.

    Parameters
    ----------
    advantages, lengths : Tensor (P, G)
    counted : Tensor (P, G), bool

    Returns
    -------
    float

    Examples
    --------
    >>> advantages = torch.tensor([[-1.0, 1.0], [0.0, 0.0]])
    >>> lengths = torch.tensor([[3, 4], [3, 4]])
    >>> informative_fraction(advantages, lengths, lengths > 0)
    0.5
    """
    varies = _spread(advantages, counted).gt(0) & _spread(lengths, counted).gt(0)
    return float(varies.double().mean())


def mean_spread(values: Tensor, counted: Tensor) -> float:
    """Mean over groups of the standard deviation (unbiased) of the counted values of a group.

    Parameters
    ----------
    values : Tensor (P, G)
    counted : Tensor (P, G), bool

    Returns
    -------
    float
        0.0 for a group with fewer than two counted values, and where there is no group.

    Examples
    --------
    >>> values = torch.tensor([[1.0, 3.0], [2.0, 2.0]])
    >>> round(mean_spread(values, values > 0), 4)
    0.7071
    """
    number = counted.sum(dim=1, keepdim=True)
    kept = torch.where(counted, values, 0.0).double()
    deviations = torch.where(counted, kept - kept.sum(dim=1, keepdim=True) / number.clamp(min=1), 0.0)
    variances = deviations.square().sum(dim=1) / (number.squeeze(1) - 1).clamp(min=1)
    return float(variances.sqrt().mean()) if len(variances) else 0.0


def _spread(values: Tensor, counted: Tensor) -> Tensor:
    """Largest less smallest counted value of each group, (P,); negative where none is counted."""
    x = values.double()
    high = torch.where(counted, x, -torch.inf).amax(dim=1)
    low = torch.where(counted, x, torch.inf).amin(dim=1)
    return high - low
