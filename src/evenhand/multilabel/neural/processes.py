"""The processes of a distributed run, by Accelerate; one process alone is a run of one.

Accelerate is imported where something is trained: a model is read and used without it.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import PartialState


def processes() -> PartialState:
    """Accelerate's view of this run: how many processes there are, which one this is, and its device.

    Accelerate looks for other processes on CPUs only where it is told to use the CPU, so it is told so where
    a launcher has started several and there is no GPU.

    Raises
    ------
    ValueError
        If Accelerate is not installed.
    """
    try:
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env
    except ImportError as error:
        raise ValueError(
            f"neural players are trained with accelerate, which cannot be imported ({error}); install"
            " evenhand[neural]"
        ) from error
    launched = "LOCAL_RANK" in os.environ
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (launched and not torch.cuda.is_available())
    is_joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    state = PartialState(cpu=on_cpu)
    if state.num_processes > 1 and not is_joined:
        # Who joins the others leaves them: gloo's threads that still run at the end may abort the process.
        atexit.register(state.destroy_process_group)
    return state


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
    from accelerate.utils import reduce

    flat = torch.cat([t.detach().reshape(-1) for t in tensors]).to(state.device)
    flat = reduce(flat, "sum")
    at = 0
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
            at += tensor.numel()


def take_from_the_first(tensors: Iterable[Tensor]) -> None:
    """Set each tensor to what it is on the first process.

    Parameters
    ----------
    tensors : iterable of Tensor
        Of the same shapes on every process; changed in place.
    """
    if processes().num_processes == 1:
        return
    from accelerate.utils import broadcast

    for tensor in tensors:
        tensor.copy_(broadcast(tensor))


def agreed(mine: bool) -> bool:
    """What the first process says, on every process: clocks and last bits may differ between them."""
    state = processes()
    said = torch.tensor([float(mine and state.is_main_process)])
    sum_over_processes([said])
    return bool(said.item() > 0)
