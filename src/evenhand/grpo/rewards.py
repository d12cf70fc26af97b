r"""Verifiable rewards, as reward functions for TRL.

Each is called as `function(prompts=…, completions=…, COLUMN=…, …)`, one entry a completion, and returns one
finite number a completion. Completions are texts or lists of messages. Whatever is wrong with the input ends
in a ValueError that names the function and the row, counted from 0 within the call.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeAlias

from evenhand.grpo.answers import final_answer, last_boxed
from evenhand.grpo.checking import AnswerChecker, shared_checker

RewardFunction: TypeAlias = Callable[..., Any]
"""Takes `prompts`, `completions` and the data set's columns by name; gives one number a completion."""

_NAMED = 5  # bad rows that a message lists


def accuracy(
    prompts: Sequence[Any] | None = None,
    completions: Sequence[Any] = (),
    answer: Sequence[str] | None = None,
    **columns: Any,
) -> list[float]:
    r"""1 for a right answer, 0 for any other.

    The answer of a completion is what `answers.final_answer` finds: the last box, else between `<answer>`
    tags, else after `####`. Where there is no such place, a completion is right if it is the answer and
    nothing else, or says "the answer is …" at its end.

    Parameters
    ----------
    prompts : sequence of length B
    completions : sequence of length B
    answer : sequence of str, length B
        Gold answers: the data set's column `answer`.
    **columns
        Passed over, except TRL's `log_metric`: it is told how many answers ran into the time limit.

    Returns
    -------
    list of float, length B

    Raises
    ------
    ValueError
        If a completion or a gold answer is missing or not text, lengths differ, or a gold answer cannot be
        read.
    RuntimeError
        If the checker does not start.

    Examples
    --------
    >>> accuracy(["1/4 + 1/4?"] * 3, [r"\boxed{\frac{2}{4}}", "#### 0.5", r"\boxed{}"], answer=["1/2"] * 3)
    [1.0, 1.0, 0.0]
    """
    texts = _completion_texts("accuracy", completions, prompts)
    golds = _gold_answers("accuracy", answer, len(texts))
    with _checker("accuracy", columns) as checker:
        return [float(right) for right in checker.right_in_text(list(zip(golds, texts, strict=True)))]


def signed_accuracy(
    prompts: Sequence[Any] | None = None,
    completions: Sequence[Any] = (),
    answer: Sequence[str] | None = None,
    **columns: Any,
) -> list[float]:
    r"""The reward of the λ-GRPO paper's runs: +1 right, −0.5 wrong but boxed, −1 without a box.

    An empty box is none, and an answer outside a box is not looked at. Truncated completions rarely hold a
    box, so this reward ties truncation to a low advantage and pushes λ down; `accuracy` does not.

    Parameters
    ----------
    prompts, completions, answer, **columns
        As for `accuracy`.

    Returns
    -------
    list of float, length B

    Raises
    ------
    ValueError, RuntimeError
        As for `accuracy`.

    Examples
    --------
    >>> signed_accuracy(["1 + 1?"] * 3, [r"\boxed{2}", r"\boxed{3}", "2"], answer=["2"] * 3)
    [1.0, -0.5, -1.0]
    """
    texts = _completion_texts("signed_accuracy", completions, prompts)
    golds = _gold_answers("signed_accuracy", answer, len(texts))
    boxes = [last_boxed(text) for text in texts]
    with _checker("signed_accuracy", columns) as checker:
        verdicts = checker.right([(gold, box or "") for gold, box in zip(golds, boxes, strict=True)])
    return [1.0 if right else -0.5 if box else -1.0 for right, box in zip(verdicts, boxes, strict=True)]


def boxed_format(
    prompts: Sequence[Any] | None = None, completions: Sequence[Any] = (), **columns: Any
) -> list[float]:
    r"""1 for a completion that holds a complete `\boxed{}` with something in it, 0 for any other.

    Parameters
    ----------
    prompts, completions, **columns
        As for `accuracy`.

    Returns
    -------
    list of float, length B

    Raises
    ------
    ValueError
        If a completion is missing or no text, or lengths differ.

    Examples
    --------
    >>> boxed_format(["?"] * 3, [r"so \boxed{x}", r"so \boxed{x", r"\boxed{ }"])
    [1.0, 0.0, 0.0]
    """
    texts = _completion_texts("boxed_format", completions, prompts)
    return [1.0 if last_boxed(text) else 0.0 for text in texts]


