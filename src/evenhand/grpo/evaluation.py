"""Accuracy of sampled answers: pass@k, avg@k and maj@k, with intervals over problems, and pairs of runs.

A problem is sampled n times. The estimators below are expectations over all subsets of k of its n samples, so
they depend on no order and need no seed. Intervals resample whole problems: samples of one problem are alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from scipy import stats

Measure: TypeAlias = Literal["pass", "average", "majority"]
Floats: TypeAlias = npt.NDArray[np.float64]

_NAMED = 5  # problems that a message lists
_BATCH_VALUES = 1 << 22  # resampled values in memory at a time


class OutcomesError(ValueError):
    """Outcomes cannot be used; the message names the problem."""


@dataclass(frozen=True)
class Outcome:
    """One sampled answer to one problem.

    Parameters
    ----------
    problem : str
        The problem's id, the same in every run.
    sample : int
        From 0; no two of a problem alike.
    answer : str or None
        The answer given, in one spelling for what is the same (`answers.normalised`); None or "" for none.
    correct : bool
    """

    problem: str
    sample: int
    answer: str | None
    correct: bool


@dataclass(frozen=True)
class Interval:
    """A mean over problems and its bootstrap confidence interval.

    Parameters
    ----------
    estimate, low, high : float
    confidence : float
    n_problems : int
    """

    estimate: float
    low: float
    high: float
    confidence: float
    n_problems: int


def pass_at_k(n: npt.ArrayLike, c: npt.ArrayLike, k: int) -> Floats:
    """pass@k: the probability that k of the n samples hold a right one, 1 − C(n−c, k)/C(n, k).

    Parameters
    ----------
    n, c : array of int, shape (P,)
        Samples of each problem, and how many of them are right.
    k : int
        1 ≤ k ≤ n.

    Returns
    -------
    ndarray (P,) float64

    Raises
    ------
    ValueError
        If n and c are not whole numbers, as many of one as of the other; if k or a c is out of its range,
        with its row.

    Notes
    -----
    The unbiased estimator of Chen et al., "Evaluating Large Language Models Trained on Code" (2021), as
    1 − exp(Σ_{i<k} log(1 − c/(n−i))), which loses no digits where the value is near 0.

    Examples
    --------
    >>> pass_at_k([4, 4, 4], [0, 1, 4], k=2)
    array([0. , 0.5, 1. ])
    """
    samples, right = _counts(n, c, k)
    logs = np.zeros(samples.shape)
    certain = samples - right < k
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(k):
            logs += np.log1p(-right / (samples - i))
    return np.where(certain, 1.0, -np.expm1(np.where(certain, 0.0, logs)) + 0.0)


def average_at_k(n: npt.ArrayLike, c: npt.ArrayLike, k: int) -> Floats:
    """avg@k: the mean accuracy of k of the n samples, which over all subsets is c/n whatever k.

    Parameters
    ----------
    n, c, k
        As for `pass_at_k`.

    Returns
    -------
    ndarray (P,) float64

    Raises
    ------
    ValueError
        As for `pass_at_k`: k says how many samples a problem must have.

    Examples
    --------
    >>> average_at_k([4, 4], [1, 3], k=4)
    array([0.25, 0.75])
    """
    samples, right = _counts(n, c, k)
    return np.asarray(right / samples, dtype=np.float64)


def majority_at_k(answers: Sequence[str | None], correct: Sequence[bool], k: int) -> float:
    """maj@k of one problem: the probability that the most frequent answer among k of its n samples is right.

    Each sample votes for its answer. All right samples vote together, however they are spelt; a sample
    without an answer (None or "") has no vote. Where several answers have the most votes, one of them is
    drawn at equal odds; where nobody votes, the result is wrong.

    Parameters
    ----------
    answers : sequence of str or None, length n
    correct : sequence of bool, length n
    k : int
        1 ≤ k ≤ n.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If lengths differ, k is out of its range, or a right sample has no answer.

    Notes
    -----
    Exact, by dynamic programming over the answers: k of n samples without replacement are n independent
    draws of probability k/n, given that they sum to k. For every number v of right votes, the sum runs over
    the ways in which no wrong answer has more than v votes, weighted 1/(1+t) where t of them have v.

    Examples
    --------
    >>> majority_at_k(["2", "2", "3", "3"], [True, True, False, False], k=4)
    0.5
    >>> round(majority_at_k(["2", "2", "3"], [True, True, False], k=1), 6)
    0.666667
    """
    if len(answers) != len(correct):
        raise ValueError(f"{len(answers)} answers, but {len(correct)} verdicts; give one verdict an answer")
    n = len(answers)
    if not 1 <= k <= n:
        raise ValueError(f"k={k} is not between 1 and the {n} samples")
    if any(right and not answer for answer, right in zip(answers, correct, strict=True)):
        raise ValueError("a right sample has no answer; give the answer by which it is right")
    right_count = sum(map(bool, correct))
    wrong = Counter(answer for answer, right in zip(answers, correct, strict=True) if answer and not right)
    silent = n - right_count - wrong.total()
    p = k / n
    expected = 0.0
    for votes in range(1, min(right_count, k) + 1):
        drawn = stats.binom.pmf(votes, right_count, p)
        expected += float(drawn) * _not_outvoted(sorted(wrong.values()), silent, votes, k - votes, p)
    return float(min(1.0, expected / stats.binom.pmf(k, n, p)))


def _not_outvoted(counts: Sequence[int], silent: int, votes: int, others: int, p: float) -> float:
    """Mean of 1/(1 + wrong answers with `votes`) over draws of `others` samples where none has more."""
    most_tied = others // votes
    table = np.zeros((most_tied + 1, others + 1))  # [answers with exactly `votes`, samples drawn]
    table[0, 0] = 1.0
    for count in counts:
        odds = stats.binom.pmf(np.arange(min(votes, count) + 1), count, p)
        grown = np.zeros_like(table)
        for drawn, odd in enumerate(odds[: others + 1]):
            tied = int(drawn == votes)
            grown[tied:, drawn:] += odd * table[: most_tied + 1 - tied, : others + 1 - drawn]
        table = grown
    quiet = stats.binom.pmf(others - np.arange(others + 1), silent, p)
    return float((1.0 / (1.0 + np.arange(most_tied + 1))) @ (table @ quiet))


def score_problems(outcomes: Iterable[Outcome], measure: Measure, k: int) -> dict[str, float]:
    """pass@k, avg@k or maj@k of every problem.

    Parameters
    ----------
    outcomes : iterable of Outcome
    measure : {"pass", "average", "majority"}
    k : int

    Returns
    -------
    dict of str to float
        By problem, in the order of their first outcome.

    Raises
    ------
    OutcomesError
        If a problem has fewer than k samples, the same sample twice, or a right sample without an answer.
    ValueError
        If the measure is not known, or k is below 1.

    Examples
    --------
    >>> outcomes = [Outcome("a", i, str(i), i == 0) for i in range(4)]
    >>> score_problems(outcomes, "average", 4)
    {'a': 0.25}
    """
    if measure not in get_args(Measure):
        raise ValueError(f"measure {measure!r} is not known; take one of {', '.join(get_args(Measure))}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    problems = _by_problem(outcomes)
    short = [f"{name!r} ({len(samples)})" for name, samples in problems.items() if len(samples) < k]
    if short:
        raise OutcomesError(f"{measure}@{k} needs {k} samples of each problem; too few of {_listed(short)}")
    if measure == "majority":
        return {name: _majority_of(name, samples, k) for name, samples in problems.items()}
    n = np.array([len(samples) for samples in problems.values()])
    c = np.array([sum(sample.correct for sample in samples) for samples in problems.values()])
    values = (pass_at_k if measure == "pass" else average_at_k)(n, c, k)
    return dict(zip(problems, values.tolist(), strict=True))


def _majority_of(problem: str, samples: Sequence[Outcome], k: int) -> float:
    try:
        return majority_at_k([s.answer for s in samples], [s.correct for s in samples], k)
    except ValueError as error:
        raise OutcomesError(f"problem {problem!r}: {error}") from error


def average_interval(
    sets: Sequence[Mapping[str, float]], *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """The mean of the means of one or several sets of problems, with a bootstrap interval over problems.

    Parameters
    ----------
    sets : sequence of mapping of str to float
        For each set, one value a problem: scores, as `score_problems` gives them, or `differences` of two
        runs. All sets weigh the same, whatever their sizes.
    confidence : float, default=0.95
    resamples : int, default=9999
    seed : int, default=0

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        If there is no set, one has fewer than two problems, a value is not finite, or `confidence` or
        `resamples` is out of its range.

    Notes
    -----
    `scipy.stats.bootstrap`, BCa; problems are resampled within their set. It is about the choice of problems
    and says nothing about training seeds. Where all values are the same the interval is that point, which
    claims too much for few problems.

    Examples
    --------
    >>> interval = average_interval([{"a": 0.0, "b": 1.0, "c": 0.5, "d": 1.0}], seed=1)
    >>> interval.estimate, interval.low < 0.625 < interval.high
    (0.625, True)
    >>> average_interval([{"a": 0.0, "b": 1.0}, {"c": 1.0, "d": 1.0, "e": 1.0}]).estimate
    0.75
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence!r}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples!r}")
    if not sets:
        raise ValueError("there is no set of problems to average over")
    samples = [_checked(values) for values in sets]
    estimate = float(np.mean([np.mean(sample) for sample in samples]))
    total = sum(map(len, samples))
    if all(np.ptp(sample) == 0 for sample in samples):  # BCa divides by the spread
        return Interval(estimate, estimate, estimate, confidence, total)
    found = stats.bootstrap(
        samples,
        _mean_of_means,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, _BATCH_VALUES // max(map(len, samples))),
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(estimate, float(found.low), float(found.high), confidence, total)


def _checked(values: Mapping[str, float]) -> Floats:
    if len(values) < 2:
        raise ValueError(f"an interval over problems needs at least 2 of them, not {len(values)}")
    for problem, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"problem {problem!r} has the value {value!r}; give finite values")
    # sorted, so that the same seed gives the same interval in whatever order a run met its problems
    return np.array([values[problem] for problem in sorted(values)], dtype=np.float64)


