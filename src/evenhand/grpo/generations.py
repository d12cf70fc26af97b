"""Generations as JSON lines, one a sample: kept batch by batch, taken up again, read back and judged anew."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, TypeAlias

from evenhand.files import replacing
from evenhand.grpo.answers import exact_verdict, final_answer, normalised, stated_answer
from evenhand.grpo.checking import AnswerChecker, shared_checker
from evenhand.grpo.evaluation import Outcome

Key: TypeAlias = tuple[str, str, int]
"""Set, problem and sample."""

Prompt: TypeAlias = str | list[dict[str, str]]
"""Text to be continued, or messages."""

_UNFINISHED = ".part"
_OTHER = "delete the file, or give another --out"


class GenerationsError(ValueError):
    """A file of generations cannot be used; the message names the file, and the line and field."""


@dataclass(frozen=True, kw_only=True)
class Generation(Outcome):
    """One sampled completion with all that its verdict depends on.

    Parameters
    ----------
    set : str
        The set of problems; a problem's id is its own within it.
    problem, sample, answer, correct
        As for `evaluation.Outcome`.
    prompt : str
        `prompt_hash` of what the model was asked.
    gold : str
        The right answer.
    text : str
        The completion.
    tokens : int
        Its length.
    finish : str
        "stop" at its own end, "length" at the longest allowed; or what else a server says.
    procedural : str or None
        The task's description, where reasoning-gym is to judge.
    """

    set: str
    prompt: str
    gold: str
    text: str
    tokens: int
    finish: str
    procedural: str | None = None

    @property
    def key(self) -> Key:
        """Set, problem and sample: no two generations of a file have the same."""
        return self.set, self.problem, self.sample


def prompt_hash(prompt: Prompt) -> str:
    """The first 16 digits of the SHA-256 of a prompt, messages as compact JSON.

    Examples
    --------
    >>> prompt_hash("1 + 1?")
    'c97c3a9c9b990740'
    """
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, separators=(",", ":"), sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def judged(generations: Sequence[Generation], *, checker: AnswerChecker | None = None) -> list[Generation]:
    r"""The same generations with `answer` and `correct` as their texts and gold answers say.

    Parameters
    ----------
    generations : sequence of Generation
    checker : AnswerChecker, optional
        By default the one that the rewards share.

    Returns
    -------
    list of Generation
        In the same order. `answer` is what `answers.stated_answer` finds, normalised; `correct` is
        `AnswerChecker.right` of it, or what reasoning-gym says of `answers.final_answer` or the whole text.

    Raises
    ------
    ValueError
        If a problem was made by reasoning-gym, and that is not installed or makes another one now.
    RuntimeError
        If the checker does not start.

    Notes
    -----
    A completion that is the right answer and nothing else is right too, as for the rewards.
    """
    checker = shared_checker() if checker is None else checker
    answers = [_answer_of(one) for one in generations]
    verdicts = [False] * len(generations)
    plain = [row for row, one in enumerate(generations) if one.procedural is None]
    right = checker.right([(generations[row].gold, answers[row] or "") for row in plain])
    for row, verdict in zip(plain, right, strict=True):
        verdicts[row] = verdict
    made = [row for row, one in enumerate(generations) if one.procedural is not None and answers[row]]
    right = checker.right_procedural(
        [(generations[row].procedural or "", answers[row] or "") for row in made]
    )
    for row, verdict in zip(made, right, strict=True):
        verdicts[row] = verdict
    return [
        replace(one, answer=answer, correct=verdict)
        for one, answer, verdict in zip(generations, answers, verdicts, strict=True)
    ]


def _answer_of(one: Generation) -> str | None:
    if one.procedural is not None:
        found = final_answer(one.text)
        return one.text.strip() if found is None else found
    if final_answer(one.text) is None and exact_verdict(one.gold, one.text) is True:
        return normalised(one.text)
    stated = stated_answer(one.text)
    return None if stated is None else normalised(stated)


_FIELDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "set": ((str,), "text"),
    "problem": ((str,), "text"),
    "sample": ((int,), "a whole number from 0"),
    "prompt": ((str,), "text"),
    "gold": ((str,), "text"),
    "text": ((str,), "text"),
    "answer": ((str, type(None)), "text or null"),
    "correct": ((bool,), "true or false"),
    "tokens": ((int,), "a whole number from 0"),
    "finish": ((str,), "text"),
    "procedural": ((str, type(None)), "text or null"),
}


def read_generations(path: str | os.PathLike[str]) -> list[Generation]:
    """Read generations that an evaluation wrote, its unfinished FILE.part too.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of Generation

    Raises
    ------
    GenerationsError
        If the file cannot be read or is empty, a line is no generation (the field is named), or one stands
        twice. In FILE.part a last line without an end, which a kill has cut short, is left out.
    """
    generations = _read(path)
    if not generations:
        raise GenerationsError(f"{os.fspath(path)}: the file holds no generation")
    return generations


def _read(path: str | os.PathLike[str]) -> list[Generation]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise GenerationsError(f"{os.fspath(path)}: {error.strerror or error}") from error
    *lines, tail = content.split(b"\n")
    if tail and not os.fspath(path).endswith(_UNFINISHED):
        lines.append(tail)
    places: dict[Key, int] = {}
    generations = []
    for number, line in enumerate(lines, 1):
        place = f"{os.fspath(path)}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise GenerationsError(f"{place}: not a JSON object ({error})") from error
        one = _generation(row, place)
        if one.key in places:
            raise GenerationsError(
                f"{place}: sample {one.sample} of problem {one.problem!r} of {one.set} stands at line"
                f" {places[one.key]} already; take one of the two out"
            )
        places[one.key] = number
        generations.append(one)
    return generations


def _generation(row: Any, place: str) -> Generation:
    if not isinstance(row, dict):
        raise GenerationsError(f"{place}: {type(row).__name__} in place of a generation")
    for field, (kinds, wanted) in _FIELDS.items():
        if field not in row:
            raise GenerationsError(
                f"{place}: no field {field!r}; give a file that `evenhand grpo evaluate` has written"
            )
        value = row[field]
        if type(value) not in kinds or (type(value) is int and value < 0):
            raise GenerationsError(f"{place}, field {field!r}: {value!r:.80} is not {wanted}")
    return Generation(**{field: row[field] for field in _FIELDS})


def write_generations(path: str | os.PathLike[str], generations: Iterable[Generation]) -> None:
    """Write generations as JSON lines; the file appears when it is complete.

    Parameters
    ----------
    path : path-like
    generations : iterable of Generation
    """
    with replacing(Path(path)) as file:
        file.writelines(map(_line, generations))


def _line(one: Generation) -> str:
    # In ASCII: a lone surrogate, which a byte-level tokenizer can leave behind, has no place in UTF-8.
    return json.dumps({field: getattr(one, field) for field in _FIELDS}) + "\n"


def settings_path(path: Path) -> Path:
    """Where the settings of an evaluation stand: beside its generations.

    Examples
    --------
    >>> settings_path(Path("run.jsonl")).name
    'run.settings.json'
    >>> settings_path(Path("qwen-2.5")).name
    'qwen-2.5.settings.json'
    """
    return path.with_name(path.name.removesuffix(".jsonl") + ".settings.json")


class GenerationFile:
    """FILE, which is FILE.part until all generations are there, and beside it the settings they depend on.

    Parameters
    ----------
    path : Path
        FILE.
    settings : mapping
        All that the generations depend on, as JSON holds it.
    batches : sequence of sequence of Key
        All generations to be, in the order and the batches in which they are written.

    Attributes
    ----------
    generations : list of Generation
        What is there: whole batches only.
    n_done : int
        How many batches are there.

    Raises
    ------
    GenerationsError
        If the file is there and is of another evaluation, or holds what this one does not write: the line is
        named.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], batches: Sequence[Sequence[Key]]) -> None:
        self._path = path
        self._part = path.with_name(path.name + _UNFINISHED)
        self._settings = settings
        self._n_batches = len(batches)
        self._begun = False
        there = next((file for file in (path, self._part) if file.exists()), None)
        found: list[Generation] = []
        if there is not None:
            _check_settings(there, settings_path(path), settings)
            found = _read(there)
        self.n_done = _whole_batches([one.key for one in found], batches, there)
        self.generations = found[: sum(map(len, batches[: self.n_done]))]

    def add(self, batch: Sequence[Generation]) -> None:
        """Keep the next batch, for good when this returns; with the last, FILE.part becomes FILE."""
        if not self._begun:  # not before: a model that does not load leaves no file
            with replacing(settings_path(self._path)) as file:
                file.write(json.dumps(self._settings, indent=1) + "\n")
            write_generations(self._part, self.generations)
            self._begun = True
        with open(self._part, "a", encoding="utf-8") as file:
            file.write("".join(map(_line, batch)))
            file.flush()
            os.fsync(file.fileno())
        self.generations.extend(batch)
        self.n_done += 1
        if self.n_done == self._n_batches:
            os.replace(self._part, self._path)


def _check_settings(there: Path, beside: Path, settings: Mapping[str, Any]) -> None:
    try:
        before = dict(json.loads(beside.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise GenerationsError(
            f"{there} is there, but of what it is cannot be read from {beside.name}; {_OTHER}"
        ) from error
    now = json.loads(json.dumps(settings))
    other = sorted(name for name in now | before if now.get(name) != before.get(name))
    if other:
        raise GenerationsError(
            f"{there} is of an evaluation with other settings ({', '.join(other)}); {_OTHER}"
        )


def _whole_batches(found: Sequence[Key], batches: Sequence[Sequence[Key]], there: Path | None) -> int:
    """How many of the batches are there, from the first on; a piece of the next one does not count."""
    wanted = chain.from_iterable(batches)
    for line, key in enumerate(found, 1):
        if key != next(wanted, None):
            name, problem, sample = key
            raise GenerationsError(
                f"{there}:{line}: sample {sample} of problem {problem!r} of {name} is not what this"
                f" evaluation writes there; {_OTHER}"
            )
    return bisect_right(list(accumulate(map(len, batches))), len(found))
