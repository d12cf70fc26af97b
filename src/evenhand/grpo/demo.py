"""The runs of `evenhand grpo demo`: one starting policy, trained on under several schemes and seeds.

A finished run leaves a JSON file, and a file that is there is not made again. Settings and the versions of
the libraries are part of the names of folders, so results of different settings never meet.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np

from evenhand.files import replacing
from evenhand.grpo.chain_sums import ChainSums, PolicySettings, form_of, is_right, terms

Report: TypeAlias = Callable[[int], None]
"""Told of so many more steps done."""

Record: TypeAlias = dict[str, Any]
"""What a run leaves: scheme, seed, before, steps (a list of figures), after, seconds."""

Options: TypeAlias = Mapping[str, Any]
"""Of a trainer's configuration."""

SCHEMES: dict[str, Options] = {
    "grpo": {"loss_type": "grpo"},
    "dapo": {"loss_type": "dapo"},
    "lambda": {"loss_type": "lambda", "lambda_learning_rate": 0.1},
    "power": {"loss_type": "power", "lambda_learning_rate": 1.0},
}
"""Options by scheme; the first two go to TRL's own trainer."""

_STOCK = ("grpo", "dapo")
_OF_WEIGHTS = ("weight_min", "weight_max", "weight_std")
_ADVANTAGE_EPSILON = 1e-4  # TRL's
_EVALUATION_SEED = 1_000_000
_PATIENCE = 0.2  # seconds between two looks at what workers do
_QUIET = ("transformers", "trl", "accelerate", "evenhand.grpo.trainer")


@dataclass(frozen=True)
class DemoSettings:
    """What the figures of a demo depend on.

    Parameters
    ----------
    family : ChainSums
    policy : PolicySettings
    steps : int
        GRPO steps of a run.
    prompts : int
        Problems of a step, each answered by a group.
    group : int
        G.
    learning_rate : float
        Of AdamW, constant.
    evaluated : int
        Held-out problems, one sample each, before and after a run.
    """

    family: ChainSums = field(default_factory=ChainSums)
    policy: PolicySettings = field(default_factory=PolicySettings)
    steps: int = 40
    prompts: int = 16
    group: int = 8
    learning_rate: float = 1e-4
    evaluated: int = 1024

    @property
    def start_key(self) -> str:
        """Stands for all that the starting policy depends on."""
        errors = [self.family.step_error(form) for form in ("short", "long")]
        return _key({"family": asdict(self.family), "errors": errors, "policy": asdict(self.policy)})

    @property
    def run_key(self) -> str:
        """Stands for all that a run depends on, scheme and seed apart."""
        return _key({**asdict(self), "start": self.start_key})


def _key(settings: dict[str, Any]) -> str:
    libraries = {name: version(name) for name in ("evenhand", "torch", "transformers", "trl")}
    return sha256(json.dumps([settings, libraries], sort_keys=True).encode()).hexdigest()[:10]


class Demo:
    """The files of a demo in a folder, and the work that makes them.

    Parameters
    ----------
    settings : DemoSettings
    folder : Path
    seeds : sequence of int
    schemes : mapping
        Options of the trainer by scheme, as in `SCHEMES`.
    """

    def __init__(
        self,
        settings: DemoSettings,
        folder: Path,
        seeds: Sequence[int],
        schemes: Mapping[str, Options] = SCHEMES,
    ) -> None:
        self.settings = settings
        self.schemes = schemes
        self.start = folder / f"start-{settings.start_key}"
        self._runs = folder / f"runs-{settings.run_key}"
        # By seed, so that a demo that is stopped has compared all schemes on the seeds that it did.
        self.planned = [(scheme, seed) for seed in seeds for scheme in schemes]

    def path(self, scheme: str, seed: int) -> Path:
        """The file that a finished run leaves."""
        return self._runs / f"{scheme}-{seed}-{_key(dict(self.schemes[scheme]))}.json"

    def missing(self) -> list[tuple[str, int]]:
        """Runs that have not finished."""
        return [one for one in self.planned if not self.path(*one).exists()]

    def records(self) -> list[Record]:
        """What the finished runs left, in the order planned."""
        paths = [self.path(*one) for one in self.planned]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]

    def make_start(self, workers: Workers, report: Report) -> None:
        """Train the starting policy, unless it is there.

        Parameters
        ----------
        workers : Workers
        report : callable
            Told of steps as they are done.
        """
        self.start.parent.mkdir(parents=True, exist_ok=True)
        workers.do([(_start_in_worker, (self.settings, self.start))], report)

    def run(self, workers: Workers, report: Report) -> None:
        """Do the runs that are missing, each in one thread.

        Parameters
        ----------
        workers : Workers
        report : callable
            Told of steps as they are done.
        """
        self._runs.mkdir(parents=True, exist_ok=True)
        calls = [
            (self.settings, self.start, scheme, self.schemes[scheme], seed, self.path(scheme, seed))
            for scheme, seed in self.missing()
        ]
        workers.do([(_run_in_worker, call) for call in calls], report)