def _mean_of_means(*samples: Floats, axis: int) -> Any:
    return np.mean([np.mean(sample, axis=axis) for sample in samples], axis=0)


def differences(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """second − first for each problem, for `average_interval`.

    Parameters
    ----------
    first, second : mapping of str to float

    Returns
    -------
    dict of str to float

    Raises
    ------
    ValueError
        If a problem is in one run only; it is named.
    """
    for name, there, here in (("second", first, second), ("first", second, first)):
        missing = [repr(problem) for problem in there if problem not in here]
        if missing:
            raise ValueError(
                f"the runs are not over the same problems: not in the {name} run: {_listed(missing)};"
                " evaluate both on the same ones"
            )
    return {problem: second[problem] - first[problem] for problem in first}


def _by_problem(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    problems: dict[str, dict[int, Outcome]] = {}
    for outcome in outcomes:
        samples = problems.setdefault(outcome.problem, {})
        if outcome.sample in samples:
            raise OutcomesError(
                f"sample {outcome.sample} of problem {outcome.problem!r} stands twice; take one out"
            )
        samples[outcome.sample] = outcome
    return {problem: list(samples.values()) for problem, samples in problems.items()}


def _counts(
    n: npt.ArrayLike, c: npt.ArrayLike, k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    samples, right = np.asarray(n), np.asarray(c)
    if samples.shape != right.shape or samples.ndim != 1:
        raise ValueError(f"n and c must be two vectors of one length, not {samples.shape}, {right.shape}")
    if samples.size and not (samples.dtype.kind in "iu" and right.dtype.kind in "iu"):
        raise ValueError("n and c must be whole numbers")
    for row, (sampled, correct) in enumerate(zip(samples.tolist(), right.tolist(), strict=True)):
        if not 1 <= k <= sampled:
            raise ValueError(f"row {row}: k={k} is not between 1 and the {sampled} samples")
        if not 0 <= correct <= sampled:
            raise ValueError(f"row {row}: {correct} right of {sampled} samples")
    return samples.astype(np.int64), right.astype(np.int64)


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_NAMED])
    return listed if len(names) <= _NAMED else f"{listed} and {len(names) - _NAMED} more"
