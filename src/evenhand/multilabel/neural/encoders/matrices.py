"""Encoders of matrices: a sparse bag of features, and fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.multilabel.neural.encoders.base import Encoder, Tensors, checked
from evenhand.multilabel.neural.inputs import Column
from evenhand.multilabel.options import check_number, check_whole


@dataclass(frozen=True)
class SparseBag:
    """Recipe: the sum of the features' embeddings, each times its value, then layers.

    Parameters
    ----------
    dim : int
        Length of an embedding.
    hidden : tuple of int
        Widths of the layers that follow, each with ReLU and dropout before it.
    dropout : float
        In [0, 1).

    Examples
    --------
    >>> from scipy import sparse
    >>> column = Column("sparse", sparse.csr_array(np.eye(3, dtype=np.float32)))
    >>> encoder = SparseBag(dim=4).build(column)
    >>> encoder(*encoder.tensors(column.take(np.array([0, 2])))).shape
    torch.Size([2, 4])
    """

    dim: int = 256
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0

    def build(self, column: Column) -> Encoder:
        """See `Recipe`."""
        _check_layers((self.dim, *self.hidden), self.dropout)
        return checked(BagEncoder(column.width, self.dim, self.hidden, self.dropout), column)


class BagEncoder(Encoder):
    """What `SparseBag` builds."""

    kinds = ("sparse",)

    def __init__(self, n_features: int, dim: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.options = {"n_features": n_features, "dim": dim, "hidden": list(hidden), "dropout": dropout}
        self.bag = nn.EmbeddingBag(n_features, dim, mode="sum")
        nn.init.normal_(self.bag.weight, std=dim**-0.5)  # rows of length 1 get features of about length 1
        self.bias = nn.Parameter(torch.zeros(dim))
        self.layers = _layers((dim, *hidden), dropout, starts_linear=False)
        self.dim = (dim, *hidden)[-1]

    def tensors(self, rows: Any) -> Tensors:
        """Column numbers, where each row starts among them, and values."""
        parts = (rows.indices.astype(np.int64), rows.indptr[:-1].astype(np.int64), rows.data)
        return tuple(torch.from_numpy(part) for part in parts)

    def forward(self, columns: Tensor, starts: Tensor, values: Tensor) -> Tensor:
        """Features, shape (n, dim)."""
        bags = self.bag(columns, starts, per_sample_weights=values.to(self.bag.weight.dtype))
        features: Tensor = self.layers(bags + self.bias)
        return features

    def architecture(self) -> dict[str, Any]:
        """See `Encoder`."""
        return self.options


@dataclass(frozen=True)
class DenseLayers:
    """Recipe: fully connected layers on a dense matrix.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the layers; each but the first has dropout before it. ReLU follows each.
    dropout : float
        In [0, 1).

    Examples
    --------
    >>> column = Column("dense", np.ones((5, 3), np.float32))
    >>> encoder = DenseLayers((8, 4)).build(column)
    >>> encoder(*encoder.tensors(column.take(np.arange(2)))).shape
    torch.Size([2, 4])
    """

    hidden: tuple[int, ...] = (256,)
    dropout: float = 0.0

    def build(self, column: Column) -> Encoder:
        """See `Recipe`."""
        _check_layers(self.hidden, self.dropout)
        return checked(DenseEncoder(column.width, self.hidden, self.dropout), column)


class DenseEncoder(Encoder):
    """What `DenseLayers` builds."""

    kinds = ("dense",)

    def __init__(self, n_features: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.options = {"n_features": n_features, "hidden": list(hidden), "dropout": dropout}
        self.layers = _layers((n_features, *hidden), dropout, starts_linear=True)
        self.dim = hidden[-1]

    def tensors(self, rows: Any) -> Tensors:
        """The rows."""
        return (torch.from_numpy(np.ascontiguousarray(rows)),)

    def forward(self, rows: Tensor) -> Tensor:
        """Features, shape (n, dim)."""
        features: Tensor = self.layers(rows)
        return features

    def architecture(self) -> dict[str, Any]:
        """See `Encoder`."""
        return self.options


def _layers(widths: Sequence[int], dropout: float, *, starts_linear: bool) -> nn.Sequential:
    parts: list[nn.Module] = []
    for number, (wide, next_wide) in enumerate(pairwise(widths)):
        if number or not starts_linear:
            parts += [nn.ReLU(), nn.Dropout(dropout)] if not starts_linear else [nn.Dropout(dropout)]
        parts.append(nn.Linear(wide, next_wide))
        if starts_linear:
            parts.append(nn.ReLU())
    return nn.Sequential(*parts)


def _check_layers(widths: Sequence[int], dropout: float) -> None:
    if not widths:
        raise ValueError("hidden is empty; give the width of at least one layer")
    for width in widths:
        check_whole("the width of an encoder's layer", width, 1)
    check_number("dropout", dropout, above_zero=False)
    if dropout >= 1:
        raise ValueError(f"dropout must lie in [0, 1), not {dropout!r}")
