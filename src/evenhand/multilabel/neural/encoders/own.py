"""The encoder that is a torch module of the user's own."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evenhand.multilabel.neural.encoders.base import Encoder, Tensors, checked
from evenhand.multilabel.neural.inputs import Column, as_pixels
from evenhand.multilabel.options import check_whole


@dataclass(frozen=True, eq=False)
class OwnEncoder:
    """Recipe: a torch module of one's own, for dense matrices or images.

    Parameters
    ----------
    module : nn.Module
        Takes rows of a dense matrix, (n, D), or images, (n, 3, H, W) in [0, 1], and gives (n, dim). Each
        training starts from a copy of it.
    dim : int
        Number of features that it gives.
    size : int, optional
        Height and width that images are scaled to; needed where they differ.

    Notes
    -----
    A saved model holds the weights and no code: `load_model` must be given the module again. A module
    that draws random numbers from another generator than torch's is not resumed to the bit.

    Examples
    --------
    >>> recipe = OwnEncoder(nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), dim=5, size=4)
    >>> column = Column("images", np.zeros((2, 6, 6, 3), np.uint8))
    >>> encoder = recipe.build(column)
    >>> encoder(*encoder.tensors(column.rows)).shape
    torch.Size([2, 5])
    """

    module: nn.Module
    dim: int
    size: int | None = None

    def build(self, column: Column) -> Encoder:
        """See `Recipe`."""
        check_whole("dim", self.dim, 1)
        if self.size is not None:
            check_whole("size", self.size, 1)
        encoder = checked(ModuleEncoder(copy.deepcopy(self.module), self.dim, self.size), column)
        encoder.eval()
        kinds = (p.dtype for p in encoder.parameters() if p.dtype.is_floating_point)
        dtype = next(kinds, torch.get_default_dtype())
        tensors = encoder.tensors(column.take(np.zeros(1, np.int64)))
        with torch.no_grad():  # lazy layers get their shapes, and a wrong dim is told at once
            found = encoder(*(t.to(dtype) if t.is_floating_point() else t for t in tensors))
        if tuple(found.shape) != (1, self.dim):
            raise ValueError(
                f"the module of OwnEncoder gives {tuple(found.shape)} for one instance, not (1, {self.dim});"
                " set dim to the number of features it gives"
            )
        return encoder.train()


class ModuleEncoder(Encoder):
    """What `OwnEncoder` builds."""

    kinds = ("dense", "images")

    def __init__(self, module: nn.Module, dim: int, size: int | None) -> None:
        super().__init__()
        self.module = module
        self.dim, self.size = dim, size

    def tensors(self, rows: Any) -> Tensors:
        """Rows (n, D), or pixels (n, 3, H, W)."""
        if isinstance(rows, np.ndarray) and rows.ndim == 2:
            return (torch.from_numpy(np.ascontiguousarray(rows)),)
        size = None if self.size is None else (self.size, self.size)
        return (torch.stack([as_pixels(image, size) for image in rows]),)

    def forward(self, rows: Tensor) -> Tensor:
        """Features, shape (n, dim)."""
        features: Tensor = self.module(rows)
        return features

    def architecture(self) -> dict[str, Any]:
        """See `Encoder`; the module itself is the user's to keep."""
        return {"dim": self.dim, "size": self.size}
