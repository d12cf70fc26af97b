"""Encoders of texts: those of Hugging Face's transformers, which are imported only where one is built."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from evenhand.multilabel.neural.encoders.base import Encoder, Tensors, checked, needed
from evenhand.multilabel.neural.inputs import Column
from evenhand.multilabel.options import check_whole

_USUAL_LENGTH = 128


@dataclass(frozen=True)
class PretrainedText:
    """Recipe: any text encoder of Hugging Face's transformers, the mean of its last hidden states.

    Parameters
    ----------
    model : str
        A folder, or the name of a model that is in the local cache; nothing is fetched, and no pickle read.
    max_length : int, optional
        Tokens of a text that are read, no more than the model and its tokenizer allow. None: 128, or as many
        as these allow.
    """

    model: str
    max_length: int | None = None

    def build(self, column: Column) -> Encoder:
        """See `Recipe`."""
        if self.max_length is not None:
            check_whole("max_length", self.max_length, 1)
        transformers = needed("transformers", "text")
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.model, local_files_only=True)
            model = transformers.AutoModel.from_pretrained(
                self.model, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"{self.model!r} is no text encoder that is on this machine ({error}); give a folder that"
                " transformers' save_pretrained wrote"
            ) from error
        if not tokenizer.is_fast:
            raise ValueError(f"{self.model!r} has no fast tokenizer (tokenizer.json); choose another model")
        if tokenizer.pad_token is None:
            raise ValueError(f"{self.model!r} has no padding token; set one in its tokenizer's configuration")
        positions = getattr(model.config, "max_position_embeddings", None) or math.inf
        longest = min(positions, tokenizer.model_max_length)
        limit = min(_USUAL_LENGTH, longest) if self.max_length is None else self.max_length
        if limit > longest:
            raise ValueError(f"max_length is {limit}, but {self.model!r} reads no more than {longest}")
        options = {
            "config": json.loads(model.config.to_json_string(use_diff=False)),
            "tokenizer": tokenizer.backend_tokenizer.to_str(),
            "padding": [tokenizer.pad_token_id, tokenizer.pad_token],
            "max_length": limit,
        }
        return checked(TextEncoder(**options, model=model.float()), column)


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
            transformers = needed("transformers", "text")
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
