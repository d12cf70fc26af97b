"""Trees for all players of the extreme game: grown, cross-fitted, or moved on by further instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from evenhand.multilabel.extreme.checkpoint import BlockStore
from evenhand.multilabel.extreme.label_tree import build_label_tree
from evenhand.multilabel.extreme.node import TreeSettings
from evenhand.multilabel.extreme.players import NAMED, TreePlayer
from evenhand.multilabel.extreme.training import train_tree
from evenhand.multilabel.progress import progress_bar
from evenhand.multilabel.resuming import ResumableFolder
from evenhand.multilabel.views import Block, Views

_FOLDS = 2  # of the cross-fitting


@dataclass(frozen=True)
class Forest:
    """How trees are grown.

    Parameters
    ----------
    settings : TreeSettings
        The seed of the first player; the others count on from it.
    branching, leaf_size : int
        See `build_label_tree`.
    folder : ResumableFolder, optional
        Keeps each solved node.
    n_jobs : int, optional
    verbose : bool
    """

    settings: TreeSettings
    branching: int
    leaf_size: int
    folder: ResumableFolder | None
    n_jobs: int | None
    verbose: bool

    def grown(
        self,
        views: Views,
        names: Sequence[str],
        payoffs: Sequence[sparse.csr_array[Any]],
        *,
        first: int = 0,
        what: str = "player",
    ) -> list[TreePlayer]:
        """A tree for each player.

        Parameters
        ----------
        views : Views
        names : sequence of str
            The view of each player.
        payoffs : sequence of csr_array, shape (n, L)
            What the positives of each player weigh.
        first : int
            The number of the first player.
        what : str
            For the progress bar.

        Returns
        -------
        list of TreePlayer
        """
        players = []
        for number, (name, paid) in enumerate(zip(names, payoffs), start=first):
            features = as_rows(views.blocks[name])
            settings = replace(self.settings, seed=self.settings.seed + number)
            tree = build_label_tree(
                features,
                paid,
                branching=self.branching,
                leaf_size=self.leaf_size,
                seed=settings.seed,
                n_jobs=self.n_jobs,
            )
            store = None if self.folder is None else BlockStore(self.folder, number)
            with progress_bar(self.verbose, "nodes") as report:
                title = f"{what} {number + 1} of {first + len(names)}"
                told = None if report is None else lambda done, total: report(title, done, total)  # noqa: B023
                levels = train_tree(
                    features,
                    paid,
                    tree,
                    settings,
                    store=store,
                    n_jobs=self.n_jobs,
                    on_progress=told,
                    whose=_whose(number, name),
                )
            players.append(TreePlayer(name, tree, levels))
        return players

    def cross_fitted(
        self, views: Views, names: Sequence[str], payoffs: Sequence[sparse.csr_array[Any]], *, beam: int
    ) -> list[sparse.csr_array[Any]]:
        """What each player says of instances that it was not trained on.

        Parameters
        ----------
        views, names, payoffs
            As for `grown`.
        beam : int

        Returns
        -------
        list of csr_array, shape (n, L)
        """
        rng = np.random.default_rng(self.settings.seed)
        fold = rng.permutation(len(views)) % _FOLDS
        said: list[list[sparse.csr_array[Any]]] = []
        for held_out in range(_FOLDS):
            rows = np.flatnonzero(fold != held_out)
            players = self.grown(
                views[rows],
                names,
                [part[rows] for part in payoffs],
                first=(held_out + 1) * len(names),
                what=f"fold {held_out + 1}, tree",
            )
            unseen = views[np.flatnonzero(fold == held_out)]
            said.append(
                [
                    player.probabilities(
                        as_rows(unseen.blocks[player.view]), beam=beam, n_labels=NAMED, n_jobs=self.n_jobs
                    )
                    for player in players
                ]
            )
        order = np.argsort(np.concatenate([np.flatnonzero(fold == at) for at in range(_FOLDS)]))
        return [sparse.csr_array(sparse.vstack(parts, format="csr"))[order] for parts in zip(*said)]

    def moved(
        self, views: Views, players: Sequence[TreePlayer], payoffs: Sequence[sparse.csr_array[Any]]
    ) -> list[TreePlayer]:
        """The players after further instances: the same trees, the L2 prior at the weights so far.

        Parameters
        ----------
        views : Views
            Of the further instances.
        players : sequence of TreePlayer
        payoffs : sequence of csr_array, shape (n, L)

        Returns
        -------
        list of TreePlayer
        """
        return [
            replace(
                player,
                levels=train_tree(
                    as_rows(views.blocks[player.view]),
                    paid,
                    player.tree,
                    replace(self.settings, seed=self.settings.seed + number),
                    prior=player.levels,
                    n_jobs=self.n_jobs,
                    whose=_whose(number, player.view),
                ),
            )
            for number, (player, paid) in enumerate(zip(players, payoffs))
        ]


def _whose(number: int, view: str) -> str:
    return f"tree {number + 1}, of view {view!r}"


def as_rows(block: Block) -> sparse.csr_array[Any]:
    """Features as the trees read them: CSR of float32."""
    rows: sparse.csr_array[Any] = sparse.csr_array(block)
    return rows.astype(np.float32, copy=False)
