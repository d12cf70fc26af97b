"""Comparisons over seeds: paired differences, their intervals and tests, and what these allow to say."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

_ROUNDING = 1e-9  # relative; differences that are closer are equal
_LEVEL = 0.05

_Name = TypeVar("_Name", bound=Hashable)


def paired_interval(
    differences: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[float, float, float] | None:
    """Mean of paired differences and the ends of its interval by Student's t.

    Parameters
    ----------
    differences : array-like, shape (n,)
        One a seed.
    confidence : float
        In (0, 1).

    Returns
    -------
    tuple of float, or None
        Mean, low, high. None for fewer than two differences, which say nothing of their spread.

    Raises
    ------
    ValueError
        If a difference is not finite or there is more than one dimension.

    Examples
    --------
    >>> [round(x, 2) for x in paired_interval([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    given = _checked(differences)
    if len(given) < 2:
        return None
    mean = float(given.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(given) - 1) * stats.sem(given))
    return mean, mean - half, mean + half


@dataclass(frozen=True)
class Comparison:
    """What paired differences say.

    Parameters
    ----------
    n : int
        Differences.
    mean, low, high : float
        Their mean and its 95 % interval by Student's t.
    p : float
        Two-sided, of the t-test that belongs to the interval. Where all differences are equal, of the sign
        test: their spread is then that of the figures' last digit, and a t-test would be sure of anything.
    """

    n: int
    mean: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, differences: npt.ArrayLike) -> Comparison | None:
        """The comparison by some differences; None for fewer than two.

        Examples
        --------
        >>> found = Comparison.of([1.0, 2.0, 3.0])
        >>> found.n, round(found.p, 3)
        (3, 0.074)
        """
        found = paired_interval(differences)
        if found is None:
            return None
        given = np.asarray(differences, dtype=np.float64)
        if np.ptp(given) <= _ROUNDING * np.abs(given).max():
            return cls(len(given), *found, p=1.0 if found[0] == 0 else 0.5 ** (len(given) - 1))
        return cls(len(given), *found, p=float(stats.ttest_1samp(given, 0.0).pvalue))


def show_interval(differences: npt.ArrayLike) -> str:
    """Mean and 95 % interval as text, with signs; the mean alone for one difference.

    Examples
    --------
    >>> show_interval([1.0, 2.0, 3.0]), show_interval([0.5])
    ('+2.0 [-0.5, +4.5]', '+0.5')
    """
    found = paired_interval(differences)
    if found is None:
        return f"{float(np.asarray(differences, np.float64).mean()):+.1f}"
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*found)


def bootstrap_interval(
    differences: npt.ArrayLike, *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float] | None:
    """Mean of paired differences and the ends of its interval by the bootstrap (BCa, 9,999 samples).

    Parameters
    ----------
    differences : array-like, shape (n,)
    confidence : float
        In (0, 1).
    seed : int

    Returns
    -------
    tuple of float, or None
        Mean, low, high. None for fewer than two differences.

    Raises
    ------
    ValueError
        If a difference is not finite or there is more than one dimension.

    Notes
    -----
    With five differences and fewer the bootstrap's intervals are too narrow: `paired_interval` is the one to
    trust there, if the differences scatter normally.

    Examples
    --------
    >>> [round(x, 1) for x in bootstrap_interval([1.0, 2.0, 3.0, 2.5, 1.5, 2.0])]
    [2.0, 1.5, 2.5]
    """
    given = _checked(differences)
    if len(given) < 2:
        return None
    mean = float(given.mean())
    if np.ptp(given) == 0:
        return mean, mean, mean  # nothing to resample
    found = stats.bootstrap((given,), np.mean, confidence_level=confidence, rng=np.random.default_rng(seed))
    return mean, float(found.confidence_interval.low), float(found.confidence_interval.high)


