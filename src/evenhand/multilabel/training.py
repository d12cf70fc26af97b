"""The game as it is played: best responses in turn, on cross-fitted outputs.

A convex player fits its own training rows almost perfectly, so whatever the others learn of it (p̄_{−i}, d, ω,
Φ) comes from out-of-fold outputs: each player is solved once a fold without that fold's rows, and once on all
rows for the model that is kept. Round 0 has every player solve alone, R being the payoff of its own score; in
each later round the players answer in turn to the team as it then is. Players that remember instances, and
neural ones, whose problem is not convex, have no best response: what they say in round 0 they say in every
round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.special import expit

from evenhand.multilabel import game
from evenhand.multilabel.checkpoint import Checkpoint, Turn
from evenhand.multilabel.decoding import PlattCalibration
from evenhand.multilabel.fusion import Fusion, Outputs, fit_fusion
from evenhand.multilabel.history import summarise
from evenhand.multilabel.neighbours import NeighbourPlayer, NeighbourRule
from evenhand.multilabel.neural.alone import NeuralRule, learn_alone
from evenhand.multilabel.neural.player import NeuralPlayer
from evenhand.multilabel.players import (
    PLAYER_KINDS,
    LinearPlayer,
    Player,
    PlayerKind,
    label_blocks,
    player_name,
)
from evenhand.multilabel.resuming import fingerprint
from evenhand.multilabel.solver import (
    Divergence,
    FloatArray,
    Loss,
    Objective,
    Rows,
    Solution,
    best_response,
    warn_of_unsettled,
)
from evenhand.multilabel.splitting import cross_fitting_folds, group_numbers
from evenhand.multilabel.storage import FolderError
from evenhand.multilabel.views import Views

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.integer[Any]]
_Other = TypeVar("_Other", NeighbourPlayer, NeuralPlayer)
Progress = Callable[[str, int, int], None]
"""Called with what is being done, the steps of it that are done (label blocks or folds), and their number."""


@dataclass(frozen=True)
class Settings:
    """How the game is played; see `CuriosityGameClassifier` for the meaning of each."""

    rules: game.Rules
    regularization: float
    rounds: int
    n_folds: int
    fusion_pull: float
    tolerance: float
    prune: float
    n_jobs: int
    seed: int
    neighbours: NeighbourRule = field(default_factory=NeighbourRule)
    neural: NeuralRule = field(default_factory=NeuralRule)


@dataclass(frozen=True)
class TrainedTeam:
    """What a game leaves.

    Parameters
    ----------
    players : tuple of Player
    fusion : Fusion
    space : {"logit", "probability"}
    history : tuple of dict
        One record a round: ``round``, ``seconds`` and what `history.summarise` returns.
    """

    players: tuple[Player, ...]
    fusion: Fusion
    space: game.Space
    history: tuple[dict[str, Any], ...] = ()

    def player_logits(self, views: Views) -> FloatArray:
        """s_{i,c}, shape (N, n, K)."""
        return np.stack([player.logits(views.blocks[player.view]) for player in self.players])

    def logits(self, views: Views) -> FloatArray:
        """s̄_c, the team's logits before calibration, shape (n, K)."""
        owners = np.stack([player.owned for player in self.players])
        return fused_logits(self.player_logits(views), self.fusion, owners, self.space)


@dataclass(frozen=True)
class Training:
    """A trained team with what it said of its training instances.

    Parameters
    ----------
    team : TrainedTeam
    outputs : Outputs
        Of the players, out-of-fold (in-sample with ``n_folds`` 0).
    fused : ndarray, shape (n, K)
        s̄ on the same.
    """

    team: TrainedTeam
    outputs: Outputs
    fused: FloatArray


