"""Encoders of images: timm's models, which are imported only where one is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from evenhand.multilabel.neural.encoders.base import Encoder, Tensors, checked, needed
from evenhand.multilabel.neural.inputs import Column, as_pixels
from evenhand.multilabel.options import check_whole


@dataclass(frozen=True)
class ImageModel:
    """Recipe: any image model of timm, without its classifier.

    Parameters
    ----------
    name : str
        As `timm.list_models` gives it.
    weights : str, optional
        A .safetensors file of the model, with or without its classifier. None: random weights.
    size : int, optional
        Height and width that images are scaled to, whatever their sides' proportion. None: the model's own.
    """

    name: str
    weights: str | None = None
    size: int | None = None

    def build(self, column: Column) -> Encoder:
        """See `Recipe`."""
        if self.size is not None:
            check_whole("size", self.size, 1)
        encoder = checked(ImageEncoder(self.name, self.size, weights=self.weights), column)
        encoder.eval()
        try:
            with torch.no_grad():  # what the model cannot read is told before the training
                found = encoder(torch.zeros(1, 3, *encoder.size))
        except (RuntimeError, AssertionError, ValueError) as error:
            height, width = encoder.size
            raise ValueError(
                f"the model {self.name!r} does not read colour images of {height} x {width} pixels ({error});"
                " set size to what it reads, or name to another model"
            ) from error
        if tuple(found.shape) != (1, encoder.dim):
            raise ValueError(
                f"the model {self.name!r} gives features of shape {tuple(found.shape)}, not a row of"
                f" {encoder.dim}; set name to another model"
            )
        return encoder.train()


class ImageEncoder(Encoder):
    """What `ImageModel` builds."""

    kinds = ("images",)

    def __init__(self, name: str, size: int | None, weights: str | None = None) -> None:
        super().__init__()
        timm = needed("timm", "images")
        if not isinstance(name, str) or not timm.is_model(name):
            raise ValueError(f"name is {name!r}, but timm knows no such model; timm.list_models() lists them")
        options: dict[str, Any] = {"num_classes": 0, "pretrained": weights is not None}
        if weights is not None:  # timm then takes the classifier off, and fetches nothing
            options["pretrained_cfg_overlay"] = {"file": _weights_file(weights)}
        try:
            self.model = timm.create_model(name, **options)
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"weights: {weights} does not hold those of the model {name!r} ({error})"
            ) from error
        wanted = timm.data.resolve_data_config({}, model=self.model)
        self.size = tuple(wanted["input_size"][1:]) if size is None else (size, size)
        self.options = {"name": name, "size": size}
        self.mean, self.deviation = (torch.tensor(wanted[part])[:, None, None] for part in ("mean", "std"))
        # The last layer but one: some models have a layer after what they call their features.
        self.dim = int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)

    def tensors(self, rows: Any) -> Tensors:
        """Pixels as the model wants them, shape (n, 3, H, W)."""
        pixels = torch.stack([as_pixels(image, self.size) for image in rows])
        return ((pixels - self.mean) / self.deviation,)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, shape (n, dim)."""
        features: Tensor = self.model(pixels)
        return features

    def architecture(self) -> dict[str, Any]:
        """See `Encoder`."""
        return self.options


def _weights_file(weights: str) -> str:
    path = Path(weights)
    if path.suffix != ".safetensors" or not path.is_file():  # other formats may run code when read
        raise ValueError(f"weights must be a .safetensors file that is there, not {weights!r}")
    return str(path)
