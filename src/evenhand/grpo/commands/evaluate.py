"""`evenhand grpo evaluate`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from evenhand.grpo.answers import final_answer, normalised
from evenhand.grpo.commands.partial import PartialOutcomes
from evenhand.grpo.commands.shared import TaskSource
from evenhand.grpo.evaluation import (
    Interval,
    Measure,
    Outcome,
    mean_interval,
    paired_difference,
    read_outcomes,
    score_problems,
    write_outcomes,
)
from evenhand.grpo.rewards import accuracy, check_answers, procedural_accuracy
from evenhand.terminal import progress_bar, say, show_table, tell

_MEASURES: dict[str, Measure] = {"pass": "pass", "avg": "average", "maj": "majority"}
_SEED_STEP = 1_000_003  # far apart, so that batches of one seed are not those of the next


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Parameters
    ----------
    samples : int
        Of each problem.
    temperature, top_p : float
        Temperature 0 takes the likeliest token.
    max_new_tokens, batch_size, seed : int
    """

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    batch_size: int
    seed: int

    def check(self) -> None:
        """Refuse what cannot be drawn."""
        for name in ("samples", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} is {getattr(self, name)}; give at least 1")
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise ValueError("--temperature must be a number from 0, and --top-p above 0 and at most 1")
        if self.temperature == 0 and self.samples > 1:
            raise ValueError("at --temperature 0 all samples of a problem are one; give --samples 1")

    def options(self) -> dict[str, Any]:
        """For `generate`."""
        options: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "do_sample": self.temperature > 0}
        if self.temperature > 0:
            options |= {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0}
        return options


def evaluate_model(
    model: str, source: TaskSource, sampling: Sampling, *, out: Path, ks: str | None, against: Path | None
) -> None:
    """Sample, judge, write the outcomes, and show what they come to.

    Parameters
    ----------
    model : str
    source : TaskSource
    sampling : Sampling
    out : Path
    ks : str, optional
        Numbers parted by commas.
    against : Path, optional
        Outcomes of another run.

    Raises
    ------
    ValueError
        If an option, the model or the tasks cannot be used.
    """
    sampling.check()
    counts = _counts(ks, sampling.samples)
    if not out.parent.is_dir():
        raise ValueError(f"--out is {out}, but there is no folder {out.parent}; make it first")
    other = None if against is None else read_outcomes(against)
    tasks = source.read()
    if "procedural" not in tasks.column_names:
        check_answers(tasks["answer"])
    if other is not None:
        _check_same(tasks["problem_id"], other, against)
    partial = PartialOutcomes(out, _identity(model, tasks, sampling))
    if partial.batches:
        say(f"{partial.path}: {len(partial.outcomes()):,} answers are there already.")
    sample_outcomes(model, tasks, sampling, partial)
    outcomes = partial.outcomes()
    write_outcomes(out, outcomes)
    partial.remove()
    _show(outcomes, counts)
    if other is not None:
        _show_difference(outcomes, other, counts, str(against))
    tell(f"Each answer's outcome: {out}")


def _identity(name: str, tasks: Any, sampling: Sampling) -> dict[str, Any]:
    """All that outcomes depend on."""
    files = sorted(Path(name).iterdir()) if Path(name).is_dir() else []
    return {
        "model": [name, *([file.name, file.stat().st_mtime_ns] for file in files)],
        "tasks": sha256(json.dumps(tasks.to_dict(), sort_keys=True, default=str).encode()).hexdigest(),
        "sampling": asdict(sampling),
    }


