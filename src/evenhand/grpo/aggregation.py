"""The weight f(o_i) that each scheme gives a response, and the objective they imply, as pure functions.

One objective holds every scheme (arXiv:2510.06870, written for one prompt with responses o_1..o_G):

    J = 1/N · Σ_i f(o_i) Σ_t ℓ_{i,t},  N = Σ_j |o_j|,  ℓ_{i,t} = min(ρ_{i,t} A_i, clip(ρ_{i,t}, 1−ε, 1+ε) A_i)

Over a batch of several prompts N counts the tokens of all of them, and f is chosen so that J is the loss that
the scheme's authors published; `response_weights` says how for each. [P] marks what the paper states, [D] our
decisions; docs/lambda.md has the equations.

Shapes throughout: B responses in a batch, P prompts (groups), G responses a group, T tokens.

- ``lengths`` (B,): |o_i|, the tokens of a response that count in the loss. Integers are answered in torch's
  default dtype; a floating tensor of whole numbers is answered in its own.
- ``group_ids`` (B,): integers, equal for the responses of one prompt; rows come in any order.
- ``counted`` (B,) or (P, G): False on a response that is masked as a whole (TRL's
  `mask_truncated_completions`). Its weight is 0, and neither μ, σ, the softmax nor G knows of it [D]. Without
  `counted` every row counts, one without tokens too.

μ, σ and the softmax belong to whole groups, and for some schemes to the whole batch: work the weights out
before rows are split over micro-batches or processes, and carry them along [D].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Form = Literal["lambda", "power"]
Scheme = Literal["grpo", "dapo", "dr_grpo", "bnpo", "luspo", "delta_l", "balanced", "lambda", "power"]

SMALLEST_BASE = 1e-6
"""Bases h are clamped here, so that h^λ and log h stay finite."""
SMALLEST_DEVIATION = 1e-8
"""The standard deviation of lengths is clamped here."""


def standardised_lengths(lengths: Tensor, group_ids: Tensor, *, counted: Tensor | None = None) -> Tensor:
    """z_i = (|o_i| − μ)/σ, the length of each response among the lengths of its prompt's group.

    Parameters
    ----------
    lengths : Tensor, shape (B,), whole numbers ≥ 0
        |o_i|.
    group_ids : Tensor, shape (B,), integer
    counted : Tensor, shape (B,), bool, optional

    Returns
    -------
    Tensor, shape (B,), floating
        0 where σ = 0, where a group counts one response only, and on rows that are not counted.

    Raises
    ------
    ValueError
        No row; shapes that differ; a length that is negative or no whole number; ids that are no integers;
        `counted` that holds no booleans.

    Notes
    -----
    arXiv:2510.06870. σ is the unbiased standard deviation, clamped at 1e-8 where the paper adds an ε [D].
    Differences from μ are taken in whole numbers, so equal lengths give exactly 0.

    Examples
    --------
    >>> standardised_lengths(torch.tensor([10, 20, 30, 7]), torch.tensor([0, 0, 0, 1]))
    tensor([-1.,  0.,  1.,  0.])
    """
    groups = _Groups.of(lengths, group_ids, counted)
    return groups.collect(_standardised(groups))


def length_bases(
    form: Form,
    lengths: Tensor,
    group_ids: Tensor,
    *,
    r: float = 1 / 9,
    clamp: bool = False,
    counted: Tensor | None = None,
) -> Tensor:
    """h_i, what a response's weight is a function of: 1 + r z_i (form "lambda") or |o_i|/μ (form "power").

    Parameters
    ----------
    form : {"lambda", "power"}
    lengths : Tensor, shape (B,), whole numbers ≥ 0
    group_ids : Tensor, shape (B,), integer
    r : float
        How far a standard deviation of length moves h; the paper's 1/9. Form "power" has no r.
    clamp : bool
        Allow an r at which h could fall to 0 or below; h is then clamped at 1e-6.
    counted : Tensor, shape (B,), bool, optional

    Returns
    -------
    Tensor, shape (B,), floating
        At least 1e-6; exactly 1 where a group's lengths are all equal, and on rows that are not counted.

    Raises
    ------
    ValueError
        As in `standardised_lengths`; an unknown form; r not finite or ≤ 0; without `clamp`, r ≥ √G/(G−1) for
        the largest group: since |z| ≤ (G−1)/√G, h could then fall to 0.

    Notes
    -----
    "lambda": arXiv:2510.06870 [P]. "power": ours [D]; there a response without tokens is taken to have one,
    as in GRPO's mean over its tokens, so that the power exists. ``(bases <= SMALLEST_BASE).sum()`` is how
    many h were clamped.

    Examples
    --------
    >>> lengths, ids = torch.tensor([10, 20, 30]), torch.tensor([0, 0, 0])
    >>> length_bases("lambda", lengths, ids, r=0.5)
    tensor([0.5000, 1.0000, 1.5000])
    >>> length_bases("power", lengths, ids)
    tensor([0.5000, 1.0000, 1.5000])
    """
    _check_form(form)
    groups = _Groups.of(lengths, group_ids, counted)
    return groups.collect(_bases(form, groups, r, clamp), 1.0)


def preference_weights(
    form: Form, bases: Tensor, lam: float | Tensor, *, counted: Tensor | None = None
) -> Tensor:
    """f_λ(o_i) = G · e^{g_i}/Σ_j e^{g_j} with g_i = h_i^λ (form "lambda") or λ log h_i (form "power").

    Parameters
    ----------
    form : {"lambda", "power"}
    bases : Tensor, shape (P, G), floating
        h of whole groups, from `length_bases`; one row a group.
    lam : float or Tensor, shape ()
        λ; the result is differentiable in it. > 0 favours long responses, < 0 short ones.
    counted : Tensor, shape (P, G), bool, optional

    Returns
    -------
    Tensor, shape (P, G), dtype of `bases`
        f ≥ 0, with sum G (the counted ones) in each row. Exactly 1.0 at λ = 0 and where all bases are equal.

    Raises
    ------
    ValueError
        An unknown form; bases that are not (P, G), or not positive and finite; `counted` of another shape; λ
        not a finite scalar, or so large that h^λ is not finite.

    Notes
    -----
    "lambda": arXiv:2510.06870 [P]. "power": ours [D]; f ∝ |o_i|^λ, at λ = −1 GRPO up to a scale per group.
    Worked out as e^{g_i} over the mean of e^{g_j}: exactly 1 where all g are equal, as G times a softmax is
    not.

    Examples
    --------
    >>> bases = torch.tensor([[0.5, 1.0, 1.5]])
    >>> preference_weights("power", bases, 1.0)
    tensor([[0.5000, 1.0000, 1.5000]])
    >>> preference_weights("lambda", bases, 0.0)
    tensor([[1., 1., 1.]])
    """
    counted = _check_bases(form, bases, counted)
    return _over_mean(_logits(form, bases, _check_lam(lam)), counted)


def preference_slopes(
    form: Form, bases: Tensor, lam: float | Tensor, *, counted: Tensor | None = None
) -> Tensor:
    """∂f_i/∂λ = f_i (g'_i − Σ_j s_j g'_j), s = softmax(g), g'_i = g_i ln h_i ("lambda") or ln h_i ("power").

    Parameters
    ----------
    form, bases, lam, counted
        As in `preference_weights`.

    Returns
    -------
    Tensor, shape (P, G), dtype of `bases`
        Each row sums to 0, as Σ f is fixed; 0 where all bases are 1, and on rows that are not counted.

    Raises
    ------
    ValueError
        As in `preference_weights`.

    Notes
    -----
    arXiv:2510.06870: only the exponent receives the gradient, lengths are constants [P].

    Examples
    --------
    >>> preference_slopes("power", torch.tensor([[0.5, 1.5]]), 0.0)
    tensor([[-0.5493,  0.5493]])
    """
    counted = _check_bases(form, bases, counted)
    lam = _check_lam(lam)
    logits = _logits(form, bases, lam)
    slopes = bases.log() if form == "power" else logits * bases.log()
    weights = _over_mean(logits, counted)
    number = counted.sum(dim=1, keepdim=True).clamp(min=1)
    return weights * (slopes - (weights * slopes).sum(dim=1, keepdim=True) / number)


def response_weights(
    scheme: Scheme,
    lengths: Tensor,
    group_ids: Tensor,
    *,
    advantages: Tensor | None = None,
    lam: float | Tensor = 0.0,
    r: float = 1 / 9,
    length_budget: float | None = None,
    exponent: float = 1.0,
    clamp: bool = False,
    counted: Tensor | None = None,
) -> Tensor:
    """f(o_i) of every scheme: the weights with which `aggregate` gives the loss that its authors published.

    Parameters
    ----------
    scheme : {"grpo", "dapo", "dr_grpo", "bnpo", "luspo", "delta_l", "balanced", "lambda", "power"}
        See Notes.
    lengths : Tensor, shape (B,), whole numbers ≥ 0
        |o_i|. Whole groups, and for grpo, dr_grpo, luspo and balanced the whole batch, since μ = N/B is in f.
    group_ids : Tensor, shape (B,), integer
    advantages : Tensor, shape (B,), optional
        A_i; "balanced" needs them, no other scheme reads them.
    lam : float or Tensor, shape ()
        λ of "lambda" and "power"; the result is differentiable in it.
    r, clamp
        Of "lambda"; see `length_bases`.
    length_budget : float, optional
        L_max of "dr_grpo" (TRL: `max_completion_length`); without it the sum over tokens is not divided.
    exponent : float
        α ≥ 0 of "delta_l": 1 (least variance) or 0.75 in its paper.
    counted : Tensor, shape (B,), bool, optional

    Returns
    -------
    Tensor, shape (B,), floating
        f ≥ 0; 0 on rows that are not counted.

    Raises
    ------
    ValueError
        An unknown scheme, with the choices; an argument that does not fit, with what would.

    Notes
    -----
    With S_i = Σ_t ℓ_{i,t}, and with N tokens, B responses and μ = N/B counted over the whole batch:

    ========  ============================  ============================================================
    scheme    f(o_i)                        J = Σ_i f(o_i) S_i / N
    ========  ============================  ============================================================
    dapo      1                             mean over all tokens
    bnpo      1                             the same, once `aggregate` is given N of the local batch
    grpo      μ/max(|o_i|, 1)               mean over responses of the mean over their tokens
    dr_grpo   μ/L_max; μ without a budget   Σ S_i/(B L_max); Σ S_i/B
    luspo     μ                             Σ S_i/B, with one term per sequence as ℓ_{i,t}
    delta_l   G |o_i|^{−α}/Σ_j |o_j|^{−α}   mean over prompts of Σ S_i |o_i|^{−α}/Σ_j |o_j|^{−α}, over μ
    balanced  μ/(mean length of the rows    n₊ token-mean over A > 0 + n₋ token-mean over A < 0,
              of the group with the same    summed over groups, over B
              sign of A); 0 where A = 0
    lambda    G softmax(h^λ), h = 1 + r z   the paper's; at λ = 0 dapo, to the bit
    power     G softmax(λ log(|o_i|/μ_G))   at λ = 0 dapo, to the bit; at λ = −1 grpo up to a scale
                                            per group, within rounding
    ========  ============================  ============================================================

    For one prompt grpo is μ/|o_i| and dr_grpo μ, as in the paper's table. Our readings [D]: LUSPO publishes
    |o_i| times a clipped term per sequence; the sum of that term over tokens has the factor |o_i| already, so
    f is the same for every response. ΔL's constant M is taken to be μ, which keeps J on the scale of dapo,
    and its sum runs over the prompt's group; it is "power" at λ = −α. In "balanced" a group weighs as many
    responses as it counts.

    Examples
    --------
    >>> lengths, ids = torch.tensor([10, 20, 30]), torch.tensor([0, 0, 0])
    >>> response_weights("grpo", lengths, ids)
    tensor([2.0000, 1.0000, 0.6667])
    >>> response_weights("dr_grpo", lengths, ids, length_budget=40)
    tensor([0.5000, 0.5000, 0.5000])
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme is {scheme!r}; choose one of {', '.join(get_args(Scheme))}")
    groups = _Groups.of(lengths, group_ids, counted)
    if scheme == "dapo" or scheme == "bnpo":
        weights = torch.ones_like(groups.lengths, dtype=groups.dtype)
    elif scheme == "grpo":
        weights = _batch_mean(groups) / groups.lengths.clamp(min=1)
    elif scheme == "dr_grpo":
        weights = (_batch_mean(groups) / _check_budget(length_budget)).expand(groups.lengths.shape)
    elif scheme == "luspo":
        weights = _batch_mean(groups).expand(groups.lengths.shape)
    elif scheme == "delta_l":
        weights = _delta_l(groups, exponent)
    elif scheme == "balanced":
        weights = _balanced(groups, advantages)
    else:
        weights = preference_weights(scheme, _bases(scheme, groups, r, clamp), lam, counted=groups.counted)
    return groups.collect(weights)


