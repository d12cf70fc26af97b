"""Generations that cover the forms of answers, right and wrong by construction, for benchmarks/verdicts.py.

    python benchmarks/verdict_cases.py ../shared/data/math cases.jsonl

Of each kind of gold answer some problems are drawn from the public sets; each is written in other notations
that keep its value, altered so that it is another, and put into completions of several shapes. Beside what a
generation has, a line says its `form` and whether it is right by construction, `expected`: null where tastes
differ.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from evenhand.grpo.generations import Generation
from evenhand.grpo.math_sets import MATH_SETS, find_math_set, read_math_set

Case = tuple[str, str, bool | None]
"""Form, answer or whole completion, and whether it is right."""

_INTEGER = re.compile(r"-?\d+")
_FRACTION = re.compile(r"(-?)\\frac\{(\d+)\}\{(\d+)\}")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,(?:\\!)?\d{3})+")
_LIST = re.compile(r"(\\\{|\(|\[)?([^,()\[\]{}]+(?:,[^,()\[\]{}]+)+)(\\\}|\)|\])?")
_INTERVAL = re.compile(r"([(\[])([^,()\[\]]+),([^,()\[\]]+)([)\]])")
_KINDS = {
    "integer": _INTEGER,
    "thousands": _THOUSANDS,
    "fraction": _FRACTION,
    "decimal": re.compile(r"-?\d*\.\d+"),
    "interval or pair": _INTERVAL,
    "words": re.compile(r"\\text\{[A-Za-z ]+\}|[A-Za-z]{3,}(?: [A-Za-z]+)*"),
    "matrix": re.compile(r"\\begin\{[pb]matrix\}.*", re.DOTALL),
    "percentage": re.compile(r".*\\%.*"),
    "angle in degrees": re.compile(r".*\^\{?\\circ.*"),
    "set": re.compile(r"\\\{.*\\\}"),
    "list": _LIST,
    "equation": re.compile(r"[^=]+=[^=]+"),
    "root": re.compile(r".*\\sqrt.*"),
    "sum": re.compile(r"[^\\]+[+-][^\\]+"),
}


def numbers(gold: str) -> Iterator[Case]:
    """Other notations of an integer or a fraction, and other numbers."""
    if _THOUSANDS.fullmatch(gold):
        yield "thousands without commas", gold.replace(",", "").replace("\\!", ""), True
    value = value_of(gold)
    if value is None:
        return
    whole = value.denominator == 1
    if whole:
        yield "integer as decimal", f"{value}.0", True
        yield "integer as fraction", rf"\frac{{{2 * value.numerator}}}{{2}}", True
        if abs(value) >= 1000:
            yield "thousands with commas", f"{value.numerator:,}", True
            yield "thousands with {,}", f"{value.numerator:,}".replace(",", "{,}"), True
    else:
        yield "fraction as a/b", f"{value.numerator}/{value.denominator}", True
        yield "\\dfrac", gold.replace("\\frac", "\\dfrac"), True
        yield "fraction not reduced", rf"\frac{{{3 * value.numerator}}}{{{3 * value.denominator}}}", True
        yield "fraction upside down", rf"\frac{{{value.denominator}}}{{{value.numerator}}}", abs(value) == 1
        exact = Fraction(f"{float(value):.6f}") == value
        yield (
            ("fraction as decimal", f"{float(value):.6f}".rstrip("0"), True)
            if exact
            else (
                "fraction rounded to 2 places",
                f"{float(value):.2f}",
                None,
            )
        )
    yield "after x =", f"x = {gold}", True
    yield "unit as text", rf"{gold} \text{{ cm}}", True
    yield "unit as word", f"{gold} cm", True
    yield "in dollars", rf"\${gold}", True
    yield "with percent sign", rf"{gold}\%", None
    yield "with degree sign", rf"{gold}^\circ", None
    yield "sign turned", gold[1:] if gold.startswith("-") else f"-{gold}", value == 0
    yield "one more", shown(value + 1), False
    yield "off by a thousandth", f"{float(value) * 1.001 + (-0.001 if value < 0 else 0.001):.6f}", False
    yield "the right one and another", f"{gold}, {shown(value + 1)}", False


def collections(gold: str) -> Iterator[Case]:
    """Sets, lists, tuples and intervals: in another order, with an element less, with other brackets."""
    if interval := _INTERVAL.fullmatch(gold):
        left, low, high, right = interval.groups()
        yield "interval, one bracket turned", f"{'[' if left == '(' else '('}{low},{high}{right}", False
        yield "interval or pair, ends exchanged", f"{left}{high},{low}{right}", low.strip() == high.strip()
        yield "\\left and \\right", rf"\left{left}{low},{high}\right{right}", True
        return
    found = _LIST.fullmatch(gold)
    if found is None or _THOUSANDS.fullmatch(gold):
        return
    left, content, right = (part or "" for part in found.groups())
    parts = [part.strip() for part in content.split(",")]
    ordered = left in ("(", "[")
    same = not ordered or parts == parts[::-1]
    name = "tuple" if ordered else "set" if left else "list"
    yield f"{name}, reversed", f"{left}{', '.join(reversed(parts))}{right}", same
    yield f"{name}, an element less", f"{left}{', '.join(parts[:-1])}{right}", False
    if not ordered:
        yield f"{name}, in the other dress", ", ".join(parts) if left else rf"\{{{', '.join(parts)}\}}", True
    if not left and len(parts) == 2:
        yield "list, with and", f"{parts[0]} \\text{{ and }} {parts[1]}", True


def texts_and_rest(gold: str) -> Iterator[Case]:
    """Words, percentages, degrees, matrices, sums."""
    if found := re.fullmatch(r"\\text\{([A-Za-z ]+)\}", gold):
        yield "text without \\text", found[1], True
        yield "text in lower case", found[1].lower(), True
        yield "another word", "nothing of it", False
    elif re.fullmatch(r"[A-Za-z]{3,}(?: [A-Za-z]+)*", gold):
        yield "words in \\text", rf"\text{{{gold}}}", True
        yield "another word", "nothing of it", False
    if "\\%" in gold:
        yield "percent sign left out", gold.replace("\\%", ""), None
    if "^\\circ" in gold or "^{\\circ}" in gold:
        yield "degree sign left out", gold.replace("^\\circ", "").replace("^{\\circ}", ""), None
    if "pmatrix" in gold:
        yield "matrix, other brackets", gold.replace("pmatrix", "bmatrix"), None
        yield "matrix, spaced", gold.replace("&", " & ").replace("\\\\", " \\\\ "), True
        yield (
            "matrix, first entry changed",
            re.sub(r"(\\begin\{pmatrix\}\s*)", r"\g<1>9", gold, count=1),
            False,
        )
    if found := re.fullmatch(r"([^+=,(){}\\]+)\+([^+=,(){}\\]+)", gold):
        yield "sum, exchanged", f"{found[2]}+{found[1]}", True
        yield "sum, as difference", f"{found[1]}-{found[2]}", False
    if "\\sqrt" in gold and "," not in gold and "=" not in gold:
        yield "root, doubled", f"2 \\cdot ({gold})", False
        yield "root, times one", f"1 \\cdot ({gold})", True


def shapes(gold: str, other: str) -> Iterator[Case]:
    """Whole completions that state the gold answer, or another one, in different places."""
    yield "box", rf"So we find $\boxed{{{gold}}}$.", True
    yield "box, then text", rf"\boxed{{{gold}}} is the answer, as was to be shown in 2 steps.", True
    yield "two boxes, the last right", rf"First \boxed{{{other}}}, but no: \boxed{{{gold}}}", True
    yield "two boxes, the first right", rf"First \boxed{{{gold}}}, but no: \boxed{{{other}}}", False
    if "$" not in gold:
        yield "the answer is", f"We add up. The answer is ${gold}$.", True
        minerva = f"Final Answer: The final answer is ${gold}$. I hope it is correct."
        yield "final answer, as Minerva", minerva, True
    yield "answer of another problem", rf"\boxed{{{other}}}", False
    yield "empty box", r"\boxed{}", False
    yield "cut off before the answer", "We begin by writing down what is given:", False


def bare(gold: str) -> str:
    """Without the dollar signs around it, as a completion's box holds it."""
    inner = gold[1:-1]
    return inner if gold == f"${inner}$" and "$" not in inner else gold


