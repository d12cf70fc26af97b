"""λ, the learnable preference: its value, its ascent on the objective, and its state."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, get_args

import torch
from torch import Tensor, distributed

from evenhand.grpo.aggregation import Form


class LearnablePreference:
    """One scalar λ that ascends the policy's own objective J by plain SGD, and stays between bounds.

    It is no parameter of a model, on purpose: what walks a model's parameters (its optimiser, the sync with a
    generation engine, sharding, `save_pretrained`) must not meet it.

    Parameters
    ----------
    form : {"lambda", "power"}
        Which weights λ belongs to (`evenhand.grpo.aggregation.preference_weights`); a state of the other form
        is refused.
    start : float
        λ before the first step. 0 is DAPO.
    learning_rate : float
        η ≥ 0; 0 keeps λ where it is.
    bounds : (float, float)
        λ is projected to these after each step.
    pull : float
        κ ≥ 0: J − (κ/2) λ² is ascended instead of J, which draws λ to 0.
    over_processes : bool
        Sum the gradient over processes, so that all hold the same λ. False is for reproducing the authors'
        public runs, where each process has a λ of its own [A].

    Raises
    ------
    ValueError
        An unknown form; an option that is not finite or out of its range; a start outside the bounds.

    Notes
    -----
    λ ← clip(λ + η (∂J/∂λ − κ λ), bounds). SGD without momentum or decay, start 0 and [−3, 3] are those of the
    authors' code [A]; the pull is ours [D]. A clamp in the forward pass instead of the projection would
    freeze λ at a bound, since no gradient passes it.

    Examples
    --------
    >>> preference = LearnablePreference(learning_rate=0.5)
    >>> preference.accumulate(torch.tensor(0.25))  # once a micro-batch
    >>> preference.accumulate(torch.tensor(0.25))
    >>> preference.step()
    tensor(0.5000)
    >>> preference.value
    tensor(0.2500)
    """

    def __init__(
        self,
        form: Form = "lambda",
        start: float = 0.0,
        learning_rate: float = 0.1,
        bounds: tuple[float, float] = (-3.0, 3.0),
        pull: float = 0.0,
        over_processes: bool = True,
    ) -> None:
        if form not in get_args(Form):
            raise ValueError(f"form is {form!r}; choose one of {', '.join(get_args(Form))}")
        if not (is_finite_pair(bounds) and bounds[0] <= bounds[1]):
            raise ValueError(f"bounds is {bounds}; give two finite numbers, the lower first")
        for name, number in (("learning_rate", learning_rate), ("pull", pull)):
            if not (is_finite_number(number) and number >= 0):
                raise ValueError(f"{name} is {number}; give a finite number ≥ 0")
        self.form = form
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.learning_rate = learning_rate
        self.pull = pull
        self.over_processes = over_processes
        self._value = self._within_bounds("start", start)
        self._gradient = torch.zeros(())

    @property
    def value(self) -> Tensor:
        """λ, a float32 tensor of shape () on the CPU; a copy, so that nothing done to it moves λ."""
        return self._value.clone()

    def accumulate(self, gradient: float | Tensor) -> None:
        """Add a micro-batch's ∂J/∂λ, from `preference_gradient` with the N of the whole optimiser step.

        Parameters
        ----------
        gradient : float or Tensor, shape ()
            Of J, which is ascended; not of the loss −J. It stays on its device: nothing waits for a GPU here.

        Raises
        ------
        ValueError
            More than one number.
        """
        addend = torch.as_tensor(gradient).detach().float()
        if addend.dim() != 0:
            raise ValueError(f"gradient has shape {tuple(addend.shape)}; give one number, ∂J/∂λ")
        self._gradient = self._gradient.to(addend.device) + addend

    def step(self, instead: Tensor | None = None) -> Tensor:
        """Sum the accumulated gradient over processes, ascend, project to the bounds, and start from 0 again.

        Every process of `torch.distributed`'s default group has to call it; all of them then hold the same λ.
        Without `over_processes` nothing is summed.

        Parameters
        ----------
        instead : Tensor, shape (), optional
            What λ climbs in the gradient's stead, the same in all processes (`look_ahead`).

        Returns
        -------
        Tensor, shape ()
            ∂J/∂λ over all processes, without the pull; float32 on the CPU.

        Raises
        ------
        ValueError
            The summed gradient is not finite, or `instead` is not. It is looked at after the sum, so that all
            processes stop alike instead of waiting for the one that did; λ is left as it was and the gradient
            is dropped.
        """
        gradient = _sum_over_processes(self._gradient) if self.over_processes else self._gradient
        gradient, self._gradient = gradient.cpu(), torch.zeros(())
        if not bool(gradient.isfinite()):
            raise ValueError(
                f"∂J/∂λ is {gradient.item()}; λ stays at {self._value.item():g}. Look for NaN or infinity in "
                "the advantages and log-probabilities of this step, in every process"
            )
        climbed = gradient if instead is None else instead.cpu().float()
        if not bool(climbed.isfinite()):
            raise ValueError(
                f"what λ was to climb is {climbed.item()}; λ stays at {self._value.item():g}. Look for NaN "
                "or infinity in the policy's gradients of this step and of the one before"
            )
        ascent = climbed - self.pull * self._value
        self._value = (self._value + self.learning_rate * ascent).clamp(*self.bounds)
        return gradient

    def state_dict(self) -> dict[str, Any]:
        """λ with what it is checked against on loading, as plain values that JSON holds without loss.

        Returns
        -------
        dict
            ``form``, ``value`` and ``bounds``. Take it between steps: a gradient that waits for `step` is not
            in it.
        """
        # λ in float32 may lie beyond a bound in float64 by its rounding; the bound reads back as the same λ.
        value = min(max(self._value.item(), self.bounds[0]), self.bounds[1])
        return {"form": self.form, "value": value, "bounds": list(self.bounds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take λ from `state_dict`'s answer. The learning rate and the pull are settings, and stay.

        Raises
        ------
        ValueError
            No mapping; a key that is missing or unknown; another form or other bounds; a value outside the
            bounds.
        """
        if not isinstance(state, Mapping) or set(state) != {"form", "value", "bounds"}:
            held = sorted(state) if isinstance(state, Mapping) else state
            raise ValueError(f"the state of λ holds {held!r:.100}; it must hold bounds, form, value")
        if state["form"] != self.form:
            raise ValueError(
                f"the state of λ is of form {state['form']!r:.40}, and this one is {self.form!r}; "
                "resume with the form of the run that was saved"
            )
        if state["bounds"] != list(self.bounds):
            raise ValueError(
                f"the state of λ has bounds {state['bounds']!r:.80}, and this one has {list(self.bounds)}; "
                "resume with the bounds of the run that was saved"
            )
        self._value = self._within_bounds("value", state["value"])
        self._gradient = torch.zeros(())

    def _within_bounds(self, name: str, number: float) -> Tensor:
        low, high = self.bounds
        if not (is_finite_number(number) and low <= number <= high):
            raise ValueError(f"{name} is {number!r:.80}; λ must lie in its bounds, {low:g} to {high:g}")
        return torch.tensor(float(number), dtype=torch.float32)