def aggregate(per_token: Tensor, mask: Tensor, weights: Tensor, n_tokens: float | Tensor) -> Tensor:
    """J = 1/N · Σ_i f(o_i) Σ_t ℓ_{i,t}.

    Parameters
    ----------
    per_token : Tensor, shape (B, T) or (B, 1)
        ℓ_{i,t}; one column is a term of the whole sequence, the same at each token.
    mask : Tensor, shape (B, T)
        True (1) on tokens that count. What stands elsewhere is not read.
    weights : Tensor, shape (B,)
        f(o_i).
    n_tokens : float or Tensor, shape ()
        N, the tokens of the optimiser step over all micro-batches and processes; then the J of the parts add
        up to that of the batch. 0 is taken as 1, so that J of no tokens is 0.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ValueError
        Shapes that do not fit; N negative or not finite.

    Notes
    -----
    arXiv:2510.06870 [P]. Products before one sum over all: with f = 1 it is TRL's token mean to the bit.

    Examples
    --------
    >>> mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    >>> aggregate(torch.ones(2, 3), mask, torch.tensor([1.0, 2.0]), 5)
    tensor(1.6000)
    """
    if mask.dim() != 2 or per_token.shape not in (mask.shape, (mask.shape[0], 1)):
        raise ValueError(
            f"per_token has shape {tuple(per_token.shape)} and mask {tuple(mask.shape)}; "
            "give both as (B, T), or per_token as (B, 1)"
        )
    if weights.shape != mask.shape[:1]:
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}; give {mask.shape[0]} numbers, one a row of mask"
        )
    terms = torch.where(mask.bool(), per_token * weights.unsqueeze(1), 0.0)
    return terms.sum() / _check_tokens(n_tokens)


