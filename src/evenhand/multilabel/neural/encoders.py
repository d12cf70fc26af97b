"""Encoders: one view of the instances in, features for the players' heads out.

What a user gives is a recipe (`SparseBag`, `DenseLayers`, `PretrainedText`, `ImageModel`, `OwnEncoder`). What
it builds is an `Encoder`, a torch module that also turns rows of its view into tensors and says, as plain
JSON, how to build it again without the files that it came from. transformers and timm are imported only where
such an encoder is built.
"""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from evenhand.multilabel.neural.inputs import Column, Kind, as_pixels
from evenhand.multilabel.options import check_number, check_whole
from evenhand.multilabel.storage import FolderError, array_entry, entry

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


class Recipe(Protocol):
    """How to build an encoder for a column."""

    def build(self, column: Column) -> Encoder:
        """A new encoder, seeded by torch's global generator.

        Raises
        ------
        ValueError
            If an option is wrong, or the encoder cannot read such a column.
        """


# --- matrices ---------------------------------------------------------------------------------------------


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
        return _checked(BagEncoder(column.width, self.dim, self.hidden, self.dropout), column)


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
        return _checked(DenseEncoder(column.width, self.hidden, self.dropout), column)


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


# --- texts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PretrainedText:
    """Recipe: any text encoder of Hugging Face's transformers, the mean of its last hidden states.

    Parameters
    ----------
    model : str
        A folder, or the name of a model that is in the local cache; nothing is fetched, and no pickle read.
    max_length : int
        Tokens of a text that are read.
    """

    model: str
    max_length: int = 128

    def build(self, column: Column) -> Encoder:
        """See `Recipe`."""
        check_whole("max_length", self.max_length, 1)
        transformers = _needed("transformers", "text")
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.model, local_files_only=True)
            model = transformers.AutoModel.from_pretrained(
                self.model, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.model!r} is no text encoder that is on this machine ({error}); give a folder that"
                " transformers' save_pretrained wrote"
            ) from error
        if not tokenizer.is_fast:
            raise ValueError(f"{self.model!r} has no fast tokenizer (tokenizer.json); choose another model")
        if tokenizer.pad_token is None:
            raise ValueError(f"{self.model!r} has no padding token; set one in its tokenizer's configuration")
        options = {
            "config": json.loads(model.config.to_json_string(use_diff=False)),
            "tokenizer": tokenizer.backend_tokenizer.to_str(),
            "padding": [tokenizer.pad_token_id, tokenizer.pad_token],
            "max_length": self.max_length,
        }
        return _checked(TextEncoder(**options, model=model.float()), column)


class TextEncoder(Encoder):
    """What `PretrainedText` builds."""

    kinds = ("texts",)

    def __init__(
        self,
        config: dict[str, Any],
        tokenizer: str,
        padding: Sequence[Any],
        max_length: int,
        model: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.options = {
            "config": config,
            "tokenizer": tokenizer,
            "padding": list(padding),
            "max_length": max_length,
        }
        if model is None:
            transformers = _needed("transformers", "text")
            options = {name: value for name, value in config.items() if name != "model_type"}
            shape = transformers.AutoConfig.for_model(config["model_type"], **options)
            model = transformers.AutoModel.from_config(shape).float()
        self.model = model
        self.tokenizer = import_module("tokenizers").Tokenizer.from_str(tokenizer)
        self.tokenizer.enable_truncation(max_length)
        self.tokenizer.enable_padding(pad_id=padding[0], pad_token=padding[1])
        self.dim = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def tensors(self, rows: Any) -> Tensors:
        """Token numbers and which of them are no padding, shape (n, tokens)."""
        encoded = self.tokenizer.encode_batch(rows)
        parts = ([one.ids for one in encoded], [one.attention_mask for one in encoded])
        return tuple(torch.tensor(part) for part in parts)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The mean over a text's tokens, shape (n, dim); 0 for a text without any."""
        hidden = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        mean: Tensor = (hidden * weight).sum(1) / weight.sum(1).clamp_min(1)
        return mean

    def architecture(self) -> dict[str, Any]:
        """See `Encoder`."""
        return self.options


# --- images -----------------------------------------------------------------------------------------------


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
        return _checked(ImageEncoder(self.name, self.size, weights=self.weights), column)


class ImageEncoder(Encoder):
    """What `ImageModel` builds."""

    kinds = ("images",)

    def __init__(self, name: str, size: int | None, weights: str | None = None) -> None:
        super().__init__()
        timm = _needed("timm", "images")
        if not timm.is_model(name):
            raise ValueError(f"timm knows no model {name!r}; timm.list_models() lists them")
        options: dict[str, Any] = {"num_classes": 0, "pretrained": weights is not None}
        if weights is not None:  # timm then takes the classifier off, and fetches nothing
            options["pretrained_cfg_overlay"] = {"file": _weights_file(weights)}
        try:
            self.model = timm.create_model(name, **options)
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{weights} does not hold the weights of {name!r} ({error})") from error
        wanted = timm.data.resolve_data_config({}, model=self.model)
        self.size = tuple(wanted["input_size"][1:]) if size is None else (size, size)
        self.options = {"name": name, "size": size}
        self.mean, self.deviation = (torch.tensor(wanted[part])[:, None, None] for part in ("mean", "std"))
        self.dim = int(self.model.num_features)

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


# --- a module of one's own --------------------------------------------------------------------------------


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
        encoder = _checked(ModuleEncoder(copy.deepcopy(self.module), self.dim, self.size), column)
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


# --- recipes and encoders as plain state ------------------------------------------------------------------

_RECIPES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (SparseBag, DenseLayers, PretrainedText, ImageModel)
}
_ENCODERS: dict[str, type[Encoder]] = {
    kind.__name__: kind for kind in (BagEncoder, DenseEncoder, TextEncoder, ImageEncoder)
}

