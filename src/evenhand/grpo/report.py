"""What the runs of a demo come to: a table with the seeds' spread, and one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evenhand.experiments.compare import paired_interval
from evenhand.experiments.page import Grid, Plot, Points, Section, Text, write_html

NAMES = {"grpo": "GRPO", "dapo": "DAPO", "lambda": "λ-GRPO", "power": "λ, power form"}
BASELINE = "dapo"
COLUMNS = ("", "accuracy, %", "less DAPO's", "length", "long, %", "λ", "f")

_COLOURS = {"grpo": "#E69F00", "dapo": "#0072B2", "lambda": "#CC79A7", "power": "#009E73"}  # Okabe and Ito's
_STYLES = {"grpo": "-", "dapo": "-", "lambda": "--", "power": "-"}  # λ-GRPO often lies on DAPO
_WINDOW = 5  # steps of the moving averages
_CONFIDENCE = 0.95
_ENOUGH = 10  # seeds from which on the table speaks for itself

Floats = npt.NDArray[np.float64]
Numbers = Mapping[str, Floats]
"""What each line of a figure shows, step by step."""
Record = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n − 1) over seeds; the latter is NaN for one seed."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"))


@dataclass(frozen=True)
class Summary:
    """What one scheme came to.

    Parameters
    ----------
    scheme : str
    n_seeds : int
    accuracy, length, long_share : Spread
        After the run, on held-out problems.
    gain : tuple of float, optional
        Accuracy less that of DAPO with the same seed: mean and the ends of its t-interval. None for DAPO, and
        where fewer than two seeds have both.
    lam : Spread, optional
        λ in the last step, where there is one.
    weights : (float, float)
        Least and greatest f of any response of the last step.
    """

    scheme: str
    n_seeds: int
    accuracy: Spread
    length: Spread
    long_share: Spread
    gain: tuple[float, float, float] | None
    lam: Spread | None
    weights: tuple[float, float]

    def cells(self) -> tuple[str, ...]:
        """The row below `COLUMNS`."""
        gain = "–"
        if self.gain is not None:
            gain = "{:+.1f} ({:+.1f}, {:+.1f})".format(*(100 * x for x in self.gain))
        return (
            NAMES[self.scheme],
            _show(self.accuracy, 100, 1),
            gain,
            _show(self.length, 1, 1),
            _show(self.long_share, 100, 0),
            "–" if self.lam is None else _show(self.lam, 1, 2),
            "{:.2f}–{:.2f}".format(*self.weights),
        )


def _show(spread: Spread, scale: float, digits: int) -> str:
    mean = f"{scale * spread.mean:.{digits}f}"
    return mean if np.isnan(spread.sd) else f"{mean} ± {scale * spread.sd:.{digits}f}"


def summarise(records: Sequence[Record]) -> list[Summary]:
    """One summary a scheme, in the order of their first run.

    Parameters
    ----------
    records : sequence of dict
        As `demo.run_scheme` gives them.

    Returns
    -------
    list of Summary
    """
    schemes = list(dict.fromkeys(one["scheme"] for one in records))
    return [_summary(scheme, records) for scheme in schemes]


def _summary(scheme: str, records: Sequence[Record]) -> Summary:
    mine = [one for one in records if one["scheme"] == scheme]
    last = [one["steps"][-1] for one in mine]
    lams = [step["lambda"] for step in last if "lambda" in step]
    return Summary(
        scheme=scheme,
        n_seeds=len(mine),
        accuracy=Spread.of([one["after"]["accuracy"] for one in mine]),
        length=Spread.of([one["after"]["length"] for one in mine]),
        long_share=Spread.of([one["after"]["long_share"] for one in mine]),
        gain=None if scheme == BASELINE else _gain(mine, records),
        lam=Spread.of(lams) if lams else None,
        weights=(min(step["weight_min"] for step in last), max(step["weight_max"] for step in last)),
    )


def _gain(mine: Sequence[Record], records: Sequence[Record]) -> tuple[float, float, float] | None:
    """Paired by seed: what makes a seed's problems hard for both schemes falls out."""
    base = {one["seed"]: one["after"]["accuracy"] for one in records if one["scheme"] == BASELINE}
    gains = [one["after"]["accuracy"] - base[one["seed"]] for one in mine if one["seed"] in base]
    return paired_interval(gains, confidence=_CONFIDENCE)


def findings(records: Sequence[Record]) -> list[str]:
    """What the figures allow to say, in sentences.

    Parameters
    ----------
    records : sequence of dict

    Returns
    -------
    list of str
    """
    summaries = summarise(records)
    before = Spread.of([one["before"]["accuracy"] for one in records])
    told = [f"Accuracy of the starting policy: {100 * before.mean:.1f} %."]
    judged = [one for one in summaries if one.gain is not None]
    for one in judged:
        assert one.gain is not None
        _, low, high = one.gain
        if low <= 0 <= high:
            told.append(
                f"{NAMES[one.scheme]}: the interval holds 0, so these seeds cannot tell it from DAPO."
            )
        else:
            told.append(f"{NAMES[one.scheme]}: {'worse' if high < 0 else 'better'} than DAPO in these runs.")
    n = min((one.n_seeds for one in judged), default=_ENOUGH)
    if n < _ENOUGH:
        told.append(
            f"{n} seeds do not decide: an interval from {n} differences is wide and trusts that they scatter"
            f" normally, and {len(judged)} of them are looked at together. --seeds {_ENOUGH} says more."
        )
    for one in summaries:
        if one.scheme == "lambda":
            off = max(abs(1 - weight) for weight in one.weights)
            same = ": in effect it is DAPO" if off < 0.05 else ""
            told.append(f"{NAMES['lambda']}: its weights end within {100 * off:.1f} % of 1{same}.")
    return told


