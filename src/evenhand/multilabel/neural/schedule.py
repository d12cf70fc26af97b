"""How the learning rate goes over a training."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "cosine", "linear"]


def rate_share(step: int, n_steps: int, schedule: Schedule, warmup: float) -> float:
    """What learning rates are multiplied by in a step.

    Parameters
    ----------
    step : int
        From 0.
    n_steps : int
        Of the whole training.
    schedule : {"constant", "cosine", "linear"}
        After the warm-up: 1; or from 1 to 0, which would come after the last step, as half a wave or in a
        straight line.
    warmup : float
        In [0, 1): the share of the steps, rounded down, in which it rises to 1 in a straight line.

    Returns
    -------
    float
        Above 0 in every step.

    Examples
    --------
    >>> [rate_share(step, 8, "linear", 0.25) for step in range(8)][:5]
    [0.3333333333333333, 0.6666666666666666, 1.0, 0.8333333333333334, 0.6666666666666667]
    """
    rising = int(warmup * n_steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    gone = (step - rising) / (n_steps - rising)
    return 1 - gone if schedule == "linear" else (1 + math.cos(math.pi * gone)) / 2


def scheduler(
    optimizer: torch.optim.Optimizer, n_steps: int, schedule: Schedule, warmup: float, done: int
) -> LambdaLR:
    """Sets an optimizer's learning rates, now and at each of its steps.

    Parameters
    ----------
    optimizer : Optimizer
        With the learning rates of a share of 1.
    n_steps, schedule, warmup
        As for `rate_share`.
    done : int
        Steps that were made before, as when a training is taken up: they are all its state.

    Returns
    -------
    LambdaLR
    """
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # where LambdaLR looks for it when it does not start at 0
    share = partial(rate_share, n_steps=n_steps, schedule=schedule, warmup=warmup)
    return LambdaLR(optimizer, share, last_epoch=done - 1)
