"""What the commands share: where tasks come from, and whether their answers can be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

PROCEDURAL = "reasoning_gym:"
"""How the place of problems that are made up begins; their task's name follows."""


def check_tasks(tasks: Any, place: str) -> None:
    """Refuse problems whose answers nothing can be compared with.

    Parameters
    ----------
    tasks : datasets.Dataset
        With a column `answer`, and perhaps `problem_id`.
    place : str
        Where they come from, for the message.

    Raises
    ------
    ValueError
        If there are such; names place and problems.
    """
    from evenhand.grpo.rewards import check_answers

    names = tasks["problem_id"] if "problem_id" in tasks.column_names else None
    try:
        check_answers(tasks["answer"], names=names)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


@dataclass(frozen=True)
class TaskSource:
    """Problems with answers, as a person names them.

    Parameters
    ----------
    place : str
        A file, or reasoning_gym:NAME.
    kind : {"plain", "gsm8k", "math"}
        Whose form a file has.
    prompt, answer : str
        Fields of a plain file.
    levels : tuple of int, optional
        Of MATH's problems, those to take.
    size, seed : int
        Of made-up problems.
    chat : bool
        Ask as a user's message.

    Raises
    ------
    ValueError
        If there are levels of what is not MATH.
    """

    place: str
    kind: Literal["plain", "gsm8k", "math"] = "plain"
    prompt: str = "prompt"
    answer: str = "answer"
    levels: tuple[int, ...] | None = None
    size: int = 1000
    seed: int = 0
    chat: bool = False

    def __post_init__(self) -> None:
        if self.levels is not None and (self.kind != "math" or self.place.startswith(PROCEDURAL)):
            raise ValueError("levels are of problems in MATH's form; give the kind math, or leave them out")

    def read(self) -> Any:
        """The data set, with columns `prompt`, `answer` and `problem_id`."""
        from evenhand.grpo.tasks import procedural_tasks

        if self.place.startswith(PROCEDURAL):
            name = self.place.removeprefix(PROCEDURAL)
            return procedural_tasks(name, size=self.size, seed=self.seed, conversational=self.chat)
        return self.read_rows(self.place)

    def read_rows(self, source: Any) -> Any:
        """The same of a file, or of a `datasets.Dataset` in the form that is named here."""
        from evenhand.grpo.tasks import read_gsm8k, read_math, read_tasks

        if self.kind == "gsm8k":
            return read_gsm8k(source, conversational=self.chat)
        if self.kind == "math":
            return read_math(source, levels=self.levels, conversational=self.chat)
        return read_tasks(source, prompt=self.prompt, answer=self.answer, conversational=self.chat)
