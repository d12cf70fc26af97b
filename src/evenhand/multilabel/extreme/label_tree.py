"""A balanced tree over the labels: which labels are judged beside which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from numba import njit
from scipy import sparse

IntArray = npt.NDArray[np.int64]

_ROUNDS = 20  # of a split in two; most settle in fewer than ten


@dataclass(frozen=True)
class LabelTree:
    """Levels of nodes above the labels; the root is not stored.

    Parameters
    ----------
    children : tuple of ndarray of int64
        ``children[l]``, shape (P_l + 1,): the children of node p of level l are the nodes
        ``children[l][p]`` to ``children[l][p + 1] - 1`` of level l + 1. Level 0 is the root (P_0 = 1).
    labels : ndarray of int64, shape (number of labels in the tree,)
        The label that each node of the last level stands for.
    n_labels : int
        L, also those that are not in the tree.
    """

    children: tuple[IntArray, ...]
    labels: IntArray
    n_labels: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of nodes of each level below the root."""
        return tuple(int(level[-1]) for level in self.children)

    def nodes_of_labels(self, level: int) -> IntArray:
        """The node below which each label stands, one number a label.

        Parameters
        ----------
        level : int
            0: the children of the root.

        Returns
        -------
        ndarray of int64, shape (L,)
            -1 where the label is not in the tree.
        """
        nodes = np.arange(len(self.labels))
        for children in reversed(self.children[level + 1 :]):
            nodes = np.searchsorted(children, nodes, side="right") - 1
        found = np.full(self.n_labels, -1, dtype=np.int64)
        found[self.labels] = nodes
        return found


def build_label_tree(
    features: sparse.csr_array[Any],
    label_matrix: sparse.csr_array[Any],
    *,
    branching: int = 16,
    leaf_size: int = 100,
    seed: int = 0,
    n_jobs: int | None = None,
) -> LabelTree:
    """Cluster the labels that have a positive, so that labels with similar instances stand together.

    Parameters
    ----------
    features : csr_array, shape (n, D)
    label_matrix : csr_array, shape (n, L)
    branching : int
        The most children of a node above the last one; a power of two.
    leaf_size : int
        The most labels below one node.
    seed : int
    n_jobs : int, optional
        Threads. The result does not depend on it.

    Returns
    -------
    LabelTree

    Raises
    ------
    ValueError
        If an option is out of range, or no label has a positive.

    Notes
    -----
    A label is represented by the sum of its positive instances, brought to length 1; clusters are split in
    two halves of equal size by spherical 2-means (Prabhu et al. 2018, Parabel; the levels between are left
    out, as in PECOS). Time and memory grow with the number of values in the positive instances of all labels.

    Examples
    --------
    >>> X = sparse.csr_array(np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]))
    >>> Y = sparse.csr_array(np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    >>> tree = build_label_tree(X, Y, branching=2, leaf_size=2)
    >>> tree.sizes, tree.nodes_of_labels(0)[[0, 1]] == tree.nodes_of_labels(0)[[2, 3]]
    ((2, 4), array([ True,  True]))
    """
    if branching < 2 or branching & (branching - 1):
        raise ValueError(f"branching must be a power of two of at least 2, not {branching}")
    if leaf_size < 2:
        raise ValueError(f"leaf_size must be at least 2, not {leaf_size}")
    by_label = sparse.csr_array(label_matrix.T)
    used = np.flatnonzero(np.diff(by_label.indptr))
    if not len(used):
        raise ValueError("no label has a positive; there is nothing to learn")
    centroids = _centroids(features, by_label[used])
    depth = max(0, int(np.ceil(np.log2(len(used) / leaf_size))))
    parts: list[IntArray] = [np.arange(len(used))]
    with Parallel(n_jobs=n_jobs, require="sharedmem") as parallel:
        for level in range(depth):
            halves = parallel(
                delayed(_halve)(centroids, part, (seed, level, at)) for at, part in enumerate(parts)
            )
            parts = [half for pair in halves for half in pair]
    return LabelTree(
        tuple(_levels([len(part) for part in parts], depth, branching)),
        used[np.concatenate(parts)],
        label_matrix.shape[1],
    )


