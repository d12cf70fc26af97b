r"""The eight sets of the λ-GRPO paper's evaluation, from local files, asked and sampled as the field does it.

The paper reports avg@32 for AIME24 and AMC23 and greedy answers for the others. What it leaves open is our
choice among what public harnesses do: Qwen2.5-Math's instruction and its 2,048 new tokens (the longest
of the paper's training too), temperature 1 and top-p 0.95 for avg@32, as SimpleRL's scripts have it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import datasets

from evenhand.grpo.backends import Decoding
from evenhand.grpo.tasks import BOXED_INSTRUCTION, AnswerForm, TaskError, read_tasks

Form: TypeAlias = Literal["plain", "user", "system"]
"""How a problem is asked: as text, by a user's message, or by that and the instruction as the system's."""

GREEDY = Decoding(temperature=0.0, top_p=1.0, max_new_tokens=2048)
"""Of sets that are asked once."""

SAMPLED = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=2048)
"""Of sets that are asked several times."""


@dataclass(frozen=True)
class MathSet:
    """A public set of problems: which fields its file has, and how often it is asked.

    Parameters
    ----------
    title : str
        As papers write it.
    problem, answer : str
        Fields.
    form : {"whole", "hashes", "boxed"}
        Where the answer stands in its field.
    size : int
        Problems in the published set.
    samples : int
        Answers to each problem in the paper.
    """

    title: str
    problem: str
    answer: str
    form: AnswerForm
    size: int
    samples: int = 1


MATH_SETS: Mapping[str, MathSet] = MappingProxyType(
    {
        "gsm8k": MathSet("GSM8K", "question", "answer", "hashes", 1319),
        "math500": MathSet("MATH-500", "problem", "answer", "whole", 500),
        "minerva_math": MathSet("Minerva", "problem", "solution", "boxed", 272),
        "gaokao2023en": MathSet("Gaokao 2023 EN", "question", "answer", "whole", 385),
        "olympiadbench": MathSet("OlympiadBench", "question", "final_answer", "whole", 675),
        "college_math": MathSet("College Math", "question", "answer", "whole", 2818),
        "aime24": MathSet("AIME24", "problem", "answer", "whole", 30, 32),
        "amc23": MathSet("AMC23", "problem", "answer", "whole", 40, 32),
    }
)
"""The sets by the names that the public harnesses' folders have."""


def find_math_set(name: str, folder: str | os.PathLike[str]) -> Path | None:
    """The file of a set: NAME.jsonl, NAME-test.jsonl or NAME/test.jsonl in the folder, each also with .gz.

    Parameters
    ----------
    name : str
        One of `MATH_SETS`.
    folder : path-like

    Returns
    -------
    Path or None
        The first of these that is there.
    """
    places = (f"{name}.jsonl", f"{name}-test.jsonl", f"{name}/test.jsonl")
    paths = (Path(folder, place + ending) for place in places for ending in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def read_math_set(name: str, folder: str | os.PathLike[str], *, form: Form = "user") -> datasets.Dataset:
    r"""Read a set's problems, each asked for step by step and for a boxed answer.

    Parameters
    ----------
    name : str
        One of `MATH_SETS`.
    folder : path-like
        Where `find_math_set` looks.
    form : {"plain", "user", "system"}, default="user"
        "plain" and "user" put the instruction on the line below the problem (qwen-boxed in the harness of
        Qwen2.5-Math), "system" into the system's message (qwen25-math-cot).

    Returns
    -------
    datasets.Dataset
        Columns `prompt` (text, or messages), `answer`, `problem_id` (the line in the file).

    Raises
    ------
    TaskError
        If the set is not there, or as for `tasks.read_tasks`.
    """
    if name not in MATH_SETS:
        raise TaskError(f"there is no set {name!r}; choose one of {', '.join(MATH_SETS)}")
    path = find_math_set(name, folder)
    if path is None:
        raise TaskError(missing_math_set(name, folder))
    math_set = MATH_SETS[name]
    tasks = read_tasks(
        path,
        prompt=math_set.problem,
        answer=math_set.answer,
        form=math_set.form,
        keep_unanswered=True,  # Gaokao 2023 EN has two such problems, and published figures count them
    )
    prompts = [_asked(problem, form) for problem in tasks["prompt"]]
    return datasets.Dataset.from_dict({**tasks.to_dict(), "prompt": prompts})


def _asked(problem: str, form: Form) -> Any:
    if form == "system":
        return [{"role": "system", "content": BOXED_INSTRUCTION}, {"role": "user", "content": problem}]
    text = f"{problem}\n{BOXED_INSTRUCTION}"
    return text if form == "plain" else [{"role": "user", "content": text}]


def missing_math_set(name: str, folder: str | os.PathLike[str]) -> str:
    """What is to be put where, for a set that is not there."""
    math_set = MATH_SETS[name]
    return (
        f"{os.fspath(folder)}: no {name}.jsonl (or {name}-test.jsonl, {name}/test.jsonl; each also with .gz);"
        f" {math_set.title} is expected there, one JSON object a line, the problem in {math_set.problem!r}"
        f" and {_WHERE[math_set.form]} {math_set.answer!r}"
    )


_WHERE: Mapping[AnswerForm, str] = {
    "whole": "its answer in",
    "hashes": "its answer after #### in",
    "boxed": r"its answer in the last \boxed{} of",
}
