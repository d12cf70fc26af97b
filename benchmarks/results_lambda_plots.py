"""What `results_lambda.py` draws: accuracy over tokens and time, quarters of a group, sweeps of an option."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evenhand.experiments.page import Plot
from evenhand.experiments.plots import Floats, plot_lines
from evenhand.experiments.report import Results
from evenhand.experiments.runs import Run

AT_EQUAL_TOKENS = "accuracy at equal tokens"
QUARTERS = {
    name: tuple(f"{name}, quarter {number}" for number in (1, 2, 3, 4)) for name in ("length", "advantage")
}

_WINDOW = 5  # steps whose accuracy is averaged
_PLACES = 40
_ALONG = {"tokens": ("thousand tokens of responses", 1000), "seconds": ("seconds in training", 1)}
_OVER_CAPTIONS = {
    "tokens": "Accuracy (%) of the responses trained on, mean of the last five steps, over the tokens written"
    " so far: who gets further with as much text?",
    "seconds": "The same over wall time, which hangs on what else the machine did.",
}
_QUARTER_CAPTIONS = {
    "length": "Length of a response by quarter of its group, shortest first, tokens, mean of all steps:"
    " how far apart are short and long ones?",
    "advantage": "Advantage of a response by quarter of its group, shortest first, mean of all steps:"
    " where the line rises, long responses are right more often.",
}


@dataclass(frozen=True)
class TokenResults(Results):
    """Results with one figure more, which takes all peers of a seed together.

    Parameters
    ----------
    runs : sequence of Run
    at_equal_tokens : mapping
        That figure by folder of a run; see `at_equal_tokens`.
    """

    at_equal_tokens: Mapping[Path, float]

    def only(self, methods: Collection[str]) -> TokenResults:
        """The same for some of the methods."""
        return TokenResults([run for run in self.runs if run.method in methods], self.at_equal_tokens)

    def values(self, data: str, method: str, figure: str) -> dict[int, float]:
        """A figure by seed, where it is known."""
        if figure != AT_EQUAL_TOKENS:
            return super().values(data, method, figure)
        runs = [run for run in self.of(data, method) if run.folder in self.at_equal_tokens]
        return {run.seed: self.at_equal_tokens[run.folder] for run in runs}


def at_equal_tokens(runs: Sequence[Run]) -> dict[Path, float]:
    """Accuracy (%) in the last steps within the tokens that all runs of a data set and seed have written.

    Parameters
    ----------
    runs : sequence of Run
        Of the methods that are compared.

    Returns
    -------
    dict of Path to float
        By a run's folder; none for a run whose first step took more.
    """
    courses = {run.folder: _course(run, "tokens") for run in runs}
    budgets: dict[tuple[str, int], float] = {}
    for run in runs:
        key = run.data, run.seed
        budgets[key] = min(budgets.get(key, np.inf), courses[run.folder][0][-1])
    found = {}
    for run in runs:
        tokens, accuracy = courses[run.folder]
        within = np.flatnonzero(tokens <= budgets[run.data, run.seed])
        if len(within):
            found[run.folder] = float(accuracy[within[-1]])
    return found


def _course(run: Run, along: str) -> tuple[Floats, Floats]:
    """Tokens or seconds so far, and accuracy (%) as a moving average, by step."""
    records = list(run.records())
    accuracy = 100 * np.array([record["accuracy"] for record in records])
    total = np.concatenate([[0.0], np.cumsum(accuracy)])
    end = np.arange(1, len(records) + 1)
    begin = np.maximum(0, end - _WINDOW)
    at = np.array([record[along] for record in records], dtype=np.float64)
    return at, (total[end] - total[begin]) / (end - begin)


def over(results: Results, data: str) -> list[Plot]:
    """Accuracy over tokens and over wall time."""
    runs = [run for run in results.runs if run.data == data]
    if not runs:
        return []
    plots = []
    for along, (name, unit) in _ALONG.items():
        courses: dict[str, list[tuple[Floats, Floats]]] = {}
        for run in runs:
            courses.setdefault(run.method, []).append(_course(run, along))
        # The stretch that all have gone, or a mean would jump where a seed ends.
        first = max(at[0] for seeds in courses.values() for at, _ in seeds) / unit
        last = min(at[-1] for seeds in courses.values() for at, _ in seeds) / unit
        # Places that differ as they are printed.
        places = np.unique(np.linspace(np.ceil(10 * first), np.floor(10 * last), _PLACES).round()) / 10
        lines = {
            method: np.array([np.interp(places, at / unit, y, np.nan, np.nan) for at, y in seeds])
            for method, seeds in courses.items()
        }
        plots.append(plot_lines(_OVER_CAPTIONS[along], name, places, lines))
    return plots


def over_quarters(results: Results, data: str) -> list[Plot]:
    """Length and advantage by quarter of a group."""
    plots = []
    for name, figures in QUARTERS.items():
        lines = {}
        for method in results.methods:
            runs = results.of(data, method)
            seeds = [[(run.figures or {}).get(figure, np.nan) for figure in figures] for run in runs]
            lines[method] = np.array(seeds, dtype=np.float64).reshape(len(runs), len(figures))
        quarters = np.arange(1.0, len(figures) + 1)
        plots.append(plot_lines(_QUARTER_CAPTIONS[name], "quarter", quarters, lines))
    return plots
