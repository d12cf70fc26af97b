r"""Tasks with answers that can be verified, as data sets for TRL: from files or rows, and by reasoning-gym.

Every reader gives a `datasets.Dataset` with the columns `prompt` (text, or messages), `answer` (text) and
`problem_id` (text, no two alike), in the order of the source. `rewards.accuracy` takes `answer`;
`procedural_tasks` adds the column that `rewards.procedural_accuracy` takes.
"""

from __future__ import annotations

import difflib
import gzip
import itertools
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias

import datasets
import polars as pl

from evenhand.grpo.answers import after_hashes, last_boxed
from evenhand.grpo.checking import NO_REASONING_GYM
from evenhand.gzipped import most_unpacked, open_bytes
from evenhand.strict_json import each_once

AnswerForm: TypeAlias = Literal["whole", "hashes", "boxed"]
"""Where the answer stands in its field: the whole field, after the last `####`, or in the last box."""

BOXED_INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
TAGS_INSTRUCTION = "Put your final answer between <answer> and </answer>."

_PLACE_BYTES = 64  # that a text takes up beside its letters
_MOST_NAMED = 20  # fields in a message
_UNBRACED_BOX = re.compile(r"\\boxed\s+([^\s$]+)")


class TaskError(ValueError):
    """A source of tasks cannot be used; the message names the file, the line or row, and the field."""


def read_tasks(
    source: str | os.PathLike[str] | datasets.Dataset,
    *,
    prompt: str = "prompt",
    answer: str = "answer",
    problem_id: str | None = None,
    form: AnswerForm = "whole",
    levels: Sequence[int] | None = None,
    instruction: str = "",
    conversational: bool = False,
    keep_unanswered: bool = False,
) -> datasets.Dataset:
    r"""Read problems with answers from JSON lines or Parquet, or from rows that are loaded already.

    Parameters
    ----------
    source : path-like or datasets.Dataset
        A file is `.jsonl` or `.json` (one object a line), either of them with `.gz`, or `.parquet`.
    prompt, answer : str
        The fields that hold the problem and its answer. A problem is text, or a list of messages with `role`
        and `content`. An answer is text, a number, or a list of one of these.
    problem_id : str, optional
        The field that names a problem; by default problems are numbered by line or row, from 1.
    form : {"whole", "hashes", "boxed"}, default="whole"
        Where the answer stands in its field.
    levels : sequence of int, optional
        Take only problems of these levels, which the field `level` states as MATH does ("Level 3", or 3).
    instruction : str, default=""
        Put behind every problem that is text, after an empty line; for example `BOXED_INSTRUCTION`.
    conversational : bool, default=False
        Make every problem that is text a user's message, so that TRL applies the model's chat template.
    keep_unanswered : bool, default=False
        Take a problem whose answer is empty, so that a public set stays whole; nothing is right for it.

    Returns
    -------
    datasets.Dataset
        Columns `prompt`, `answer`, `problem_id`.

    Raises
    ------
    TaskError
        If the file cannot be read or is empty, a field is missing, empty or of another kind, there is no
        answer in the wanted form, no problem of such a level, or two problems have one name.

    Notes
    -----
    That an answer can be read as mathematics is not checked here: `rewards.check_answers` does that.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "two.jsonl")
    >>> _ = path.write_text('{"q": "1 + 1?", "a": "one more: #### 2"}\n{"q": "2 + 2?", "a": "#### 4"}\n')
    >>> read_tasks(path, prompt="q", answer="a", form="hashes")[0]
    {'prompt': '1 + 1?', 'answer': '2', 'problem_id': '1'}
    >>> folder.cleanup()
    """
    if form not in _FORMS:
        raise TaskError(f"form {form!r} is not known; take one of {', '.join(_FORMS)}")
    columns: dict[str, list[Any]] = {"prompt": [], "answer": [], "problem_id": []}
    seen: dict[str, str] = {}
    level = None if levels is None else "level"
    wanted = [field for field in (prompt, answer, problem_id, level) if field is not None]
    number = 0
    for number, place, row in _rows(source, wanted):
        if levels is not None and _level_of(row, place) not in levels:
            continue
        question = _prompt_of(row, prompt, place)
        columns["prompt"].append(_as_prompt(question, instruction, conversational))
        if type(columns["prompt"][-1]) is not type(columns["prompt"][0]):
            raise TaskError(f"{place}, field {prompt!r}: give all problems as text or all as messages")
        columns["answer"].append(_answer_of(row, answer, form, place))
        if not columns["answer"][-1] and not keep_unanswered:
            raise TaskError(f"{place}, field {answer!r}: the answer is empty; give one, or take the row out")
        name = (
            str(number) if problem_id is None else _plain(_field(row, problem_id, place), problem_id, place)
        )
        if name in seen:
            raise TaskError(
                f"{place}, field {problem_id!r}: {name!r} already names the problem at {seen[name]};"
                " give each a name of its own"
            )
        seen[name] = place
        columns["problem_id"].append(name)
    if not seen:
        of = f" of level {' or '.join(map(str, levels))}" if levels is not None and number else ""
        raise TaskError(f"{_name_of(source)}: it holds no problem{of}")
    return datasets.Dataset.from_dict(columns)