def wilcoxon_p(differences: npt.ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that paired differences lie around 0.

    Parameters
    ----------
    differences : array-like, shape (n,)

    Returns
    -------
    float
        1 where all differences are 0. From five differences it is never below 1/16.

    Raises
    ------
    ValueError
        If a difference is not finite, there is more than one dimension, or there is none.

    Examples
    --------
    >>> wilcoxon_p([1.0, 2.0, 3.0, 4.0, 5.0]), wilcoxon_p([0.0, 0.0])
    (0.0625, 1.0)
    """
    given = _checked(differences)
    if not len(given):
        raise ValueError("there are no differences to test")
    return float(stats.wilcoxon(given).pvalue) if given.any() else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p of several comparisons that are looked at together, by Holm's step-down correction.

    Parameters
    ----------
    p_values : sequence of float
        In [0, 1].

    Returns
    -------
    list of float
        In the same order: max over j ≤ i of min(1, (m − j + 1) p_(j)), i the place of a p among the sorted
        ones.

    Raises
    ------
    ValueError
        If a p does not lie in [0, 1].

    Notes
    -----
    S. Holm, A simple sequentially rejective multiple test procedure, 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"p values must lie in [0, 1], not {p_values!r}")
    order = np.argsort(given, kind="stable")
    steps = np.minimum(1, given[order] * np.arange(len(given), 0, -1))
    corrected = np.empty_like(given)
    corrected[order] = np.maximum.accumulate(steps)
    return [float(p) for p in corrected]


@dataclass(frozen=True)
class Judged:
    """A comparison among all those that are looked at together.

    Parameters
    ----------
    found : Comparison
    p : float
        After Holm's correction over them all.
    n_all : int
        How many they are.
    """

    found: Comparison
    p: float
    n_all: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of 0, else 0."""
        return int(self.found.low > 0) - int(self.found.high < 0)

    @property
    def sure(self) -> bool:
        """Whether it is told from 0 after Holm's correction."""
        return self.p < _LEVEL


def judge(found: Mapping[_Name, Comparison]) -> dict[_Name, Judged]:
    """Comparisons that are looked at together, with Holm's correction over them all.

    Parameters
    ----------
    found : mapping
        By whatever tells them apart.

    Returns
    -------
    dict
    """
    corrected = holm([one.p for one in found.values()])
    return {key: Judged(one, p, len(found)) for (key, one), p in zip(found.items(), corrected, strict=True)}


def verdict(judged: Sequence[Judged]) -> str:
    """What the comparisons of two methods by one figure allow to say, one or more data sets together.

    Parameters
    ----------
    judged : sequence of Judged
        At least one; one a data set.

    Returns
    -------
    str
    """
    signs = [one.sign for one in judged]
    sure = [one.sign for one in judged if one.sure]
    mean = float(np.mean([one.found.mean for one in judged]))
    n, n_all = len(judged), judged[0].n_all
    if not any(signs):
        where = "" if n == 1 else f" on all of {n} data sets"
        return f"{mean:+.2f} in the mean; the interval holds 0{where}: nothing is shown."
    if n == 1:
        side, holds = ("above" if signs[0] > 0 else "below"), ("" if sure else " not")
        return f"{mean:+.2f}, {side} by the 95 % interval, and{holds} after Holm's correction over {n_all}."
    return (
        f"{mean:+.2f} in the mean; above on {signs.count(1)} and below on {signs.count(-1)} of {n} data sets"
        f" by the 95 % interval, on {sure.count(1)} and {sure.count(-1)} after Holm's correction over all"
        f" {n_all} comparisons."
    )


def show_spread(values: Sequence[float], decimals: int = 2) -> str:
    """Mean ± standard deviation as text.

    Examples
    --------
    >>> show_spread([1.0, 2.0, 3.0]), show_spread([0.5], decimals=4), show_spread([])
    ('2.00 ± 1.00', '0.5000', '–')
    """
    if not values:
        return "–"
    mean = f"{np.mean(values):.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{decimals}f}"


def show_difference(judged: Judged | None) -> str:
    """Mean and interval as text, with the marks that `report.differences_table` explains; a dash for None."""
    if judged is None:
        return "–"
    found = judged.found
    mark = " **" if judged.sure else " *" if judged.sign else ""
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]{mark}"


def _checked(differences: npt.ArrayLike) -> npt.NDArray[np.float64]:
    given = np.asarray(differences, dtype=np.float64)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError(f"differences must be finite numbers in one dimension, not {differences!r}")
    return given
