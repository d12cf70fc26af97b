"""Players of the game: a view of the instances in, logits of the owned labels out.

`Player` is what the game asks of every kind of them; `PLAYER_KINDS` are the kinds that there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, cast, get_args

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel.neighbours import NeighbourPlayer
from evenhand.multilabel.neural.player import NeuralPlayer
from evenhand.multilabel.solver import LABELS_PER_BLOCK, FloatArray
from evenhand.multilabel.storage import FolderError, array_entry, entry, sparse_entry, sparse_state
from evenhand.multilabel.views import Block, Views, player_views

PlayerKind = Literal["linear", "neighbours", "neural"]


class Player(Protocol):
    """A trained player of any kind.

    How one is trained, `training` knows by its kind: a linear player solves its best response, in every round
    anew; a neighbour player remembers the training instances, and a neural one learns from them, once and for
    all.
    """

    @property
    def kind(self) -> PlayerKind:
        """How it is trained and read again."""

    @property
    def answers(self) -> bool:
        """Whether it has a best response to the team; if not, its move in round 0 is its only one."""

    @property
    def view(self) -> str:
        """The name of its view φ_i."""

    @property
    def owned(self) -> npt.NDArray[np.bool_]:
        """L_i, shape (K,)."""

    @property
    def n_features(self) -> int:
        """Features of its view."""

    @property
    def n_stored(self) -> int:
        """Values that it keeps: weights, or features of the instances that it remembers."""

    def logits(self, block: Block) -> FloatArray:
        """s_{i,c}, shape (n, K); 0 where it does not own the label."""

    def get_state(self) -> dict[str, Any]:
        """What `player_from_state` needs."""


@dataclass(frozen=True)
class LinearPlayer:
    """s_{i,c} = w_{i,c}·φ_i(x) + b_{i,c} on one view φ_i.

    Parameters
    ----------
    view : str
        The name of the view φ_i.
    owned : ndarray of bool, shape (K,)
        L_i, the labels that it speaks about.
    weights : csc_array of float32 or float64, shape (D+1, K)
        w, its last row b; columns of labels that are not owned are empty.
    """

    view: str
    owned: npt.NDArray[np.bool_]
    weights: sparse.csc_array[Any]

    kind: ClassVar[Literal["linear"]] = "linear"
    answers: ClassVar[bool] = True

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.weights.shape[0]) - 1

    @property
    def n_stored(self) -> int:
        """Weights that are not 0, biases included."""
        return int(self.weights.nnz)

    def logits(self, block: Block) -> FloatArray:
        """Its scores of all labels.

        Parameters
        ----------
        block : csr_array or ndarray, shape (n, D)
            Its view of the instances.

        Returns
        -------
        ndarray, shape (n, K)
            0 where it does not own the label.

        Raises
        ------
        ValueError
            If the number of features is another than in training.
        """
        if block.shape[1] != self.n_features:
            raise ValueError(
                f"view {self.view!r} has {block.shape[1]} features, but the model was trained on"
                f" {self.n_features}"
            )
        scores = np.zeros((block.shape[0], self.weights.shape[1]), self.weights.dtype)
        for labels in label_blocks(np.flatnonzero(self.owned)):
            # A block of labels at a time: all weights at once would be a dense (D, K) array.
            dense = self.weights[:, labels].toarray()
            scores[:, labels] = block @ dense[:-1] + dense[-1]
        return scores

    def get_state(self) -> dict[str, Any]:
        """What `from_state` needs."""
        weights = sparse_state(self.weights)
        return {"kind": self.kind, "view": self.view, "owned": self.owned, "weights": weights}

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """A player equal to the one whose state this is.

        Parameters
        ----------
        state : dict
            As `get_state` returns it, read from a file.

        Returns
        -------
        LinearPlayer

        Raises
        ------
        FolderError
            If a field is missing or damaged, or an index points out of the weights.
        """
        view, owned = entry(state, "view", str), array_entry(state, "owned", ["bool"], (None,))
        weights = sparse_entry(state, "weights", sparse.csc_array)
        if weights.shape[1] != len(owned):
            raise FolderError(
                f"the weights of view {view!r} are of {weights.shape[1]} labels, not {len(owned)}"
            )
        if np.diff(weights.indptr)[~owned].any():
            raise FolderError(f"the player of view {view!r} has weights of labels that it does not own")
        return cls(view, owned, weights)


PLAYER_KINDS: dict[PlayerKind, type[LinearPlayer] | type[NeighbourPlayer] | type[NeuralPlayer]] = {
    "linear": LinearPlayer,
    "neighbours": NeighbourPlayer,
    "neural": NeuralPlayer,
}


def player_from_state(state: Any) -> Player:
    """A player of any kind, equal to the one whose state this is.

    Parameters
    ----------
    state : dict
        As its `get_state` returns it, read from a file.

    Returns
    -------
    Player

    Raises
    ------
    FolderError
        If there is no such kind, or the state is damaged.
    """
    # Models from before there were kinds do not name it.
    kind = "linear" if isinstance(state, dict) and "kind" not in state else entry(state, "kind", str)
    if kind not in PLAYER_KINDS:
        raise FolderError(f"this release of evenhand knows no player of kind {kind!r}")
    return PLAYER_KINDS[cast("PlayerKind", kind)].from_state(state)


def player_name(view: str, kind: PlayerKind) -> str:
    """What people call a player: its view, and its kind where that is not linear.

    Examples
    --------
    >>> player_name("words", "linear"), player_name("minilm", "neighbours")
    ('words', 'minilm, neighbours')
    """
    return view if kind == "linear" else f"{view}, {kind}"


def chosen_players(
    views: Views, n_players: int | None, players: Sequence[Any] | Mapping[str, Any] | None
) -> tuple[tuple[str, PlayerKind], ...]:
    """View and kind of each player: those named, else linear ones.

    Parameters
    ----------
    views : Views
    n_players : int, optional
        Where no players are named, see `player_views`.
    players : sequence of (view, kind), or mapping of view to kind or list of kinds, optional

    Returns
    -------
    tuple of (str, str)

    Raises
    ------
    ValueError
        If a view or kind does not exist, or there are both a number and names of players.

    Examples
    --------
    >>> chosen_players(Views.of([[1.0], [2.0]]), None, {"all": ["linear", "neighbours"]})
    (('all', 'linear'), ('all', 'neighbours'))
    """
    if players is None:
        return tuple((view, "linear") for view in player_views(views, n_players))
    if n_players is not None:
        raise ValueError("give players or n_players, not both: the one names what the other counts")
    pairs = as_pairs(players)
    for view, _ in pairs:
        if view not in views.names:
            raise ValueError(f"players names the view {view!r}, but the views are {', '.join(views.names)}")
    return pairs


def as_pairs(players: Any) -> tuple[tuple[str, PlayerKind], ...]:
    """Players as a user may name them, as pairs of view and kind.

    Parameters
    ----------
    players : sequence of (view, kind), or mapping of view to kind or list of kinds

    Returns
    -------
    tuple of (str, str)

    Raises
    ------
    ValueError
        If there is none, one is no such pair, or there is no such kind.
    """
    kinds = ", ".join(get_args(PlayerKind))
    pairs: tuple[tuple[str, PlayerKind], ...]
    try:
        if isinstance(players, Mapping):
            each = {view: [kind] if isinstance(kind, str) else kind for view, kind in players.items()}
            pairs = tuple((view, cast("PlayerKind", kind)) for view in each for kind in each[view])
        else:
            pairs = tuple((view, kind) for view, kind in players)
    except (TypeError, ValueError) as error:
        raise ValueError(f"players must be pairs of a view and a kind ({kinds}), not {players!r}") from error
    if not pairs:
        raise ValueError("players is empty; name at least one, or leave it out")
    for view, kind in pairs:
        if not isinstance(kind, str) or kind not in PLAYER_KINDS:
            raise ValueError(f"the player of view {view!r} is of kind {kind!r}; choose one of {kinds}")
    return pairs


def label_blocks(labels: npt.NDArray[np.integer[Any]]) -> Iterator[npt.NDArray[np.integer[Any]]]:
    """The labels in blocks as the solver likes them.

    Parameters
    ----------
    labels : ndarray of int

    Yields
    ------
    ndarray of int
        `LABELS_PER_BLOCK` of them, the last one fewer.
    """
    for start in range(0, len(labels), LABELS_PER_BLOCK):
        yield labels[start : start + LABELS_PER_BLOCK]
