"""A small language model trained by rewards under GRPO, DAPO and both forms of λ-GRPO, over seeds, on a GPU.

    evenhand grpo fetch-model smollm2-135m
    python benchmarks/grpo_gpu.py --tasks gsm8k-train.jsonl.gz --test gsm8k-test.jsonl.gz --minutes 9
    python benchmarks/grpo_gpu.py --tasks reasoning_gym:chain_sum --lora 16 --minutes 9

Prints accuracy on held-out problems before and after, at temperature 1, with differences to DAPO paired by
seed (95 % intervals, Student's t), and what a step took.

With --minutes it stops after the step, or the batch of answers, that is in hand when the time is up, and ends
with status 75; the same command goes on where it was. What was killed goes on from its last checkpoint. Each
run, a scheme and a seed, has a folder in --out: settings.json (all settings, versions), pieces.jsonl (from
which step it ran on which machine), metrics.jsonl (a line a step), model/ (with --lora the adapter alone),
answers.jsonl (of `evenhand grpo evaluate`) and result.json. table.md in --out is the table that is printed.

It trains in one process on one GPU, generates with Transformers, and says nothing about large models.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback

from evenhand.experiments.compare import show_interval
from evenhand.grpo.commands.shared import TaskSource
from evenhand.grpo.demo import SCHEMES
from evenhand.grpo.rewards import REWARDS, check_answers, checked
from evenhand.grpo.trainer import LambdaGRPOConfig, LambdaGRPOTrainer
from evenhand.terminal import replacing, say, tell

_UNFINISHED = 75  # sysexits' "try again"
_PROCEDURAL = "reasoning_gym:"
_HELD_OUT_SEED = 1_000_003
_TEST_FILE = "test.jsonl"
_PATIENCE = 0.2  # seconds between two looks at an evaluation
_LIBRARIES = ("evenhand", "torch", "transformers", "trl", "peft", "datasets", "math-verify")


class TimeUp(Exception):  # noqa: N818 - nothing went wrong
    """The time that was given is used up, and what was in hand is kept."""


class Deadline:
    """When to stop.

    Parameters
    ----------
    minutes : float or None
        From now; None for never.
    """

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    @property
    def passed(self) -> bool:
        """Whether to stop after what is in hand."""
        return self._end is not None and time.monotonic() >= self._end

    def check(self) -> None:
        """Raise TimeUp where there is no time for more."""
        if self.passed:
            raise TimeUp


@dataclass(frozen=True)
class Settings:
    """What figures depend on, scheme and seed apart.

    Parameters
    ----------
    model : str
        Folder or name.
    tasks, test : str
        GSM8K files; or reasoning_gym:NAME, and then no `test`.
    lora : int
        Rank; 0 trains the whole model.
    steps, prompts, group, micro_batch : int
        Of a run; problems of a step; answers to each; rows of a micro-batch.
    learning_rate : float
        Of AdamW, constant.
    max_new_tokens : int
    problems, samples : int
        Held-out problems, and answers to each.
    cpu : bool
    """

    model: str
    tasks: str
    test: str | None
    lora: int
    steps: int
    prompts: int
    group: int
    micro_batch: int
    learning_rate: float
    max_new_tokens: int
    problems: int
    samples: int
    cpu: bool

    def training(self, scheme: str, seed: int, folder: Path) -> dict[str, Any]:
        """Options of the trainer."""
        return {
            "output_dir": str(folder),
            "seed": seed,
            "use_cpu": self.cpu,
            "bf16": not self.cpu,
            "max_steps": self.steps,
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": self.prompts * self.group // self.micro_batch,
            "num_generations": self.group,
            "max_completion_length": self.max_new_tokens,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "constant",
            "gradient_checkpointing": False,
            "logging_steps": 1,
            "save_steps": max(self.steps // 10, 1),
            "save_total_limit": 1,
            "report_to": "none",
            "disable_tqdm": True,
            **SCHEMES[scheme],
        }

    @property
    def reward(self) -> str:
        """Its name."""
        return "procedural_accuracy" if self.tasks.startswith(_PROCEDURAL) else "accuracy"

    def train_tasks(self) -> Any:
        """Problems to train on."""
        return self._read(self.tasks, self.steps * self.prompts)

    def write_test(self, folder: Path) -> None:
        """Write the held-out problems, unless they are made up: the same ones at each call."""
        if self.test is None:
            return
        tasks = self._read(self.test, 0)
        check_answers(tasks["answer"])
        if len(tasks) < self.problems:
            raise ValueError(f"--problems is {self.problems}, but {self.test} holds {len(tasks)}")
        chosen = tasks.shuffle(seed=0).select(range(self.problems))
        with replacing(folder / _TEST_FILE) as file:
            file.writelines(json.dumps(row) + "\n" for row in chosen)

    def test_source(self, folder: Path) -> list[str]:
        """The held-out problems, as `evenhand grpo evaluate` takes them."""
        if self.test is None:
            return [self.tasks, "--size", str(self.problems), "--seed", str(_HELD_OUT_SEED)]
        return [str(folder / _TEST_FILE)]

    @staticmethod
    def _read(place: str, size: int) -> Any:
        return TaskSource(place, kind="gsm8k", size=size, seed=0, chat=True).read()


class Run:
    """A scheme and a seed, and what its folder holds of it.

    Parameters
    ----------
    settings : Settings
    out : Path
    scheme : str
    seed : int
    """

    def __init__(self, settings: Settings, out: Path, scheme: str, seed: int) -> None:
        self.settings, self.scheme, self.seed = settings, scheme, seed
        self.out = out
        self.folder = out / f"{scheme}-{seed}"
        self.model = self.folder / "model"
        self.result = self.folder / "result.json"

    def go_on(self, deadline: Deadline) -> None:
        """Train and evaluate, from where it was left.

        Parameters
        ----------
        deadline : Deadline

        Raises
        ------
        TimeUp
        """
        if not self.model.exists():
            self._train(deadline)
            deadline.check()
        test = self.settings.test_source(self.out)
        answers = evaluate(self.model, self.settings, test, self.folder / "answers.jsonl", deadline)
        steps = [row for row in read_lines(self.folder / "metrics.jsonl") if "loss" in row]
        last = steps[-max(len(steps) // 10, 1) :]
        result = {
            "scheme": self.scheme,
            "seed": self.seed,
            "accuracy": accuracy_of(answers),
            "length": float(np.mean([row["completions/mean_length"] for row in last])),
            "cut_off": float(np.mean([row["completions/clipped_ratio"] for row in last])),
            "lambda": steps[-1].get("preference/lambda"),
            "step_seconds": float(np.median([row["step_time"] for row in steps])),
            "devices": sorted({piece["device"] for piece in read_lines(self.folder / "pieces.jsonl")}),
        }
        write_json(self.result, result)
        for checkpoint in self.folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        deadline.check()

    def _train(self, deadline: Deadline) -> None:
        self.folder.mkdir(exist_ok=True)
        args = LambdaGRPOConfig(**self.settings.training(self.scheme, self.seed, self.folder))
        stated = {"scheme": self.scheme, "seed": self.seed, **asked(self.settings), "trainer": args.to_dict()}
        write_json(self.folder / "settings.json", stated)
        checkpoint = last_checkpoint(self.folder)
        at = 0 if checkpoint is None else int(checkpoint.name.partition("-")[2])
        say(f"{self.folder.name}: from step {at} of {self.settings.steps}")
        with (self.folder / "pieces.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"from_step": at, "device": device_name(self.settings.cpu)}) + "\n")
        trainer = self._make_trainer(args, deadline)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if trainer.state.global_step < self.settings.steps:
            raise TimeUp
        unfinished = self.folder / ".model"
        trainer.save_model(str(unfinished))
        unfinished.rename(self.model)

    def _make_trainer(self, args: LambdaGRPOConfig, deadline: Deadline) -> Any:
        lora = None
        if self.settings.lora:
            lora = LoraConfig(
                r=self.settings.lora,
                lora_alpha=2 * self.settings.lora,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            )
        trainer = LambdaGRPOTrainer(
            model=self.settings.model,
            reward_funcs=checked(REWARDS[self.settings.reward]),
            args=args,
            train_dataset=self.settings.train_tasks(),
            peft_config=lora,
            callbacks=[_Keeper(self.folder / "metrics.jsonl", deadline)],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer


class _Keeper(TrainerCallback):  # type: ignore[misc]
    """Keeps the log as a file, and stops after the step in hand when the time is up."""

    def __init__(self, metrics: Path, deadline: Deadline) -> None:
        self._metrics, self._deadline = metrics, deadline

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Whole: a checkpoint brings its log along, so that steps since then never stand there twice.
        with replacing(self._metrics) as file:
            file.writelines(json.dumps(row) + "\n" for row in state.log_history)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._deadline.passed:
            control.should_save = control.should_training_stop = True


def last_checkpoint(folder: Path) -> Path | None:
    """The last one that is complete: its state is written last."""
    complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(complete, key=lambda path: int(path.name.partition("-")[2]), default=None)


def evaluate(
    model: Path | str, settings: Settings, test: Sequence[str], out: Path, deadline: Deadline
) -> list[Any]:
    """A model's answers to the held-out problems: written, gone on with, or read where they are there.

    Parameters
    ----------
    model : path-like
    settings : Settings
    test : sequence of str
        From `Settings.test_source`.
    out : Path
        For the answers.
    deadline : Deadline

    Returns
    -------
    list of dict

    Raises
    ------
    TimeUp
    ValueError
        If the evaluation fails.
    """
    if not out.exists():
        options = {
            "out": out,
            "samples": settings.samples,
            "temperature": 1,
            "max-new-tokens": settings.max_new_tokens,
            "batch-size": settings.prompts * settings.group,
        }
        call = ["grpo", "evaluate", str(model), *test, "--chat"]
        call += [text for name, value in options.items() for text in (f"--{name}", str(value))]
        _run_until(call, out.with_name(f"{out.name}.part"), settings.cpu, deadline)
    return read_lines(out)


def _run_until(call: Sequence[str], part: Path, cpu: bool, deadline: Deadline) -> None:
    """Run `evenhand`, and end it when the time is up and a further batch stands in its file."""
    code = "from evenhand.cli import main; main()"
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if cpu else {}
    before = max(_count_lines(part), 1)  # the first may be a header
    with subprocess.Popen(
        [sys.executable, "-c", code, *call], stdout=subprocess.DEVNULL, env={**os.environ, **hidden}
    ) as process:
        try:
            while process.poll() is None:
                time.sleep(_PATIENCE)
                if deadline.passed and _count_lines(part) > before:
                    raise TimeUp
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise ValueError(f"the evaluation ended with status {process.returncode}: evenhand {' '.join(call)}")


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def accuracy_of(answers: Sequence[Mapping[str, Any]]) -> float:
    """The share of right ones; problems have equally many answers."""
    return float(np.mean([answer["correct"] for answer in answers]))


def table(start: float, results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of the table of what is finished, as Markdown; lengths are of the last tenth of the steps."""
    lines = [
        "| | seeds | accuracy, % | minus DAPO | length | cut off, % | λ at the end | s a step | on |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| start | | {100 * start:.1f} | | | | | | |",
    ]
    dapo = {one["seed"]: one["accuracy"] for one in results if one["scheme"] == "dapo"}
    for scheme in dict.fromkeys(one["scheme"] for one in results):
        mine = [one for one in results if one["scheme"] == scheme]
        accuracy = [100 * one["accuracy"] for one in mine]
        paired = [100 * (one["accuracy"] - dapo[one["seed"]]) for one in mine if one["seed"] in dapo]
        spread = f" ± {np.std(accuracy, ddof=1):.1f}" if len(mine) > 1 else ""
        lam = [f"{one['lambda']:+.3f}" for one in mine if one["lambda"] is not None]
        cells = (
            scheme,
            f"{len(mine)}",
            f"{np.mean(accuracy):.1f}{spread}",
            show_interval(paired) if paired and scheme != "dapo" else "–",
            f"{np.mean([one['length'] for one in mine]):.0f}",
            f"{100 * np.mean([one['cut_off'] for one in mine]):.1f}",
            " ".join(lam) or "–",
            f"{np.median([one['step_seconds'] for one in mine]):.2f}",
            ", ".join(sorted({device for one in mine for device in one["devices"]})),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def read_lines(path: Path) -> list[Any]:
    """A file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def device_name(cpu: bool) -> str:
    """What it runs on."""
    return platform.machine() if cpu else torch.cuda.get_device_name()


def measure(settings: Settings, out: Path, schemes: Sequence[str], seeds: int, deadline: Deadline) -> bool:
    """Do what is missing, as far as the time goes, and show what is there.

    Parameters
    ----------
    settings : Settings
    out : Path
    schemes : sequence of str
    seeds : int
    deadline : Deadline

    Returns
    -------
    bool
        Whether all is done.
    """
    out.mkdir(parents=True, exist_ok=True)
    check_same(out / "settings.json", asked(settings))
    settings.write_test(out)
    if settings.reward == "accuracy":
        check_answers(settings.train_tasks()["answer"])
    # By seed, so that what is stopped has compared all schemes on the seeds that it did.
    runs = [Run(settings, out, scheme, seed) for seed in range(seeds) for scheme in schemes]
    start = out / "start.jsonl"
    with suppress(TimeUp):
        if not start.exists():
            evaluate(settings.model, settings, settings.test_source(out), start, deadline)
            deadline.check()
        for run in runs:
            if not run.result.exists():
                run.go_on(deadline)
    results = [json.loads(run.result.read_text(encoding="utf-8")) for run in runs if run.result.exists()]
    if start.exists():
        lines = table(accuracy_of(read_lines(start)), results)
        with replacing(out / "table.md") as file:
            file.writelines(f"{line}\n" for line in lines)
        tell("\n".join(lines))
    return len(results) == len(runs)


def asked(settings: Settings) -> dict[str, Any]:
    """All that figures depend on, scheme and seed apart."""
    return {"settings": asdict(settings), "versions": {name: version(name) for name in _LIBRARIES}}


def check_same(path: Path, wanted: Mapping[str, Any]) -> None:
    """Write what a folder is of; an error where it is of something else.

    Raises
    ------
    ValueError
    """
    if not path.exists():
        write_json(path, wanted)
    found = json.loads(path.read_text(encoding="utf-8"))
    for part, values in wanted.items():
        for name, value in values.items():
            if found[part].get(name) != value:
                raise ValueError(
                    f"{path}: {name} was {found[part].get(name)!r} and is now {value!r}; give another --out"
                )


def write_json(path: Path, what: Any) -> None:
    """Write a file, whole or not at all."""
    with replacing(path) as file:
        json.dump(what, file, indent=1)


def read_settings(given: argparse.Namespace) -> Settings:
    """Options as settings.

    Raises
    ------
    ValueError
        If they do not go together.
    """
    if given.prompts * given.group % given.micro_batch:
        raise ValueError(
            f"--micro-batch is {given.micro_batch}; give a divisor of --prompts × --group"
            f" ({given.prompts * given.group})"
        )
    if given.tasks.startswith(_PROCEDURAL) != (given.test is None):
        raise ValueError("--test goes with a file as --tasks; made-up problems need none")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no GPU; give --device cpu to try things out")
    names = [field.name for field in fields(Settings) if field.name != "cpu"]
    return Settings(**{name: getattr(given, name) for name in names}, cpu=given.device == "cpu")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="smollm2-135m", help="folder or name (default smollm2-135m)")
    add("--tasks", required=True, help="a file in GSM8K's form, or reasoning_gym:NAME")
    add("--test", help="a file in GSM8K's form, with a file as --tasks")
    add("--out", type=Path, default=Path("runs/grpo-gpu"), help="folder of the runs (default runs/grpo-gpu)")
    add("--minutes", type=float, help="stop after so many (default: when all is done)")
    add("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES), help="(default: all)")
    add("--seeds", type=int, default=3, help="runs of each scheme (default 3)")
    add("--lora", type=int, default=0, metavar="RANK", help="train a LoRA (default: the whole model)")
    add("--steps", type=int, default=200, help="of a run (default 200)")
    add("--prompts", type=int, default=32, help="problems of a step (default 32)")
    add("--group", type=int, default=8, help="answers to each of them (default 8)")
    add("--micro-batch", type=int, default=64, help="rows in memory at a time (default 64)")
    add("--learning-rate", type=float, help="(default 3e-6; 1e-4 with --lora)")
    add("--max-new-tokens", type=int, default=256, help="longest answer (default 256)")
    add("--problems", type=int, default=500, help="held-out problems (default 500)")
    add("--samples", type=int, default=4, help="answers to each of them (default 4)")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="(default cuda)")
    given = parser.parse_args(arguments)
    if given.learning_rate is None:
        given.learning_rate = 1e-4 if given.lora else 3e-6
    deadline = Deadline(given.minutes)
    try:
        done = measure(read_settings(given), given.out, given.schemes, given.seeds, deadline)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if done:
        return 0
    say("The time is up; the same command goes on from here.")
    return _UNFINISHED


if __name__ == "__main__":
    sys.exit(main())