def preference_gradient(sums: Tensor, slopes: Tensor, n_tokens: float | Tensor) -> Tensor:
    """∂J/∂λ = 1/N · Σ_i S_i ∂f_i/∂λ.

    Parameters
    ----------
    sums : Tensor, any shape
        S_i = Σ_t ℓ_{i,t}; no gradient flows through it. On-policy (every ratio 1) S_i = |o_i| A_i.
    slopes : Tensor, same shape
        ∂f_i/∂λ, from `preference_slopes`.
    n_tokens : float or Tensor, shape ()
        N, as in `aggregate`.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ValueError
        Shapes that differ; N negative or not finite.

    Notes
    -----
    arXiv:2510.06870 [P]; S_i holds the clipped surrogate only, no KL term [D].

    Examples
    --------
    >>> preference_gradient(torch.tensor([-10.0, 30.0]), torch.tensor([-0.5, 0.5]), 40)
    tensor(0.5000)
    """
    if sums.shape != slopes.shape:
        raise ValueError(
            f"sums has shape {tuple(sums.shape)} and slopes {tuple(slopes.shape)}; give one slope a sum"
        )
    return (sums.detach() * slopes).sum() / _check_tokens(n_tokens)


@dataclass(frozen=True)
class _Groups:
    """A batch laid out as one row a group, (P, G); `counted` is False on padding as well."""

    lengths: Tensor  # (P, G) int64
    counted: Tensor  # (P, G) bool
    dtype: torch.dtype
    row: Tensor  # (B,) where each response stands
    column: Tensor  # (B,)

    @classmethod
    def of(cls, lengths: Tensor, group_ids: Tensor, counted: Tensor | None) -> _Groups:
        lengths, counted, dtype = _check_lengths(lengths, group_ids, counted)
        _, row, sizes = torch.unique(group_ids, return_inverse=True, return_counts=True)
        order = torch.argsort(row, stable=True)
        starts = sizes.cumsum(0) - sizes
        column = torch.empty_like(row)
        column[order] = torch.arange(len(row), device=row.device) - starts[row[order]]
        shape = (len(sizes), int(sizes.max()))
        spread_lengths = lengths.new_zeros(shape)
        spread_lengths[row, column] = torch.where(counted, lengths, 0)
        spread_counted = counted.new_zeros(shape)
        spread_counted[row, column] = counted
        return cls(spread_lengths, spread_counted, dtype, row, column)

    def collect(self, values: Tensor, elsewhere: float = 0.0) -> Tensor:
        """Values (P, G) as (B,), in the order of the batch; `elsewhere` on rows that are not counted."""
        return torch.where(self.counted, values, elsewhere)[self.row, self.column]

    def number(self) -> Tensor:
        """G of each group, (P, 1): the responses that count; at least 1, so that one can divide by it."""
        return self.counted.sum(dim=1, keepdim=True).clamp(min=1)


