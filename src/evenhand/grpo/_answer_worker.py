"""The process that judges answers, started by `checking.AnswerChecker` as a script; nothing else imports it.

It reads one request a line (JSON) and answers with one line. Before each it sets the kernel's alarm to the
time limit and leaves the signal's default action in place, so that the kernel ends it even inside a
computation in C that never returns to Python. It imports nothing of evenhand, so that it starts in a second.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Any

_MEMORY = 4 << 30  # bytes of address space; a tower of powers ends in a MemoryError and not in a full machine
_EXACT = 1e-12  # relative difference above which two exact constants are not equal
_ROUNDED = 5e-6  # half a unit in the sixth significant digit, for pairs with a decimal


def main() -> None:
    """Answer requests until the other end closes the pipe."""
    limit = float(sys.argv[1])
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not stand between the answers
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    try:
        import math_verify

        logging.getLogger("math_verify").setLevel(logging.CRITICAL)
        equal("1", "2")  # builds the parser's tables, before any limit counts
        hello: dict[str, Any] = {"result": math_verify.__name__}
    except Exception as error:
        hello = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(hello), file=channel, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), limit)), file=channel, flush=True)


def _answer(request: dict[str, str], limit: float) -> dict[str, Any]:
    judge: Callable[..., bool] = _JUDGES[request.pop("judge")]
    try:
        if "task" in request:
            _entry(request["task"])  # what we generate ourselves does not count against the answer
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        return {"result": judge(**request)}
    except Exception:
        return {"result": False}  # an answer that breaks the checker is no right answer
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def readable(answer: str) -> bool:
    """Whether math-verify reads a text as a whole as an answer."""
    return bool(_parse(answer))


def equal(gold: str, answer: str) -> bool:
    """Whether math-verify calls two answers equal, and they are not small numbers that only look it."""
    return _verified(_parse(gold), _parse(answer))


def equal_in_text(gold: str, text: str) -> bool:
    """The same for the answer that a running text announces ("the final answer is …", "answer: …")."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    anchored = [
        LatexExtractionConfig(try_extract_without_anchor=False),
        ExprExtractionConfig(try_extract_without_anchor=False),
    ]
    found = parse(
        text, anchored, fallback_mode="no_fallback", extraction_mode="first_match", parsing_timeout=None
    )
    return _verified(_parse(gold), found)


def right_procedural(task: str, answer: str) -> bool:
    """Whether reasoning-gym scores an answer exactly 1."""
    dataset, entry = _entry(task)
    return bool(dataset.score_answer(answer, entry) == 1.0)


def _parse(answer: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    text = answer if "$" in answer else rf"\boxed{{{answer}}}"
    found: list[Any] = parse(
        text,
        [LatexExtractionConfig(boxed_match_priority=0)],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return found


def _verified(gold: list[Any], answer: list[Any]) -> bool:
    from math_verify import verify

    if not gold or not answer or _apart(gold[0], answer[0]):
        return False
    return bool(verify(gold, answer, timeout_seconds=None))


def _apart(first: Any, second: Any) -> bool:
    """Whether two expressions differ by more than a relative tolerance.

    math-verify compares by absolute difference, so it takes 1/2004! for 1/2006! and 2^-99 for 2^-98. What is
    apart here is never equal; what is not apart is left to math-verify.
    """
    left, right = _numbers(first), _numbers(second)
    if left is None or right is None or len(left) != len(right):
        return False
    return any(_far(a, b) for a, b in zip(left, right, strict=True))


def _numbers(expression: Any) -> list[Any] | None:
    """The real values in an expression or a collection, in order of size; None where not all are real.

    Free symbols take fixed positive values: expressions that are equal are equal there too.
    """
    import sympy  # type: ignore[import-untyped]

    values = []
    for leaf in _leaves(expression):
        if not isinstance(leaf, sympy.Expr) or isinstance(leaf, sympy.Symbol) or _is_percentage(leaf):
            return None
        symbols = sorted(leaf.free_symbols, key=str)
        points = {symbol: sympy.Rational(2 * i + 7, 5) for i, symbol in enumerate(symbols)}
        value = sympy.N(leaf.subs(points), 30)
        if not (value.is_Float or value.is_Rational) or (value.is_Float and value._prec == 1):
            return None  # precision 1: a zero that evalf cannot tell from noise
        values.append((value, leaf.has(sympy.Float)))
    return sorted(values, key=lambda pair: pair[0])


def _leaves(expression: Any) -> list[Any]:
    import sympy
    from latex2sympy2_extended.sets import FiniteSet  # type: ignore[import-untyped]

    if isinstance(expression, sympy.Eq) and isinstance(expression.lhs, sympy.Symbol):
        return _leaves(expression.rhs)
    if isinstance(expression, sympy.Interval):
        parts = [expression.start, expression.end]
    elif isinstance(expression, sympy.MatrixBase):
        parts = list(expression.flat())
    elif isinstance(expression, sympy.FiniteSet | sympy.Tuple | FiniteSet):
        parts = list(expression.args)
    else:
        return [expression]
    return [leaf for part in parts for leaf in _leaves(part)]


def _is_percentage(leaf: Any) -> bool:
    from sympy import UnevaluatedExpr

    return bool(leaf.has(UnevaluatedExpr))


def _far(first: tuple[Any, bool], second: tuple[Any, bool]) -> bool:
    (a, a_rounded), (b, b_rounded) = first, second
    tolerance = _ROUNDED if a_rounded or b_rounded else _EXACT
    return bool(abs(a - b) > tolerance * max(abs(a), abs(b)))


@lru_cache(maxsize=64)
def _dataset(name: str, options: str) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, **json.loads(options))


@lru_cache(maxsize=4096)
def _entry(task: str) -> tuple[Any, Any]:
    """The data set and the item that a task's description names, made anew: a seed says it all."""
    description = json.loads(task)
    dataset = _dataset(description["name"], json.dumps(description["options"]))
    entry = dataset[description["index"]]
    if sha256(entry["question"].encode()).hexdigest()[:16] != description["question"]:
        raise ValueError(
            f"{description['name']}: item {description['index']} is not the one that was asked; the task"
            " gives another item for the same seed, or reasoning-gym was changed in between"
        )
    return dataset, entry


_JUDGES: dict[str, Callable[..., bool]] = {
    "readable": readable,
    "equal": equal,
    "equal_in_text": equal_in_text,
    "right_procedural": right_procedural,
}

if __name__ == "__main__":
    main()