def procedural_accuracy(
    prompts: Sequence[Any] | None = None,
    completions: Sequence[Any] = (),
    procedural: Sequence[str] | None = None,
    **columns: Any,
) -> list[float]:
    """1 where reasoning-gym scores the answer exactly 1, 0 for less: its partial scores reward form alone.

    The answer is what `answers.final_answer` finds, or else the whole completion.

    Parameters
    ----------
    prompts, completions, **columns
        As for `accuracy`.
    procedural : sequence of str, length B
        The column that `tasks.procedural_tasks` writes.

    Returns
    -------
    list of float, length B

    Raises
    ------
    ValueError
        If a completion or a task is missing, lengths differ, or reasoning-gym is not installed or does not
        make the item that was asked again.
    RuntimeError
        If the checker does not start.
    """
    name = "procedural_accuracy"
    texts = _completion_texts(name, completions, prompts)
    tasks = _column(name, "procedural", procedural, len(texts), "tasks.procedural_tasks writes it")
    answers = [text.strip() if (found := final_answer(text)) is None else found for text in texts]
    rows = [row for row, answer in enumerate(answers) if answer]
    rewards = [0.0] * len(texts)
    with _checker(name, columns) as checker:
        verdicts = checker.right_procedural([(tasks[row], answers[row]) for row in rows])
    for row, right in zip(rows, verdicts, strict=True):
        rewards[row] = float(right)
    return rewards


def overlong_punishment(max_length: int, cache: int) -> RewardFunction:
    """DAPO's soft punishment of overlong completions, to be added to a reward of the answer.

    Parameters
    ----------
    max_length : int
        L_max in tokens; the run's `max_completion_length`. A completion that was cut off there gets −1.
    cache : int
        L_cache, the last so many tokens of L_max, over which the punishment grows; in DAPO a fifth of L_max.

    Returns
    -------
    callable
        Takes TRL's `completion_ids`, gives one number in [−1, 0] a completion.

    Raises
    ------
    ValueError
        Lengths that are no whole numbers with 0 < `cache` ≤ `max_length`; from the returned function, if
        `completion_ids` are missing.

    Notes
    -----
    arXiv:2503.14476, equation 13, with |o| tokens: 0 up to L_max − L_cache, then
    ((L_max − L_cache) − |o|)/L_cache, and −1 beyond L_max. TRL's function, with its arguments checked.

    It ties length to a low advantage, and so tends to push λ down.

    Examples
    --------
    >>> punish = overlong_punishment(max_length=10, cache=4)
    >>> punish(completion_ids=[[7] * 6, [7] * 8, [7] * 10])
    [0.0, -0.5, -1.0]
    """
    for name, number in (("max_length", max_length), ("cache", cache)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"overlong_punishment: {name} is {number!r}; give a whole number of tokens ≥ 1")
    if cache > max_length:
        raise ValueError(
            f"overlong_punishment: cache ({cache}) is more than max_length ({max_length}); give fewer tokens"
        )
    from trl.rewards import get_soft_overlong_punishment

    punishment = get_soft_overlong_punishment(max_length, cache)

    def overlong_punishment(
        completion_ids: Sequence[Sequence[int]] | None = None, **columns: Any
    ) -> list[float]:
        if completion_ids is None:
            raise ValueError("overlong_punishment needs `completion_ids`, which TRL gives")
        punishments: list[float] = punishment(completion_ids)
        return punishments

    return overlong_punishment


REWARDS: Mapping[str, RewardFunction] = MappingProxyType(
    {
        function.__name__: function
        for function in (accuracy, signed_accuracy, boxed_format, procedural_accuracy)
    }
)
"""The reward functions by the names that the command line takes."""


def check_answers(
    answers: Sequence[Any],
    *,
    column: str = "answer",
    names: Sequence[str] | None = None,
    checker: AnswerChecker | None = None,
) -> None:
    r"""Refuse gold answers that no answer could be compared with; to be called before training.

    Parameters
    ----------
    answers : sequence of str
        The column of a data set.
    column : str, default="answer"
        Its name, for the message.
    names : sequence of str, optional
        What to call the problems in the message, as the column `problem_id` does; by default by row, from 0.
    checker : AnswerChecker, optional
        By default the one that the reward functions share.

    Raises
    ------
    ValueError
        Names the rows that are missing, empty, not text, or no number, words or LaTeX.
    RuntimeError
        If the checker does not start.

    Examples
    --------
    >>> check_answers(["72", r"\frac{1}{2}", r"\text{Monday}"])
    >>> check_answers(["72", ""])
    Traceback (most recent call last):
        ...
    ValueError: column 'answer': no usable answer in row 1 (''); mend or leave out such rows
    """
    bad = _unreadable(answers, shared_checker() if checker is None else checker)
    if bad:
        raise ValueError(
            f"column {column!r}: no usable answer in {_rows(bad, answers, names)}; mend or leave out such"
            " rows"
        )


