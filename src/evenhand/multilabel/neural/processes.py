"""The processes of a distributed run, by Accelerate; one process alone is a run of one."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, reduce
from torch import Tensor


def processes() -> PartialState:
    """Accelerate's view of this run: how many processes there are, which one this is, and its device.

    Accelerate looks for other processes on CPUs only where it is told to use the CPU, so it is told so where
    a launcher has started several and there is no GPU.
    """
    launched = "LOCAL_RANK" in os.environ
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (launched and not torch.cuda.is_available())
    return PartialState(cpu=on_cpu)


def sum_over_processes(tensors: Sequence[Tensor]) -> None:
    """Set each tensor to its sum over all processes, in one transfer.

    Parameters
    ----------
    tensors : sequence of Tensor
        Of the same shapes on every process; changed in place.

    Examples
    --------
    >>> alone = torch.ones(2)
    >>> sum_over_processes([alone])
    >>> alone
    tensor([1., 1.])
    """
    state = processes()
    if state.num_processes == 1 or not tensors:
        return
    flat = torch.cat([t.detach().reshape(-1) for t in tensors]).to(state.device)
    flat = reduce(flat, "sum")
    at = 0
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
            at += tensor.numel()


def agreed(mine: bool) -> bool:
    """What the first process says, on every process: clocks and last bits may differ between them."""
    state = processes()
    said = torch.tensor([float(mine and state.is_main_process)])
    sum_over_processes([said])
    return bool(said.item() > 0)
