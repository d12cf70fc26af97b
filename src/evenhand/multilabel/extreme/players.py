"""A player of the extreme game: a label tree and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from evenhand.multilabel.extreme.label_tree import LabelTree
from evenhand.multilabel.extreme.levels import Level
from evenhand.multilabel.extreme.training import search

NAMED = 50  # labels that each player names for an instance, so that players' lists overlap


@dataclass(frozen=True)
class TreePlayer:
    """A player of the extreme game: a label tree and the weights of its levels.

    Parameters
    ----------
    view : str
        The features that it reads.
    tree : LabelTree
        Over the labels that it owns.
    levels : list of Level
    """

    view: str
    tree: LabelTree
    levels: list[Level]

    def probabilities(
        self, features: sparse.csr_array[Any], *, beam: int, n_labels: int, n_jobs: int | None
    ) -> sparse.csr_array[Any]:
        """The likelihood of the way to each of the best labels, e to the power of −Σ max(0, 1 − s)².

        Parameters
        ----------
        features : csr_array of float32, shape (n, D)
        beam : int
            Nodes kept at each level of the tree.
        n_labels : int
            Labels named for each instance.
        n_jobs : int, optional

        Returns
        -------
        csr_array of float32, shape (n, L)
        """
        nodes, scores = search(self.levels, features, beam=beam, last=n_labels, n_jobs=n_jobs)
        rows, places = np.nonzero(nodes >= 0)
        labels = self.tree.labels[nodes[rows, places]]
        shape = (features.shape[0], self.tree.n_labels)
        return sparse.csr_array((np.exp(scores[rows, places]), (rows, labels)), shape=shape)
