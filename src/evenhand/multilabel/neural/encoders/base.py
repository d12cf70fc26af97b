"""What an encoder is, what a recipe is, and what all of them check."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor, nn

from evenhand.multilabel.neural.inputs import Column, Kind

Tensors = tuple[Tensor, ...]


class Encoder(nn.Module, ABC):
    """A module from the tensors of some rows to their features.

    Attributes
    ----------
    dim : int
        Number of features.
    """

    kinds: ClassVar[tuple[Kind, ...]]
    dim: int

    @abstractmethod
    def tensors(self, rows: Any) -> Tensors:
        """What `forward` takes, on the CPU, from rows as `Column.take` returns them."""

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """What its class needs to build the same module with other weights, for JSON."""


_Kind = TypeVar("_Kind", bound=Encoder)


class Recipe(Protocol):
    """How to build an encoder for a column."""

    def build(self, column: Column) -> Encoder:
        """A new encoder, seeded by torch's global generator.

        Raises
        ------
        ValueError
            If an option is wrong, or the encoder cannot read such a column.
        """


def checked(encoder: _Kind, column: Column) -> _Kind:
    """The encoder, if it reads what the column holds.

    Raises
    ------
    ValueError
    """
    if column.kind not in encoder.kinds:
        raise ValueError(
            f"{type(encoder).__name__} reads {' or '.join(encoder.kinds)}, but the view holds {column.kind}"
        )
    return encoder


def needed(package: str, extra: str) -> Any:
    """A package that only some encoders need.

    Parameters
    ----------
    package : str
    extra : str
        Of evenhand, that installs it.

    Returns
    -------
    module

    Raises
    ------
    ValueError
        If it cannot be imported.
    """
    try:
        return import_module(package)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch, for instance
        raise ValueError(
            f"{package} cannot be imported ({error}); install evenhand[{extra}] as constraints.txt pins it"
        ) from error