def checked(function: RewardFunction) -> RewardFunction:
    """Wrap a reward function so that what it returns is checked.

    TRL reads None and NaN as "does not apply" and leaves them out of the sum, so that a faulty reward
    function trains on what is left of a group. Wrapped, it stops.

    Parameters
    ----------
    function : callable
        As TRL takes it, an `async def` too.

    Returns
    -------
    callable
        With the same name; gives a list of float.

    Raises
    ------
    ValueError
        From the wrapped function: if there is not one reward a completion, or one is None, NaN, infinite or
        no number. Names the function and the row.

    Examples
    --------
    >>> def halves(completions, **columns):
    ...     return [len(text) / 2 if text else None for text in completions]
    >>> checked(halves)(prompts=["?", "?"], completions=["ab", "abc"])
    [1.0, 1.5]
    >>> checked(halves)(prompts=["?", "?"], completions=["ab", ""])
    Traceback (most recent call last):
        ...
    ValueError: reward function 'halves' returned None in row 1; give a finite number for each completion
    """
    name = getattr(function, "__name__", type(function).__name__)
    wrapped: RewardFunction

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):

        async def wrapped_async(
            prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
        ) -> list[float]:
            rewards = await function(prompts=prompts, completions=completions, **columns)
            return _sound_rewards(name, rewards, len(completions))

        wrapped = wrapped_async
    else:

        def wrapped_sync(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
            rewards = function(prompts=prompts, completions=completions, **columns)
            return _sound_rewards(name, rewards, len(completions))

        wrapped = wrapped_sync
    functools.update_wrapper(wrapped, function)
    wrapped.__name__ = name
    return wrapped


def _sound_rewards(name: str, rewards: Any, n_completions: int) -> list[float]:
    try:
        values = list(rewards)
    except TypeError:
        raise ValueError(
            f"reward function {name!r} returned {type(rewards).__name__}; it must return a list"
        ) from None
    if len(values) != n_completions:
        raise ValueError(
            f"reward function {name!r} returned {len(values)} rewards for {n_completions} completions"
        )
    for row, value in enumerate(values):
        try:
            sound = value is not None and math.isfinite(value)
        except (TypeError, ValueError, OverflowError):
            sound = False
        if not sound:
            raise ValueError(
                f"reward function {name!r} returned {value!r} in row {row}; give a finite number for each"
                " completion"
            )
    return [float(value) for value in values]


def _completion_texts(name: str, completions: Sequence[Any], prompts: Sequence[Any] | None) -> list[str]:
    if prompts is not None and len(prompts) != len(completions):
        raise ValueError(f"{name}: {len(completions)} completions for {len(prompts)} prompts")
    return [_text(name, row, completion) for row, completion in enumerate(completions)]


def _text(name: str, row: int, completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list) and completion and all(isinstance(part, Mapping) for part in completion):
        content = completion[-1].get("content")
        if content is None:
            return ""  # a message that only calls a tool
        if isinstance(content, str):
            return content
    raise ValueError(
        f"{name}: the completion in row {row} is neither text nor a list of messages: {completion!r:.80}"
    )


def _gold_answers(name: str, answers: Sequence[Any] | None, n_rows: int) -> list[str]:
    golds = _column(name, "answer", answers, n_rows, "evenhand.grpo.tasks reads files into it")
    bad = _unreadable(golds, shared_checker())
    if bad:
        raise ValueError(
            f"{name}: no usable gold answer in {_rows(bad, golds)}; rewards.check_answers finds all such rows"
            " before training"
        )
    return golds


def _column(name: str, column: str, values: Sequence[Any] | None, n_rows: int, source: str) -> list[str]:
    if values is None:
        raise ValueError(f"{name} needs the data set's column {column!r}; {source}")
    if len(values) != n_rows:
        raise ValueError(f"{name}: column {column!r} has {len(values)} rows for {n_rows} completions")
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"{name}: column {column!r}, row {row}: {value!r:.80} is not text")
    return list(values)


def _unreadable(answers: Sequence[Any], checker: AnswerChecker) -> list[int]:
    texts = sorted({answer for answer in answers if isinstance(answer, str)})
    readable = {text for text, good in zip(texts, checker.readable(texts), strict=True) if good}
    return [
        row for row, answer in enumerate(answers) if not isinstance(answer, str) or answer not in readable
    ]


def _rows(rows: Sequence[int], values: Sequence[Any], names: Sequence[str] | None = None) -> str:
    places = {row: f"row {row}" if names is None else f"problem {names[row]}" for row in rows[:_NAMED]}
    named = ", ".join(f"{place} ({values[row]!r:.80})" for row, place in places.items())
    return named if len(rows) <= _NAMED else f"{named} and {len(rows) - _NAMED} more"


@contextmanager
def _checker(name: str, columns: Mapping[str, Any]) -> Iterator[AnswerChecker]:
    """The shared checker; TRL's log, where there is one, is told how many answers it gave up on meanwhile."""
    checker = shared_checker()
    before = checker.timeouts
    yield checker
    log_metric = columns.get("log_metric")
    if log_metric is not None:
        log_metric(f"{name}/timeouts", float(checker.timeouts - before))
