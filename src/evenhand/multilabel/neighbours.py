"""Players that remember: a label is as likely as it is among the nearest training instances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.preprocessing import normalize

from evenhand.multilabel.solver import FloatArray
from evenhand.multilabel.storage import FolderError, array_entry, entry, sparse_entry, sparse_state
from evenhand.multilabel.views import Block

_BLOCK_BYTES = 1 << 26  # of similarities at a time, however many instances are remembered


@dataclass(frozen=True)
class NeighbourRule:
    """How a `NeighbourPlayer` counts.

    Parameters
    ----------
    n_neighbors : int
        k.
    sharpness : float
        γ ≥ 0: a neighbour's vote is its cosine similarity to this power; 0 gives all the same.
    prior : float
        τ > 0: as many votes as the label's share of all instances has.
    """

    n_neighbors: int = 50
    sharpness: float = 4.0
    prior: float = 0.1


@dataclass(frozen=True)
class NeighbourPlayer:
    """s_{i,c} = logit of (Σ_j a_j y_{j,c} + τ π_c) / (Σ_j a_j + τ) over the k nearest training instances j.

    a_j = w_j max(0, cos(φ_i(x), φ_i(x_j)))^γ, w_j the weight of the instance; of equally near instances the
    first ones count. π_c is the label's share of the training instances, (n_c + ½) / (M + 1).

    Parameters
    ----------
    view : str
        The name of the view φ_i.
    owned : ndarray of bool, shape (K,)
        L_i, the labels that it speaks about.
    memory : csr_array or ndarray of float32 or float64, shape (M, D)
        The training instances, rows of length 1 or 0.
    labels : csr_array of float32, shape (M, K)
        Their labels among those owned, as ones.
    row_weights : ndarray of float64, shape (M,)
        w ≥ 0.
    shares : ndarray of float64, shape (K,)
        π in (0, 1); 0 for labels of which it says nothing.
    rule : NeighbourRule

    Notes
    -----
    [D] A weighted vote of nearest neighbours, with a prior as in ML-kNN (Zhang and Zhou 2007), here by
    frequency alone. Such a player has no weights, so there is no best response to the payoff: its move is the
    same in every round. It takes part in fusion, disagreement and potential.

    Time grows with n M D, memory with M D; the n × M similarities are never held at once.
    """

    view: str
    owned: npt.NDArray[np.bool_]
    memory: Block
    labels: sparse.csr_array[Any]
    row_weights: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    rule: NeighbourRule

    kind: ClassVar[Literal["neighbours"]] = "neighbours"
    answers: ClassVar[bool] = False

    @classmethod
    def of(
        cls,
        view: str,
        block: Block,
        labels: sparse.csr_array[Any],
        row_weights: npt.NDArray[np.float64],
        owned: npt.NDArray[np.bool_],
        spoken: npt.NDArray[np.bool_],
        rule: NeighbourRule,
    ) -> Self:
        """A player that remembers these instances.

        Parameters
        ----------
        view : str
        block : csr_array or ndarray, shape (M, D)
        labels : csr_array, shape (M, K)
        row_weights : ndarray, shape (M,)
        owned, spoken : ndarray of bool, shape (K,)
            L_i, and the labels of which it is to say something.
        rule : NeighbourRule

        Returns
        -------
        NeighbourPlayer
        """
        kept = sparse.csr_array(labels.astype(np.float32) @ sparse.diags_array(spoken.astype(np.float32)))
        kept.eliminate_zeros()
        counts = row_weights @ kept
        shares = np.where(spoken, (counts + 0.5) / (row_weights.sum() + 1), 0.0)
        return cls(view, owned, _at_length_1(block), kept, row_weights, shares, rule)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.memory.shape[1])

    @property
    def n_stored(self) -> int:
        """How many values it keeps of the training instances."""
        return int(self.memory.size if isinstance(self.memory, np.ndarray) else self.memory.nnz)

    def logits(self, block: Block) -> FloatArray:
        """Its scores of all labels.

        Parameters
        ----------
        block : csr_array or ndarray, shape (n, D)
            Its view of the instances.

        Returns
        -------
        ndarray, shape (n, K)
            0 where it says nothing of the label.

        Raises
        ------
        ValueError
            If the number of features is another than in training.
        """
        if block.shape[1] != self.n_features:
            raise ValueError(
                f"view {self.view!r} has {block.shape[1]} features, but the model was trained on"
                f" {self.n_features}"
            )
        scores = np.zeros((block.shape[0], len(self.owned)), self.memory.dtype)
        spoken = np.flatnonzero(self.shares)
        labels, prior = self.labels[:, spoken], self.rule.prior * self.shares[spoken]
        for rows in self._some_rows(block.shape[0]):
            votes = self._votes(_at_length_1(block[rows]))
            total = votes.sum(axis=1)[:, None] + self.rule.prior
            for_it = (votes @ labels).toarray() + prior
            # Rounding must not leave less than nothing to the other side.
            against = np.maximum(total - for_it, self.rule.prior - prior)
            scores[rows, spoken] = np.log(for_it) - np.log(against)
        return scores

    def _some_rows(self, n: int) -> Iterator[slice]:
        step = max(1, _BLOCK_BYTES // (self.memory.dtype.itemsize * self.memory.shape[0]))
        return (slice(start, min(start + step, n)) for start in range(0, n, step))

    def _votes(self, rows: Block) -> sparse.csr_array[Any]:
        """a_j of the nearest training instances, shape (rows, M)."""
        product: Any = rows @ self.memory.T
        similarity: FloatArray = product if isinstance(product, np.ndarray) else product.toarray()
        k = min(self.rule.n_neighbors, similarity.shape[1])
        near = _nearest(similarity, k)
        said = np.maximum(np.take_along_axis(similarity, near, axis=1), 0).astype(np.float64)
        said = said**self.rule.sharpness * self.row_weights[near]
        starts = np.arange(0, near.size + 1, k)
        return sparse.csr_array((said.ravel(), near.ravel(), starts), shape=similarity.shape)

    def get_state(self) -> dict[str, Any]:
        """What `from_state` needs."""
        memory = self.memory
        return {
            "kind": self.kind,
            "view": self.view,
            "owned": self.owned,
            "memory": memory if isinstance(memory, np.ndarray) else sparse_state(memory),
            "labels": sparse_state(self.labels),
            "row_weights": self.row_weights,
            "shares": self.shares,
            "rule": asdict(self.rule),
        }

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """A player equal to the one whose state this is.

        Parameters
        ----------
        state : dict
            As `get_state` returns it, read from a file.

        Returns
        -------
        NeighbourPlayer

        Raises
        ------
        FolderError
            If a field is missing or damaged, or the parts do not fit together.
        """
        view, owned = entry(state, "view", str), array_entry(state, "owned", ["bool"], (None,))
        memory: Block
        if isinstance(entry(state, "memory", dict, np.ndarray), dict):
            memory = sparse_entry(state, "memory", sparse.csr_array)
        else:
            memory = array_entry(state, "memory", ["float32", "float64"], (None, None))
        labels = sparse_entry(state, "labels", sparse.csr_array)
        row_weights = array_entry(state, "row_weights", ["float64"], (memory.shape[0],))
        shares = array_entry(state, "shares", ["float64"], owned.shape)
        if labels.shape != (memory.shape[0], len(owned)) or not memory.shape[0]:
            raise FolderError(
                f"the labels that the player of view {view!r} remembers do not fit its instances"
            )
        if (row_weights < 0).any() or (shares < 0).any() or (shares >= 1).any() or shares[~owned].any():
            raise FolderError(f"weights or shares of the player of view {view!r} are out of range")
        return cls(view, owned, memory, labels, row_weights, shares, _rule_from(entry(state, "rule", dict)))


def _rule_from(state: dict[str, Any]) -> NeighbourRule:
    rule = NeighbourRule(
        entry(state, "n_neighbors", int), entry(state, "sharpness", float), entry(state, "prior", float)
    )
    if rule.n_neighbors < 1 or rule.sharpness < 0 or rule.prior <= 0:
        raise FolderError(f"the rule of a player is {rule}; the file is damaged")
    return rule


def _at_length_1(block: Block) -> Block:
    """Rows of Euclidean length 1; a row of zeros stays one."""
    rows = normalize(block)
    return np.ascontiguousarray(rows) if isinstance(rows, np.ndarray) else sparse.csr_array(rows)


def _nearest(similarity: FloatArray, k: int) -> npt.NDArray[np.int64]:
    """Columns of the k largest values of each row, in rising order; of equal ones the first, shape (n, k)."""
    least = np.partition(similarity, -k, axis=1)[:, -k, None]
    chosen, equal = similarity > least, similarity == least
    room = k - chosen.sum(axis=1)
    tied = np.flatnonzero(equal.sum(axis=1) > room)
    equal[tied] &= np.cumsum(equal[tied], axis=1, dtype=np.int32) <= room[tied, None]
    return np.nonzero(chosen | equal)[1].reshape(-1, k)
