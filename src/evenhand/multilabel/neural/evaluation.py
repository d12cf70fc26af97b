"""What the neural players say of instances they were not trained on, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.special import expit
from torch import Tensor

from evenhand.multilabel import game
from evenhand.multilabel.decoding import GlobalThreshold
from evenhand.multilabel.history import summarise
from evenhand.multilabel.metrics import f1, mean_average_precision, precision_at_k, rare_f1, rare_labels
from evenhand.multilabel.neural.inputs import Inputs
from evenhand.multilabel.neural.network import TeamNetwork
from evenhand.multilabel.neural.processes import processes, sum_over_processes

Metric = Literal[
    "map",
    "micro_f1",
    "macro_f1",
    "rare_f1",
    "precision_at_1",
    "precision_at_3",
    "precision_at_5",
    "payoff",
    "potential",
]


@dataclass(frozen=True)
class Examples:
    """Instances with their labels.

    Parameters
    ----------
    inputs : Inputs
        Of n instances.
    labels : csr_array of ones, shape (n, K)
    """

    inputs: Inputs
    labels: sparse.csr_array[Any]


def player_logits(
    network: TeamNetwork, inputs: Inputs, views: Sequence[str], rows_at_a_time: int, *, shared_out: bool
) -> Tensor:
    """s of every instance, without dropout.

    Parameters
    ----------
    network : TeamNetwork
        Left in the mode (training or not) that it was in.
    inputs : Inputs
        Of n instances.
    views : sequence of str
        The column that each encoder reads.
    rows_at_a_time : int
    shared_out : bool
        Whether each process of a distributed run takes a part of the instances; all then get all of it.

    Returns
    -------
    Tensor of float32 or float64, shape (N, n, K), on the CPU
    """
    mine = np.arange(len(inputs))
    largest = len(mine)
    if shared_out:
        state = processes()
        shares = np.array_split(mine, state.num_processes)
        mine = shares[state.process_index]
        largest = len(shares[0])  # as many pieces on every process: dealt heads are called together
    was_training = network.training
    network.eval()
    dtype = torch.promote_types(network.dtype, torch.float32)
    found = torch.zeros(len(network.heads), len(inputs), network.owners.shape[1], dtype=dtype)
    with torch.no_grad():
        for rows in np.array_split(mine, max(1, -(-largest // rows_at_a_time))):
            if len(rows):
                found[:, torch.from_numpy(rows)] = network.logits(
                    _features(network, inputs, views, rows)
                ).cpu()
    network.train(was_training)
    if shared_out:
        sum_over_processes([found])  # the others' rows are 0, so that the sum is exact
    return found


def _features(
    network: TeamNetwork, inputs: Inputs, views: Sequence[str], rows: npt.NDArray[np.integer[Any]]
) -> list[Tensor]:
    """φ of each encoder on some rows."""
    found = []
    for number, (view, encoder) in enumerate(zip(views, network.encoders)):
        found.append(network.encode(number, encoder.tensors(inputs.columns[view].take(rows))))  # type: ignore[operator]
    return found


def fused(network: TeamNetwork, logits: Tensor, space: game.Space) -> Tensor:
    """s̄ of the team.

    Parameters
    ----------
    network : TeamNetwork
    logits : Tensor, shape (N, n, K)
        s, on the CPU.
    space : {"logit", "probability"}

    Returns
    -------
    Tensor, shape (n, K), on the CPU
    """
    team = _team(network, torch.zeros(logits.shape[-1]))
    return game.fuse(logits, team.weights, team.owners, None, space)


def record(
    network: TeamNetwork,
    logits: Tensor,
    labels: sparse.csr_array[Any],
    label_rarity: Tensor,
    train_counts: npt.NDArray[np.int64],
    rules: game.Rules,
) -> dict[str, Any]:
    """An epoch's evidence on held-out instances, as plain numbers.

    Parameters
    ----------
    network : TeamNetwork
    logits : Tensor, shape (N, n, K)
        s.
    labels : csr_array, shape (n, K)
    label_rarity : Tensor, shape (K,)
        ρ.
    train_counts : ndarray of int64, shape (K,)
        n_c.
    rules : Rules

    Returns
    -------
    dict
        What `history.summarise` gives, and the metrics: ``map``, ``micro_f1``, ``macro_f1`` and ``rare_f1``
        by the threshold that is best for micro-F1 here, and ``precision_at_k``.
    """
    team = _team(network, label_rarity.cpu())
    together = game.fuse(logits, team.weights, team.owners, None, rules.space)
    doubts = torch.stack([team.doubt(logits, i, rules) for i in range(len(logits))])
    found = summarise(logits, doubts, together, sparse.csc_array(labels), team, rules, train_counts)
    probabilities = expit(together.numpy())
    sets = GlobalThreshold("micro").fit(probabilities, labels).decode(probabilities)
    scores = f1(labels, sets)
    found["map"] = _plain(mean_average_precision(labels, probabilities))
    found |= {"micro_f1": scores.micro, "macro_f1": scores.macro}
    found["rare_f1"] = _plain(rare_f1(labels, sets, rare_labels(train_counts)))
    precisions = precision_at_k(labels, together.numpy(), (1, 3, 5))
    return found | {f"precision_at_{k}": value for k, value in precisions.items()}


def _team(network: TeamNetwork, label_rarity: Tensor) -> game.Team:
    with torch.no_grad():
        team = network.team(label_rarity)
    return game.Team(team.weights.cpu(), team.owners.cpu(), label_rarity)


def _plain(value: float) -> float | None:
    """None where there is nothing to average, since JSON has no NaN."""
    return None if np.isnan(value) else float(value)
