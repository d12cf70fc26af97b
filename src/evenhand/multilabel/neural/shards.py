"""Heads dealt out to the processes of a distributed run, where labels are many.

Each process then has the weights, gradients and moments of its own players' heads alone. Encoders and the
game stay data parallel: a process encodes its own rows and computes the utilities of its own rows. Only what
a head reads and says travels: the features of all rows to the process that keeps the head, the scores back to
the process of each row, and their gradients the other way. So no process has the scores of all rows, no
gradient of a head is summed over processes, and neither the equations nor the turns know of it.

Two or four players that own 20,000 labels between them, 64 features, float32: weights and moments are 15.6 MB
on one process and 7.8 MB on each of two. What a batch's scores (N, n, K) take is not made less by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from evenhand.multilabel.neural.processes import processes, sum_over_processes


class DealtHead(nn.Module):
    """A player's head, kept by one process; all processes call it together, each with its own rows.

    Parameters
    ----------
    head : Linear
        The whole head, the same on every process.
    keeper : int
        The process that keeps it.

    Notes
    -----
    Other processes keep a head of no label. So the graph of autograd is the same everywhere, and every
    process takes part in every exchange of a backward pass, in the same order.
    """

    def __init__(self, head: nn.Linear, keeper: int) -> None:
        super().__init__()
        self.keeper = keeper
        self.in_features, self.out_features = head.in_features, head.out_features
        kept = keeper == processes().process_index
        self.weight = head.weight if kept else _without_rows(head.weight)
        self.bias = head.bias if kept else _without_rows(head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Scores of this process's rows, shape (n, |L_i|), from their features, shape (n, dim)."""
        rows = _rows_of_all(len(features))
        mine = [len(features) if process == self.keeper else 0 for process in range(len(rows))]
        everyones = rows if processes().process_index == self.keeper else [0] * len(rows)
        gathered = _exchange(features, self.in_features, mine, everyones)
        return _exchange(linear(gathered, self.weight, self.bias), self.out_features, everyones, mine)


def check_deal(n_players: int, n_held_out: int, n_processes: int) -> None:
    """Refuse a deal in which a process would have nothing to do.

    Parameters
    ----------
    n_players : int
        N.
    n_held_out : int
        Instances that are held out.
    n_processes : int

    Raises
    ------
    ValueError
        If there are more processes than players, or than held-out instances.
    """
    for what, n in (("player", n_players), ("held-out instance", n_held_out)):
        if n_processes > n:
            raise ValueError(
                f"shard_heads=True needs a {what} for each of {n_processes} processes, but there are {n};"
                " start fewer processes, or set shard_heads=False"
            )


def keepers(sizes: Sequence[int], n_processes: int) -> tuple[int, ...]:
    """The process that keeps each head: the largest heads first, each to whom has least so far.

    Parameters
    ----------
    sizes : sequence of int, length N
        Of each head.
    n_processes : int
        At most N.

    Returns
    -------
    tuple of int, length N
        Heads of the same size are dealt round-robin.

    Examples
    --------
    >>> keepers([5, 5, 5, 5], 2), keepers([1, 9, 4, 4], 2)
    ((0, 1, 0, 1), (1, 0, 1, 1))
    """
    found, load = [0] * len(sizes), [0] * n_processes
    for head in sorted(range(len(sizes)), key=lambda head: -sizes[head]):
        found[head] = load.index(min(load))
        load[found[head]] += sizes[head]
    return tuple(found)


def deal_heads(heads: nn.ModuleList) -> None:
    """Keep this process's share of the heads; one process alone keeps them as they are.

    Parameters
    ----------
    heads : ModuleList of Linear
        The same on every process; changed in place.
    """
    n_processes = processes().num_processes
    if n_processes == 1:
        return
    sizes = [sum(p.numel() for p in head.parameters()) for head in heads]
    for player, keeper in enumerate(keepers(sizes, n_processes)):
        heads[player] = DealtHead(cast("nn.Linear", heads[player]), keeper)


def gather_heads(heads: nn.ModuleList) -> None:
    """Give every process all heads again, one head at a time.

    Parameters
    ----------
    heads : ModuleList
        Changed in place.
    """
    for player, head in enumerate(list(heads)):
        if isinstance(head, DealtHead):
            heads[player] = _whole(head)


def dealt_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of dealt heads, by name: those that are not the same on every process."""
    return {
        f"{at}.{name}": parameter
        for at, part in module.named_modules()
        if isinstance(part, DealtHead)
        for name, parameter in part.named_parameters()
    }


def _whole(head: DealtHead) -> nn.Linear:
    """The head that its keeper has, on every process."""

    state = processes()
    like = head.weight
    size = head.in_features, head.out_features
    whole = nn.Linear(*size, device="meta", dtype=like.dtype).to_empty(device=like.device)  # draws no numbers
    with torch.no_grad():
        for mine, there in zip(head.parameters(), whole.parameters()):
            sent = (mine if head.keeper == state.process_index else there).to(state.device)
            torch.distributed.broadcast(sent, head.keeper)
            there.copy_(sent)
            there.requires_grad_(mine.requires_grad)
    return whole


def _without_rows(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach()[:0].clone(), parameter.requires_grad)


def _rows_of_all(n: int) -> list[int]:
    """How many rows each process has in hand."""
    state = processes()
    rows = torch.zeros(state.num_processes, dtype=torch.int64)
    rows[state.process_index] = n
    sum_over_processes([rows])
    return rows.tolist()


def _exchange(values: Tensor, width: int, sent: list[int], received: list[int]) -> Tensor:
    """Send so many rows of this width to each process, in order, and take theirs; gradients travel back."""
    flat: Tensor = _Exchange.apply(  # type: ignore[no-untyped-call]
        values.reshape(-1), [n * width for n in sent], [n * width for n in received]
    )
    return flat.view(sum(received), width)


class _Exchange(torch.autograd.Function):
    """All to all of a flat tensor's blocks. torch has one with a gradient, under names that change."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, sent: list[int], received: list[int]) -> Tensor:
        ctx.sent, ctx.received = sent, received
        return _all_to_all(values, sent, received)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _all_to_all(gradients[0], ctx.received, ctx.sent), None, None


def _all_to_all(values: Tensor, sent: list[int], received: list[int]) -> Tensor:
    device = processes().device
    found = values.new_empty(sum(received), device=device)
    torch.distributed.all_to_all_single(found, values.to(device).contiguous(), received, sent)
    return found.to(values.device)
