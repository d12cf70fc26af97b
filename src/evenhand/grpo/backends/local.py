"""Completions by transformers, on this machine's GPU or CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from evenhand.grpo.backends import Completion, Decoding
from evenhand.grpo.generations import Prompt


class TransformersBackend:
    """A model in this process.

    Parameters
    ----------
    model : str
        Its folder or name.

    Notes
    -----
    A batch is drawn with its first seed, so the same batches give the same completions.
    """

    def __init__(self, model: str) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype="auto").to(device).eval()

    @torch.no_grad()
    def complete(
        self, prompts: Sequence[Prompt], decoding: Decoding, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion a prompt, as `Backend.complete` says."""
        set_seed(seeds[0] % 2**32)
        texts, chat = as_texts(self._tokenizer, prompts)
        batch = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not chat)
        batch = batch.to(self._model.device)
        found = self._model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            pad_token_id=self._tokenizer.pad_token_id,
            **_options(decoding),
        )
        return [self._completion(row) for row in found[:, batch["input_ids"].shape[1] :].tolist()]

    def _completion(self, row: list[int]) -> Completion:
        ends = self._model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), self._tokenizer.eos_token_id}
        length = next((at + 1 for at, token in enumerate(row) if token in ends), None)
        kept = row if length is None else row[:length]
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        return Completion(text, len(kept), "length" if length is None else "stop")


def as_texts(tokenizer: Any, prompts: Sequence[Prompt]) -> tuple[list[str], bool]:
    """Prompts as texts, and whether they are messages: then the template has written the special tokens."""
    texts = [
        prompt
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    return texts, not isinstance(prompts[0], str)


def _options(decoding: Decoding) -> dict[str, Any]:
    """For `generate`; a model's own top_k, top_p and repetition_penalty are switched off."""
    options: dict[str, Any] = {
        "max_new_tokens": decoding.max_new_tokens,
        "do_sample": decoding.temperature > 0,
        "repetition_penalty": 1.0,
    }
    if decoding.temperature > 0:
        options |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    return options
