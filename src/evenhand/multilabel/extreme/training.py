"""Training a label tree from the root down: the instances of each node, and the weights of its children."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from scipy import sparse

from evenhand.multilabel.extreme.checkpoint import BlockStore
from evenhand.multilabel.extreme.label_tree import LabelTree
from evenhand.multilabel.extreme.levels import Block, Level, descend
from evenhand.multilabel.extreme.node import NodeProblem, TreeSettings
from evenhand.multilabel.extreme.workers import solve_all
from evenhand.multilabel.solver import warn_of_unsettled

IntArray = npt.NDArray[np.int64]

ROWS_PER_SEARCH = 4096  # instances that a thread takes down the tree at a time


def train_tree(
    features: sparse.csr_array[Any],
    payoffs: sparse.csr_array[Any],
    tree: LabelTree,
    settings: TreeSettings,
    *,
    prior: Sequence[Level] | None = None,
    store: BlockStore | None = None,
    n_jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    whose: str = "the tree",
) -> list[Level]:
    """One-vs-rest among the children of each node, each solved to its optimum, level by level.

    Parameters
    ----------
    features : csr_array of float32, shape (n, D)
        With sorted indices.
    payoffs : csr_array, shape (n, L)
        For each positive what being right on it weighs, 1 + ρ_c (α + β d). Above the last level an instance
        weighs as much as the best paid of its labels below the node [D].
    tree : LabelTree
    settings : TreeSettings
    prior : list of Level, optional
        Of an earlier training: where the L2 prior pulls the weights to. A node without an instance stays.
    store : BlockStore, optional
        Keeps every solved node, and gives those that an earlier run solved.
    n_jobs : int, optional
        Threads. The result does not depend on it.
    on_progress : callable, optional
        Called with the number of nodes solved and of all.
    whose : str
        Whose tree it is, for the warning.

    Returns
    -------
    list of Level

    Warns
    -----
    ConvergenceWarning
        If nodes gave up before their optimum. Those that the store gave are not told of.

    Notes
    -----
    The children of a node are judged on the instances with a label below it (teacher-forced negatives) and,
    with ``matcher_beam``, on those that the levels trained before lead there (matcher-aware negatives), as in
    PECOS (Yu et al. 2022). Children of the root are judged on all instances.

    A node is a problem by itself, so `joblib.parallel_config` may have them solved by processes or by the
    hosts of a cluster; a worker is sent only the instances of the node.

    Examples
    --------
    >>> from evenhand.multilabel.datasets import make_long_tail
    >>> from evenhand.multilabel.extreme.label_tree import build_label_tree
    >>> data = make_long_tail(300, 60, 200, seed=0)
    >>> levels = train_tree(data.X, data.Y, build_label_tree(data.X, data.Y, leaf_size=16), TreeSettings())
    >>> [len(level.bias) for level in levels]
    [4, 60]
    """
    levels: list[Level] = []
    distances: list[float] = []  # of the nodes that gave up before their optimum
    total, done = sum(len(children) - 1 for children in tree.children), 0
    reached: sparse.csc_array[Any] | None = None
    for at, children in enumerate(tree.children):
        level = _LevelProblems(
            features,
            _of_nodes(payoffs, tree, at),
            children,
            reached,
            None if prior is None else prior[at],
            settings,
        )
        blocks: list[Block | None] = [None] * (len(children) - 1)
        for node, block in _blocks(level, at, store, n_jobs):
            blocks[node] = block
            if not block.distance <= settings.tolerance:
                distances.append(block.distance)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        levels.append(Level.of(children, [block for block in blocks if block is not None]))
        if settings.matcher_beam and at + 1 < len(tree.children):
            reached = _reached(levels, features, settings.matcher_beam, n_jobs)
    if distances:
        warn_of_unsettled(whose, distances, settings.tolerance)
    return levels


def search(
    levels: Sequence[Level],
    features: sparse.csr_array[Any],
    *,
    beam: int,
    last: int,
    n_jobs: int | None = None,
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """`descend` for many instances, over all threads.

    Parameters
    ----------
    levels, features, beam, last
        As for `descend`.
    n_jobs : int, optional
        Threads. The result does not depend on it.

    Returns
    -------
    nodes, scores : ndarray, shape (n, last)
    """
    n = features.shape[0]
    found = Parallel(
        n_jobs=n_jobs, require="sharedmem"
    )(  # processes would be sent the whole model
        delayed(descend)(levels, features[start : start + ROWS_PER_SEARCH], beam=beam, last=last)
        for start in range(0, max(n, 1), ROWS_PER_SEARCH)
    )
    nodes, scores = zip(*found, strict=True)
    return np.concatenate(nodes), np.concatenate(scores)


@dataclass(frozen=True)
class _LevelProblems:
    """What the problems of a level's nodes are cut from."""

    features: sparse.csr_array[Any]
    payoffs: sparse.csc_array[Any]
    children: IntArray
    reached: sparse.csc_array[Any] | None
    prior: Level | None
    settings: TreeSettings

    def judged(self, node: int) -> IntArray:
        """The instances that a node's children are judged on, rising."""
        n = self.features.shape[0]
        if len(self.children) == 2:  # the root
            return np.arange(n)
        found = np.zeros(n, np.bool_)
        first, last = self.payoffs.indptr[self.children[[node, node + 1]]]
        found[self.payoffs.indices[first:last]] = True
        if self.reached is not None:
            found[self.reached.indices[self.reached.indptr[node] : self.reached.indptr[node + 1]]] = True
        return np.flatnonzero(found)

    def problem(self, node: int) -> NodeProblem:
        mine = slice(self.children[node], self.children[node + 1])
        prior = None if self.prior is None else self.prior.block(node)
        return NodeProblem.of(self.features, self.judged(node), self.payoffs[:, mine], self.settings, prior)