def is_finite_number(value: object) -> bool:
    """Whether an option is a finite number, as neither true is nor "1e1", which YAML takes for text.

    Examples
    --------
    >>> [is_finite_number(value) for value in (1, -0.5, float("nan"), float("inf"), "1e1", True)]
    [True, True, False, False, False, False]
    """
    most = sys.float_info.max
    return isinstance(value, Real) and not isinstance(value, bool) and value <= most and not value < -most


def is_finite_pair(value: object) -> bool:
    """Whether an option is two finite numbers in a row, as bounds are; text is none.

    Examples
    --------
    >>> [is_finite_pair(value) for value in ([-3, 3], (0.0, 1), [1], "35", [0, float("inf")])]
    [True, True, False, False, False]
    """
    return isinstance(value, Sequence) and len(value) == 2 and all(map(is_finite_number, value))


def _sum_over_processes(number: Tensor) -> Tensor:
    if not (distributed.is_available() and distributed.is_initialized()):
        return number
    # NCCL moves nothing that lies on the CPU, where a process without a micro-batch still has its zero.
    device = (
        torch.device("cuda", torch.cuda.current_device()) if "nccl" in distributed.get_backend() else "cpu"
    )
    total = number.to(device, copy=True)
    distributed.all_reduce(total, op=distributed.ReduceOp.SUM)
    return total