def read_gsm8k(
    source: str | os.PathLike[str] | datasets.Dataset,
    *,
    instruction: str = BOXED_INSTRUCTION,
    conversational: bool = False,
) -> datasets.Dataset:
    """Read a file or rows in GSM8K's form: fields `question` and `answer`, the answer's number after `####`.

    Parameters
    ----------
    source, instruction, conversational
        As for `read_tasks`.

    Returns
    -------
    datasets.Dataset
        As from `read_tasks`.

    Raises
    ------
    TaskError
        As in `read_tasks`.
    """
    return read_tasks(
        source,
        prompt="question",
        answer="answer",
        form="hashes",
        instruction=instruction,
        conversational=conversational,
    )


def read_math(
    source: str | os.PathLike[str] | datasets.Dataset,
    *,
    levels: Sequence[int] | None = None,
    instruction: str = BOXED_INSTRUCTION,
    conversational: bool = False,
) -> datasets.Dataset:
    r"""Read a file or rows in MATH's form: fields `problem` and `solution`, the answer in its last box.

    Parameters
    ----------
    source, levels, instruction, conversational
        As for `read_tasks`.

    Returns
    -------
    datasets.Dataset
        As from `read_tasks`.

    Raises
    ------
    TaskError
        As in `read_tasks`.
    """
    return read_tasks(
        source,
        prompt="problem",
        answer="solution",
        form="boxed",
        levels=levels,
        instruction=instruction,
        conversational=conversational,
    )


def procedural_tasks(
    name: str,
    *,
    size: int,
    seed: int = 0,
    instruction: str = TAGS_INSTRUCTION,
    conversational: bool = False,
    **options: Any,
) -> datasets.Dataset:
    """Make problems with reasoning-gym.

    Parameters
    ----------
    name : str
        Of one of its tasks, such as "chain_sum".
    size : int
        Number of problems.
    seed : int, default=0
        The same seed gives the same problems. A training and an evaluation set need different seeds.
    instruction, conversational
        As for `read_tasks`.
    **options
        Of the task, as reasoning-gym names them; values that JSON holds.

    Returns
    -------
    datasets.Dataset
        Columns `prompt`, `answer`, `problem_id`, and `procedural`: what `rewards.procedural_accuracy` needs
        to make the item again and score an answer to it. `answer` is one right answer ("" where the task has
        none); others may be right too, so judge by the reward.

    Raises
    ------
    TaskError
        If `size` is no number of problems, or reasoning-gym is not installed, has no such task, or refuses an
        option.

    Notes
    -----
    A few of its tasks (in 0.1.25: isomorphic_strings, polynomial_multiplication, ransom_note) make other
    problems in each process; `rewards.procedural_accuracy` then refuses to score them.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise TaskError(f"size must be a whole number of problems, at least 1, not {size!r}")
    options = {**options, "seed": seed, "size": size}
    source = _procedural_source(name, options)
    columns: dict[str, list[Any]] = {"prompt": [], "answer": [], "problem_id": [], "procedural": []}
    for index in range(size):
        item = source[index]
        digest = sha256(item["question"].encode()).hexdigest()[:16]
        description = {"name": name, "options": options, "index": index, "question": digest}
        columns["prompt"].append(_as_prompt(item["question"], instruction, conversational))
        columns["answer"].append("" if item["answer"] is None else str(item["answer"]))
        columns["problem_id"].append(f"{name}-{seed}-{index}")
        columns["procedural"].append(json.dumps(description))
    return datasets.Dataset.from_dict(columns)


def _procedural_source(name: str, options: Mapping[str, Any]) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise TaskError(NO_REASONING_GYM) from error
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(sorted(DATASETS))}"
        raise TaskError(f"reasoning-gym has no task {name!r}{hint}")
    try:
        json.dumps(options)
        return reasoning_gym.create_dataset(name, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise TaskError(
            f"reasoning-gym's task {name!r} refuses its options {dict(options)!r}: {error}"
        ) from error


def _name_of(source: str | os.PathLike[str] | datasets.Dataset) -> str:
    if not isinstance(source, datasets.Dataset):
        return str(source)
    return "the data set" if source.split is None else f"the data set's split {str(source.split)!r}"


def _rows(
    source: str | os.PathLike[str] | datasets.Dataset, fields: list[str]
) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Rows with their numbers, from 1, and places."""
    if isinstance(source, datasets.Dataset):
        return ((number, f"row {number} of {_name_of(source)}", row) for number, row in enumerate(source, 1))
    path = Path(source)
    name = path.name.removesuffix(".gz")
    if name.endswith((".jsonl", ".json")):
        return _json_rows(path)
    if path.name.endswith(".parquet"):
        return _parquet_rows(path, fields)
    raise TaskError(f"{path}: not .jsonl, .json, .jsonl.gz, .json.gz or .parquet; convert the file")


