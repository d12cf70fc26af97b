"""Plots of runs: lines over steps, epochs or tenths of the labels, and intervals over an option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evenhand.experiments.compare import Judged, show_difference, show_spread
from evenhand.experiments.page import Grid, Plot

Floats = npt.NDArray[np.float64]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's
_MARKERS = ("o", "s", "^", "D", "v")
_STYLES = ("-", "--", ":", "-.")


def plot_lines(caption: str, along: str, at: Floats, lines: Mapping[str, Floats]) -> Plot:
    """A line for each name, the mean of its seeds, in a band from the lowest seed to the highest.

    Parameters
    ----------
    caption, along : str
        `along` names the horizontal axis.
    at : array (n,)
        Places on it.
    lines : mapping of str to array (seeds, n)
        NaN where there is no value. What has none at all is not drawn.

    Returns
    -------
    Plot
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    places = np.unique(np.linspace(0, len(at) - 1, 5).round().astype(int))
    rows = []
    for number, (name, values) in enumerate(lines.items()):
        known = np.isfinite(values).any(axis=0)
        if not known.any():
            continue
        colour, style = _COLOURS[number % len(_COLOURS)], _STYLES[number // len(_COLOURS) % len(_STYLES)]
        mean = np.nanmean(values[:, known], axis=0)
        axes.plot(at[known], mean, style, color=colour, label=name)
        low, high = np.nanmin(values[:, known], axis=0), np.nanmax(values[:, known], axis=0)
        axes.fill_between(at[known], low, high, color=colour, alpha=0.15, linewidth=0)
        shown = [values[:, place][np.isfinite(values[:, place])] for place in places]
        decimals = 2 if np.nanmax(np.abs(values)) > 2 else 4  # shares and entropies want more than per cents
        rows.append([name, *(show_spread(list(one), decimals) for one in shown)])
    axes.set_xlabel(along)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    columns = ["", *(f"{along} {at[place]:g}" for place in places)]
    numbers = Grid("Mean ± standard deviation over seeds.", columns, rows)
    return Plot(f"{caption} Lines: mean over seeds; bands: lowest to highest seed.", figure, numbers)


def plot_intervals(
    caption: str, along: str, values: Sequence[str], lines: Mapping[str, Mapping[str, Judged]]
) -> Plot:
    """Differences with their intervals over the values of an option.

    Parameters
    ----------
    caption, along : str
        `along` names the option.
    values : sequence of str
        Of the option, in order; those without a difference are left out.
    lines : mapping of str to mapping
        For each name, differences by value.

    Returns
    -------
    Plot
    """
    values = [value for value in values if any(value in line for line in lines.values())]
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="#888", linewidth=0.8)
    for number, (name, line) in enumerate(lines.items()):
        at = [values.index(value) + 0.12 * (number - (len(lines) - 1) / 2) for value in line]
        mean = np.array([one.found.mean for one in line.values()])
        ends = np.array([[one.found.low, one.found.high] for one in line.values()]).T
        axes.errorbar(
            at, mean, np.abs(ends - mean), fmt=_MARKERS[number % len(_MARKERS)], capsize=3, label=name
        )
    axes.set_xticks(range(len(values)), values)
    axes.set_xlabel(along)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    rows = [[value, *(show_difference(line.get(value)) for line in lines.values())] for value in values]
    numbers = Grid("Mean [95 % interval]; marks as in tables of differences.", [along, *lines], rows)
    return Plot(f"{caption} Points: mean over seeds; bars: 95 % interval, paired by seed.", figure, numbers)
