"""One step of the game by gradient: the players in turn, or all at once.

θ_i ← θ_i + η ∇_{θ_i} u_i, the fused prediction refreshed between turns, then the shared encoders and the
fusion weights ← + η ∇Φ ("best_response"); or one simultaneous step on Φ, N times cheaper ("joint"). The
gradient is that of the whole batch, however many parts and processes it is split into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from evenhand.multilabel import game
from evenhand.multilabel.neural.encoders import Tensors
from evenhand.multilabel.neural.losses import Loss
from evenhand.multilabel.neural.network import TeamNetwork
from evenhand.multilabel.neural.processes import sum_over_processes
from evenhand.multilabel.neural.shards import dealt_parameters

Update = Literal["best_response", "joint"]


class Objective(Protocol):
    """What players ascend."""

    def utility(
        self, logits: Tensor, targets: Tensor, team: game.Team, player: int, row_weights: Tensor | None
    ) -> Tensor:
        """u_i from s (N, n, K), y (n, K) and the weights of the instances (n,)."""

    def potential(
        self, logits: Tensor, targets: Tensor, team: game.Team, row_weights: Tensor | None
    ) -> Tensor:
        """Φ."""


@dataclass(frozen=True)
class GameObjective:
    """The utilities and the potential of `game`."""

    rules: game.Rules

    def utility(
        self, logits: Tensor, targets: Tensor, team: game.Team, player: int, row_weights: Tensor | None
    ) -> Tensor:
        """`game.utility`."""
        return game.utility(logits, targets, team, player, self.rules, row_weights)

    def potential(
        self, logits: Tensor, targets: Tensor, team: game.Team, row_weights: Tensor | None
    ) -> Tensor:
        """`game.potential`."""
        return game.potential(logits, targets, team, self.rules, row_weights)


@dataclass(frozen=True)
class ControlObjective:
    """A loss of another method on the fused score, shared by all: players without curiosity."""

    loss: Loss
    space: game.Space

    def utility(
        self, logits: Tensor, targets: Tensor, team: game.Team, player: int, row_weights: Tensor | None
    ) -> Tensor:
        """Minus the loss."""
        return self.potential(logits, targets, team, row_weights)

    def potential(
        self, logits: Tensor, targets: Tensor, team: game.Team, row_weights: Tensor | None
    ) -> Tensor:
        """Minus the loss."""
        fused = game.fuse(logits, team.weights, team.owners, team.bias, self.space)
        return -self.loss(fused, targets, row_weights=row_weights)


@dataclass(frozen=True)
class Part:
    """Some instances of a batch.

    Parameters
    ----------
    tensors : sequence of tuple of Tensor
        For each encoder, what it reads.
    targets : Tensor, shape (n, K)
    share : float
        Their weight, n where all weigh 1, over the instances of the whole batch, on all processes.
    row_weights : Tensor, shape (n,), optional
        Weights of the instances.
    """

    tensors: Sequence[Tensors]
    targets: Tensor
    share: float
    row_weights: Tensor | None = None


@dataclass(frozen=True)
class Ascent:
    """Steps of a network's weights.

    Parameters
    ----------
    network : TeamNetwork
    optimizer : torch.optim.Optimizer
        Over all its weights; those that have no gradient are left alone.
    label_rarity : Tensor, shape (K,)
        ρ.
    autocast : callable
        Gives the context in which encoders and heads run.
    """

    network: TeamNetwork
    optimizer: torch.optim.Optimizer
    label_rarity: Tensor
    autocast: Callable[[], torch.autocast]

    def step(self, parts: Sequence[Part], objective: Objective, update: Update) -> float:
        """Move the weights by one step (best response: one turn of everybody).

        Parameters
        ----------
        parts : sequence of Part
            This process's parts of the batch.
        objective : Objective
        update : {"best_response", "joint"}

        Returns
        -------
        float
            Φ of the whole batch before the step.
        """
        value = self._joint(parts, objective) if update == "joint" else self._in_turn(parts, objective)
        sum_over_processes([value])
        return value.item()

    def _joint(self, parts: Sequence[Part], objective: Objective) -> Tensor:
        total = self._zero()
        for part in parts:
            logits = self._logits([self._encode(part, e) for e in self._all_encoders()])
            value = part.share * self._potential(part, logits, objective)
            (-value).backward()  # type: ignore[no-untyped-call]
            total += value.detach()
        self._move()
        return total

    def _in_turn(self, parts: Sequence[Part], objective: Objective) -> Tensor:
        network = self.network
        # One part: the graph of the shared encoders is kept for their own turn. Several would not fit.
        keep = len(parts) == 1
        features = [
            [self._encode(part, e, graph=keep and self._is_shared(e)) for e in self._all_encoders()]
            for part in parts
        ]
        with torch.no_grad():
            cached = [self._logits(one) for one in features]
            total = self._zero()
            for part, logits in zip(parts, cached):
                total += part.share * self._potential(part, logits, objective)
        for player in range(len(network.heads)):
            self._turn(player, parts, features, cached, objective)
        for part, known in zip(parts, features):
            fresh = [
                f if keep or not self._is_shared(e) else self._encode(part, e) for e, f in enumerate(known)
            ]
            value = self._potential(part, self._logits(fresh), objective)
            _backward(-part.share * value, network.shared_parameters())
        self._move()
        return total

    def _turn(
        self,
        player: int,
        parts: Sequence[Part],
        features: list[list[Tensor]],
        cached: list[Tensor],
        objective: Objective,
    ) -> None:
        """One player's step on u_i; its features and logits are brought up to date."""
        mine, private = self.network.encoder_of[player], self.network.private_encoder(player)
        team = self._team()
        team = replace(team, weights=team.weights.detach())
        for part, known, logits in zip(parts, features, cached):
            seen = known[mine].detach() if private is None else self._encode(part, mine)
            answer = torch.cat([logits[:player], self._scores(player, seen)[None], logits[player + 1 :]])
            value = objective.utility(answer, part.targets, team, player, part.row_weights)
            _backward(-part.share * value, self.network.player_parameters(player))
        self._move()
        with torch.no_grad():
            for number, part in enumerate(parts):
                if private is not None:
                    features[number][mine] = self._encode(part, mine, graph=False)
                cached[number][player] = self._scores(player, features[number][mine])

    def _move(self) -> None:
        dealt = {id(p) for p in dealt_parameters(self.network.heads).values()}  # theirs are whole already
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None and id(p) not in dealt]
        sum_over_processes(gradients)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _all_encoders(self) -> range:
        return range(len(self.network.encoders))

    def _is_shared(self, encoder: int) -> bool:
        return self.network.encoder_of.count(encoder) > 1

    def _encode(self, part: Part, encoder: int, *, graph: bool = True) -> Tensor:
        with torch.set_grad_enabled(graph), self.autocast():
            return self.network.encode(encoder, part.tensors[encoder])

    def _scores(self, player: int, features: Tensor) -> Tensor:
        with self.autocast():
            return self.network.player_logits(player, features)

    def _logits(self, features: Sequence[Tensor]) -> Tensor:
        with self.autocast():
            return self.network.logits(features)

    def _potential(self, part: Part, logits: Tensor, objective: Objective) -> Tensor:
        return objective.potential(logits, part.targets, self._team(), part.row_weights)

    def _team(self) -> game.Team:
        return self.network.team(self.label_rarity)

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=self.label_rarity.dtype, device=self.label_rarity.device)


def _backward(value: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """Add the gradient by these weights alone."""
    wanted = list(parameters)
    if value.requires_grad and wanted:
        value.backward(inputs=wanted)  # type: ignore[no-untyped-call]
