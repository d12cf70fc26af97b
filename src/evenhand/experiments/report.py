"""What runs come to, as a page: figures, paired differences and what they allow to say, curves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evenhand.experiments.compare import Comparison, Judged, judge, show_difference, show_spread, verdict
from evenhand.experiments.page import Grid, Plot, Points, Section, Text, write_html, write_markdown
from evenhand.experiments.plots import Floats, plot_lines
from evenhand.experiments.runs import Run, RunError

_TENTH = re.compile(r"(.+), tenth (\d+)")
TENTHS = np.arange(1.0, 11.0)
ALONG_TENTHS = "tenth of the labels"
_AT = ("step", "epoch", "round")  # what records are counted by

CURVES = {
    "potential": "Potential Φ: does the game climb?",
    "payoff": "Payoff R, the team's accuracy: the part of Φ that is not curiosity.",
    "map": "Mean average precision of the labels.",
    "rare_f1_bound": "Lower bound of rare labels' soft F1: does it tighten as the game goes on?",
    "disagreement_rare": "Disagreement of the players on the rarest tenth of the labels: does it fall?",
    "disagreement_head": "Disagreement of the players on the commonest tenth of the labels.",
    "accuracy": "Share of right responses.",
    "reward": "Mean reward of a response.",
    "length": "Mean length of a response, tokens.",
    "entropy": "Entropy of the policy: does it stop exploring?",
    "lambda": "λ: above 0 long responses weigh more, below 0 short ones; 0 is DAPO.",
    "weight_std": "Standard deviation of the weights f: how far from DAPO, where it is 0?",
    "weight_min": "Least weight f of a response: how far from DAPO's 1?",
    "weight_max": "Greatest weight f of a response: how far from DAPO's 1?",
}
"""Records that are drawn unless others are asked for, with what to see in each."""


@dataclass(frozen=True)
class Results:
    """Finished runs, by data set, method and seed.

    Parameters
    ----------
    runs : sequence of Run
    """

    runs: Sequence[Run]

    @property
    def methods(self) -> list[str]:
        """In the order of their first run."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def data(self) -> list[str]:
        """In the order of their first run."""
        return list(dict.fromkeys(run.data for run in self.runs))

    def of(self, data: str, method: str) -> list[Run]:
        """The runs of a method on a data set."""
        return [run for run in self.runs if (run.data, run.method) == (data, method)]

    def figure_names(self) -> list[str]:
        """All figures of any run, those by tenths of the labels left out."""
        names = dict.fromkeys(name for run in self.runs for name in run.figures or {})
        return [name for name in names if not _TENTH.fullmatch(name)]

    def values(self, data: str, method: str, figure: str) -> dict[int, float]:
        """A figure by seed, where it is known."""
        found = {run.seed: (run.figures or {}).get(figure, np.nan) for run in self.of(data, method)}
        return {seed: value for seed, value in found.items() if np.isfinite(value)}

    def compare(self, data: str, method: str, baseline: str, figure: str) -> Comparison | None:
        """A method less the baseline, paired by seed; None where fewer than two seeds have both."""
        mine, theirs = (self.values(data, name, figure) for name in (method, baseline))
        return Comparison.of([mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())])


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    title: str,
    baseline: str | None = None,
    figures: Sequence[str] | None = None,
    curves: Sequence[str] | None = None,
) -> None:
    """Write a page about some runs as HTML, and beside it the same as Markdown.

    Parameters
    ----------
    runs : sequence of Run
        Those that are not finished are counted and left out.
    out : Path
        A file that ends in .html; the Markdown gets the ending .md.
    title : str
    baseline : str, optional
        The method that all others are compared with.
    figures : sequence of str, optional
        Those to show. None: all.
    curves : sequence of str, optional
        Records to draw. None: those of `CURVES` that there are.

    Raises
    ------
    RunError
        If no run is finished, two are of one method, data set and seed, or there is no such method, figure or
        record.
    ValueError
        If `out` has another ending.
    """
    if out.suffix != ".html":
        raise ValueError(f"the page is HTML; give a name that ends in .html, not {out.name!r}")
    finished = [run for run in runs if run.figures is not None]
    _check_once(finished)
    if not finished:
        raise RunError(f"none of the {len(runs)} runs is finished")
    results = Results(finished)
    shown = _chosen("figure", figures, results.figure_names(), results.figure_names())
    if baseline is not None and baseline not in results.methods:
        raise RunError(f"no run is of the method {baseline!r}; there are {', '.join(results.methods)}")
    logged = list(dict.fromkeys(name for run in finished for line in run.records() for name in line))
    drawn = _chosen("record", curves, logged, [name for name in CURVES if name in logged])
    comparisons = _comparisons(results, baseline, shown)
    sections = [
        Section("What was run", [Text(facts(results, len(runs) - len(finished)))]),
        Section("What it says", [Points(verdicts(results, baseline, shown, comparisons))]),
    ]
    for data in results.data:
        blocks: list[Grid | Plot] = [figures_table(results, data, shown)]
        if baseline is not None:
            blocks.append(differences_table(results, data, baseline, shown, comparisons))
        blocks += [*tenths_of(results, data), *curves_of(results, data, drawn)]
        sections.append(Section(data, blocks))
    write_html(out, title, sections)
    write_markdown(out.with_suffix(".md"), title, sections)


