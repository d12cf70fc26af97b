"""Decoders that take a fixed number of labels for each instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel.decoding.label_sets import sets_from_ids
from evenhand.multilabel.decoding.state import State, array_of, as_probabilities, number_of
from evenhand.multilabel.metrics.ranking import as_propensities
from evenhand.multilabel.scores import Scores, as_positive_int, as_scores, rank_labels, row_chunks


@dataclass
class TopK:
    """The k labels with the highest scores; of equal scores the lower label id.

    Parameters
    ----------
    k : int
        Labels an instance gets (fewer only where it has fewer candidates or there are fewer labels).

    Examples
    --------
    >>> TopK(1).decode([[0.1, 0.9], [0.5, 0.5]]).toarray()
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    """

    k: int

    def __post_init__(self) -> None:
        as_positive_int(self.k, "k")

    def decode(self, scores: Any) -> sparse.csr_array[Any]:
        """Take the k best labels of each instance.

        Parameters
        ----------
        scores : ndarray or sparse array, shape (n, L)

        Returns
        -------
        csr_array, shape (n, L)

        Raises
        ------
        ValueError
            If a score is not finite.
        """
        checked = as_scores(scores)
        return sets_from_ids(rank_labels(checked, min(self.k, checked.shape[1])), checked.shape)

    def get_state(self) -> State:
        """What `from_state` needs."""
        return {"kind": type(self).__name__, "k": int(self.k)}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A decoder equal to the one whose state this is."""
        return cls(k=int(number_of(state, "k")))


@dataclass
class PropensityReranking:
    """The k labels with the highest probability times inverse propensity.

    Parameters
    ----------
    propensities : array-like, shape (L,)
        p_c in (0, 1], see `evenhand.multilabel.metrics.propensities`.
    k : int
        Labels an instance gets.

    Notes
    -----
    For true probabilities this ranking maximises the expected PSP@k, at the price of P@k.

    Examples
    --------
    >>> PropensityReranking([0.9, 0.1], k=1).decode([[0.6, 0.2]]).toarray()
    array([[0., 1.]], dtype=float32)
    """

    propensities: npt.ArrayLike
    k: int

    def __post_init__(self) -> None:
        as_positive_int(self.k, "k")
        self.propensities = as_propensities(self.propensities, np.size(self.propensities))

    def decode(self, scores: Any) -> sparse.csr_array[Any]:
        """Take the k best labels of each instance after re-ranking.

        Parameters
        ----------
        scores : ndarray or sparse array, shape (n, L)
            Probabilities.

        Returns
        -------
        csr_array, shape (n, L)

        Raises
        ------
        ValueError
            If a value is no probability, or the number of labels is not that of the propensities.
        """
        probabilities = as_probabilities(scores, n_labels=np.size(self.propensities))
        k = min(self.k, probabilities.shape[1])
        if sparse.issparse(probabilities):
            ids = rank_labels(_weighted(probabilities, self.propensities), k)
        else:
            ids = np.full((probabilities.shape[0], k), -1, dtype=np.int64)
            for rows in row_chunks(probabilities):
                ids[rows] = rank_labels(_weighted(probabilities[rows], self.propensities), k)
        return sets_from_ids(ids, probabilities.shape)

    def get_state(self) -> State:
        """What `from_state` needs."""
        propensities = np.array(self.propensities, dtype=np.float64)
        return {"kind": type(self).__name__, "k": int(self.k), "propensities": propensities}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A decoder equal to the one whose state this is."""
        return cls(propensities=array_of(state, "propensities"), k=int(number_of(state, "k")))


def rerank(probabilities: Any, propensities: npt.ArrayLike) -> Scores:
    """Ranking scores p(c | x) / p_c that favour labels whose positives are often missed.

    Parameters
    ----------
    probabilities : ndarray or sparse array, shape (n, L)
        In [0, 1].
    propensities : array-like, shape (L,)
        p_c in (0, 1], see `evenhand.multilabel.metrics.propensities`.

    Returns
    -------
    ndarray or csr_array, shape (n, L), float64
        In the form of the probabilities; no probabilities any more.

    Raises
    ------
    ValueError
        If a value is no probability or no propensity, or the numbers of labels differ.

    Examples
    --------
    >>> rerank([[0.5, 0.25]], [0.5, 0.125])
    array([[1., 2.]])
    """
    checked = as_probabilities(probabilities)
    return _weighted(checked, as_propensities(propensities, checked.shape[1]))


def _weighted(probabilities: Scores, propensities: npt.ArrayLike) -> Scores:
    inverse = 1 / np.asarray(propensities, dtype=np.float64)
    if sparse.issparse(probabilities):
        data = probabilities.data * inverse[probabilities.indices]
        return sparse.csr_array(
            (data, probabilities.indices, probabilities.indptr), shape=probabilities.shape
        )
    weighted: npt.NDArray[np.float64] = probabilities * inverse
    return weighted
