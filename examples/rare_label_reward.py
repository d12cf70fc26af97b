"""A language model that writes tag lists, rewarded for rare tags: both systems of evenhand together.

    python examples/rare_label_reward.py              # three seeds, some minutes on one core
    python examples/rare_label_reward.py --seeds 10

A small Llama is trained from scratch to write the tags of a record, "ACK" behind "wqeh=", as the data have
them. It is often wrong, and seldom names a rare tag. Then it is trained on by λ-GRPO. The responses of a
prompt's group are the players of the curiosity game: each is paid the F1 of its own list and, for each true
tag that it names, ρ_c (α + β d_c), ρ being the tag's rarity and d the response's disagreement with the rest
of its group. With α = β = 0 it is plain accuracy, the control; β = 0 leaves out disagreement. Each policy is
then asked 16 times a record; how often it names a tag is the tag's probability, and
`evenhand.multilabel.metrics` measures it as it would a classifier.

What it leaves out: a real model (give `LambdaGRPOTrainer` yours; `tag_rewards` stays as it is, as long as a
group is on one process), and enough seeds to decide anything.
"""

from __future__ import annotations

import argparse
import logging
import string
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback

from evenhand.experiments.compare import show_interval
from evenhand.grpo.config import LambdaGRPOConfig
from evenhand.grpo.trainer import LambdaGRPOTrainer
from evenhand.multilabel.game import disagreement, rarity
from evenhand.multilabel.metrics import evaluate

TAGS = string.ascii_uppercase[:16]  # the 16 tags, the commonest first
WORDS = string.ascii_lowercase
GROUP, PROMPTS, STEPS = 8, 16, 40
PLAIN = "accuracy alone"
REWARDS = {PLAIN: (0.0, 0.0), "and rarity (β = 0)": (1.0, 0.0), "and disagreement": (1.0, 1.0)}  # α and β


