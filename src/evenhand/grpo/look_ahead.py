"""Look-ahead: what λ did to the next batch's reward through the last update of the policy.

The surrogate that λ climbs by default is monotone in λ for most groups and says nothing of what the update of
the policy was good for. Look-ahead asks that: it differentiates the next batch's policy-gradient estimate Ĵ
of the expected reward through the optimiser's last step Δθ_t (docs/lambda.md; ours [D], not the paper's):

    ∂Ĵ(θ_{t+1})/∂λ = ⟨∇_θ Ĵ(θ_{t+1}), ∂Δθ_t/∂λ⟩
    ∂Δθ_t/∂λ = (∂Δθ_t/∂g_t) (∂g_t/∂λ),  ∂g_t/∂λ = −∇_θ (1/N) Σ_i S_i ∂f_i/∂λ

with g_t the gradient of the loss, S_i = Σ_t ℓ_{i,t} and Ĵ = (1/N) Σ_i S_i: every response with the same
divisor, no f in it, since a weighted objective is one that λ can game. Only one step is looked through: what
an optimiser's momentum carries into later ones is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.optim import SGD, AdamW, Optimizer

_CLIP_EPS = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm


@dataclass(frozen=True)
class LookAheadSignal:
    """What a step says of λ at the step before; both of shape (), float64.

    Parameters
    ----------
    slope : Tensor
        ∂Ĵ(θ_{t+1})/∂λ = ⟨∇Ĵ, ∂Δθ/∂λ⟩.
    cosine : Tensor
        The same over ‖∇Ĵ‖ ‖∂Δθ/∂λ‖; 0 where one of them is 0. The trainer's λ climbs this one [D]: the
        slope's scale is that of gradients, learning rate and lengths, and would ask for another learning rate
        of λ in each run. A running deviation of the slope would be as free of scale, but would move λ as far
        on noise as on a signal.
    """

    slope: Tensor
    cosine: Tensor


class LookAhead:
    """Gathers both sides of the inner product over micro-batches, and keeps ∂Δθ/∂λ from step to step.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        What the optimiser trains, by name; whole on each process, not sharded.

    Notes
    -----
    Memory: three numbers a trained parameter (∇Ĵ, ∂g/∂λ, ∂Δθ/∂λ), each float32 at least, and one more while
    a micro-batch is added; between steps ∂Δθ/∂λ alone. Time: two backward passes a micro-batch beside the
    loss's own, and no forward pass beside its own.

    Examples
    --------
    Ĵ(θ) = 3θ and ∂J/∂λ = 2θ, so that a step of SGD at rate 0.1 moves θ by 0.2 for each unit of λ:

    >>> theta = torch.nn.Parameter(torch.ones(()))
    >>> optimizer = torch.optim.SGD([theta], lr=0.1)
    >>> look_ahead = LookAhead({"theta": theta})
    >>> for _ in range(2):
    ...     theta.grad = torch.tensor(-3.0)
    ...     look_ahead.add(3 * theta, 2 * theta)
    ...     signal = look_ahead.step(optimizer)
    >>> round(float(signal.slope), 3), round(float(signal.cosine), 3)
    (0.6, 1.0)
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._names = list(parameters)
        self._parameters = list(parameters.values())
        # Of the step under way, made when they are needed: between steps their memory is the generation's.
        self._ascent: list[Tensor] = []  # ∇Ĵ
        self._slope: list[Tensor] = []  # ∇ of ∂J/∂λ, that is −∂g/∂λ
        self._update_slope: list[Tensor] = []  # ∂Δθ/∂λ of the last step

    def add(self, objective: Tensor, slope: Tensor) -> None:
        """Add a micro-batch's part, as gradients of two scalars; the graph is kept for the loss.

        Parameters
        ----------
        objective : Tensor, shape ()
            Ĵ = (1/N) Σ_i S_i, with the N of the whole optimiser step.
        slope : Tensor, shape ()
            ∂J/∂λ = (1/N) Σ_i S_i ∂f_i/∂λ, as a function of the policy.
        """
        if not self._ascent:
            self._ascent, self._slope = self._zeros(), self._zeros()
        self._add_gradient(self._ascent, objective)
        self._add_gradient(self._slope, slope)

    @torch.no_grad()
    def step(self, optimizer: Optimizer, max_norm: float = 0.0) -> LookAheadSignal:
        """The signal of the step that was gathered, which starts anew; ∂Δθ/∂λ is kept for the next one.

        Call it when the parameters hold the gradients of the whole step, before they are clipped and the
        optimiser steps. Every process of `torch.distributed`'s default group has to call it; sums are
        averaged over them, as the policy's gradients are.

        Parameters
        ----------
        optimizer : SGD or AdamW
            About to step.
        max_norm : float
            To which the norm of the gradients is about to be clipped; 0 for no clipping.

        Returns
        -------
        LookAheadSignal
            0 at the first step, which has none before it.

        Raises
        ------
        ValueError
            As in `check_optimizer`.
        """
        for total in (*self._ascent, *self._slope):
            _average_over_processes(total)
        signal = _signal(self._ascent, self._update_slope)
        by_lambda = [slope.neg_() for slope in self._slope]
        self._ascent, self._slope, self._update_slope = [], [], []  # no longer needed, and large
        self._update_slope = update_slope(optimizer, self._parameters, by_lambda, max_norm)
        return signal

    def state_dict(self) -> dict[str, Tensor]:
        """∂Δθ/∂λ of the last step, by parameter; empty before the first. Take it between steps."""
        return dict(zip(self._names, self._update_slope))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take ∂Δθ/∂λ from `state_dict`'s answer.

        Raises
        ------
        ValueError
            Other parameters, or other shapes, than are trained here.
        """
        if state and set(state) != set(self._names):
            odd = sorted(set(state) ^ set(self._names))
            raise ValueError(
                f"the last update is of other parameters than are trained here: {', '.join(odd[:3])}"
                f"{', …' if len(odd) > 3 else ''}; resume with what was trained in the run that was saved"
            )
        for name, parameter in zip(self._names, self._parameters):
            if state and state[name].shape != parameter.shape:
                raise ValueError(
                    f"the last update of {name} has shape {tuple(state[name].shape)}; the parameter has "
                    f"{tuple(parameter.shape)}; resume with the model of the run that was saved"
                )
        self._update_slope = [state[name].to(zero) for name, zero in zip(self._names, self._zeros()) if state]

    def _zeros(self) -> list[Tensor]:
        return [
            torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in self._parameters
        ]

    def _add_gradient(self, sums: list[Tensor], scalar: Tensor) -> None:
        gradients = torch.autograd.grad(
            scalar, self._parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for total, gradient in zip(sums, gradients):
            total += gradient


def check_optimizer(optimizer: Optimizer) -> None:
    """Refuse an optimiser whose step is not differentiated here.

    Raises
    ------
    ValueError
        Neither torch's SGD without momentum nor its AdamW without amsgrad, or one that maximises.
    """
    plain = type(optimizer) in (SGD, AdamW) and not any(
        group.get("momentum") or group.get("amsgrad") or group.get("maximize")
        for group in optimizer.param_groups
    )
    if not plain:
        raise ValueError(
            f"look-ahead cannot differentiate the step of {type(optimizer).__module__}."
            f"{type(optimizer).__name__} as it is set; it can that of torch.optim.AdamW (no amsgrad) and of "
            "torch.optim.SGD (no momentum), neither with maximize. Choose one of these, or "
            "lambda_signal='surrogate'"
        )


@torch.no_grad()
def update_slope(
    optimizer: Optimizer, parameters: Sequence[Tensor], directions: Sequence[Tensor], max_norm: float = 0.0
) -> list[Tensor]:
    """(∂Δθ/∂g) d: how the step that the optimiser is about to make answers to a change d of the gradients.

    Parameters
    ----------
    optimizer : SGD or AdamW
        Before its step.
    parameters : sequence of Tensor
        With the gradients g that it is about to use, not yet clipped. One without a gradient, or that the
        optimiser does not have, does not move.
    directions : sequence of Tensor
        d, of the parameters' shapes; float32 at least. They are worked on in place.
    max_norm : float
        Clipping of the norm over all gradients, as `torch.nn.utils.clip_grad_norm_` does it; 0 for none.

    Returns
    -------
    list of Tensor
        Of the directions' shapes and dtypes.

    Raises
    ------
    ValueError
        As in `check_optimizer`.

    Notes
    -----
    Clipping turns g into c g, c = max_norm/(n + 1e-6) with n = ‖g‖ where that is below 1, and d into
    c (d − g ⟨g, d⟩/(n (n + 1e-6))). SGD: Δθ = −η g, so −η d. AdamW, with m and v as the step will make them
    of the moments that it holds: Δθ = −η m̂/(√v̂ + ε), m̂ = m/(1 − β₁^t), v̂ = v/(1 − β₂^t), and both m and
    v move with g:

        ∂Δθ/∂g = −η/(1 − β₁^t) · [(1 − β₁) − m (1 − β₂) g/((1 − β₂^t) √v̂ (√v̂ + ε))]/(√v̂ + ε)

    At AdamW's first step this is all but 0, as Δθ is −η sign(g) then. Weight decay does not depend on g. This
    is the exact derivative of one step [D]; a preconditioner held fixed would leave out the second term.

    Examples
    --------
    >>> theta = torch.nn.Parameter(torch.zeros(2))
    >>> theta.grad = torch.tensor([3.0, 4.0])
    >>> update_slope(torch.optim.SGD([theta], lr=0.5), [theta], [torch.tensor([1.0, 0.0])])
    [tensor([-0.5000, -0.0000])]
    """
    check_optimizer(optimizer)
    factor = _clip(parameters, directions, max_norm)
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    slopes = []
    for parameter, direction in zip(parameters, directions):
        if parameter.grad is None or parameter not in groups:
            slopes.append(torch.zeros_like(direction))
            continue
        group = groups[parameter]
        if type(optimizer) is SGD:
            slopes.append(-float(group["lr"]) * direction)
        else:
            gradient = parameter.grad.to(direction.dtype) * factor
            slopes.append(_adamw_slope(group, optimizer.state.get(parameter, {}), gradient) * direction)
    return slopes


def _clip(parameters: Sequence[Tensor], directions: Sequence[Tensor], max_norm: float) -> float:
    """Turn directions into those of the clipped gradients, in place; the answer is the clipping's factor."""
    pairs = [(p.grad.to(d.dtype), d) for p, d in zip(parameters, directions) if p.grad is not None]
    if max_norm <= 0 or not pairs:
        return 1.0
    norm = float(torch.nn.utils.get_total_norm([gradient for gradient, _ in pairs]))
    factor = max_norm / (norm + _CLIP_EPS)
    if factor >= 1:
        return 1.0
    along = float(_dot([g for g, _ in pairs], [d for _, d in pairs])) / (norm * (norm + _CLIP_EPS))
    for gradient, direction in pairs:
        direction.sub_(along * gradient).mul_(factor)
    return factor