def _levels(sizes: Sequence[int], depth: int, branching: int) -> list[IntArray]:
    """Children of every kept level: those of each `branching`-fold step, counted from the leaves up."""
    step = branching.bit_length() - 1
    kept = list(range(depth, 0, -step))[::-1]
    levels, above = [], 0
    for at in kept:
        levels.append(np.arange(2**above + 1, dtype=np.int64) * 2 ** (at - above))
        above = at
    levels.append(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    return levels


def _centroids(features: sparse.csr_array[Any], by_label: sparse.csr_array[Any]) -> sparse.csr_array[Any]:
    """The sum of each label's positive instances, of length 1."""
    ones = sparse.csr_array(
        (np.ones(by_label.nnz, features.dtype), by_label.indices, by_label.indptr), by_label.shape
    )
    sums = sparse.csr_array(ones @ features)
    lengths = np.sqrt(np.asarray(sums.multiply(sums).sum(axis=1)).ravel())
    sums.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(sums.indptr)).astype(sums.dtype)
    return sums


def _halve(
    centroids: sparse.csr_array[Any], part: IntArray, seed: tuple[int, ...]
) -> tuple[IntArray, IntArray]:
    """Two halves of the labels of `part`, each in rising order."""
    first, second = np.random.default_rng(seed).choice(len(part), 2, replace=False)
    direction = np.zeros(centroids.shape[1])
    side = np.zeros(len(part), dtype=np.bool_)
    parts = (centroids.indptr, centroids.indices, centroids.data)
    gain = np.empty(len(part))
    _point(*parts, part, np.array([first]), np.array([second]), direction)
    for _ in range(_ROUNDS):
        _project(*parts, part, direction, gain)
        order = np.argsort(-gain, kind="stable")
        before = side.copy()
        side[:] = False
        side[order[: len(part) // 2]] = True
        _clear(*parts, part, direction)
        if (side == before).all():
            break
        _point(*parts, part, np.flatnonzero(side), np.flatnonzero(~side), direction)
    return part[side], part[~side]


@njit(nogil=True, cache=True)
def _point(indptr, indices, data, part, ones, others, direction):  # type: ignore[no-untyped-def]
    """direction = centre of `ones` minus centre of `others`, each of length 1; it is zero before."""
    scales = np.zeros(2)
    for turn, chosen in enumerate((ones, others)):
        _add(indptr, indices, data, part[chosen], 1.0, direction)
        square = 0.0
        for at in part[chosen]:
            for q in range(indptr[at], indptr[at + 1]):
                square += data[q] * direction[indices[q]]
        scales[turn] = 1 / np.sqrt(square) if square > 0 else 0.0
        _clear(indptr, indices, data, part[chosen], direction)
    _add(indptr, indices, data, part[ones], scales[0], direction)
    _add(indptr, indices, data, part[others], -scales[1], direction)


@njit(nogil=True, cache=True)
def _add(indptr, indices, data, labels, scale, direction):  # type: ignore[no-untyped-def]
    for at in labels:
        for q in range(indptr[at], indptr[at + 1]):
            direction[indices[q]] += scale * data[q]


@njit(nogil=True, cache=True)
def _project(indptr, indices, data, part, direction, gain):  # type: ignore[no-untyped-def]
    for at in range(len(part)):
        total = 0.0
        for q in range(indptr[part[at]], indptr[part[at] + 1]):
            total += data[q] * direction[indices[q]]
        gain[at] = total


@njit(nogil=True, cache=True)
def _clear(indptr, indices, data, part, direction):  # type: ignore[no-untyped-def]
    """Zero again, only where something stands."""
    for at in part:
        for q in range(indptr[at], indptr[at + 1]):
            direction[indices[q]] = 0.0
