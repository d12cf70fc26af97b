"""Our verdicts beside those of public harnesses on the same generations: agreement, and what they differ on.

    python benchmarks/verdict_cases.py ../shared/data/math cases.jsonl  # or take what an evaluation wrote
    python benchmarks/verdicts.py cases.jsonl --peer lighteval=PYTHON --peer lm_eval=PYTHON --out apart.jsonl

PYTHON is the interpreter of an environment that has the harness; the two need one each, since they ask for
different versions of one parser. Where the lines say what is right by construction, it is counted how often
each judge says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evenhand.grpo.answers import stated_answer
from evenhand.grpo.generations import judged, read_generations

OURS = "evenhand"
Verdicts = dict[str, list[bool]]


def peer_verdicts(name: str, python: str, requests: Sequence[Mapping[str, Any]]) -> Verdicts:
    """What a harness says of each request, in a process of its own environment."""
    print(f"{name}: {len(requests):,} generations", file=sys.stderr, flush=True)
    command = [python, str(Path(__file__).with_name("verdicts_peer.py")), name]
    done = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    found: Verdicts = json.loads(done.stdout)
    return found


def share(values: Iterable[bool]) -> str:
    given = list(values)
    return f"{100 * sum(given) / len(given):.1f} %" if given else "–"


def show_agreement(verdicts: Verdicts, expected: Sequence[bool | None], console: Console) -> None:
    """For each judge: agreement with ours, and with what is right by construction."""
    columns = ("agrees with ours", "right taken for right", "wrong taken for wrong")
    table = Table("", *columns, title=f"{len(expected):,} generations")
    for name, given in verdicts.items():
        both = list(zip(given, expected, strict=True))
        table.add_row(
            name,
            share(one == ours for one, ours in zip(given, verdicts[OURS], strict=True)),
            share(verdict for verdict, truth in both if truth is True),
            share(not verdict for verdict, truth in both if truth is False),
        )
    console.print(table)


def show_forms(rows: Sequence[Mapping[str, Any]], verdicts: Verdicts, console: Console) -> None:
    """How many each judge takes for right, by form; forms on which all agree are left out."""
    table = Table("form", "right?", "n", *verdicts, title="Taken for right, where judges differ")
    for form in dict.fromkeys(row["form"] for row in rows):
        for truth in (True, False, None):
            at = [i for i, row in enumerate(rows) if row["form"] == form and row["expected"] is truth]
            counts = [sum(given[i] for i in at) for given in verdicts.values()]
            apart = any(given[i] != verdicts[OURS][i] for given in verdicts.values() for i in at)
            if apart:
                table.add_row(
                    form, {True: "yes", False: "no", None: "?"}[truth], str(len(at)), *map(str, counts)
                )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("generations", type=Path)
    parser.add_argument("--peer", action="append", required=True, metavar="NAME=PYTHON")
    parser.add_argument("--out", type=Path, help="for the differences, one a line")
    options = parser.parse_args()
    generations = judged(read_generations(options.generations))
    rows = [json.loads(line) for line in options.generations.read_text().splitlines()]
    # the answer as it stands in the text: harnesses have spellings of their own to take off
    requests = [
        {"gold": one.gold, "text": one.text, "answer": stated_answer(one.text)} for one in generations
    ]
    verdicts: Verdicts = {OURS: [one.correct for one in generations]}
    for peer in options.peer:
        name, _, python = peer.partition("=")
        verdicts |= peer_verdicts(name, python, requests)
    console = Console(width=140)
    show_agreement(verdicts, [row.get("expected") for row in rows], console)
    if "form" in rows[0]:
        show_forms(rows, verdicts, console)
    differences = [
        {**request, "form": row.get("form"), "expected": row.get("expected"), "verdicts": said}
        for i, (request, row) in enumerate(zip(requests, rows, strict=True))
        if len(set((said := {name: given[i] for name, given in verdicts.items()}).values())) > 1
    ]
    print(f"{len(differences):,} generations on which they differ")
    if options.out:
        options.out.write_text("".join(json.dumps(one) + "\n" for one in differences))


if __name__ == "__main__":
    main()