def _blocks(
    level: _LevelProblems, at: int, store: BlockStore | None, n_jobs: int | None
) -> Iterator[tuple[int, Block]]:
    """The solution of every node of a level, some of them from the store."""
    waiting = []
    for node in range(len(level.children) - 1):
        n_children = int(level.children[node + 1] - level.children[node])
        known = None if store is None else store.read(at, node, n_children)
        if known is None and level.prior is not None and not len(level.judged(node)):
            known = level.prior.block(node)
        if known is None:
            waiting.append(node)
        else:
            yield node, known
    for node, block in solve_all(waiting, level.problem, n_jobs=n_jobs):
        if store is not None:
            store.write(at, node, block)
        yield node, block


def _of_nodes(payoffs: sparse.csr_array[Any], tree: LabelTree, level: int) -> sparse.csc_array[Any]:
    """Which instances have a label below each node, and the greatest payoff of these labels."""
    n, n_nodes = payoffs.shape[0], tree.sizes[level]
    rows = np.repeat(np.arange(n), np.diff(payoffs.indptr))
    nodes = tree.nodes_of_labels(level)[payoffs.indices]
    values = payoffs.data.astype(np.float32)
    order = np.lexsort((-values, rows, nodes))
    order = order[nodes[order] >= 0]  # labels without a positive are not in the tree
    rows, nodes, values = rows[order], nodes[order], values[order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (rows[1:] != rows[:-1]) | (nodes[1:] != nodes[:-1])
    ends = np.cumsum(np.bincount(nodes[first], minlength=n_nodes))
    indptr = np.concatenate([[0], ends])
    return sparse.csc_array((values[first], rows[first], indptr), shape=(n, n_nodes))


def _reached(
    levels: Sequence[Level], features: sparse.csr_array[Any], beam: int, n_jobs: int | None
) -> sparse.csc_array[Any]:
    """The nodes of the last of these levels that the beam keeps for each instance, as ones."""
    nodes, _ = search(levels, features, beam=beam, last=beam, n_jobs=n_jobs)
    rows, places = np.nonzero(nodes >= 0)
    ones = np.ones(len(rows), dtype=np.bool_)
    shape = (features.shape[0], len(levels[-1].bias))
    return sparse.csc_array((ones, (rows, nodes[rows, places])), shape=shape)