def fused_logits(logits: FloatArray, fusion: Fusion, owners: BoolArray, space: game.Space) -> FloatArray:
    """`game.fuse` on arrays: logits (N, n, K) to (n, K)."""
    dtype = torch.from_numpy(logits).dtype
    weights, bias = torch.from_numpy(fusion.weights).to(dtype), torch.from_numpy(fusion.bias).to(dtype)
    fused = game.fuse(torch.from_numpy(logits), weights, torch.from_numpy(owners), bias, space)
    array: FloatArray = fused.numpy()
    return array


def train(
    views: Views,
    labels: sparse.csr_array[Any],
    owners: BoolArray,
    player_views: tuple[str, ...],
    settings: Settings,
    *,
    player_kinds: tuple[PlayerKind, ...] | None = None,
    row_weights: npt.NDArray[np.float64] | None = None,
    groups: npt.NDArray[Any] | None = None,
    on_progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Training:
    """Play the game.

    Parameters
    ----------
    views : Views
        Of n instances.
    labels : csr_array, shape (n, K)
    owners : ndarray of bool, shape (N, K)
    player_views : tuple of str, length N
        The view of each player.
    settings : Settings
    player_kinds : tuple of {"linear", "neighbours", "neural"}, length N, optional
        None: all linear.
    row_weights : ndarray, shape (n,), optional
        Weights of the instances.
    groups : ndarray, shape (n,), optional
        Instances of one group share a fold.
    on_progress : callable, optional
    checkpoint : Path, optional
        A folder that keeps each finished turn of a player. A training of the same data and settings takes up
        after the last one there, with the same results to the bit.

    Returns
    -------
    Training

    Raises
    ------
    FolderError
        If the checkpoint is of another training, or damaged.
    ValueError
        If a neural player owns no label.
    FloatingPointError
        If a neural player's training diverges.

    Warns
    -----
    ConvergenceWarning
        If a linear player's solve gave up before its optimum. Turns that a checkpoint gave are not told of.
    """
    table = _Game(
        views,
        labels,
        owners,
        player_views,
        settings,
        row_weights,
        groups,
        on_progress,
        checkpoint,
        tuple("linear" for _ in player_views) if player_kinds is None else player_kinds,
    )
    table.play_alone()
    best = table.record(0)
    for number in range(1, settings.rounds + 1):
        if len(player_views) == 1 or not table.anybody_answers:
            break  # nobody to answer to, or nobody who does
        table.answer_in_turn(number)
        latest = table.record(number)
        if latest.potential <= best.potential:
            table.restore(best)  # out-of-fold the round did harm
            break
        best = latest
    return table.finish()


@dataclass(frozen=True)
class _State:
    """What changes from round to round."""

    potential: float
    players: list[Player]
    logits: npt.NDArray[np.float32]
    fusion: Fusion


@dataclass
class _Game:
    views: Views
    labels: sparse.csr_array[Any]
    owners: BoolArray
    player_views: tuple[str, ...]
    settings: Settings
    given_weights: npt.NDArray[np.float64] | None
    groups: npt.NDArray[Any] | None
    on_progress: Progress | None
    checkpoint: Path | None
    kinds: tuple[PlayerKind, ...]
    history: list[dict[str, Any]] = field(default_factory=list)
    unsettled: list[tuple[int, float]] = field(default_factory=list)
    """The player and the distance of each solve that gave up before its optimum."""
    done: int = 0

    def __post_init__(self) -> None:
        for view, kind, owned in zip(self.player_views, self.kinds, self.owners):
            if kind == "neural" and not owned.any():
                raise ValueError(
                    f"the player {player_name(view, kind)!r} owns no label; take fewer players or another"
                    " partition"
                )
        n, n_labels = self.labels.shape
        self.by_label = sparse.csc_array(self.labels)
        self.counts = np.diff(self.by_label.indptr)
        self.rarity = game.rarity(torch.from_numpy(self.counts), n).numpy()
        self.row_weights = np.ones(n) if self.given_weights is None else self.given_weights
        self.fold_of = self._deal_folds()
        self.n_folds = int(self.fold_of.max()) + 1 if self.settings.n_folds else 0
        # Blocks of equally frequent labels take equally many sweeps.
        self.order = np.argsort(self.counts, kind="stable")
        self.order = self.order[self.counts[self.order] > 0]
        solved = [view for view, kind in zip(self.player_views, self.kinds) if kind == "linear"]
        self.rows = {name: Rows.of(self.views.blocks[name]) for name in dict.fromkeys(solved)}
        self.held = {
            name: [Rows.of(self.views.blocks[name][outside]) for _, outside in self._folds()]
            for name in self.rows
        }
        self.outputs = Outputs(
            np.zeros((len(self.player_views), n_labels, n), np.float32),
            self.by_label,
            self.row_weights,
            self.fold_of,
            self._usable(),
        )
        self.players: list[Player] = []
        self.duals: dict[tuple[int, int, int], sparse.csr_array[Any]] = {}
        self.fusion = Fusion(self.owners / self.owners.sum(0), np.zeros(n_labels))
        self.total = sum(
            self._steps(player)
            * (1 + (self.settings.rounds if len(self.owners) > 1 and self._answers(player) else 0))
            for player in range(len(self.owners))
        )
        self.started = time.perf_counter()
        self.saved = None if self.checkpoint is None else Checkpoint(self.checkpoint, self._fingerprint())

    def _fingerprint(self) -> dict[str, Any]:
        arrays = {
            "labels": self.labels,
            "owners": self.owners,
            "row weights": self.row_weights,
            "folds": self.fold_of,
        }
        if self.groups is not None:  # which the folds do not tell where there are none, or a network splits
            arrays["groups"] = group_numbers(self.groups)
        names = tuple(map(player_name, self.player_views, self.kinds))
        return fingerprint(asdict(self.settings), self.views, names, arrays)

    @property
    def anybody_answers(self) -> bool:
        """Whether there is a player with a best response."""
        return any(map(self._answers, range(len(self.kinds))))

    def _answers(self, player: int) -> bool:
        return PLAYER_KINDS[self.kinds[player]].answers

    def _steps(self, player: int) -> int:
        """How often a player's turn reports."""
        return len(self._blocks(player)) if self._answers(player) else self.n_folds + 1

    def _folds(self) -> Iterator[tuple[IntArray, IntArray]]:
        """The rows inside and outside of what each fold's models learn from."""
        return (
            (np.flatnonzero(self.fold_of != f), np.flatnonzero(self.fold_of == f))
            for f in range(self.n_folds)
        )

    def _blocks(self, player: int) -> list[IntArray]:
        return list(label_blocks(self.order[self.owners[player][self.order]]))

    def _deal_folds(self) -> IntArray:
        n, n_folds, seed = self.labels.shape[0], self.settings.n_folds, self.settings.seed
        if not n_folds:
            return np.zeros(n, np.int64)
        return cross_fitting_folds(self.labels, n_folds, groups=self.groups, seed=seed)

    def _usable(self) -> BoolArray:
        """Where a fold's models saw a positive of the label, shape (K, F)."""
        if not self.n_folds:
            return self.counts[:, None] > 0
        inside = [
            np.bincount(self.labels[np.flatnonzero(self.fold_of == f)].indices, minlength=len(self.counts))
            for f in range(self.n_folds)
        ]
        usable: BoolArray = self.counts[:, None] > np.stack(inside, axis=1)
        return usable

    def play_alone(self) -> None:
        """Round 0: each player maximises u_i with a team of its own."""
        for player in range(len(self.player_views)):
            self._turn(0, player)

    def answer_in_turn(self, number: int) -> None:
        """One round of sequential best response, the fused prediction refreshed between turns."""
        for player in range(len(self.player_views)):
            self._turn(number, player)

    def _turn(self, number: int, player: int) -> None:
        """One player's turn: played, or taken from the checkpoint where it was played before."""
        if number and not self._answers(player):
            return
        place = number * len(self.player_views) + player
        if self.saved is not None and (turn := self.saved.read(place, self.outputs.logits.shape)) is not None:
            self._take_up(player, turn)
            return
        self.players[player : player + 1] = [self._respond(player, alone=number == 0)]
        if number or player == len(self.player_views) - 1:  # in round 0 nobody hears of the others
            self._refresh_fusion()
        if self.saved is not None:
            duals = {key[1:]: dual for key, dual in self.duals.items() if key[0] == player}
            seconds = time.perf_counter() - self.started
            outputs = self.outputs.logits[player]
            self.saved.write(place, Turn(seconds, self.players[player], outputs, self.fusion, duals))

    def _take_up(self, player: int, turn: Turn) -> None:
        if not self._fits(player, turn):
            raise FolderError(
                f"{self.checkpoint}: a turn of player {player} is not of this training; delete the folder to"
                " start anew"
            )
        self.players[player : player + 1] = [turn.player]
        self.outputs.logits[player] = turn.logits
        self.fusion = turn.fusion
        self.duals |= {(player, *key): dual for key, dual in turn.duals.items()}
        self.started = time.perf_counter() - turn.seconds
        for _ in range(self._steps(player)):
            self._tick(player)

    def _fits(self, player: int, turn: Turn) -> bool:
        """Whether a turn that was read is of this player and these instances."""
        found, name = turn.player, self.player_views[player]
        wanted = (self.kinds[player], name, self.views.n_features[name])
        return (
            (found.kind, found.view, found.n_features) == wanted
            and np.array_equal(found.owned, self.owners[player])
            and all(dual.shape[0] % len(self.row_weights) == 0 for dual in turn.duals.values())
        )

    def _respond(self, player: int, *, alone: bool) -> Player:
        """A player's move, its outputs noted."""
        return _MOVES[self.kinds[player]](self, player, alone)

    def _remember(self, player: int, alone: bool) -> NeighbourPlayer:
        """What is near the instances of each fold outside of it, and then among all."""
        name, owned = self.player_views[player], self.owners[player]
        block = self.views.blocks[name]

        def memory(rows: IntArray) -> NeighbourPlayer:
            parts = block[rows], self.labels[rows], self.row_weights[rows]
            return NeighbourPlayer.of(
                name, *parts, owned, owned & (self.counts > 0), self.settings.neighbours
            )

        return self._cross_fit(player, memory)

    def _learn(self, player: int, alone: bool) -> NeuralPlayer:
        """A network that learns from the instances outside of each fold, and then one from all."""
        name, owned, settings = self.player_views[player], self.owners[player], self.settings
        block, groups = self.views.blocks[name], self.groups
        # Two such players of one view are to start apart.
        seed = int(np.random.SeedSequence([settings.seed, player]).generate_state(1)[0])

        def learned(rows: IntArray) -> NeuralPlayer:
            return learn_alone(
                name,
                block[rows],
                self.labels[rows],
                self.row_weights[rows],
                owned,
                self.rarity,
                settings.rules,
                settings.neural,
                groups=None if groups is None else groups[rows],
                seed=seed,
            )

        return self._cross_fit(player, learned)

    def _cross_fit(self, player: int, made_of: Callable[[IntArray], _Other]) -> _Other:
        """A player made once a fold of the other rows, its outputs noted, and the one made of all rows."""
        block, outputs = self.views.blocks[self.player_views[player]], self.outputs.logits[player]
        for inside, outside in self._folds():
            outputs[:, outside] = made_of(inside).logits(block[outside]).T
            self._tick(player)
        kept = made_of(np.arange(len(self.row_weights)))
        if not self.n_folds:
            outputs[:] = kept.logits(block).T
        self._tick(player)
        return kept

    def _solve(self, player: int, alone: bool) -> LinearPlayer:
        """The weights of a best response."""
        owned = self.owners[player]
        blocks = self._blocks(player)
        doubt = None if alone else self._doubt(player).numpy()

        def work(number: int) -> tuple[IntArray, sparse.csc_array[Any]]:
            labels = blocks[number]
            objective = self._objective(player, labels, doubt, alone)
            kept = self._solve_block(player, number, labels, objective)
            self._tick(player)
            return labels, kept

        with ThreadPoolExecutor(self.settings.n_jobs) as pool:
            solved = list(pool.map(work, range(len(blocks))))
        weights = _assemble(solved, self.rows[self.player_views[player]].n_features + 1, len(owned))
        return LinearPlayer(self.player_views[player], owned, weights)

    def _solve_block(
        self, player: int, number: int, labels: IntArray, objective: Objective
    ) -> sparse.csc_array[Any]:
        """Out-of-fold outputs of a block of labels, and the weights on all rows."""
        name = self.player_views[player]
        rows = self.rows[name]
        mean: FloatArray | None = None
        for f, (inside, outside) in enumerate(self._folds()):
            start = self._kept_dual(player, number, f)
            solution = self._best_response(player, rows, objective, inside, start)
            self._keep_dual(player, number, f, solution)
            scores = self.held[name][f].scores(solution.weights)
            self.outputs.logits[player][np.ix_(labels, outside)] = scores.T
            part = solution.dual / (self.n_folds - 1)  # each row has a say in all folds but one
            mean = part if mean is None else mean + part
        # All rows start from the folds, never a fold from all rows: it would know what it must not have seen.
        start = mean if self.n_folds else self._kept_dual(player, number, -1)
        solution = self._best_response(player, rows, objective, np.arange(rows.n), start)
        if not self.n_folds:
            self._keep_dual(player, number, -1, solution)
        kept = solution.weights
        kept[:-1][np.abs(kept[:-1]) < self.settings.prune] = 0
        if not self.n_folds:
            self.outputs.logits[player][labels] = rows.scores(kept).T
        return sparse.csc_array(kept)

    def _best_response(
        self, player: int, rows: Rows, objective: Objective, train_rows: IntArray, start: FloatArray | None
    ) -> Solution:
        solution = best_response(
            rows,
            objective,
            loss=_loss(self.settings.rules),
            train_rows=train_rows,
            tolerance=self.settings.tolerance,
            seed=self.settings.seed,
            start=start,
        )
        if not solution.distance <= self.settings.tolerance:
            self.unsettled.append((player, solution.distance))
        return solution

    def _kept_dual(self, player: int, number: int, fold: int) -> FloatArray | None:
        """Dual variables (T, n, B) of the block's last solve; None where there was none."""
        kept = self.duals.get((player, number, fold))
        return None if kept is None else kept.toarray().reshape(-1, len(self.row_weights), kept.shape[1])

    def _keep_dual(self, player: int, number: int, fold: int, solution: Solution) -> None:
        if self.settings.rounds and len(self.owners) > 1:
            flat = solution.dual.reshape(-1, solution.dual.shape[-1])
            self.duals[player, number, fold] = sparse.csr_array(flat)

    def _objective(self, player: int, labels: IntArray, doubt: FloatArray | None, alone: bool) -> Objective:
        """u_i of a block of labels in the solver's form: M·K·(−u_i), the prior's strength divided out."""
        rules, dtype = self.settings.rules, self.rows[self.player_views[player]].values.dtype
        positive = self.by_label[:, labels].toarray() > 0
        signs = np.where(positive, 1, -1).astype(dtype)
        base = np.broadcast_to((self.settings.regularization * self.row_weights)[:, None], signs.shape)
        scale = self.rarity[labels] * (len(self.counts) / self.owners[player].sum())
        rate: float | FloatArray = rules.rarity_reward
        if doubt is not None and rules.curiosity == "success":
            rate = rate + rules.disagreement_reward * doubt[:, labels]
        own = base * scale * rate * np.where(positive, 1.0, rules.negative_share)
        if alone or (rules.own_share == 1 and rules.curiosity == "success"):
            return Objective(signs, (own + base).astype(dtype))
        own, base = own + rules.own_share * base, (1 - rules.own_share) * base
        team = Objective(signs, own.astype(dtype), base.astype(dtype))
        if rules.curiosity == "divergence":
            team = replace(team, divergence=self._divergence(player, labels))
        return self._with_team(team, player, labels)

    def _with_team(self, objective: Objective, player: int, labels: IntArray) -> Objective:
        """Add how the shared payoff sees this player's score."""
        assert objective.team_weight is not None
        dtype = objective.signs.dtype
        weights, logits = self.fusion.weights[:, labels], self.outputs.logits[:, labels]
        if self.settings.rules.space == "logit":
            others = np.delete(weights, player, 0), np.delete(logits, player, 0)
            offset = np.einsum("jk,jkn->nk", *others) + self.fusion.bias[labels]
            return replace(objective, offset=offset.astype(dtype), scale=weights[player])
        # Expectation step: the player's share in the team's probability of what happened. The lower bound
        # Σ r log p_i that it leaves touches R at the present outputs, so a better bound is a better R.
        says = expit(logits.transpose(0, 2, 1) * objective.signs) * weights[:, None, :]
        share = says[player] / np.maximum(says.sum(0), 1e-30)
        own = objective.own_weight + share * objective.team_weight
        return replace(objective, own_weight=own.astype(dtype), team_weight=None)

    def _divergence(self, player: int, labels: IntArray) -> Divergence:
        """JS_c as this player moves it, paid once a label: without the owner's factor K/|L_i|."""
        owned = self.owners[:, labels]
        p = np.where(owned[:, :, None], expit(self.outputs.logits[:, labels].astype(np.float64)), 0)
        count = owned.sum(0)
        others = (p.sum(0) - p[player]) / np.maximum(count - 1, 1)[:, None]
        rate = self.settings.regularization * self.settings.rules.disagreement_reward * self.rarity[labels]
        weight = self.row_weights[:, None] * np.where(count > 1, rate, 0.0)
        return Divergence(others.T, count.astype(np.float64), weight)

    def _doubt(self, player: int) -> torch.Tensor:
        """d_i (n, K) between the player and the others, both calibrated: margins are no logits yet."""
        team, logits = self._team(), self._logits()
        if len(self.owners) == 1:  # nobody to disagree with; saves two calibrations
            return torch.zeros_like(logits[player])
        others = game.fuse_others(
            logits, team.weights, team.owners, player, team.bias, self.settings.rules.space
        )
        own, rest = (_calibrated(one, self.labels) for one in (logits[player], others))
        return game.disagreement(own, rest, team.owners.sum(0))

    def _team(self) -> game.Team:
        return game.Team(
            torch.from_numpy(self.fusion.weights).float(),
            torch.from_numpy(self.owners),
            torch.from_numpy(self.rarity).float(),
            torch.from_numpy(self.fusion.bias).float(),
        )

    def _logits(self) -> torch.Tensor:
        """s, out-of-fold, shape (N, n, K)."""
        return torch.from_numpy(self.outputs.logits).transpose(1, 2)

    def _refresh_fusion(self) -> None:
        if len(self.player_views) == 1:
            self.fusion = Fusion(np.ones((1, len(self.counts))), np.zeros(len(self.counts)))
            return
        self.fusion = fit_fusion(
            self.outputs,
            self.owners,
            1 + self.settings.rules.rarity_reward * self.rarity,
            loss=_loss(self.settings.rules),
            space=self.settings.rules.space,
            pull=self.settings.fusion_pull,
            n_jobs=self.settings.n_jobs,
            seed=self.settings.seed,
        )

    def fused(self) -> FloatArray:
        """s̄ on the training instances, shape (n, K)."""
        logits = np.ascontiguousarray(self.outputs.logits.transpose(0, 2, 1))
        return fused_logits(logits, self.fusion, self.owners, self.settings.rules.space)

    def record(self, number: int) -> _State:
        """Note the state of play after a round."""
        with ThreadPoolExecutor(self.settings.n_jobs) as pool:
            doubts = torch.stack(list(pool.map(self._doubt, range(len(self.owners)))))
        fused = _calibrated(torch.from_numpy(self.fused()), self.labels)
        weights = None if self.given_weights is None else torch.from_numpy(self.given_weights).float()
        summary = summarise(
            self._logits(),
            doubts,
            fused,
            self.by_label,
            self._team(),
            self.settings.rules,
            self.counts,
            weights,
        )
        seconds = time.perf_counter() - self.started
        self.history.append({"round": number, "seconds": seconds, **summary})
        return _State(summary["potential"], list(self.players), self.outputs.logits.copy(), self.fusion)

    def restore(self, state: _State) -> None:
        """Go back to an earlier round."""
        self.players, self.fusion = state.players, state.fusion
        self.outputs = replace(self.outputs, logits=state.logits)

    def finish(self) -> Training:
        """The team as it stands."""
        if self.unsettled:
            players, distances = zip(*self.unsettled)
            names = [repr(player_name(self.player_views[i], self.kinds[i])) for i in sorted(set(players))]
            warn_of_unsettled(f"player {', '.join(names)}", distances, self.settings.tolerance)
        team = TrainedTeam(tuple(self.players), self.fusion, self.settings.rules.space, tuple(self.history))
        return Training(team, self.outputs, self.fused())

    def _tick(self, player: int) -> None:
        self.done += 1
        if self.on_progress is not None:
            name = player_name(self.player_views[player], self.kinds[player])
            self.on_progress(f"player {name}", self.done, self.total)


# A move notes the player's outputs and returns it; the last argument says that all play alone, as in round 0.
_MOVES: dict[PlayerKind, Callable[[_Game, int, bool], Player]] = {
    "linear": _Game._solve,
    "neighbours": _Game._remember,
    "neural": _Game._learn,
}


def _loss(rules: game.Rules) -> Loss:
    if rules.payoff == "soft_macro_f1":
        raise ValueError(
            "linear players need a concave payoff; choose payoff='log_likelihood' or 'squared_hinge'"
        )
    return rules.payoff


def _assemble(
    solved: list[tuple[IntArray, sparse.csc_array[Any]]], n_rows: int, n_labels: int
) -> sparse.csc_array[Any]:
    """Blocks of columns, in their labels' places; labels that nobody solved have no weights.

    Copied straight there: stacking the blocks and choosing columns took 5 % of a fit.
    """
    sizes = np.zeros(n_labels + 1, np.int64)
    for labels, block in solved:
        sizes[labels + 1] = np.diff(block.indptr)
    indptr = np.cumsum(sizes)
    features = np.empty(indptr[-1], np.int32)
    values = np.empty(indptr[-1], solved[0][1].dtype if solved else np.float32)
    for labels, block in solved:
        for column, label in enumerate(labels):
            to, of = slice(*indptr[label : label + 2]), slice(*block.indptr[column : column + 2])
            features[to], values[to] = block.indices[of], block.data[of]
    return sparse.csc_array((values, features, indptr), shape=(n_rows, n_labels))


def _calibrated(logits: torch.Tensor, labels: sparse.csr_array[Any]) -> torch.Tensor:
    """Logits (n, K) on the scale of log-odds."""
    platt = PlattCalibration().fit(logits.numpy(), labels)
    slopes, intercepts = torch.from_numpy(platt.slopes_), torch.from_numpy(platt.intercepts_)
    return logits * slopes.to(logits.dtype) + intercepts.to(logits.dtype)
