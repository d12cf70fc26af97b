"""What the commands share: where tasks come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

_PROCEDURAL = "reasoning_gym:"


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
        if self.levels is not None and (self.kind != "math" or self.place.startswith(_PROCEDURAL)):
            raise ValueError("levels are of problems in MATH's form; give the kind math, or leave them out")

    def read(self) -> Any:
        """The data set, with columns `prompt`, `answer` and `problem_id`."""
        from evenhand.grpo.tasks import procedural_tasks

        if self.place.startswith(_PROCEDURAL):
            name = self.place.removeprefix(_PROCEDURAL)
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
