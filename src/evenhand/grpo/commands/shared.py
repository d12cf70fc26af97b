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
    size, seed : int
        Of made-up problems.
    chat : bool
        Ask as a user's message.
    """

    place: str
    kind: Literal["plain", "gsm8k", "math"] = "plain"
    prompt: str = "prompt"
    answer: str = "answer"
    size: int = 1000
    seed: int = 0
    chat: bool = False

    def read(self) -> Any:
        """The data set, with columns `prompt`, `answer` and `problem_id`."""
        from evenhand.grpo.tasks import procedural_tasks, read_gsm8k, read_math, read_tasks

        if self.place.startswith(_PROCEDURAL):
            name = self.place.removeprefix(_PROCEDURAL)
            return procedural_tasks(name, size=self.size, seed=self.seed, conversational=self.chat)
        if self.kind == "gsm8k":
            return read_gsm8k(self.place, conversational=self.chat)
        if self.kind == "math":
            return read_math(self.place, conversational=self.chat)
        return read_tasks(self.place, prompt=self.prompt, answer=self.answer, conversational=self.chat)
