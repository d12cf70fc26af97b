"""Training that can be interrupted: a folder that keeps what each finished turn of a player left.

The game is deterministic, so its turns are all that has to be kept: a later training reads them where the
first one solved them, computes the records of the rounds from the same numbers, and goes on where the first
one ended, with the same results to the bit. Warm starts are part of a turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel.fusion import Fusion
from evenhand.multilabel.players import Player, player_from_state
from evenhand.multilabel.resuming import ResumableFolder
from evenhand.multilabel.storage import (
    FolderError,
    Kind,
    array_entry,
    entry,
    read_folder,
    sparse_entry,
    sparse_state,
    write_folder,
)

_TURN = Kind("evenhand checkpoint turn", 1, "turn.json")

Duals = dict[tuple[int, int], "sparse.csr_array[Any]"]
"""Where a player's solver ended, for each block of labels and fold."""


@dataclass(frozen=True)
class Turn:
    """What a player's turn left.

    Parameters
    ----------
    seconds : float
        The training had taken by then.
    player : Player
    logits : ndarray of float32, shape (K, n)
        Its outputs on the training instances.
    fusion : Fusion
        Of the team, after the turn.
    duals : dict of (int, int) to csr_array
        Its warm starts, for each block of labels and fold.
    """

    seconds: float
    player: Player
    logits: npt.NDArray[np.float32]
    fusion: Fusion
    duals: Duals


class Checkpoint(ResumableFolder):
    """The finished turns of one training.

    Parameters
    ----------
    folder, fingerprint
        As for `ResumableFolder`.
    """

    def read(self, number: int, shape: tuple[int, int, int]) -> Turn | None:
        """A turn, None where it was not finished.

        Parameters
        ----------
        number : int
            Counted over all players and rounds.
        shape : (int, int, int)
            N players, K labels and n instances of the training.

        Returns
        -------
        Turn or None

        Raises
        ------
        FolderError
            If it is damaged.
        """
        place = self._place(number)
        if not place.exists():
            return None
        state = read_folder(place, _TURN)
        try:
            player = player_from_state(entry(state, "player", dict))
            if len(player.owned) != shape[1]:
                raise FolderError(f"the player is of {len(player.owned)} labels, not {shape[1]}")
            return Turn(
                entry(state, "seconds", float),
                player,
                array_entry(state, "logits", ["float32"], shape[1:]),
                Fusion.from_state(entry(state, "fusion", dict), shape[:2]),
                {
                    (entry(dual, "block", int), entry(dual, "fold", int)): sparse_entry(
                        dual, "variables", sparse.csr_array
                    )
                    for dual in entry(state, "duals", list)
                },
            )
        except FolderError as error:
            raise FolderError(f"{place}: {error}; delete {self.folder} to start anew") from error

    def write(self, number: int, turn: Turn) -> None:
        """Keep a finished turn.

        Parameters
        ----------
        number : int
        turn : Turn
        """
        state = {
            "seconds": turn.seconds,
            "player": turn.player.get_state(),
            "logits": turn.logits,
            "fusion": turn.fusion.get_state(),
            "duals": [
                {"block": block, "fold": fold, "variables": sparse_state(dual)}
                for (block, fold), dual in sorted(turn.duals.items())
            ],
        }
        write_folder(self._place(number), _TURN, state)

    def _place(self, number: int) -> Path:
        return self.folder / f"turn-{number:06d}"