def _json_rows(path: Path) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                yield number, f"{path}:{number}", _json_object(line, path, number)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TaskError(f"{path}: not a sound gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror or error}") from error


def _json_object(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    try:
        row = json.loads(line, object_pairs_hook=each_once)
        if b"\\u" in line:  # half a surrogate pair is JSON, but no text
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        what = "blank line; take it out" if not line.strip() else f"not one JSON object a line ({error})"
        raise TaskError(f"{path}:{number}: {what}") from error
    if not isinstance(row, dict):
        raise TaskError(f"{path}:{number}: {type(row).__name__} in place of a JSON object")
    return row


def _parquet_rows(path: Path, fields: list[str]) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    try:
        present = [field for field in fields if field in pl.read_parquet_schema(path)]
        table = pl.read_parquet(path, columns=present)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise TaskError(
            f"{path}: cannot be read as Parquet ({error!s:.300}); write it anew, or as .jsonl"
        ) from error
    left = most = most_unpacked(path)
    for number, row in enumerate(table.iter_rows(named=True), 1):
        left -= sum(_PLACE_BYTES + len(str(value)) for value in row.values())
        if left < 0:
            raise TaskError(
                f"{path}: unpacks to more than {most:,} bytes, the bound for a file of its size; if you trust"
                " it, write it as .jsonl"
            )
        yield number, f"{path}: row {number}", row


def _field(row: Mapping[str, Any], field: str, place: str) -> Any:
    if field not in row:
        there = ", ".join(f"{name!r:.60}" for name in itertools.islice(row, _MOST_NAMED))
        there = there or "none of those asked for"
        raise TaskError(f"{place}: no field {field!r}; there are {there}")
    return row[field]


def _prompt_of(row: Mapping[str, Any], field: str, place: str) -> str | list[dict[str, str]]:
    value = _field(row, field, place)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(_is_message(part) for part in value):
        return [{"role": part["role"], "content": part["content"]} for part in value]
    raise TaskError(
        f"{place}, field {field!r}: {value!r:.80} is neither text nor messages with role and content"
    )


def _is_message(part: Any) -> bool:
    return (
        isinstance(part, dict) and isinstance(part.get("role"), str) and isinstance(part.get("content"), str)
    )


def _as_prompt(question: str | list[dict[str, str]], instruction: str, conversational: bool) -> Any:
    if isinstance(question, list):
        return question
    text = f"{question}\n\n{instruction}" if instruction else question
    return [{"role": "user", "content": text}] if conversational else text


def _answer_of(row: Mapping[str, Any], field: str, form: AnswerForm, place: str) -> str:
    value = _field(row, field, place)
    if isinstance(value, list):
        if len(value) != 1:
            raise TaskError(f"{place}, field {field!r}: a list of {len(value)} answers; give one")
        (value,) = value
    find, wanted = _FORMS[form]
    found = find(_plain(value, field, place))
    if found is None:
        raise TaskError(f"{place}, field {field!r}: {wanted}")
    return found.strip()


def _level_of(row: Mapping[str, Any], place: str) -> int | None:
    """MATH's level; None for "Level ?", which a few of its problems have."""
    value = _plain(_field(row, "level", place), "level", place)
    level = value.removeprefix("Level ")
    if not (level.isdecimal() or level == "?"):
        raise TaskError(f"{place}, field 'level': {value!r:.80} is no level, like \"Level 3\" or 3")
    return None if level == "?" else int(level)


def _plain(value: Any, field: str, place: str) -> str:
    """Text as it is, and a number as text without an exponent or a needless ".0"."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else f"{Decimal(repr(value)):f}"
    raise TaskError(f"{place}, field {field!r}: {value!r:.80} is neither text nor a number")


def _boxed(solution: str) -> str | None:
    boxed = last_boxed(solution)
    if boxed is None and (unbraced := _UNBRACED_BOX.findall(solution)):  # MATH has a few of these
        return str(unbraced[-1])
    return boxed


_FORMS: Mapping[str, tuple[Callable[[str], str | None], str]] = {
    "whole": (lambda text: text, ""),
    "hashes": (after_hashes, "no #### before an answer"),
    "boxed": (_boxed, r"no \boxed{} with the answer"),
}
