"""The weights of one level of a label tree, stored so that a beam reads only what it reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel._kernels import descend_level

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
    distance : float
        How far the weights were from their optimum when they were solved; no part of a model.
    """

    ARRAYS: ClassVar[Mapping[str, str]] = {
        "bias": "float32",
        "features": "int32",
        "row_ends": "int64",
        "child": "uint16",
        "value": "float32",
    }

    bias: FloatArray
    features: npt.NDArray[np.int32]
    row_ends: npt.NDArray[np.int64]
    child: npt.NDArray[np.uint16]
    value: FloatArray
    distance: float = field(default=0.0, kw_only=True)

    @classmethod
    def of(cls, features: IntArray, weights: npt.NDArray[Any], prune: float, distance: float = 0.0) -> Block:
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
            distance=distance,
        )

    def fits(self, n_children: int) -> bool:
        """Whether the parts fit each other and a node of so many children, so that no loop leaves them.

        Parameters
        ----------
        n_children : int

        Returns
        -------
        bool
        """
        ends = np.append(0, self.row_ends)
        return bool(
            len(self.bias) == n_children
            and len(self.row_ends) == len(self.features)
            and ends[-1] == len(self.child) == len(self.value)
            and ends.min() == 0  # else differences could wrap round
            and (np.diff(ends) >= 0).all()
            and (np.diff(self.features) > 0).all()
            and self.child.max(initial=0) < n_children
        )

    def dense(self, features: IntArray) -> FloatArray:
        """The weights (R + 1, B) of these features, the bias last; 0 for those that no child uses.

        Parameters
        ----------
        features : ndarray of int32, shape (R,)
            Rising.

        Returns
        -------
        ndarray of float32
        """
        indptr = np.append(0, self.row_ends)
        kept = sparse.csr_array(
            (self.value, self.child.astype(np.int32), indptr), shape=(len(self.features), len(self.bias))
        )
        weights = np.zeros((len(features) + 1, len(self.bias)), np.float32)
        _, places, rows = np.intersect1d(features, self.features, assume_unique=True, return_indices=True)
        weights[places] = kept[rows].toarray()
        weights[-1] = self.bias
        return weights


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

    def block(self, node: int) -> Block:
        """The weights of the children of one node.

        Parameters
        ----------
        node : int

        Returns
        -------
        Block
        """
        first, last = self.feature_ptr[node], self.feature_ptr[node + 1]
        start, stop = self.row_ptr[first], self.row_ptr[last]
        return Block(
            np.asarray(self.bias[self.children[node] : self.children[node + 1]]),
            np.asarray(self.features[first:last]),
            np.asarray(self.row_ptr[first + 1 : last + 1] - start),
            np.asarray(self.child[start:stop]),
            np.asarray(self.value[start:stop]),
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
        width = last if at == len(known) - 1 else min(beam, len(level.bias))
        next_nodes, next_scores = np.full((n, width), -1, np.int64), np.zeros((n, width), np.float32)
        widest = int(np.diff(level.children).max())
        csr = (features.indptr, features.indices, features.data)
        descend_level(csr, level.parts, (nodes, scores), (next_nodes, next_scores), widest)
        nodes, scores = next_nodes, next_scores
    return nodes, scores