_SIZED = (BagEncoder.__name__, DenseEncoder.__name__, TextEncoder.__name__)  # whose options are any sizes


def default_recipe(column: Column, name: str) -> Recipe:
    """The recipe for a column that none was given for.

    Raises
    ------
    ValueError
        For texts and images: there is no model that all machines have.
    """
    if column.kind == "sparse":
        return SparseBag()
    if column.kind == "dense":
        return DenseLayers()
    wanted = (
        "PretrainedText(FOLDER)" if column.kind == "texts" else "ImageModel(NAME) or OwnEncoder(MODULE, DIM)"
    )
    raise ValueError(f"view {name!r} holds {column.kind}; say what reads it: encoders={{{name!r}: {wanted}}}")


def recipe_state(recipe: Recipe) -> dict[str, Any] | None:
    """A recipe for JSON; None for one that holds a user's module."""
    if type(recipe).__name__ not in _RECIPES:
        return None
    return {"kind": type(recipe).__name__, **asdict(recipe)}  # type: ignore[call-overload]


def recipe_from_state(state: Mapping[str, Any]) -> Recipe:
    """The recipe whose state this is.

    Raises
    ------
    FolderError
        If the kind is unknown or a field is damaged.
    """
    kind = entry(state, "kind", str)
    if kind not in _RECIPES:
        raise FolderError(f"there is no recipe {kind!r}; known are {', '.join(_RECIPES)}")
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in state.items() if name != "kind"}
    try:
        recipe: Recipe = _RECIPES[kind](**fields)
    except TypeError as error:
        raise FolderError(f"the recipe {kind} is damaged: {error}") from error
    return recipe


def encoder_state(encoder: Encoder) -> dict[str, Any]:
    """An encoder's architecture for JSON, without its weights."""
    return {"kind": type(encoder).__name__, "options": encoder.architecture()}


def encoder_from_state(state: Mapping[str, Any], recipe: Recipe | None) -> Encoder:
    """An encoder of the architecture whose state this is, its weights to be loaded.

    Parameters
    ----------
    state : mapping
    recipe : Recipe, optional
        Where the encoder is a user's module: the `OwnEncoder` with it.

    Raises
    ------
    FolderError
        If the kind is unknown, a field is damaged or the user's module is missing.
    """
    kind, options = entry(state, "kind", str), entry(state, "options", dict)
    if kind == ModuleEncoder.__name__:
        if not isinstance(recipe, OwnEncoder) or options != {"dim": recipe.dim, "size": recipe.size}:
            raise FolderError(
                "the model has an encoder of the user's own, which is not saved; give load_model the"
                f" OwnEncoder with the module, and with {options}, in encoders"
            )
        if any(is_lazy(part) for part in recipe.module.parameters()):
            raise FolderError("the module in encoders has lazy layers; give it with their shapes")
        return ModuleEncoder(copy.deepcopy(recipe.module), recipe.dim, recipe.size)
    if kind not in _ENCODERS:
        raise FolderError(f"there is no encoder {kind!r}; known are {', '.join(_ENCODERS)}")
    try:
        return _ENCODERS[kind](**options)
    except Exception as error:  # whatever transformers or timm say of options that are not sound
        raise FolderError(f"the options of the encoder {kind} are damaged: {error}") from error


def check_encoder_weights(state: Any, arrays: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse an encoder whose weights are not there, before memory is taken for them.

    Parameters
    ----------
    state : Any
        As for `encoder_from_state`.
    arrays : mapping of str to ndarray
        The weights that were saved.
    prefix : str
        Of their names.

    Raises
    ------
    FolderError
    """
    if entry(state, "kind", str) not in _SIZED:
        return
    with torch.device("meta"):
        outline = encoder_from_state(state, None)
    for name, weight in outline.state_dict().items():
        dtype = str(weight.dtype).removeprefix("torch.")
        array_entry(arrays, prefix + name, [dtype], tuple(weight.shape))


def _checked(encoder: Encoder, column: Column) -> Encoder:
    if column.kind not in encoder.kinds:
        raise ValueError(
            f"{type(encoder).__name__} reads {' or '.join(encoder.kinds)}, but the view holds {column.kind}"
        )
    return encoder


def _needed(package: str, extra: str) -> Any:
    try:
        return import_module(package)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch, for instance
        raise ValueError(
            f"{package} cannot be imported ({error}); install evenhand[{extra}] as constraints.txt pins it"
        ) from error
