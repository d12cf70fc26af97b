"""What the commands share: where tasks come from, and whether their answers can be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

PROCEDURAL = "reasoning_gym:"
"""How the place of problems that are made up begins; their task's name follows."""

_UNHEEDED = {
    "size": "a size is of problems that reasoning-gym makes; leave it out",
    "kind": "a kind is of problems in files and data sets; leave it out",
    "levels": "levels are of problems in MATH's form; give the kind math, or leave them out",
    "prompt": "the problem's field is named for plain files only; leave it out",
    "answer": "the answer's field is named for plain files only; leave it out",
}


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
        A file, or reasoning_gym:NAME; empty for data sets that are handed over.
    kind : {"plain", "gsm8k", "math"}
        Whose form a file has.
    prompt, answer : str
        Fields of a plain file.
    levels : tuple of int, optional
        Of MATH's problems, those to take.
    size : int, optional
        How many problems are made up.
    seed : int
        Of made-up problems.
    chat : bool
        Ask as a user's message.

    Raises
    ------
    ValueError
        If something is given that problems of this place and kind do not have.
    """

    place: str
    kind: Literal["plain", "gsm8k", "math"] = "plain"
    prompt: str = "prompt"
    answer: str = "answer"
    levels: tuple[int, ...] | None = None
    size: int | None = None
    seed: int = 0
    chat: bool = False

    def __post_init__(self) -> None:
        is_made_up = self.place.startswith(PROCEDURAL)
        is_plain_file = self.place != "" and self.kind == "plain" and not is_made_up
        heeded = {
            "size": is_made_up,
            "kind": not is_made_up,
            "levels": self.kind == "math" and not is_made_up,
            "prompt": is_plain_file,
            "answer": is_plain_file,
        }
        for name in self.given():
            if not heeded[name]:
                raise ValueError(_UNHEEDED[name])

    def given(self) -> list[str]:
        """What was said of the problems beside their place."""
        return [name for name in _UNHEEDED if getattr(self, name) != getattr(TaskSource, name)]

    def read(self, usual_size: int) -> Any:
        """The data set, with columns `prompt`, `answer` and `problem_id`.

        Parameters
        ----------
        usual_size : int
            How many problems are made up where nobody said it.
        """
        from evenhand.grpo.tasks import procedural_tasks

        if self.place.startswith(PROCEDURAL):
            name = self.place.removeprefix(PROCEDURAL)
            size = usual_size if self.size is None else self.size
            return procedural_tasks(name, size=size, seed=self.seed, conversational=self.chat)
        return self.read_rows(self.place)

    def read_rows(self, source: Any) -> Any:
        """The same of a file, or of a `datasets.Dataset` in the form that is named here."""
        from evenhand.grpo.tasks import read_gsm8k, read_math, read_tasks

        if self.kind == "gsm8k":
            return read_gsm8k(source, conversational=self.chat)
        if self.kind == "math":
            return read_math(source, levels=self.levels, conversational=self.chat)
        return read_tasks(source, prompt=self.prompt, answer=self.answer, conversational=self.chat)