def write_report(path: Path, title: str, facts: Sequence[str], records: Sequence[Record]) -> None:
    """Write the page; it appears when it is complete.

    Parameters
    ----------
    path : Path
    title : str
    facts : sequence of str
        What was run, a paragraph each.
    records : sequence of dict
        At least one.
    """
    caption = (
        "After the runs, on held-out problems at temperature 1: mean ± standard deviation over seeds. Less"
        f" DAPO's: difference in points, paired by seed, with its {100 * _CONFIDENCE:.0f} % t-interval. Long:"
        " share of responses in the long form. λ, and least and greatest weight f: of the last step."
    )
    key = (
        f"A line is the mean of the seeds, averaged over the last {_WINDOW} steps, and its band goes from the"
        " lowest seed to the highest. λ is drawn as it is."
    )
    rows = [one.cells() for one in summarise(records)]
    sections = [
        Section("What was run", [Text(facts)]),
        Section("What came out", [Grid(caption, COLUMNS, rows), Points(findings(records))]),
        Section("Step by step", [Text([key]), *_plots(records)]),
    ]
    write_html(path, title, sections)


def _plots(records: Sequence[Record]) -> list[Plot]:
    lines = (
        ("Accuracy of the responses trained on, %.", ("accuracy",), 100),
        ("Mean length of a response, tokens.", ("length",), 1),
        ("Share of responses in the long form, %.", ("long_share",), 100),
        (
            "Least and greatest weight f of a response. GRPO's is μ/|o|, DAPO's 1.",
            ("weight_min", "weight_max"),
            1,
        ),
    )
    plots = [
        _plot(records, caption, partial(_lines, records=records, figures=names, scale=scale))
        for caption, names, scale in lines
    ]
    plots[3:3] = [_plot(records, "λ, a line for each seed. At 0 λ-GRPO is DAPO.", _lambdas(records))]
    return plots


def _lambdas(records: Sequence[Record]) -> Callable[[Axes], Numbers]:
    def draw(axes: Axes) -> Numbers:
        axes.axhline(0, color="#888", linewidth=0.8)
        drawn = {}
        for one in records:
            if "lambda" in one["steps"][0]:
                values = np.array([step["lambda"] for step in one["steps"]])
                scheme = one["scheme"]
                axes.plot(range(1, len(values) + 1), values, _STYLES[scheme], color=_COLOURS[scheme])
                drawn[f"{NAMES[scheme]}, seed {one['seed']}"] = values
        return drawn

    return draw


def _lines(axes: Axes, records: Sequence[Record], figures: Sequence[str], scale: float) -> Numbers:
    """A scheme's mean over seeds, with a band from the least seed to the greatest."""
    drawn = {}
    for figure in figures:
        for scheme in dict.fromkeys(one["scheme"] for one in records):
            seeds = [one["steps"] for one in records if one["scheme"] == scheme]
            values = scale * np.array([_smooth([step[figure] for step in steps]) for steps in seeds])
            at = np.arange(1, values.shape[1] + 1)
            axes.plot(at, values.mean(0), _STYLES[scheme], color=_COLOURS[scheme])
            axes.fill_between(
                at, values.min(0), values.max(0), color=_COLOURS[scheme], alpha=0.15, linewidth=0
            )
            drawn[NAMES[scheme] + (f", {figure}" if len(figures) > 1 else "")] = values.mean(0)
    if len(figures) > 1:  # they lie orders of magnitude apart
        axes.set_yscale("log")
    return drawn


def _smooth(values: Sequence[float]) -> Floats:
    """A moving average over the last steps; fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - _WINDOW)
    smooth: Floats = (total[end] - total[start]) / (end - start)
    return smooth


def _plot(records: Sequence[Record], caption: str, draw: Callable[[Axes], Numbers]) -> Plot:
    """A figure with its key above it, and its lines at five steps."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    drawn = draw(axes)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    for scheme in dict.fromkeys(one["scheme"] for one in records):
        axes.plot([], [], _STYLES[scheme], color=_COLOURS[scheme], label=NAMES[scheme])
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    n = len(records[0]["steps"])
    steps = np.unique(np.linspace(0, n - 1, 5).round().astype(int))
    rows = [[name, *(f"{values[step]:.3g}" for step in steps)] for name, values in drawn.items()]
    return Plot(caption, figure, Grid("Step by step.", ["", *(f"step {step + 1}" for step in steps)], rows))
