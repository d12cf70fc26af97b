"""`evenhand grpo train`: TRL's own script, with the trainer, tasks and rewards of this package in it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, NoReturn

from trl import (
    DatasetMixtureConfig,
    ModelConfig,
    TrlParser,
    get_dataset,
    get_peft_config,
    get_quantization_config,
)
from trl.rewards import accuracy_reward, get_soft_overlong_punishment, think_format_reward
from trl.scripts.grpo import GRPOScriptArguments

from evenhand.grpo.commands.shared import TaskSource, check_tasks
from evenhand.grpo.config import LambdaGRPOConfig
from evenhand.grpo.rewards import REWARDS, checked, overlong_punishment
from evenhand.grpo.trainer import LambdaGRPOTrainer

_MADE_UP = 1000  # problems
_OVERLONG = overlong_punishment.__name__
_THEIRS: dict[str, Callable[[], Any]] = {
    "accuracy_reward": lambda: accuracy_reward,
    "think_format_reward": lambda: think_format_reward,
    "get_soft_overlong_punishment": lambda: get_soft_overlong_punishment(
        max_completion_len=1280, soft_punish_cache=256
    ),
}


@dataclass
class ScriptArguments(GRPOScriptArguments):  # type: ignore[misc]
    """TRL's arguments of the script, and where tasks come from."""

    tasks: str | None = field(
        default=None,
        metadata={"help": "In place of a data set: a .jsonl or .parquet file, or reasoning_gym:NAME."},
    )
    tasks_kind: Literal["plain", "gsm8k", "math"] = field(
        default="plain",
        metadata={
            "help": "Whose form the problems have, in the file of --tasks or in --dataset_name. A plain data "
            "set is taken as it is."
        },
    )
    tasks_levels: list[int] | None = field(
        default=None, metadata={"help": "Of MATH's problems, only those of these levels (1 to 5)."}
    )
    tasks_prompt: str = field(default="prompt", metadata={"help": "Field of the problem, in plain files."})
    tasks_answer: str = field(default="answer", metadata={"help": "Field of the answer, in plain files."})
    tasks_size: int | None = field(
        default=None, metadata={"help": f"How many problems reasoning-gym makes; {_MADE_UP} if not given."}
    )
    tasks_chat: bool = field(
        default=False,
        metadata={"help": "Ask in the model's chat template; a plain data set is asked as it is."},
    )
    overlong_cache: int | None = field(
        default=None,
        metadata={
            "help": "L_cache of the reward overlong_punishment: over how many tokens before "
            "max_completion_length it grows from 0 to -1. By default a fifth of them, as in DAPO."
        },
    )


class _Parser(TrlParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; `evenhand grpo train -- --help` lists all options")


def train_model(options: Sequence[str]) -> None:
    """Train, and save the model in the output folder.

    Parameters
    ----------
    options : sequence of str
        As `trl grpo` takes them.

    Raises
    ------
    ValueError
        If an option, a reward or the tasks cannot be used.
    """
    trainer, dataset_name = make_trainer(options)
    config = trainer.args
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model(config.output_dir)
    trainer.accelerator.print(f"Saved in {config.output_dir}.")
    if config.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset_name)
    trainer.accelerator.end_training()


def make_trainer(options: Sequence[str]) -> tuple[LambdaGRPOTrainer, str | None]:
    """A trainer with its model and data, ready to train.

    Parameters
    ----------
    options : sequence of str
        As `trl grpo` takes them.

    Returns
    -------
    LambdaGRPOTrainer
    str or None
        The data set's name.

    Raises
    ------
    ValueError
        If an option, a reward or the tasks cannot be used.
    """
    kinds = (ScriptArguments, LambdaGRPOConfig, ModelConfig, DatasetMixtureConfig)
    parser = _Parser(kinds, prog="evenhand grpo train")
    script, config, model, mixture = parser.parse_args_and_config(list(options))
    if not model.model_name_or_path:
        raise ValueError("no model; give --model_name_or_path, or model_name_or_path in the --config file")
    if config.use_vllm and find_spec("vllm") is None:
        raise ValueError(
            "use_vllm needs vllm, which is not installed: pip install 'trl[vllm]'; or give --use_vllm False, "
            "which generates more slowly"
        )
    rewards = reward_functions(script, config.max_completion_length)
    data = _load(script, config, mixture)
    if {"accuracy", "signed_accuracy"} & set(script.reward_funcs or ()):
        for split, part in data.items():
            if "answer" in (part.column_names or ()):
                check_tasks(part, script.tasks or f"the data set's split {split!r}")
    trainer = LambdaGRPOTrainer(
        model=model.model_name_or_path,
        reward_funcs=rewards,
        args=_with_model_options(config, model),
        train_dataset=data[script.dataset_train_split],
        eval_dataset=data[script.dataset_test_split] if config.eval_strategy != "no" else None,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )
    return trainer, script.dataset_name


