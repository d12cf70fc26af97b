"""A small language model trained by rewards under GRPO, DAPO and both forms of λ-GRPO, over seeds, on a GPU.

    evenhand grpo fetch-model smollm2-135m
    python benchmarks/grpo_gpu.py --tasks gsm8k-train.jsonl.gz --test gsm8k-test.jsonl.gz --minutes 9
    python benchmarks/grpo_gpu.py --tasks reasoning_gym:chain_sum --lora 16 --minutes 9

Prints accuracy on held-out problems at temperature 1, before and after, and differences to DAPO paired by
seed (95 % intervals, Student's t). report.html and report.md in --out have all figures and curves.

With --minutes it stops after the step, or the batch of answers, that is in hand when the time is up, and ends
with status 75; the same command goes on where it was. What was killed goes on from its last checkpoint. Each
scheme and seed is a run folder in --out, as `evenhand report` reads them; in it are also pieces.jsonl (from
which step it ran on which machine), answers.jsonl (of `evenhand grpo evaluate`) and model/, with --lora the
adapter alone.

It trains in one process on one GPU, generates with Transformers, and says nothing about large models.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback

from evenhand.experiments.compare import show_interval
from evenhand.experiments.report import Results, write_report
from evenhand.experiments.runs import Run
from evenhand.files import replacing
from evenhand.grpo.commands.shared import PROCEDURAL, TaskSource, check_tasks
from evenhand.grpo.config import LambdaGRPOConfig
from evenhand.grpo.demo import SCHEMES
from evenhand.grpo.rewards import REWARDS, checked
from evenhand.grpo.trainer import LambdaGRPOTrainer
from evenhand.terminal import say, show_table, tell

_UNFINISHED = 75  # sysexits' "try again"
_HELD_OUT_SEED = 1_000_003
_TEST_FILE = "test.jsonl"
_PATIENCE = 0.2  # seconds between two looks at an evaluation
_NAMES = {
    "completions/mean_length": "length",
    "completions/clipped_ratio": "cut_off",
    "preference/lambda": "lambda",
    "preference/weight_min": "weight_min",
    "preference/weight_max": "weight_max",
}
"""Of TRL's log, as a report knows them; the rest keeps its names."""


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

    def training(self, scheme: str, seed: int) -> dict[str, Any]:
        """Options of the trainer, but for its folder."""
        return {
            "seed": seed,
            "use_cpu": self.cpu,
            "bf16": not self.cpu,
            "max_steps": self.steps,
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": self.batch_size // self.micro_batch,
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
    def batch_size(self) -> int:
        """Answers of a step, and of a batch in an evaluation."""
        return self.prompts * self.group

    @property
    def reward(self) -> str:
        """Its name."""
        return "procedural_accuracy" if self.tasks.startswith(PROCEDURAL) else "accuracy"

    def train_tasks(self) -> Any:
        """Problems to train on."""
        return self._read(self.tasks, self.steps * self.prompts)

    def test_rows(self) -> list[dict[str, Any]]:
        """Held-out problems, the same ones at each call; none where they are made up.

        Raises
        ------
        ValueError
            If a file cannot be used, or holds too few.
        """
        if self.test is None:
            return []
        tasks = self._read(self.test, 0)
        check_tasks(tasks, self.test)
        check_tasks(self.train_tasks(), self.tasks)
        if len(tasks) < self.problems:
            raise ValueError(
                f"--problems is {self.problems}, but {self.test} holds {len(tasks)}; give at most so many"
            )
        return list(tasks.shuffle(seed=0).select(range(self.problems)))

    def test_source(self, folder: Path) -> list[str]:
        """The held-out problems, as `evenhand grpo evaluate` takes them."""
        if self.test is None:
            return [self.tasks, "--size", str(self.problems), "--seed", str(_HELD_OUT_SEED)]
        return [str(folder / _TEST_FILE)]

    @staticmethod
    def _read(place: str, size: int) -> Any:
        kind: Literal["plain", "gsm8k"] = "plain" if place.startswith(PROCEDURAL) else "gsm8k"
        return TaskSource(place, kind=kind, chat=True).read(size)


def go_on(run: Run, settings: Settings, start: float, deadline: Deadline) -> None:
    """Train and evaluate, from where it was left.

    Parameters
    ----------
    run : Run
        In a folder of --out.
    settings : Settings
    start : float
        Accuracy before the training.
    deadline : Deadline

    Raises
    ------
    TimeUp
    """
    model = run.folder / "model"
    if not model.exists():
        _train(run, settings, model, deadline)
        deadline.check()
    test = settings.test_source(run.folder.parent)
    accuracy = accuracy_of(evaluate(model, settings, test, run.folder / "answers.jsonl", deadline))
    steps = list(run.records())
    last = steps[-max(len(steps) // 10, 1) :]
    figures = {
        "accuracy": 100 * accuracy,
        "gain": 100 * (accuracy - start),
        "length": float(np.mean([row["length"] for row in last])),
        "cut off": 100 * float(np.mean([row["cut_off"] for row in last])),
        "seconds a step": float(np.median([row["step_time"] for row in steps])),
    }
    run.finish(figures | ({"λ": steps[-1]["lambda"]} if "lambda" in steps[-1] else {}))
    for checkpoint in run.folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    deadline.check()


def _train(run: Run, settings: Settings, model: Path, deadline: Deadline) -> None:
    checkpoint = last_checkpoint(run.folder)
    at = 0 if checkpoint is None else int(checkpoint.name.partition("-")[2])
    run.keep(at)
    say(f"{run.folder.name}: from step {at} of {settings.steps}")
    device = platform.machine() if settings.cpu else torch.cuda.get_device_name()
    with (run.folder / "pieces.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"from_step": at, "device": device}) + "\n")
    trainer = _make_trainer(run, settings, deadline)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.state.global_step < settings.steps:
        raise TimeUp
    unfinished = model.with_name(".model")
    trainer.save_model(str(unfinished))
    unfinished.rename(model)


def _make_trainer(run: Run, settings: Settings, deadline: Deadline) -> Any:
    rank = settings.lora
    lora = None
    if rank:
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    options = settings.training(run.method, run.seed)
    trainer = LambdaGRPOTrainer(
        model=settings.model,
        reward_funcs=checked(REWARDS[settings.reward]),
        args=LambdaGRPOConfig(output_dir=str(run.folder), **options),
        train_dataset=settings.train_tasks(),
        peft_config=lora,
        callbacks=[_Keeper(run, deadline)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class _Keeper(TrainerCallback):  # type: ignore[misc]
    """Keeps the log of each step, and stops after the step in hand when the time is up."""

    def __init__(self, run: Run, deadline: Deadline) -> None:
        self._run, self._deadline = run, deadline

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:  # TRL's last entry sums the training up
            named = {_NAMES.get(name, name): value for name, value in logs.items()}
            self._run.log({"step": state.global_step, **named})

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
            "batch-size": settings.batch_size,
        }
        call = ["grpo", "evaluate", str(model), *test, "--chat"]
        call += [text for name, value in options.items() for text in (f"--{name}", str(value))]
        _run_until(call, out.with_name(f"{out.name}.part"), settings, deadline)
    return read_lines(out)


def _run_until(call: Sequence[str], part: Path, settings: Settings, deadline: Deadline) -> None:
    """Run `evenhand`, and end it when the time is up and a further batch stands in its file."""
    code = "from evenhand.cli import main; main()"
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if settings.cpu else {}
    before = _count_lines(part) // settings.batch_size
    with subprocess.Popen(
        [sys.executable, "-c", code, *call], stdout=subprocess.DEVNULL, env={**os.environ, **hidden}
    ) as process:
        try:
            while process.poll() is None:
                time.sleep(_PATIENCE)
                if deadline.passed and _count_lines(part) // settings.batch_size > before:
                    raise TimeUp
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise ValueError(f"the evaluation ended with status {process.returncode}: evenhand {' '.join(call)}")


def _count_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:  # not there yet, or renamed since it is complete
        return 0


def accuracy_of(answers: Sequence[Mapping[str, Any]]) -> float:
    """The share of right ones; problems have equally many answers."""
    return float(np.mean([answer["correct"] for answer in answers]))


def read_lines(path: Path) -> list[Any]:
    """A file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


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

    Raises
    ------
    ValueError
        If the settings cannot be used, or are not those of the runs that are there.
    """
    test = settings.test_rows()
    data = settings.tasks.removeprefix(PROCEDURAL) if settings.test is None else Path(settings.tasks).name
    # By seed, so that what is stopped has compared all schemes on the seeds that it did.
    runs = [
        Run.start(
            out / f"{scheme}-{seed}",
            scheme,
            data,
            seed,
            {**asdict(settings), "trainer": settings.training(scheme, seed)},
        )
        for seed in range(seeds)
        for scheme in schemes
    ]
    if test:
        with replacing(out / _TEST_FILE) as file:
            file.writelines(json.dumps(row) + "\n" for row in test)
    with suppress(TimeUp):
        begun = not (out / "start.jsonl").exists()
        answers = evaluate(settings.model, settings, settings.test_source(out), out / "start.jsonl", deadline)
        if begun:
            deadline.check()
        for run in runs:
            if run.figures is None:
                go_on(run, settings, accuracy_of(answers), deadline)
    finished = [run for run in runs if run.figures is not None]
    if finished:
        show(finished, out)
    return len(finished) == len(runs)


def show(runs: Sequence[Run], out: Path) -> None:
    """Print accuracy, and write the report."""
    results = Results(runs)
    rows = []
    for method in results.methods:
        accuracy, gain, dapo = (
            results.values(runs[0].data, name, figure)
            for name, figure in ((method, "accuracy"), (method, "gain"), ("dapo", "accuracy"))
        )
        paired = [accuracy[seed] - dapo[seed] for seed in sorted(accuracy.keys() & dapo.keys())]
        rows.append(
            (
                method,
                len(accuracy),
                f"{np.mean(list(accuracy.values())):.1f}",
                f"{np.mean(list(gain.values())):+.1f}",
                show_interval(paired) if paired and method != "dapo" else "–",
            )
        )
    show_table("Held-out problems, %", ("", "seeds", "accuracy", "less the start", "less DAPO"), rows)
    page = out / "report.html"
    baseline = "dapo" if "dapo" in results.methods else None
    write_report(runs, page, title="GRPO, DAPO and λ-GRPO on a small language model", baseline=baseline)
    tell(f"All figures and curves: {page}, {page.with_suffix('.md')}")


def read_settings(given: argparse.Namespace) -> Settings:
    """Options as settings.

    Raises
    ------
    ValueError
        If one is out of its range, or they do not go together.
    """
    counts = ("seeds", "steps", "prompts", "micro_batch", "max_new_tokens", "problems", "samples")
    for name, least in (*((name, 1) for name in counts), ("group", 2), ("lora", 0), ("minutes", 0)):
        value = getattr(given, name)
        if value is not None and not value >= least:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; give at least {least}")
    if not 0 < given.learning_rate < math.inf:
        raise ValueError(f"--learning-rate is {given.learning_rate}; give a number above 0, like 3e-6")
    if given.prompts * given.group % given.micro_batch:
        raise ValueError(
            f"--micro-batch is {given.micro_batch}; give a divisor of --prompts × --group"
            f" ({given.prompts * given.group})"
        )
    if given.tasks.startswith(PROCEDURAL) != (given.test is None):
        raise ValueError("--test goes with a file as --tasks, which needs one; made-up problems need none")
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
