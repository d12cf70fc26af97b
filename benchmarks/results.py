"""Both methods and their controls, as one page with seeds, plots and intervals.

    python benchmarks/results.py --size quick --out runs/results-quick

Plays what has not been played yet, cell by cell, and writes report.html and report.md into --out. An
interrupted call is taken up by the same command.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from evenhand.experiments.grid import Cell, play_grid
from evenhand.experiments.page import Section, write_html, write_markdown
from evenhand.experiments.runs import Run, RunError
from evenhand.terminal import say, tell

PARTS = {"multilabel": "results_multilabel", "lambda": "results_lambda"}
"""Modules by part; a part that is not asked for is not imported, so that its libraries need not be there."""
SIZES = ("full", "quick", "tiny")


class Part(Protocol):
    """What a module of a part has to have."""

    def cells(self, size: str, given: argparse.Namespace) -> list[Cell]:
        """What is to be played."""

    def work(self, run: Run) -> Mapping[str, float]:
        """Play a cell."""

    def sections(self, runs: Sequence[Run]) -> list[Section]:
        """The part of the page, from finished runs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Play and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="(default: both)")
    add(
        "--size",
        choices=SIZES,
        default="full",
        help="quick: minutes; tiny: does it run? (default full: hours)",
    )
    add("--data", type=Path, metavar="FOLDER", help="of MULAN's files (default: without them)")
    add("--peers", type=Path, metavar="PYTHON", help="that has the peers installed (default: without them)")
    add(
        "--out",
        type=Path,
        default=Path("runs/results"),
        help="folder of runs and page (default runs/results)",
    )
    add("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: all cores)")
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        parser.error(f"--jobs is {given.jobs}; give at least 1")
    try:
        parts = [play(name, given) for name in given.parts]
    except RunError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        say("Stopped. The same command goes on from here; runs that have finished are kept.")
        raise
    page = given.out / "report.html"
    title = "The curiosity game and λ-GRPO beside their controls"
    sections = [section for found, _ in parts for section in found]
    if sections:
        write_html(page, title, sections)
        write_markdown(page.with_suffix(".md"), title, sections)
        tell(f"All figures and curves: {page}, {page.with_suffix('.md')}")
    if troubles := [trouble for _, trouble in parts if trouble]:
        sys.exit("\n".join(f"error: {trouble}" for trouble in troubles))


def play(name: str, given: argparse.Namespace) -> tuple[list[Section], str | None]:
    """Play a part and tell what came out, and what failed: hours of other runs are shown all the same."""
    part = cast(Part, import_module(PARTS[name]))
    say(f"{name}, {given.size}")
    trouble, out, cells = None, given.out / name, part.cells(given.size, given)
    try:
        runs = play_grid(cells, part.work, out, n_jobs=given.jobs)
    except RuntimeError as error:
        trouble, runs = str(error), [Run.read(cell.folder(out)) for cell in cells]
        runs = [run for run in runs if run.figures is not None]
    return part.sections(runs) if runs else [], trouble


if __name__ == "__main__":
    main()