def _adamw_slope(group: Mapping[str, Any], state: Mapping[str, Any], gradient: Tensor) -> Tensor:
    """∂Δθ/∂g of each entry, for a step of torch's AdamW from the moments in `state`."""
    beta1, beta2 = (float(beta) for beta in group["betas"])
    t = float(state.get("step", 0)) + 1
    zero = torch.zeros_like(gradient)
    m = beta1 * state.get("exp_avg", zero).to(gradient.dtype) + (1 - beta1) * gradient
    v = beta2 * state.get("exp_avg_sq", zero).to(gradient.dtype) + (1 - beta2) * gradient.square()
    root = (v / (1 - beta2**t)).sqrt()
    denominator = root + group["eps"]
    # Where v is 0 so are g and m: nothing is divided by 0, as the root's own slope counts for nothing there.
    root_slope = torch.where(root > 0, (1 - beta2) * gradient / ((1 - beta2**t) * root), 0.0)
    slope: Tensor = (1 - beta1) - m * root_slope / denominator
    return slope.mul_(-float(group["lr"]) / (1 - beta1**t)).div_(denominator)


def _signal(ascent: Sequence[Tensor], update_slope: Sequence[Tensor]) -> LookAheadSignal:
    if not update_slope:
        zero = torch.zeros((), dtype=torch.float64)
        return LookAheadSignal(zero, zero)
    slope = _dot(ascent, update_slope)
    norms = (_dot(ascent, ascent) * _dot(update_slope, update_slope)).sqrt()
    return LookAheadSignal(slope, torch.where(norms > 0, slope / norms, 0.0))


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """⟨left, right⟩ over all entries, summed in float64 on the CPU."""
    products = [torch.dot(a.flatten(), b.flatten()) for a, b in zip(left, right)]
    return torch.stack([product.cpu().double() for product in products]).sum()


def _average_over_processes(total: Tensor) -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        total /= distributed.get_world_size()
