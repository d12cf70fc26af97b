"""Completions by vLLM, in this process, on all of its GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from evenhand.grpo.backends import Completion, Decoding
from evenhand.grpo.backends.local import as_texts
from evenhand.grpo.generations import Prompt


class VLLMBackend:
    """A model in vLLM's engine, tensor-parallel over all GPUs that this process sees.

    Parameters
    ----------
    model : str
        Its folder or name.

    Raises
    ------
    ValueError
        If vLLM is not installed.
    """

    def __init__(self, model: str) -> None:
        try:
            from vllm import LLM, SamplingParams
        except ImportError as error:
            raise ValueError(
                f"--backend vllm needs vLLM ({error}); install vllm, or take --backend transformers"
            ) from error
        self._sampling = SamplingParams
        self._engine = LLM(model=model, tensor_parallel_size=max(1, torch.cuda.device_count()))
        self._tokenizer = self._engine.get_tokenizer()

    def complete(
        self, prompts: Sequence[Prompt], decoding: Decoding, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion a prompt, as `Backend.complete` says."""
        texts, chat = as_texts(self._tokenizer, prompts)
        # Ids, not texts: vLLM would put a second start token before what a chat template has written.
        ids = [self._tokenizer(text, add_special_tokens=not chat)["input_ids"] for text in texts]
        settings = [
            self._sampling(
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                max_tokens=decoding.max_new_tokens,
                seed=seed,
            )
            for seed in seeds
        ]
        outputs = self._engine.generate([{"prompt_token_ids": one} for one in ids], settings, use_tqdm=False)
        found = [output.outputs[0] for output in outputs]
        return [Completion(one.text, len(one.token_ids), one.finish_reason or "") for one in found]