def _standardised(groups: _Groups) -> Tensor:
    number = groups.number()
    total = groups.lengths.sum(dim=1, keepdim=True)
    difference = torch.where(groups.counted, number * groups.lengths - total, 0).to(groups.dtype) / number
    variance = difference.square().sum(dim=1, keepdim=True) / (number - 1).clamp(min=1)
    return difference / variance.sqrt().clamp(min=SMALLEST_DEVIATION)


def _bases(form: Form, groups: _Groups, r: float, clamp: bool) -> Tensor:
    if form == "power":
        lengths = torch.where(groups.counted, groups.lengths.clamp(min=1), 0)
        mean = lengths.sum(dim=1, keepdim=True).to(groups.dtype) / groups.number()
        bases = torch.where(groups.counted, lengths / mean, 1.0)
    else:
        _check_r(r, groups, clamp)
        bases = 1 + r * _standardised(groups)
    return bases.clamp(min=SMALLEST_BASE)


def _logits(form: Form, bases: Tensor, lam: float | Tensor) -> Tensor:
    """g: what the softmax is taken of."""
    if form == "power":
        return lam * bases.log()
    logits: Tensor = bases**lam
    if not bool(logits.isfinite().all()):
        raise ValueError(
            f"h^λ is not finite at λ = {torch.as_tensor(lam).item():g}, where h runs from "
            f"{bases.min().item():g} to {bases.max().item():g}; use a smaller r or keep λ in narrower bounds"
        )
    return logits