Key = tuple[str, str, str]  # data set, method and figure


def _comparisons(results: Results, baseline: str | None, figures: Sequence[str]) -> dict[Key, Judged]:
    if baseline is None:
        return {}
    found = {
        (data, method, figure): one
        for data in results.data
        for method in results.methods
        for figure in figures
        if method != baseline and (one := results.compare(data, method, baseline, figure)) is not None
    }
    return judge(found)


def verdicts(
    results: Results, baseline: str | None, figures: Sequence[str], comparisons: Mapping[Key, Judged]
) -> list[str]:
    """What the intervals allow to say, in sentences.

    Parameters
    ----------
    results : Results
    baseline : str, optional
    figures : sequence of str
    comparisons : mapping

    Returns
    -------
    list of str
    """
    if baseline is None:
        return ["No method was named to compare the others with (--baseline), so nothing is judged here."]
    if not comparisons:
        return [f"No method shares two seeds with {baseline}, so nothing can be said."]
    told = []
    for method in results.methods:
        for figure in figures:
            judged = [
                comparisons[key] for data in results.data if (key := (data, method, figure)) in comparisons
            ]
            if judged:
                told.append(f"{method} against {baseline}, {figure}: {verdict(judged)}")
    least = min(judged.found.n for judged in comparisons.values())
    if least < 5:
        told.append(f"Some intervals come from {least} seeds, which decide little: take five at least.")
    return told


def facts(results: Results, unfinished: int = 0) -> list[str]:
    """What was run, and with what, in sentences.

    Parameters
    ----------
    results : Results
    unfinished : int
        Runs that are left out.

    Returns
    -------
    list of str
    """
    seeds = sorted({run.seed for run in results.runs})
    told = [
        f"{_counted(results.runs, 'run')}: {_counted(results.methods, 'method')},"
        f" {_counted(results.data, 'data set')}, {_counted(seeds, 'seed')} ({', '.join(map(str, seeds))})."
    ]
    if unfinished:
        told.append(f"Not finished, and left out: {unfinished}.")
    made = dict.fromkeys(", ".join(f"{k} {v}" for k, v in run.made_by.items()) for run in results.runs)
    return [*told, *(f"Made by: {one}." for one in made)]


def _counted(found: Sized, thing: str) -> str:
    return f"{len(found)} {thing}{'' if len(found) == 1 else 's'}"


def figures_table(results: Results, data: str, figures: Sequence[str]) -> Grid:
    """Figures on a data set, a row for each method."""
    rows = [
        [method, *(show_spread(list(results.values(data, method, figure).values())) for figure in figures)]
        for method in results.methods
        if results.of(data, method)
    ]
    caption = "Mean ± standard deviation over seeds."
    return Grid(caption, ["method", *figures], rows)