class Workers:
    """Processes that train, and end with this one: a context.

    Parameters
    ----------
    jobs : int
        How many.
    """

    def __init__(self, jobs: int) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._steps: Any = context.Queue()
        self._pool = ProcessPoolExecutor(jobs, context, _start_worker, (self._steps,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # nobody waits for what is under way
            for worker in list(
                (self._pool._processes or {}).values()
            ):  # the pool offers no way to end a call
                worker.terminate()
        self._pool.shutdown(cancel_futures=True)

    def do(self, calls: Sequence[tuple[Callable[..., None], tuple[Any, ...]]], report: Report) -> None:
        """Make calls, and pass on the steps that they report; raise what one of them raises.

        Parameters
        ----------
        calls : sequence of (function, arguments)
        report : callable
        """
        pending = [self._pool.submit(function, *arguments) for function, arguments in calls]
        done = False
        while not done:
            done = all(future.done() for future in pending)  # asked first: no step comes after it
            for future in pending:
                if future.done():
                    future.result()
            with suppress(queue.Empty):
                while True:
                    report(self._steps.get(timeout=_PATIENCE))


_steps: Any = None  # a worker's way to report, set when it starts


def _start_worker(steps: Any) -> None:
    global _steps
    _steps = steps
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    parent = multiprocessing.parent_process()

    def leave_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    set_up()


def set_up() -> None:
    """One thread, no hub, no chatter: for this process, before torch and transformers are imported."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1")
    import torch
    import transformers

    # A model this small does not gain from a second thread; beside other work it loses by it, tenfold.
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def _start_in_worker(settings: DemoSettings, folder: Path) -> None:
    from evenhand.grpo.chain_policy import starting_policy

    starting_policy(settings.family, settings.policy, folder, report=lambda *_: _steps.put(1))


def _run_in_worker(
    settings: DemoSettings, start: Path, scheme: str, options: Options, seed: int, path: Path
) -> None:
    record = run_scheme(settings, start, scheme, options, seed, report=_steps.put)
    with replacing(path) as file:
        json.dump(record, file, allow_nan=False)


def run_scheme(
    settings: DemoSettings,
    start: Path,
    scheme: str,
    options: Options,
    seed: int,
    *,
    report: Report | None = None,
) -> Record:
    """Train the starting policy on under one scheme.

    Parameters
    ----------
    settings : DemoSettings
    start : Path
        The starting policy's folder.
    scheme : str
        What to call it.
    options : mapping
        Of the trainer's configuration; a loss_type of "grpo" or "dapo" goes to TRL's own trainer.
    seed : int
        Of the problems and of sampling. Runs of one seed have the same problems, whatever the scheme.
    report : callable, optional
        Told of each step.

    Returns
    -------
    dict
        Tokens of responses, and seconds in training, are counted from the first step.
    """
    from transformers import LlamaForCausalLM

    began = time.perf_counter()
    model = LlamaForCausalLM.from_pretrained(start)
    before = evaluate(model, settings, seed)
    recorder = _Recorder(settings.group, report)
    with TemporaryDirectory() as unused:  # the trainer insists on a folder, and saves nothing
        trainer = _make_trainer(settings, options, seed, model, recorder, unused)
        trainer.train()
    tokens, seconds = 0, 0.0
    for row, logged in zip(recorder.rows, trainer.state.log_history, strict=False):
        lengths, rewards = row.pop("lengths"), row.pop("rewards")
        tokens, seconds = tokens + sum(lengths), seconds + float(logged["step_time"])
        row.update(tokens=tokens, seconds=seconds, entropy=float(logged["entropy"]))
        row.update(_quarters(lengths, rewards, settings.group))
        row.update(_weights(options["loss_type"], lengths, settings.group, logged))
    return {
        "scheme": scheme,
        "seed": seed,
        "before": before,
        "steps": recorder.rows,
        "after": evaluate(trainer.model, settings, seed),
        "seconds": time.perf_counter() - began,
    }


def evaluate(model: Any, settings: DemoSettings, seed: int) -> dict[str, float]:
    """Accuracy and lengths of one sample at temperature 1 of each of some held-out problems.

    Parameters
    ----------
    model : LlamaForCausalLM
    settings : DemoSettings
    seed : int
        The same problems for the same seed.

    Returns
    -------
    dict of str to float
    """
    from evenhand.grpo.chain_policy import sample

    problems = settings.family.problems(settings.evaluated, seed=_EVALUATION_SEED + seed, held_out=True)
    model.eval()
    texts = sample(model, problems, max_new_tokens=_longest(settings), seed=seed)
    right = [is_right(text, sum(terms(problem))) for text, problem in zip(texts, problems)]
    return _figures(texts, right, [len(text) + 1 for text in texts])  # one token a character, and the end


def _longest(settings: DemoSettings) -> int:
    return settings.family.longest + 8  # room to be wrong in


def _make_trainer(
    settings: DemoSettings, options: Options, seed: int, model: Any, recorder: _Recorder, folder: str
) -> Any:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from evenhand.grpo.chain_policy import make_tokenizer
    from evenhand.grpo.config import LambdaGRPOConfig
    from evenhand.grpo.trainer import LambdaGRPOTrainer

    problems = settings.family.problems(settings.steps * settings.prompts, seed=seed)
    options = {
        "output_dir": folder,
        "seed": seed,
        "use_cpu": True,
        "bf16": False,
        "max_steps": settings.steps,
        "per_device_train_batch_size": settings.prompts * settings.group,
        "num_generations": settings.group,
        "max_completion_length": _longest(settings),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **options,
    }
    stock = options["loss_type"] in _STOCK
    config, trainer = (GRPOConfig, GRPOTrainer) if stock else (LambdaGRPOConfig, LambdaGRPOTrainer)
    made = trainer(
        model=model,
        reward_funcs=recorder,
        args=config(**options),
        train_dataset=Dataset.from_dict(
            {"prompt": problems, "answer": [str(sum(terms(problem))) for problem in problems]}
        ),
        processing_class=make_tokenizer(),
    )
    made.remove_callback(PrinterCallback)
    return made


class _Recorder:
    """The reward function, 1 for a right answer and 0 for another, which notes what it sees."""

    __name__ = "right_answer"

    def __init__(self, group: int, report: Report | None) -> None:
        self.rows: list[Record] = []
        self._group, self._report = group, report

    def __call__(
        self, completions: Sequence[str], completion_ids: Sequence[Any], answer: Sequence[str], **_: Any
    ) -> list[float]:
        right = [is_right(text, gold) for text, gold in zip(completions, answer)]
        lengths = [len(ids) for ids in completion_ids]
        rewards = [float(one) for one in right]
        self.rows.append({**_figures(completions, right, lengths), "lengths": lengths, "rewards": rewards})
        if self._report is not None:
            self._report(1)
        return rewards


def _figures(texts: Sequence[str], right: Sequence[bool], lengths: Sequence[int]) -> dict[str, float]:
    long = np.array([form_of(text) == "long" for text in texts])
    hits = np.array(right, float)
    figures = {
        "accuracy": float(hits.mean()),
        "length": float(np.mean(lengths)),
        "long_share": float(long.mean()),
    }
    for name, rows in (("accuracy_long", long), ("accuracy_short", ~long)):
        if rows.any():
            figures[name] = float(hits[rows].mean())
    return figures


def _quarters(lengths: Sequence[int], rewards: Sequence[float], group: int) -> dict[str, float]:
    """Mean length and advantage of each quarter of a group, from its shortest responses to its longest."""
    length, reward = (np.reshape(values, (-1, group)) for values in (lengths, rewards))
    spread = reward.std(axis=1, ddof=1, keepdims=True)
    advantage = (reward - reward.mean(axis=1, keepdims=True)) / (spread + _ADVANTAGE_EPSILON)
    order = np.argsort(length, axis=1, kind="stable")  # equal lengths: as sampled, so by chance
    quarter = np.arange(group) * 4 // group
    figures = {}
    for name, values in (("length", length), ("advantage", advantage)):
        ordered = np.take_along_axis(values, order, axis=1)
        for number in np.unique(quarter):
            figures[f"{name}, quarter {number + 1}"] = float(ordered[:, quarter == number].mean())
    return figures


def _weights(loss_type: str, lengths: Sequence[int], group: int, logged: Record) -> dict[str, float]:
    """λ, and extremes and standard deviation of f in a step; GRPO's follow from the lengths."""
    if loss_type not in _STOCK:
        return {name: float(logged[f"preference/{name}"]) for name in ("lambda", *_OF_WEIGHTS)}
    import torch

    from evenhand.grpo.aggregation import response_weights

    ids = torch.arange(len(lengths)) // group
    f = response_weights("grpo" if loss_type == "grpo" else "dapo", torch.tensor(lengths), ids)
    return dict(zip(_OF_WEIGHTS, (float(f.min()), float(f.max()), float(f.std(correction=0)))))