def reward_functions(script: Any, max_length: int) -> list[Any]:
    """The rewards that were asked for, by name: ours, TRL's, or a function by its import path.

    Parameters
    ----------
    script : ScriptArguments
    max_length : int
        Tokens at which completions are cut off.

    Returns
    -------
    list of callable or str
        A str is a reward model.

    Raises
    ------
    ValueError
        If there is none, or a name is not known.
    """
    found: list[Any] = [script.reward_model_name_or_path] if script.reward_model_name_or_path else []
    for name in script.reward_funcs or ():
        if name == _OVERLONG:
            cache = max(max_length // 5, 1) if script.overlong_cache is None else script.overlong_cache
            found.append(overlong_punishment(max_length, cache))
        else:
            found.append(_reward(name))
    if not found:
        raise ValueError(f"no reward; give --reward_funcs, for example {', '.join(REWARDS)}")
    return found


def _reward(name: str) -> Any:
    if name in REWARDS:
        return checked(REWARDS[name])
    if name in _THEIRS:
        return _THEIRS[name]()
    module, _, function = name.rpartition(".")
    if not module:
        known = ", ".join((*REWARDS, _OVERLONG, *_THEIRS))
        raise ValueError(
            f"reward {name!r} is not known; take one of {known}, or a function by its import path, like "
            "my_module.my_reward"
        )
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"reward {name!r} cannot be imported: {error}") from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise ValueError(f"reward {name!r} is {found!r:.60}, not a function")
    return checked(found)


def _load(script: Any, config: Any, mixture: Any) -> Any:
    """Data sets by split."""
    source = TaskSource(
        script.tasks or "",
        kind=script.tasks_kind,
        prompt=script.tasks_prompt,
        answer=script.tasks_answer,
        levels=None if script.tasks_levels is None else tuple(script.tasks_levels),
        size=script.tasks_size,
        seed=config.seed,
        chat=script.tasks_chat,
    )
    if script.tasks is not None:
        if config.eval_strategy != "no":
            raise ValueError("--tasks has no evaluation part; leave out --eval_strategy")
        return {script.dataset_train_split: source.read(_MADE_UP)}
    if mixture.datasets:
        data = get_dataset(mixture)
    elif script.dataset_name is None:
        raise ValueError("no tasks; give --tasks FILE, or TRL's --dataset_name")
    else:
        from datasets import load_dataset

        data = load_dataset(
            script.dataset_name, name=script.dataset_config, streaming=script.dataset_streaming
        )
    splits = [script.dataset_train_split]
    if config.eval_strategy != "no":
        splits.append(script.dataset_test_split)
    for split in splits:
        if split not in data:
            raise ValueError(
                f"the data set has no split {split!r}; it has {', '.join(map(repr, data))}: give one of these"
                f" as --dataset_{'train' if split == splits[0] else 'test'}_split"
            )
    if source.kind == "plain":
        return {split: data[split] for split in splits}
    if script.dataset_streaming or mixture.streaming:
        raise ValueError(f"--tasks_kind {source.kind} needs the whole data set; leave out its streaming")
    return {split: source.read_rows(data[split]) for split in splits}


def _with_model_options(config: Any, model: Any) -> Any:
    options = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    }
    config.model_init_kwargs = {**options, **(config.model_init_kwargs or {})}
    return config
