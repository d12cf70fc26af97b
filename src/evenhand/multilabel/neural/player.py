"""A player of the linear game's team that is a small neural network on its one view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import nn

from evenhand.multilabel.neural.checkpoint import load_arrays, module_arrays
from evenhand.multilabel.neural.encoders import (
    BagEncoder,
    DenseEncoder,
    Encoder,
    check_encoder_weights,
    encoder_from_state,
    encoder_state,
)
from evenhand.multilabel.storage import FolderError, array_entry, entry
from evenhand.multilabel.views import Block

_ROWS = 1024  # that are read at a time


@dataclass(frozen=True, eq=False)
class NeuralPlayer:
    """s_{i,c} = w_{i,c}·φ(x) + b_{i,c}, φ an encoder of its view, all of it learned (`alone.learn_alone`).

    Parameters
    ----------
    view : str
        The name of the view φ_i.
    owned : ndarray of bool, shape (K,)
        L_i, the labels that it speaks about.
    encoder : Encoder
        `BagEncoder` of a sparse view, `DenseEncoder` of a dense one.
    head : nn.Linear
        Its rows are the labels that it owns.

    Notes
    -----
    [D] It plays with a team of its own, once: in its weights the payoff is not concave, so that no best
    response can be found. It takes part in fusion, disagreement and potential.
    """

    view: str
    owned: npt.NDArray[np.bool_]
    encoder: Encoder
    head: nn.Linear

    kind: ClassVar[Literal["neural"]] = "neural"
    answers: ClassVar[bool] = False

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.encoder.architecture()["n_features"])

    @property
    def n_stored(self) -> int:
        """Weights of encoder and head."""
        return sum(p.numel() for part in (self.encoder, self.head) for p in part.parameters())

    def logits(self, block: Block) -> npt.NDArray[np.float32]:
        """Its scores of all labels.

        Parameters
        ----------
        block : csr_array or ndarray, shape (n, D)
            Its view of the instances.

        Returns
        -------
        ndarray of float32, shape (n, K)
            0 where it does not own the label.

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
        scores = np.zeros((block.shape[0], len(self.owned)), np.float32)
        for start in range(0, block.shape[0], _ROWS):
            rows = slice(start, start + _ROWS)
            tensors = self.encoder.tensors(self._as_read(block[rows]))
            with torch.no_grad():
                scores[rows, self.owned] = self.head(self.encoder(*tensors)).numpy()
        return scores

    def _as_read(self, rows: Block) -> Block:
        """In float32, and sparse or dense as the encoder wants it, however the view is given this time."""
        block: Block
        if "sparse" in self.encoder.kinds:
            block = sparse.csr_array(rows) if isinstance(rows, np.ndarray) else rows
        else:
            block = rows if isinstance(rows, np.ndarray) else rows.toarray()
        return block.astype(np.float32)

    def get_state(self) -> dict[str, Any]:
        """What `from_state` needs."""
        return {
            "kind": self.kind,
            "view": self.view,
            "owned": self.owned,
            "encoder": encoder_state(self.encoder),
            "encoder_weights": module_arrays(self.encoder),
            "head_weights": module_arrays(self.head),
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
        NeuralPlayer

        Raises
        ------
        FolderError
            If a field is missing or damaged, or the parts do not fit together.
        """
        view, owned = entry(state, "view", str), array_entry(state, "owned", ["bool"], (None,))
        if not owned.any():
            raise FolderError(f"the player of view {view!r} owns no label; the file is damaged")
        weights = entry(state, "encoder_weights", dict)
        encoder = _encoder_from(entry(state, "encoder", dict), weights, view)
        load_arrays(encoder, weights)
        head = nn.Linear(encoder.dim, int(owned.sum()))
        load_arrays(head, entry(state, "head_weights", dict))
        return cls(view, owned, encoder.eval(), head.eval())


def _encoder_from(state: dict[str, Any], weights: dict[str, Any], view: str) -> Encoder:
    known = (BagEncoder.__name__, DenseEncoder.__name__)
    if entry(state, "kind", str) not in known:
        raise FolderError(
            f"the player of view {view!r} has an encoder {state['kind']!r}, not one of {', '.join(known)};"
            " the file is damaged"
        )
    check_encoder_weights(state, weights)
    return encoder_from_state(state, None)