def _over_mean(logits: Tensor, counted: Tensor) -> Tensor:
    """G · softmax over the counted entries of each row, exactly 1 where they are all equal."""
    highest = torch.where(counted, logits, -torch.inf).amax(dim=1, keepdim=True).detach()
    powers = torch.where(counted, logits - highest, -torch.inf).exp()
    number = counted.sum(dim=1, keepdim=True)
    mean = torch.where(number > 0, powers.sum(dim=1, keepdim=True) / number.clamp(min=1), 1.0)
    return powers / mean


def _batch_mean(groups: _Groups) -> Tensor:
    """μ = N/B over the whole batch, shape ()."""
    return groups.lengths.sum().to(groups.dtype) / groups.counted.sum().clamp(min=1)


def _delta_l(groups: _Groups, exponent: float) -> Tensor:
    if not (math.isfinite(exponent) and exponent >= 0):
        raise ValueError(f"exponent is {exponent}; delta_l takes a number ≥ 0, 1 or 0.75 in its paper")
    bases = _bases("power", groups, 1.0, False)
    return preference_weights("power", bases, -exponent, counted=groups.counted)


def _balanced(groups: _Groups, advantages: Tensor | None) -> Tensor:
    if advantages is None:
        raise ValueError('scheme "balanced" weighs by the sign of the advantage; give advantages, shape (B,)')
    if advantages.shape != groups.row.shape:
        raise ValueError(
            f"advantages has shape {tuple(advantages.shape)}; give {len(groups.row)} numbers, one a response"
        )
    bad = (~advantages.isfinite()).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"advantages[{row}] is {advantages[row].item()}; give finite numbers: look at the "
            "rewards of this response and of its group"
        )
    sign = torch.zeros_like(groups.lengths)
    sign[groups.row, groups.column] = advantages.sign().to(sign.dtype)
    weights = torch.zeros_like(groups.lengths, dtype=groups.dtype)
    for side in (-1, 1):
        chosen = groups.counted & (sign == side)
        number = chosen.sum(dim=1, keepdim=True)
        tokens = torch.where(chosen, groups.lengths, 0).sum(dim=1, keepdim=True)
        ratio = _batch_mean(groups) * number / tokens.clamp(min=1)
        weights = torch.where(chosen, ratio, weights)
    return weights


