"""The weights of one level of a label tree, stored so that a beam reads only what it reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import sparse

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float32]

MOST_CHILDREN = 1 << 16  # of a node: a weight's child is a uint16


@dataclass(frozen=True)
class Block:
    """The weights of the children of one node.

    Parameters
    ----------
    bias : ndarray of float32, shape (B,)
    features : ndarray of int32, shape (R,)
        The features that any child uses, rising.
    row_ends : ndarray of int64, shape (R,)
        Where the weights of each feature end in ``child`` and ``value``.
    child : ndarray of uint16, shape (nnz,)
        Counted from the node's first child.
    value : ndarray of float32, shape (nnz,)
    """

    bias: FloatArray
    features: npt.NDArray[np.int32]
    row_ends: npt.NDArray[np.int64]
    child: npt.NDArray[np.uint16]
    value: FloatArray

    @classmethod
    def of(cls, features: IntArray, weights: npt.NDArray[Any], prune: float) -> Block:
        """The weights (R + 1, B) of these features, without those of a size of `prune` or less.

        The last row is the bias, which stays.
        """
        kept = sparse.csr_array(np.where(np.abs(weights[:-1]) > prune, weights[:-1], 0))
        used = np.flatnonzero(np.diff(kept.indptr))
        return cls(
            weights[-1].astype(np.float32),
            features[used].astype(np.int32),
            kept.indptr[used + 1].astype(np.int64),
            kept.indices.astype(np.uint16),
            kept.data.astype(np.float32),
        )


@dataclass(frozen=True)
class Level:
    """All blocks of a level, one after the other.

    Parameters
    ----------
    children : ndarray of int64, shape (P + 1,)
        The children of node p are ``children[p]`` to ``children[p + 1] - 1``.
    bias : ndarray of float32, shape (number of children,)
    feature_ptr : ndarray of int64, shape (P + 1,)
        Where the block of node p lies in `features`.
    features : ndarray of int32, shape (R,)
        Rising within a block.
    row_ptr : ndarray of int64, shape (R + 1,)
        Where the weights of a feature of a block lie in `child` and `value`.
    child : ndarray of uint16, shape (nnz,)
    value : ndarray of float32, shape (nnz,)
    """

    ARRAYS: ClassVar[Mapping[str, str]] = {
        "children": "int64",
        "bias": "float32",
        "feature_ptr": "int64",
        "features": "int32",
        "row_ptr": "int64",
        "child": "uint16",
        "value": "float32",
    }

    children: npt.NDArray[np.int64]
    bias: FloatArray
    feature_ptr: npt.NDArray[np.int64]
    features: npt.NDArray[np.int32]
    row_ptr: npt.NDArray[np.int64]
    child: npt.NDArray[np.uint16]
    value: FloatArray

    @classmethod
    def of(cls, children: npt.NDArray[np.int64], blocks: Iterable[Block]) -> Level:
        """Join the blocks of all nodes."""
        parts = list(blocks)
        starts = np.cumsum([0, *(len(part.value) for part in parts)])
        return cls(
            children,
            np.concatenate([part.bias for part in parts]),
            np.cumsum([0, *(len(part.features) for part in parts)]).astype(np.int64),
            np.concatenate([part.features for part in parts]),
            np.concatenate(
                [[0], *(part.row_ends + start for part, start in zip(parts, starts, strict=False))]
            ).astype(np.int64),
            np.concatenate([part.child for part in parts]),
            np.concatenate([part.value for part in parts]),
        )

    @property
    def parts(self) -> tuple[npt.NDArray[Any], ...]:
        """What the compiled loop reads."""
        return tuple(getattr(self, name) for name in self.ARRAYS)


def descend(
    levels: Iterable[Level], features: sparse.csr_array[Any], *, beam: int, last: int
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The best nodes of the last of these levels for each instance, found from the root with a beam.

    Parameters
    ----------
    levels : iterable of Level
        From the root down.
    features : csr_array of float32, shape (n, D)
        With sorted indices.
    beam : int
        Nodes kept at each level but the last.
    last : int
        Nodes kept at the last level.

    Returns
    -------
    nodes : ndarray of int64, shape (n, last)
        Best first; -1 where there are fewer.
    scores : ndarray of float32, shape (n, last)
        The log-likelihood of the way from the root, −Σ max(0, 1 − s)² over its nodes.
    """
    known = list(levels)
    n = features.shape[0]
    nodes, scores = np.zeros((n, 1), np.int64), np.zeros((n, 1), np.float32)
    for at, level in enumerate(known):
        width = last if at == len(known) - 1 else beam
        next_nodes, next_scores = np.full((n, width), -1, np.int64), np.zeros((n, width), np.float32)
        widest = int(np.diff(level.children).max())
        csr = (features.indptr, features.indices, features.data)
        _step(csr, level.parts, (nodes, scores), (next_nodes, next_scores), widest)
        nodes, scores = next_nodes, next_scores
    return nodes, scores


@njit(nogil=True, cache=True)
def _step(csr, level, beam, next_beam, widest):  # type: ignore[no-untyped-def]
    """One level down for each instance; a node of the next level is a child of one of the beam's."""
    indptr, indices, data = csr
    children, bias, feature_ptr, features, row_ptr, child, value = level
    nodes, scores = beam
    next_nodes, next_scores = next_beam
    width = next_nodes.shape[1]
    margin = np.empty(widest, np.float32)
    for i in range(nodes.shape[0]):
        best, best_scores = next_nodes[i], next_scores[i]
        for place in range(nodes.shape[1]):
            node = nodes[i, place]
            if node < 0:
                break
            first, count = children[node], children[node + 1] - children[node]
            for b in range(count):
                margin[b] = bias[first + b]
            low, high = feature_ptr[node], feature_ptr[node + 1]
            for q in range(indptr[i], indptr[i + 1]):
                low = _find(features, low, high, indices[q])
                if low == high:
                    break
                if features[low] == indices[q]:
                    for r in range(row_ptr[low], row_ptr[low + 1]):
                        margin[child[r]] += data[q] * value[r]
            for b in range(count):
                short = max(np.float32(0), np.float32(1) - margin[b])
                total = scores[i, place] - short * short
                if best[width - 1] < 0 or total > best_scores[width - 1]:
                    _insert(best, best_scores, first + b, total)


@njit(nogil=True, cache=True)
def _find(features, low, high, wanted):  # type: ignore[no-untyped-def]
    """The first place in features[low:high] that is not below `wanted`."""
    while low < high:
        middle = (low + high) // 2
        if features[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, cache=True)
def _insert(best, best_scores, node, score):  # type: ignore[no-untyped-def]
    """Into a list sorted by falling score, in place of its last."""
    at = best.size - 1
    while at > 0 and (best[at - 1] < 0 or score > best_scores[at - 1]):
        best[at], best_scores[at] = best[at - 1], best_scores[at - 1]
        at -= 1
    best[at], best_scores[at] = node, score
