"""The neural players: encoders, a small head a player over its own labels, and the team's fusion weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evenhand.multilabel import game
from evenhand.multilabel.neural.encoders import Encoder, Tensors


class TeamNetwork(nn.Module):
    """s_{i,c}(x) = w_{i,c}·φ(x) + b_{i,c}, φ an encoder that players share or one of the player's own.

    Parameters
    ----------
    encoders : sequence of Encoder
    encoder_of : sequence of int, length N
        The encoder of each player.
    owners : ndarray of bool, shape (N, K)
        L_i; a head has weights of these labels alone.
    start : ndarray, shape (K,), optional
        b at the start; a label's log-odds in training spare the first epochs. None: 0.

    Raises
    ------
    ValueError
        If a player owns no label.

    Notes
    -----
    ω_{i,c} = softmax over the owners of a learnable a_{i,c}, 0 at the start, in both spaces [D]: a head can
    scale its own logits, so that a free ω in logit space would add nothing. So Jensen's inequality holds for
    the team, and a label with one owner has ω = 1 exactly.

    Examples
    --------
    >>> from evenhand.multilabel.neural.encoders import DenseEncoder
    >>> owners = np.array([[True, True, False], [False, True, True]])
    >>> network = TeamNetwork([DenseEncoder(4, (5,), dropout=0.0)], [0, 0], owners)
    >>> network.logits([network.encode(0, (torch.ones(7, 4),))]).shape
    torch.Size([2, 7, 3])
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        encoder_of: Sequence[int],
        owners: npt.NDArray[np.bool_],
        start: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        self.encoder_of = tuple(encoder_of)
        owned = [torch.from_numpy(np.flatnonzero(row)) for row in owners]
        for player, labels in enumerate(owned):
            if not len(labels):
                raise ValueError(f"player {player} owns no label; take fewer players or another partition")
            self.register_buffer(f"owned{player}", labels, persistent=False)
        self.encoders = nn.ModuleList(encoders)
        self.heads = nn.ModuleList(
            nn.Linear(encoders[e].dim, len(labels)) for e, labels in zip(encoder_of, owned)
        )
        with torch.no_grad():
            for head, labels in zip(self.heads, owned):
                at = torch.zeros(len(labels)) if start is None else torch.from_numpy(start)[labels]
                head.bias.copy_(at)  # type: ignore[operator]
        self.mixture = nn.Parameter(torch.zeros(owners.shape))
        self.owners: Tensor
        self.register_buffer("owners", torch.from_numpy(owners.copy()))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.mixture.dtype

    def private_encoder(self, player: int) -> int | None:
        """The encoder that only this player reads; None where it is shared."""
        mine = self.encoder_of[player]
        return mine if self.encoder_of.count(mine) == 1 else None

    def player_parameters(self, player: int) -> list[nn.Parameter]:
        """θ_i: the head, and the encoder where it is the player's own."""
        mine = self.private_encoder(player)
        encoder = [] if mine is None else list(self.encoders[mine].parameters())
        return _trained([*self.heads[player].parameters(), *encoder])

    def shared_parameters(self) -> list[nn.Parameter]:
        """What belongs to no player: shared encoders and the fusion weights."""
        shared = [e for e in range(len(self.encoders)) if self.encoder_of.count(e) > 1]
        return _trained([self.mixture, *(p for e in shared for p in self.encoders[e].parameters())])

    def encode(self, encoder: int, tensors: Tensors) -> Tensor:
        """φ, shape (n, dim)."""
        device = self.mixture.device
        moved = (t.to(device, self.dtype if t.is_floating_point() else None) for t in tensors)
        features: Tensor = self.encoders[encoder](*moved)
        return features

    def player_logits(self, player: int, features: Tensor) -> Tensor:
        """s_i, shape (n, K), in float32 at least; 0 where the player does not own the label."""
        scores: Tensor = self.heads[player](features)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        n_labels = self.owners.shape[1]
        if scores.shape[1] == n_labels:
            return scores
        return scores.new_zeros(len(scores), n_labels).index_copy(
            1, self.get_buffer(f"owned{player}"), scores
        )

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """s, shape (N, n, K), from the features of each encoder."""
        return torch.stack([self.player_logits(i, features[e]) for i, e in enumerate(self.encoder_of)])

    def team(self, label_rarity: Tensor) -> game.Team:
        """The state of play, differentiable in the fusion weights."""
        weights = torch.where(self.owners, self.mixture, -torch.inf).softmax(0)
        return game.Team(weights, self.owners, label_rarity)


def _trained(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]