def _check_lengths(
    lengths: Tensor, group_ids: Tensor, counted: Tensor | None
) -> tuple[Tensor, Tensor, torch.dtype]:
    """Lengths as int64, which rows count, and the dtype to answer in."""
    if lengths.dim() != 1 or len(lengths) == 0 or group_ids.shape != lengths.shape:
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)} and group_ids {tuple(group_ids.shape)}; "
            "both must be (B,), one entry a response, B ≥ 1"
        )
    if group_ids.is_floating_point() or group_ids.dtype == torch.bool:
        raise ValueError(f"group_ids has dtype {group_ids.dtype}; give integers, one number a prompt")
    whole = lengths.to(torch.int64)
    wrong = (lengths < 0) | (whole != lengths)
    if bool(wrong.any()):
        place = int(wrong.nonzero()[0])
        raise ValueError(f"lengths[{place}] is {lengths[place].item()}; a length is a whole number ≥ 0")
    if counted is None:
        counted = torch.ones_like(lengths, dtype=torch.bool)
    elif counted.shape != lengths.shape or counted.dtype != torch.bool:
        raise ValueError(
            f"counted is {counted.dtype} of shape {tuple(counted.shape)}; give {len(lengths)} booleans"
        )
    return whole, counted, lengths.dtype if lengths.is_floating_point() else torch.get_default_dtype()


def _check_form(form: Form) -> None:
    if form not in get_args(Form):
        raise ValueError(f"form is {form!r}; choose one of {', '.join(get_args(Form))}")


def _check_bases(form: Form, bases: Tensor, counted: Tensor | None) -> Tensor:
    """The (P, G) mask of what counts."""
    _check_form(form)
    if bases.dim() != 2 or not bases.is_floating_point():
        raise ValueError(
            f"bases is {bases.dtype} of shape {tuple(bases.shape)}; give floats (P, G), one row a group"
        )
    bad = (~(bases.isfinite() & (bases > 0))).nonzero()
    if len(bad):
        group, place = bad[0].tolist()
        raise ValueError(
            f"bases[{group}, {place}] is {bases[group, place].item()}; bases are positive and "
            "finite, take them from length_bases"
        )
    if counted is None:
        return torch.ones_like(bases, dtype=torch.bool)
    if counted.shape != bases.shape or counted.dtype != torch.bool:
        raise ValueError(
            f"counted is {counted.dtype} of shape {tuple(counted.shape)}; "
            f"give booleans of shape {tuple(bases.shape)}"
        )
    return counted


def _check_lam(lam: float | Tensor) -> float | Tensor:
    number = lam.detach() if isinstance(lam, Tensor) else lam
    if (isinstance(number, Tensor) and number.dim() != 0) or not math.isfinite(number):
        raise ValueError(f"lam is {number}; give one finite number")
    return lam


def _check_r(r: float, groups: _Groups, clamp: bool) -> None:
    if not (math.isfinite(r) and r > 0):
        raise ValueError(f"r is {r}; give a finite number > 0 (the paper's is 1/9)")
    largest = int(groups.number().max())
    if largest == 1 or clamp:
        return
    limit = math.sqrt(largest) / (largest - 1)
    if r >= limit:
        raise ValueError(
            f"r = {r:g} lets h = 1 + r z reach 0 in a group of {largest} responses; use r < {limit:.4g}, "
            "a smaller group, or clamp=True"
        )


def _check_budget(length_budget: float | None) -> float:
    if length_budget is None:
        return 1.0
    if not (math.isfinite(length_budget) and length_budget > 0):
        raise ValueError(f"length_budget is {length_budget}; give a number of tokens > 0")
    return length_budget


def _check_tokens(n_tokens: float | Tensor) -> float | Tensor:
    if not (math.isfinite(n_tokens) and n_tokens >= 0):
        raise ValueError(f"n_tokens is {n_tokens}; give the number of tokens of the optimiser step")
    return n_tokens.clamp(min=1) if isinstance(n_tokens, Tensor) else max(n_tokens, 1)
