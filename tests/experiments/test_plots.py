import numpy as np

from evenhand.experiments.compare import Comparison, judge
from evenhand.experiments.plots import plot_intervals, plot_lines


def drawn(plot):
    """Names and heights of the lines."""
    (axes,) = plot.figure.axes
    return {line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()}


def test_a_line_is_the_mean_of_its_seeds_where_there_are_any():
    seeds = np.array([[1.0, np.nan, 3.0, np.nan], [3.0, 4.0, np.nan, np.nan]])
    lines = {"game": seeds, "small": np.full((1, 4), 0.5), "nothing": np.full((2, 4), np.nan)}
    plot = plot_lines("Who wins?", "step", np.arange(1.0, 5.0), lines)
    assert drawn(plot) == {"game": [2.0, 4.0, 3.0], "small": [0.5] * 4}
    assert plot.numbers.columns == ["", "step 1", "step 2", "step 3", "step 4"]
    assert plot.numbers.rows == [
        ["game", "2.00 ± 1.41", "4.00", "3.00", "–"],
        ["small", "0.5000", "0.5000", "0.5000", "0.5000"],
    ]
    assert plot.caption.startswith("Who wins? Lines: mean over seeds")


def test_of_a_long_line_five_places_are_shown_in_numbers():
    plot = plot_lines("", "epoch", np.arange(101.0), {"game": np.arange(101.0)[None]})
    assert plot.numbers.columns == ["", *(f"epoch {at}" for at in (0, 25, 50, 75, 100))]


def test_intervals_stand_at_their_value():
    found = judge(
        {value: Comparison.of([one, one + 1, one + 2]) for value, one in {"1": 1.0, "3": 9.0}.items()}
    )
    plot = plot_intervals("Which α?", "α", ["0", "1", "3"], {"tail": found, "head": {"3": found["3"]}})
    (axes,) = plot.figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "3"]  # of 0 nothing is known
    assert [container.get_label() for container in axes.containers] == ["tail", "head"]
    assert plot.numbers.columns == ["α", "tail", "head"]
    assert plot.numbers.rows == [
        ["1", "+2.00 [-0.48, +4.48]", "–"],
        ["3", "+10.00 [+7.52, +12.48] **", "+10.00 [+7.52, +12.48] **"],
    ]