def sample_outcomes(name: str, tasks: Any, sampling: Sampling, partial: PartialOutcomes) -> None:
    """Sample and judge, by problem, what is not there yet.

    Parameters
    ----------
    name : str
        The model's folder or name.
    tasks : datasets.Dataset
        As from `tasks.read_tasks`.
    sampling : Sampling
    partial : PartialOutcomes
        Takes the outcomes batch by batch.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(name, dtype="auto").to(device).eval()
    work = [(row, sample) for row in range(len(tasks)) for sample in range(sampling.samples)]
    first = len(partial.outcomes())
    with progress_bar("answers", len(work) - first, "answers") as advance:
        for start in range(first, len(work), sampling.batch_size):
            set_seed((sampling.seed * _SEED_STEP + start) % 2**32)  # a batch is the same wherever one starts
            part = work[start : start + sampling.batch_size]
            rows = tasks.select([row for row, _ in part])
            written = list(_write(model, tokenizer, rows["prompt"], sampling))
            judged = _judge(rows, [text for text, _, _ in written])
            partial.add(
                [
                    Outcome(problem, sample, answer, right, length, not ended)
                    for (_, sample), problem, (_, length, ended), (right, answer) in zip(
                        part, rows["problem_id"], written, judged, strict=True
                    )
                ]
            )
            advance(len(part))


@torch.no_grad()
def _write(
    model: Any, tokenizer: Any, prompts: Sequence[Any], sampling: Sampling
) -> Iterator[tuple[str, int, bool]]:
    """Text, tokens and whether it came to its end, of one answer to each prompt."""
    texts = [
        prompt
        if isinstance(prompt, str)
        else tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    chat = not isinstance(prompts[0], str)  # a template writes the special tokens itself
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not chat).to(model.device)
    found = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        pad_token_id=tokenizer.pad_token_id,
        **sampling.options(),
    )
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    for row in found[:, batch["input_ids"].shape[1] :].tolist():
        length = next((at + 1 for at, token in enumerate(row) if token in ends), None)
        kept = row if length is None else row[:length]
        yield tokenizer.decode(kept, skip_special_tokens=True), len(kept), length is not None


def _judge(rows: Any, texts: Sequence[str]) -> Iterator[tuple[bool, str | None]]:
    """Whether each is right, and its answer; a right one is spelled as the gold answer is."""
    columns = {name: list(rows[name]) for name in rows.column_names if name != "prompt"}
    reward = procedural_accuracy if "procedural" in columns else accuracy
    rewards = reward(prompts=rows["prompt"], completions=texts, **columns)
    for text, gold, value in zip(texts, columns["answer"], rewards, strict=True):
        stated = final_answer(text)
        if value == 1.0:
            yield True, normalised(gold) or stated or text
        else:
            yield False, None if stated is None else normalised(stated)


def _counts(ks: str | None, samples: int) -> list[int]:
    if ks is None:
        return sorted({*(2**i for i in range(samples.bit_length())), samples})
    try:
        counts = [int(k) for k in ks.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1 or max(counts) > samples:
        raise ValueError(f"--k is {ks!r}; write numbers from 1 to --samples ({samples}), like 1,4")
    return counts


def _check_same(problems: Sequence[str], other: Sequence[Outcome], path: Path | None) -> None:
    """Say before the sampling what would stop the comparison after it."""
    ours, theirs = set(problems), {outcome.problem for outcome in other}
    if ours != theirs:
        raise ValueError(
            f"{path} is about other problems: {len(theirs - ours)} of them are not in these tasks, and"
            f" {len(ours - theirs)} of the tasks are not in it"
        )


def _show(outcomes: Sequence[Outcome], counts: Sequence[int]) -> None:
    rows = []
    for name, measure in _MEASURES.items():
        for k in counts:
            interval = mean_interval(score_problems(outcomes, measure, k))
            rows.append((f"{name}@{k}", f"{100 * interval.estimate:.1f}", _ends(interval)))
    n = len({outcome.problem for outcome in outcomes})
    show_table(f"{n:,} problems, {len(outcomes):,} answers", ("%", "mean", "95 % interval"), rows)
    lengths = [outcome.length for outcome in outcomes]
    cut = np.mean([outcome.truncated for outcome in outcomes])
    tell(f"Mean length {np.mean(lengths):.1f} tokens; {100 * cut:.1f} % were cut off at the longest.")


def _show_difference(
    outcomes: Sequence[Outcome], other: Sequence[Outcome], counts: Sequence[int], name: str
) -> None:
    rows = []
    fewest = min(_sizes(other))
    for measure_name, measure in _MEASURES.items():
        for k in counts:
            if k > fewest:
                continue
            scores = score_problems(other, measure, k), score_problems(outcomes, measure, k)
            interval = paired_difference(*scores)
            rows.append((f"{measure_name}@{k}", f"{100 * interval.estimate:+.1f}", _ends(interval, "+")))
    show_table(f"Difference to {name}, in points", ("", "mean", "95 % interval"), rows)
    if max(counts) > fewest:
        say(f"{name} has {fewest} answers to a problem; larger k are left out.")
    tell("An interval that holds 0 does not tell the two apart. It is about problems, not training seeds.")


def _sizes(outcomes: Sequence[Outcome]) -> list[int]:
    sizes: dict[str, int] = {}
    for outcome in outcomes:
        sizes[outcome.problem] = sizes.get(outcome.problem, 0) + 1
    return list(sizes.values())


def _ends(interval: Interval, sign: str = "") -> str:
    return f"{100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f}"
