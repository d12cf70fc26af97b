"""Players of the game: a view of the instances in, logits of the owned labels out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel.solver import LABELS_PER_BLOCK, FloatArray
from evenhand.multilabel.storage import FolderError, array_entry, entry, sparse_entry, sparse_state
from evenhand.multilabel.views import Block


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
        n_features = self.weights.shape[0] - 1
        if block.shape[1] != n_features:
            raise ValueError(
                f"view {self.view!r} has {block.shape[1]} features, but the model was trained on {n_features}"
            )
        scores = np.zeros((block.shape[0], self.weights.shape[1]), self.weights.dtype)
        for labels in label_blocks(np.flatnonzero(self.owned)):
            # A block of labels at a time: all weights at once would be a dense (D, K) array.
            dense = self.weights[:, labels].toarray()
            scores[:, labels] = block @ dense[:-1] + dense[-1]
        return scores

    def get_state(self) -> dict[str, Any]:
        """What `from_state` needs."""
        return {"view": self.view, "owned": self.owned, "weights": sparse_state(self.weights)}

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