def differences_table(
    results: Results, data: str, baseline: str, figures: Sequence[str], comparisons: Mapping[Key, Judged]
) -> Grid:
    """Figures on a data set less the baseline's, a row for each method."""
    rows = []
    for method in results.methods:
        if method != baseline and results.of(data, method):
            cells = [comparisons.get((data, method, figure)) for figure in figures]
            rows.append([method, *map(show_difference, cells)])
    caption = (
        f"Less {baseline}, paired by seed: mean [95 % interval by Student's t]. * where the interval lies on"
        " one side of 0, ** where it does so after Holm's correction over all comparisons of this page."
    )
    return Grid(caption, ["method", *figures], rows)


def tenths_of(results: Results, data: str) -> list[Plot]:
    """Figures by tenths of the labels, from the rarest to the commonest, a plot for each that there is."""
    figures = [figure for run in results.runs if run.data == data for figure in run.figures or {}]
    names = dict.fromkeys(match[1] for figure in figures if (match := _TENTH.fullmatch(figure)))
    plots = []
    for name in names:
        caption = (
            f"{name} by tenths of the labels, from the rarest (1) to the commonest (10): who wins where?"
        )
        lines = {method: by_tenths(results.of(data, method), name) for method in results.methods}
        plots.append(plot_lines(caption, ALONG_TENTHS, TENTHS, lines))
    return plots


def by_tenths(runs: Sequence[Run], figure: str) -> Floats:
    """A figure by tenths of the labels, shape (runs, 10); NaN where there is none."""
    values = [
        [(run.figures or {}).get(f"{figure}, tenth {tenth:g}", np.nan) for tenth in TENTHS] for run in runs
    ]
    return np.array(values, dtype=np.float64).reshape(len(runs), len(TENTHS))


def curves_of(results: Results, data: str, drawn: Sequence[str]) -> list[Plot]:
    """Records by step, round or epoch, a plot for each name that there is."""
    records = {id(run): list(run.records()) for run in results.runs if run.data == data}
    known = {name for lines in records.values() for line in lines for name in line}
    counted = next((name for name in _AT if name in known), None)
    if counted is None:
        return []
    plots = []
    for curve in (name for name in drawn if name in known):
        points = {
            id(run): _points(run, records[id(run)], counted, curve)
            for run in results.runs
            if run.data == data
        }
        at = sorted({place for found in points.values() for place in found})
        if len(at) < 2:
            continue  # no curve

        lines = {}
        for method in results.methods:
            seeds = [[points[id(run)].get(place, np.nan) for place in at] for run in results.of(data, method)]
            lines[method] = np.array(seeds, dtype=np.float64).reshape(len(seeds), len(at))
        caption = CURVES.get(curve, f"{curve}.")
        plots.append(plot_lines(caption, counted, np.array(at, float), lines))
    return plots


def _points(run: Run, lines: Sequence[Mapping[str, Any]], counted: str, curve: str) -> dict[float, float]:
    """A record by step, epoch or round, where it is known."""
    found = {}
    for line in lines:
        at, value = line.get(counted), line.get(curve)
        if at is None or value is None:
            continue
        for name, one in ((counted, at), (curve, value)):
            if isinstance(one, bool) or not isinstance(one, int | float):
                raise RunError(f"{run.folder}: the record {name!r} is {one!r:.80}, not a number")
        found[float(at)] = float(value)
    return found


def _check_once(runs: Sequence[Run]) -> None:
    """Refuse two runs for one place in the tables: one would be shown and both counted."""
    known: dict[tuple[str, str, int], Path] = {}
    for run in runs:
        place = known.setdefault((run.data, run.method, run.seed), run.folder)
        if place != run.folder:
            raise RunError(
                f"{place} and {run.folder} are both {run.method!r} on {run.data!r} with seed {run.seed};"
                " give one"
            )


def _chosen(what: str, wanted: Sequence[str] | None, known: Sequence[str], usual: Sequence[str]) -> list[str]:
    if wanted is None:
        return list(usual)
    if strange := [name for name in wanted if name not in known]:
        raise RunError(f"no run has a {what} {strange[0]!r}; there are {', '.join(known)}")
    return list(wanted)
