"""Training a label tree from the root down: the instances of each node, and the weights of its children."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from scipy import sparse

from evenhand.multilabel.extreme.label_tree import LabelTree
from evenhand.multilabel.extreme.levels import Block, Level, descend
from evenhand.multilabel.solver import LABELS_PER_BLOCK, Objective, Rows, best_response

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating[Any]]

ROWS_PER_SEARCH = 4096  # instances that a thread takes down the tree at a time


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


def train_tree(
    features: sparse.csr_array[Any],
    label_matrix: sparse.csr_array[Any],
    tree: LabelTree,
    rewards: FloatArray,
    settings: TreeSettings,
    *,
    n_jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Level]:
    """One-vs-rest among the children of each node, each solved to its optimum, level by level.

    Parameters
    ----------
    features : csr_array of float32, shape (n, D)
        With sorted indices.
    label_matrix : csr_array, shape (n, L)
    tree : LabelTree
    rewards : ndarray, shape (L,)
        What being right on a positive of label c weighs, 1 + αρ_c with the rarity ρ_c. Above the last level
        an instance weighs as much as the best rewarded of its labels below the node [D].
    settings : TreeSettings
    n_jobs : int, optional
        Threads. The result does not depend on it.
    on_progress : callable, optional
        Called with the number of nodes solved and of all.

    Returns
    -------
    list of Level

    Notes
    -----
    The children of a node are judged on the instances with a label below it (teacher-forced negatives) and,
    with ``matcher_beam``, on those that the levels trained before lead there (matcher-aware negatives), as in
    PECOS (Yu et al. 2022). Children of the root are judged on all instances.

    Examples
    --------
    >>> from evenhand.multilabel.datasets import make_long_tail
    >>> from evenhand.multilabel.extreme.label_tree import build_label_tree
    >>> data = make_long_tail(300, 60, 200, seed=0)
    >>> X, Y = data.X, data.Y
    >>> levels = train_tree(X, Y, build_label_tree(X, Y, leaf_size=16), np.ones(60), TreeSettings())
    >>> [len(level.bias) for level in levels]
    [4, 60]
    """
    levels: list[Level] = []
    total, done = sum(len(children) - 1 for children in tree.children), 0
    reached: sparse.csc_array[Any] | None = None
    for at, children in enumerate(tree.children):
        targets = _targets(label_matrix, tree, at, rewards)
        jobs = (
            delayed(_solve_node)(features, targets, children, node, reached, settings)
            for node in range(len(children) - 1)
        )
        blocks = []
        for block in Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(jobs):
            blocks.append(block)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        levels.append(Level.of(children, blocks))
        if settings.matcher_beam and at + 1 < len(tree.children):
            reached = _reached(levels, features, settings.matcher_beam, n_jobs)
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
    found = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(descend)(levels, features[start : start + ROWS_PER_SEARCH], beam=beam, last=last)
        for start in range(0, max(n, 1), ROWS_PER_SEARCH)
    )
    nodes, scores = zip(*found, strict=True)
    return np.concatenate(nodes), np.concatenate(scores)


def _targets(
    label_matrix: sparse.csr_array[Any], tree: LabelTree, level: int, rewards: FloatArray
) -> sparse.csc_array[Any]:
    """Which instances have a label below each node, and the greatest reward of these labels."""
    n, n_nodes = label_matrix.shape[0], tree.sizes[level]
    rows = np.repeat(np.arange(n), np.diff(label_matrix.indptr))
    nodes = tree.nodes_of_labels(level)[label_matrix.indices]
    values = rewards[label_matrix.indices].astype(np.float32)
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


def _solve_node(
    features: sparse.csr_array[Any],
    targets: sparse.csc_array[Any],
    children: IntArray,
    node: int,
    reached: sparse.csc_array[Any] | None,
    settings: TreeSettings,
) -> Block:
    """The weights of a node's children, on the features of the instances that they are judged on."""
    first, last = int(children[node]), int(children[node + 1])
    span = slice(targets.indptr[first], targets.indptr[last])
    positives, rewards = targets.indices[span], targets.data[span]
    child = np.repeat(np.arange(last - first), np.diff(targets.indptr[first : last + 1]))
    judged = _judged(positives, len(children) == 2, node, reached, features.shape[0])
    rows, used = _compact(features[judged])
    place = np.searchsorted(judged, positives)
    weights = []
    for start in range(0, last - first, LABELS_PER_BLOCK):
        stop = min(start + LABELS_PER_BLOCK, last - first)
        mine = (child >= start) & (child < stop)
        at = place[mine], child[mine] - start
        signs = np.full((len(judged), stop - start), -1, dtype=np.float32)
        cost = np.full_like(signs, settings.C)
        signs[at] = 1
        cost[at] = settings.C * rewards[mine]
        solution = best_response(
            rows,
            Objective(signs, cost),
            loss="squared_hinge",
            train_rows=np.arange(len(judged)),
            tolerance=settings.tolerance,
            seed=settings.seed,
        )
        weights.append(solution.weights)
    return Block.of(used, np.hstack(weights), settings.prune)


def _judged(
    positives: npt.NDArray[Any], is_root: bool, node: int, reached: sparse.csc_array[Any] | None, n: int
) -> IntArray:
    """The instances that a node's children are judged on, rising."""
    if is_root:
        return np.arange(n)
    if reached is None:
        return np.unique(positives).astype(np.int64)
    led_here = reached.indices[reached.indptr[node] : reached.indptr[node + 1]]
    return np.union1d(positives, led_here).astype(np.int64)


def _compact(part: sparse.csr_array[Any]) -> tuple[Rows, npt.NDArray[np.int32]]:
    """These instances on their own features only, and which features these are."""
    used, places = np.unique(part.indices, return_inverse=True)
    shape = (part.shape[0], len(used))
    return Rows.of(sparse.csr_array((part.data, places.astype(np.int32), part.indptr), shape=shape)), used