class Records:
    """Records of words with a long tail of tags, and their texts.

    Each tag has two words, some of them another tag's too; a record shows one of them for each of its tags,
    and two drawn at random.
    """

    def __init__(self, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.Y = rng.random((n, len(TAGS))) < 0.7 / np.arange(1, len(TAGS) + 1)
        self.Y[~self.Y.any(axis=1), 0] = True
        words = np.random.default_rng(0).permutation(list(WORDS * 2))[: 2 * len(TAGS)].reshape(-1, 2)
        self.prompts = []
        for row in self.Y:
            shown = [rng.choice(words[tag]) for tag in np.flatnonzero(row)] + list(rng.choice(list(WORDS), 2))
            rng.shuffle(shown)
            self.prompts.append("".join(shown) + "=")
        self.answers = ["".join(TAGS[tag] for tag in np.flatnonzero(row)) for row in self.Y]


def as_sets(completions: Sequence[str]) -> torch.Tensor:
    """Which tags each text names, (n, K) of 0 and 1."""
    return torch.tensor([[tag in text for tag in TAGS] for text in completions], dtype=torch.float32)


def tag_rewards(
    named: torch.Tensor,
    truth: torch.Tensor,
    groups: torch.Tensor,
    label_rarity: torch.Tensor,
    alpha: float,
    beta: float,
) -> torch.Tensor:
    """F1 of each list, and the curiosity that it earns.

    Parameters
    ----------
    named, truth : Tensor, shape (B, K)
        What each response names, and what is true.
    groups : Tensor of int, shape (B,)
        Responses of one prompt have one number, and are at least two.
    label_rarity : Tensor, shape (K,)
        ρ.
    alpha, beta : float

    Returns
    -------
    Tensor, shape (B,)
        F1_i + (1/|Y|) Σ_{c ∈ Y, named} ρ_c (α + β d_{i,c}), d as in the game, the others' share being the
        p̄_{−i}. Names that are wrong cost F1 and earn nothing.
    """
    hits = named * truth
    f1 = 2 * hits.sum(1) / (named.sum(1) + truth.sum(1)).clamp_min(1)
    in_group = (groups[:, None] == groups).to(named)
    size = in_group.sum(1, keepdim=True)
    # Half a response more on each side, so that a group of one mind is sure, but not infinitely so.
    others = (in_group @ named - named + 0.5) / size
    doubt = disagreement((named - 0.5) * 60, torch.logit(others), torch.full((named.shape[1],), 2))
    earned = hits * label_rarity * (alpha + beta * doubt)
    return f1 + earned.sum(1) / truth.sum(1).clamp_min(1)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    vocabulary = {token: i for i, token in enumerate(("<pad>", "<s>", "</s>", *WORDS, *TAGS, "="))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<none>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
    )


def pretrained(records: Records, tokenizer: Any, seed: int, epochs: int) -> LlamaForCausalLM:
    """A policy that has learned to write lists from the records."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            initializer_range=0.06,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    texts = [prompt + answer for prompt, answer in zip(records.prompts, records.answers)]
    batch = tokenizer(texts, padding_side="right", padding=True)
    ids = torch.tensor([[*row, tokenizer.pad_token_id] for row in batch["input_ids"]])
    ends = torch.tensor(batch["attention_mask"]).sum(1)[:, None]
    ids.scatter_(1, ends, tokenizer.eos_token_id)
    begins = torch.tensor([[len(prompt) + 1] for prompt in records.prompts])
    places = torch.arange(ids.shape[1])
    labels = torch.where((places >= begins) & (places <= ends), ids, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(ids)), 64):
            model(input_ids=ids[rows], labels=labels[rows]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def rewarded(
    start: LlamaForCausalLM,
    records: Records,
    tokenizer: Any,
    rewards: tuple[float, float],
    seed: int,
    steps: int,
) -> LlamaForCausalLM:
    """The policy after λ-GRPO."""
    counts = torch.from_numpy(records.Y.sum(0))
    label_rarity = rarity(counts, len(records.Y)).float()

    def tags(prompts: list[str], completions: list[str], answer: list[str], **_: Any) -> list[float]:
        groups = torch.arange(len(prompts)) // GROUP  # TRL gives them one after the other
        rewards_of = tag_rewards(as_sets(completions), as_sets(answer), groups, label_rarity, *rewards)
        found: list[float] = rewards_of.tolist()
        return found

    model = LlamaForCausalLM(start.config)
    model.load_state_dict(start.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        config = LambdaGRPOConfig(
            output_dir=folder,
            loss_type="lambda",
            seed=seed,
            max_steps=steps,
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            max_completion_length=len(TAGS) + 1,
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = LambdaGRPOTrainer(
            model=model,
            reward_funcs=tags,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": records.prompts, "answer": records.answers}),
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return model.eval()


@torch.no_grad()
def measured(model: Any, records: Records, train: Records, tokenizer: Any, seed: int) -> dict[str, float]:
    """Figures of the tags that 16 samples a record name; a label set is what half of them name."""
    torch.manual_seed(seed)
    batch = tokenizer(records.prompts, padding=True, return_tensors="pt")
    found = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=True,
        top_k=0,
        num_return_sequences=16,
        max_new_tokens=len(TAGS) + 1,
    )
    texts = tokenizer.batch_decode(found[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    p = as_sets(texts).view(len(records.prompts), 16, -1).mean(1).numpy()
    report = evaluate(records.Y, p, p >= 0.5, train.Y.sum(0), len(train.Y), ks=(1,))
    return {
        "P@1": 100 * report.precision_at[1],
        "micro-F1": 100 * report.f1.micro,
        "macro-F1": 100 * report.f1.macro,
        "Rare-F1": 100 * report.rare_f1,
    }


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS, help="of λ-GRPO")
    parser.add_argument("--records", type=int, default=2000, help="to train on")
    parser.add_argument("--epochs", type=int, default=6, help="of training from scratch")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tokenizer, rows = make_tokenizer(), {name: [] for name in ("before", *REWARDS)}  # type: ignore[var-annotated]
    for seed in range(given.seeds):
        train, test = Records(given.records, seed), Records(400, 10_000 + seed)
        start = pretrained(train, tokenizer, seed, given.epochs)
        rows["before"].append(measured(start, test, train, tokenizer, seed))
        for name, rewards in REWARDS.items():
            model = rewarded(start, train, tokenizer, rewards, seed, given.steps)
            rows[name].append(measured(model, test, train, tokenizer, seed))
            print(f"seed {seed}: {name}", flush=True)
    table = Table(title=f"Tags of 400 new records, %, mean over {given.seeds} seeds")
    figures = list(rows["before"][0])
    for column in ("", *figures):
        table.add_column(column, justify="right" if column else "left")
    for name, found in rows.items():
        table.add_row(name, *(f"{np.mean([one[figure] for one in found]):.1f}" for figure in figures))
    for name in list(REWARDS)[1:]:
        gains = [[a[figure] - b[figure] for a, b in zip(rows[name], rows[PLAIN])] for figure in figures]
        table.add_row(f"{name}: gain over {PLAIN}", *map(show_interval, gains))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
