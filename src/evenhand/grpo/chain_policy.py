"""A small language model that speaks chain sums: tokenizer, training from scratch, samples."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evenhand.grpo.chain_sums import ChainSums, PolicySettings

CHARACTERS = "0123456789+=,"
_PAD, _BEGIN, _END = "<pad>", "<s>", "</s>"
_IGNORED = -100  # transformers' mark of a token that is not learned


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; a prompt begins with `<s>`; an unknown character is an error.

    Examples
    --------
    >>> tokenizer = make_tokenizer()
    >>> tokenizer("3+8=")["input_ids"]
    [1, 6, 13, 11, 14]
    >>> tokenizer.decode([6, 13, 11, 2], skip_special_tokens=True)
    '3+8'
    """
    vocabulary = {token: i for i, token in enumerate((_PAD, _BEGIN, _END, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<none>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A", special_tokens=[(_BEGIN, vocabulary[_BEGIN])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_PAD, bos_token=_BEGIN, eos_token=_END, padding_side="left"
    )


def make_model(settings: PolicySettings) -> LlamaForCausalLM:
    """A Llama with random weights.

    Parameters
    ----------
    settings : PolicySettings

    Returns
    -------
    LlamaForCausalLM
    """
    torch.manual_seed(settings.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(CHARACTERS) + 3,
            hidden_size=settings.hidden,
            intermediate_size=settings.intermediate,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=256,  # more than a chain of twelve terms takes in its long form
            # The usual 0.02 suits wide models; at this width it costs many steps to get away from.
            initializer_range=0.06,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def train_policy(
    family: ChainSums,
    settings: PolicySettings,
    *,
    report: Callable[[int, int], None] | None = None,
) -> LlamaForCausalLM:
    """A policy trained from scratch on the family's corpus; the loss is on derivations, not on prompts.

    Parameters
    ----------
    family : ChainSums
    settings : PolicySettings
    report : callable, optional
        Called with steps done and steps in all.

    Returns
    -------
    LlamaForCausalLM
    """
    model = make_model(settings)
    ids, labels = _encode(family, settings)
    n_steps = len(ids) // settings.batch_size
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, 10 * (step + 1) / n_steps, 2.5 * (1 - step / n_steps))
    )
    model.train()
    for step in range(n_steps):
        rows = slice(step * settings.batch_size, (step + 1) * settings.batch_size)
        loss = model(input_ids=ids[rows], labels=labels[rows]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if report is not None:
            report(step + 1, n_steps)
    return model.eval()


def _encode(family: ChainSums, settings: PolicySettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, (n, longest): right padding, which causal attention never sees."""
    tokenizer = make_tokenizer()
    rows = list(family.corpus(settings.n_derivations, seed=settings.seed))
    prompts = tokenizer([row.prompt for row in rows])["input_ids"]
    endings = tokenizer([row.completion for row in rows], add_special_tokens=False)["input_ids"]
    longest = max(len(a) + len(b) for a, b in zip(prompts, endings)) + 1
    ids = np.zeros((len(rows), longest), np.int64)
    labels = np.full((len(rows), longest), _IGNORED, np.int64)
    for i, (prompt, ending) in enumerate(zip(prompts, endings)):
        whole = [*prompt, *ending, tokenizer.eos_token_id]
        ids[i, : len(whole)] = whole
        labels[i, len(prompt) : len(whole)] = whole[len(prompt) :]
    return torch.from_numpy(ids), torch.from_numpy(labels)


def starting_policy(
    family: ChainSums,
    settings: PolicySettings,
    folder: Path,
    *,
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Put the trained policy and its tokenizer into a folder; what is there already is kept.

    Parameters
    ----------
    family : ChainSums
    settings : PolicySettings
    folder : Path
        It appears when it is complete. Its name should tell family and settings apart.
    report : callable, optional
        As for `train_policy`.
    """
    if folder.exists():
        return
    model = train_policy(family, settings, report=report)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        model.save_pretrained(unfinished)
        make_tokenizer().save_pretrained(unfinished)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@torch.no_grad()
def sample(
    model: Any, prompts: Sequence[str], *, max_new_tokens: int, seed: int, batch_size: int = 256
) -> list[str]:
    """One response to each prompt at temperature 1.

    Parameters
    ----------
    model : LlamaForCausalLM
    prompts : sequence of str
        All of one length, as problems of one family are.
    max_new_tokens : int
    seed : int
        Of torch's generator, which is left as it was found.
    batch_size : int

    Returns
    -------
    list of str
    """
    tokenizer = make_tokenizer()
    texts: list[str] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), batch_size):
            batch = tokenizer(list(prompts[start : start + batch_size]), return_tensors="pt")
            found = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max_new_tokens,
            )
            texts += tokenizer.batch_decode(found[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts
