"""One node of a label tree as a problem by itself: what a worker is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel.extreme.levels import Block
from evenhand.multilabel.solver import LABELS_PER_BLOCK, Objective, Rows, best_response

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TreeSettings:
    """How the weights of a tree are learnt.

    Parameters
    ----------
    C : float
        Strength of the losses against the L2 prior.
    matcher_beam : int
        Nodes of a level that an instance's search brings up as further negatives for the children of these
        nodes; 0: a node is judged only on the instances that have a label below it.
    tolerance : float
        The largest accepted distance ‖w − w*‖₂ of a node's weights to their optimum.
    prune : float
        Weights up to this size are dropped, biases are kept.
    seed : int
        Orders the solver's rows.
    """

    C: float = 0.3
    matcher_beam: int = 0
    tolerance: float = 0.3
    prune: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class NodeProblem:
    """One-vs-rest among the children of a node.

    Parameters
    ----------
    rows : csr_array of float32, shape (m, R)
        The instances that the children are judged on, on the features that they use.
    features : ndarray of int32, shape (R,)
        Which features these are, rising.
    positive : ndarray of int, shape (P,)
        The row of each positive.
    child : ndarray of int, shape (P,)
        Its child, counted from the node's first.
    payoff : ndarray of float32, shape (P,)
        What being right on it weighs.
    n_children : int
    settings : TreeSettings
    prior : Block, optional
        Weights that the L2 prior pulls to, instead of 0.
    """

    rows: sparse.csr_array[Any]
    features: npt.NDArray[np.int32]
    positive: IntArray
    child: IntArray
    payoff: FloatArray
    n_children: int
    settings: TreeSettings
    prior: Block | None = None

    @classmethod
    def of(
        cls,
        features: sparse.csr_array[Any],
        judged: IntArray,
        payoffs: sparse.csc_array[Any],
        settings: TreeSettings,
        prior: Block | None = None,
    ) -> NodeProblem:
        """Cut a node's part out of the training data.

        Parameters
        ----------
        features : csr_array of float32, shape (n, D)
            With sorted indices.
        judged : ndarray of int
            The instances that the children are judged on, rising.
        payoffs : csc_array of float32, shape (n, children)
            The payoff of each positive.
        settings : TreeSettings
        prior : Block, optional

        Returns
        -------
        NodeProblem
        """
        part = features[judged]
        seen = np.zeros(features.shape[1], np.bool_)
        seen[part.indices] = True
        used = np.flatnonzero(seen).astype(np.int32)
        place = np.empty(features.shape[1], np.int32)
        place[used] = np.arange(len(used), dtype=np.int32)
        rows = sparse.csr_array((part.data, place[part.indices], part.indptr), shape=(len(judged), len(used)))
        child = np.repeat(np.arange(payoffs.shape[1]), np.diff(payoffs.indptr))
        positive = np.searchsorted(judged, payoffs.indices)
        return cls(rows, used, positive, child, payoffs.data, payoffs.shape[1], settings, prior)

    def solve(self) -> Block:
        """The optimal weights of the children, a block of them at a time.

        Returns
        -------
        Block
        """
        rows = Rows.of(self.rows)
        spans = [
            (start, min(start + LABELS_PER_BLOCK, self.n_children))
            for start in range(0, self.n_children, LABELS_PER_BLOCK)
        ]
        parts, distances = zip(*(self._solve_block(rows, *span) for span in spans))
        weights, distance = np.hstack(parts), max(distances)
        if self.prior is None:
            return Block.of(self.features, weights, self.settings.prune, distance)
        features = np.union1d(self.features, self.prior.features).astype(np.int32)
        moved = self.prior.dense(features)
        moved[np.append(np.searchsorted(features, self.features), len(features))] += weights
        return Block.of(features, moved, self.settings.prune, distance)

    def _solve_block(self, rows: Rows, start: int, stop: int) -> tuple[FloatArray, float]:
        """(R + 1, stop − start): the weights, or how far they move away from the prior's; and their distance.

        Not the whole solution, whose dual variables are larger than all the rest.
        """
        mine = (self.child >= start) & (self.child < stop)
        at = self.positive[mine], self.child[mine] - start
        signs = np.full((rows.n, stop - start), -1, dtype=np.float32)
        cost = np.full_like(signs, self.settings.C)
        signs[at] = 1
        cost[at] = self.settings.C * self.payoff[mine]
        if self.prior is None:
            objective = Objective(signs, cost)
        else:
            offset = rows.scores(self.prior.dense(self.features)[:, start:stop])
            scale = np.ones(stop - start, np.float32)
            objective = Objective(signs, np.zeros_like(cost), cost, offset, scale)
        solution = best_response(
            rows,
            objective,
            loss="squared_hinge",
            train_rows=np.arange(rows.n),
            tolerance=self.settings.tolerance,
            seed=self.settings.seed,
        )
        return np.asarray(solution.weights, dtype=np.float32), solution.distance
