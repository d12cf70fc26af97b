"""A tiny language model, and trainers of it whose completions are set: what the trainer's tests share.

As a script it is one process of a distributed run: `python tiny_policy.py OUT.npz '{"lambda_r": 0.2}'`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOTrainer

from evenhand.grpo.config import LambdaGRPOConfig
from evenhand.grpo.trainer import LambdaGRPOTrainer

CHARACTERS = "0123456789+=,"
END = 2
GROUP = 8


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate(("<pad>", "<s>", "</s>", *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left"
    )


def make_model(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(CHARACTERS) + 3,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=END,
        initializer_range=0.5,  # at the usual 0.02 it would be all but uniform
    )
    return LlamaForCausalLM(config).to(dtype)


def make_dataset(n_prompts: int = 8) -> Dataset:
    return Dataset.from_dict({"prompt": [f"{i}+{(3 * i + 1) % 10}=" for i in range(n_prompts)]})


def ones_and_length(completions: list[str], **_: Any) -> list[float]:
    """Some reward that varies, and that goes with length."""
    return [text.count("1") + 0.1 * len(text) for text in completions]


def half_flat(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """The same for prompts that start with an even number, whatever the completion."""
    return [
        0.3 if int(prompt.split("+")[0]) % 2 == 0 else reward
        for prompt, reward in zip(prompts, ones_and_length(completions))
    ]


def make_config(folder: Path | str, **options: Any) -> LambdaGRPOConfig:
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "shuffle_dataset": False,
        "per_device_train_batch_size": 64,
        "num_generations": GROUP,
        "max_completion_length": 16,
        "max_grad_norm": 0.0,
        "max_steps": 2,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
    }
    return LambdaGRPOConfig(**{**defaults, **options})


class SetCompletions:
    """Mixin: a completion depends on its prompt and its place in the group, however the batch is laid out."""

    truncated_every = 5

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, **_):
        first = self.accelerator.process_index * len(prompt_ids)
        return [
            self._completion(ids, (first + i) % num_generations) for i, ids in enumerate(prompt_ids)
        ], None

    def _completion(self, prompt: list[int], place: int) -> list[int]:
        rng = np.random.default_rng([*prompt, place])
        if rng.integers(self.truncated_every) == 0:
            return rng.integers(3, 16, size=16).tolist()
        return [*rng.integers(3, 16, size=rng.integers(1, 15)).tolist(), END]


class SetLambdaTrainer(SetCompletions, LambdaGRPOTrainer):
    pass


class SetStockTrainer(SetCompletions, GRPOTrainer):
    pass


class Gradients(TrainerCallback):
    """Keeps the policy's gradient of each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, np.ndarray]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        self.steps.append(
            {n: p.grad.float().numpy().copy() for n, p in model.named_parameters() if p.grad is not None}
        )


def make_trainer(args: Any, kind: type = SetLambdaTrainer, model: Any = None, **options: Any) -> Any:
    defaults = {
        "model": make_model() if model is None else model,
        "reward_funcs": ones_and_length,
        "args": args,
        "train_dataset": make_dataset(),
        "processing_class": make_tokenizer(),
    }
    return kind(**{**defaults, **options})


def train(args: Any, kind: type = SetLambdaTrainer, **options: Any) -> tuple[Any, Gradients]:
    gradients = Gradients()
    trainer = make_trainer(args, kind, callbacks=[gradients], **options)
    trainer.train()
    return trainer, gradients


def logged(trainer: Any, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def record(trainer: Any, gradients: Gradients) -> dict[str, np.ndarray]:
    """What must not depend on the layout of the batch: gradients of policy and λ, and look-ahead, by step."""
    out = {f"{i} {name}": g for i, step in enumerate(gradients.steps) for name, g in step.items()}
    for i, g in enumerate(logged(trainer, "preference/gradient")):
        out[f"{i} lambda"] = np.array(g)
    for i, slope in enumerate(logged(trainer, "preference/look_ahead")):
        out[f"{i} look-ahead"] = np.array(slope)
    out["lambda at the end"] = np.array(float(trainer.preference.value))
    return out


def largest_difference(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


if __name__ == "__main__":
    path, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    parts: dict[str, Any] = {"train_dataset": make_dataset(options.pop("n_prompts", 8))}
    if options.get("dynamic_sampling_rounds"):
        parts["reward_funcs"] = half_flat
    np.savez(path, **record(*train(make_config(path.parent / path.stem, **options), **parts)))