def value_of(gold: str) -> Fraction | None:
    if _INTEGER.fullmatch(gold):
        return Fraction(gold)
    if (found := _FRACTION.fullmatch(gold)) and int(found[3]):
        return Fraction(int(found[1] + found[2]), int(found[3]))
    return None


def shown(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def cases_of(gold: str, other: str) -> Iterator[Case]:
    """Form, completion, and whether it is right."""
    yield from shapes(gold, other)
    for make in (numbers, collections, texts_and_rest):
        for form, answer, expected in make(gold):
            yield form, rf"So we find $\boxed{{{answer}}}$.", expected


def kind_of(gold: str) -> str:
    """What a gold answer is, as far as its notation tells."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(gold)), "other")


def drawn(folder: Path, n: int, seed: int) -> Iterator[tuple[str, str, str, str]]:
    """Set, problem, gold answer and the answer of another problem: n of each kind."""
    kinds: dict[str, list[tuple[str, str, str]]] = {}
    for name in MATH_SETS:
        if find_math_set(name, folder) is None:
            raise SystemExit(f"{folder} has no {name}")
        for row, gold in enumerate(read_math_set(name, folder)["answer"], 1):
            if gold:
                kinds.setdefault(kind_of(bare(gold)), []).append((name, str(row), bare(gold)))
    draw = random.Random(seed)
    for kind, problems in sorted(kinds.items()):
        chosen = draw.sample(problems, min(n, len(problems)))
        print(f"{kind}: {len(chosen)} of {len(problems):,}")
        for name, problem, gold in chosen:
            yield name, problem, gold, draw.choice([other for *_, other in problems if other != gold])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--problems", type=int, default=15, help="of each kind of answer")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines = []
    for name, problem, gold, other in drawn(options.folder, options.problems, options.seed):
        made = list(cases_of(gold, other))
        generations = [
            Generation(
                set=name,
                problem=problem,
                sample=sample,
                prompt="",
                gold=gold,
                text=text,
                answer=None,
                correct=False,
                tokens=0,
                finish="stop",
            )
            for sample, (_, text, _) in enumerate(made)
        ]
        for one, (form, _, expected) in zip(generations, made, strict=True):
            lines.append(json.dumps({**asdict(one), "form": form, "expected": expected}))
    options.out.write_text("\n".join(lines) + "\n")
    print(f"{len(lines):,} generations: {options.out}")


if __name__ == "__main__":
    main()
