"""The reward for disagreement where each player names a few labels an instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from evenhand.multilabel._kernels import stored_in
from evenhand.multilabel.game import disagreement
from evenhand.multilabel.scores import hits

_LEAST = 1e-3  # the probability of a label that a player does not name


def doubts(
    probabilities: Sequence[sparse.csr_array[Any]],
    positives: sparse.csr_array[Any],
    owners: npt.NDArray[np.bool_],
) -> list[npt.NDArray[np.float32]]:
    """d_{i,c} of `game.disagreement` at the positives, from what each player says of unseen instances.

    Parameters
    ----------
    probabilities : sequence of csr_array, shape (n, L)
        Of each player, for the labels that it names.
    positives : csr_array, shape (n, L)
    owners : ndarray of bool, shape (N, L)

    Returns
    -------
    list of ndarray of float32, shape (number of positives,)
        For each player, in the order of ``positives.data``; 0 where a label has one owner.

    Examples
    --------
    >>> one, two = sparse.csr_array([[0.9, 0.9]]), sparse.csr_array([[0.9, 0.0]])
    >>> doubts([one, two], sparse.csr_array([[1, 1]]), np.ones((2, 2), bool))[0].round(2).tolist()
    [0.0, 1.0]
    """
    labels = positives.indices
    said = np.stack([_at(found, positives) for found in probabilities])
    owned = owners[:, labels]
    count = owned.sum(axis=0)
    total = np.where(owned, said, 0).sum(axis=0)
    found = []
    for own, mine in zip(said, owned):
        others = (total - np.where(mine, own, 0)) / np.maximum(count - mine, 1)
        d = disagreement(_logit(own), _logit(others), torch.from_numpy(count)).numpy()
        found.append(np.where(mine, d, 0).astype(np.float32))
    return found


def _at(scores: sparse.csr_array[Any], positives: sparse.csr_array[Any]) -> npt.NDArray[np.float64]:
    """The scores at the positives, 0 where there is none."""
    scores.sort_indices()
    said = np.zeros(positives.nnz)
    named = stored_in(positives.indptr, positives.indices, scores.indptr, scores.indices)
    said[named] = hits(scores, positives).data
    return said


def _logit(p: npt.NDArray[np.float64]) -> torch.Tensor:
    return torch.logit(torch.from_numpy(p), eps=_LEAST)
