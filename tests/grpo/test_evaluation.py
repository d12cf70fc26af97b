from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evenhand.grpo.evaluation import (
    Outcome,
    average_at_k,
    average_interval,
    differences,
    majority_at_k,
    pass_at_k,
    score_problems,
)


def mean_interval(values, **options):
    return average_interval([values], **options)


def paired_difference(first, second):
    return average_interval([differences(first, second)])


def outcome(problem="a", sample=0, answer="1", correct=False):
    return Outcome(problem, sample, answer, correct)


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_and_average_at_k_are_means_over_all_subsets(n):
    for c in range(n + 1):
        verdicts = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            subsets = list(combinations(verdicts, k))
            assert pass_at_k([n], [c], k)[0] == pytest.approx(np.mean([any(s) for s in subsets]), abs=1e-14)
            assert average_at_k([n], [c], k)[0] == pytest.approx(np.mean([np.mean(s) for s in subsets]))


@given(st.integers(1, 2000), st.data())
def test_pass_at_k_equals_the_exact_fraction(n, data):
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    exact = 1 - Fraction(comb(n - c, k), comb(n, k))
    assert pass_at_k([n], [c], k)[0] == pytest.approx(float(exact), rel=1e-11, abs=0)


def test_pass_at_k_keeps_its_digits_near_zero():
    assert pass_at_k([10**12], [1], 1)[0] == pytest.approx(1e-12, rel=1e-12)


def test_pass_at_k_at_its_ends_is_exact():
    assert pass_at_k([5, 5, 5], [0, 5, 3], 3).tolist() == [0.0, 1.0, 1.0]


def majority_by_enumeration(answers, correct, k):
    total = 0.0
    subsets = list(combinations(range(len(answers)), k))
    for subset in subsets:
        votes = {}
        for i in subset:
            if correct[i]:
                votes["right"] = votes.get("right", 0) + 1
            elif answers[i]:
                votes["wrong " + answers[i]] = votes.get("wrong " + answers[i], 0) + 1
        winners = [name for name, count in votes.items() if count == max(votes.values())]
        total += winners.count("right") / len(winners) if winners else 0
    return total / len(subsets)


SAMPLES = st.lists(
    st.sampled_from([("1", True), ("1.0", True), ("2", False), ("3", False), ("4", False), (None, False)]),
    min_size=1,
    max_size=9,
)


@settings(deadline=None)
@given(SAMPLES, st.data())
def test_majority_at_k_is_the_mean_over_all_subsets(samples, data):
    answers, correct = zip(*samples, strict=True)
    k = data.draw(st.integers(1, len(samples)))
    assert majority_at_k(answers, correct, k) == pytest.approx(
        majority_by_enumeration(answers, correct, k), abs=1e-12
    )


def test_majority_at_k_of_many_samples():
    rng = np.random.default_rng(0)
    answers = [str(value) for value in rng.geometric(0.3, 64)]
    correct = [answer == "2" for answer in answers]
    exact = majority_at_k(answers, correct, 16)
    hits = []
    for _ in range(20_000):
        votes = {}
        for i in rng.choice(64, 16, replace=False):
            votes[answers[i]] = votes.get(answers[i], 0) + 1
        winners = [answer for answer, count in votes.items() if count == max(votes.values())]
        hits.append(("2" in winners) / len(winners))
    assert abs(np.mean(hits) - exact) < 4 * stats.sem(hits)


def test_majority_at_one_is_the_accuracy_and_at_n_the_vote():
    answers, correct = ["1", "1", "2", "2", "2", None], [True, True, False, False, False, False]
    assert majority_at_k(answers, correct, 1) == pytest.approx(2 / 6)
    assert majority_at_k(answers, correct, 6) == 0
    assert majority_at_k(answers[:4], correct[:4], 4) == 0.5
    assert majority_at_k([None, ""], [False, False], 2) == 0
    assert majority_at_k(["0.5", "1/2", "3", "3", "3"], [True, True, False, False, False], 5) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pass_at_k([4, 2], [1, 1], 3), "row 1: k=3 is not between 1 and the 2 samples"),
        (lambda: pass_at_k([4], [5], 3), "row 0: 5 right of 4 samples"),
        (lambda: pass_at_k([4], [1], 0), "k=0"),
        (lambda: average_at_k([4], [1, 2], 1), "two vectors of one length"),
        (lambda: pass_at_k([4.0], [1.5], 1), "whole numbers"),
        (lambda: majority_at_k(["1"], [True], 2), "k=2"),
        (lambda: majority_at_k(["1"], [True, False], 1), "1 answers, but 2 verdicts"),
        (lambda: majority_at_k([""], [True], 1), "a right sample has no answer"),
        (lambda: mean_interval({"a": 1.0}), "at least 2"),
        (lambda: mean_interval({"a": 1.0, "b": float("nan")}), "problem 'b' has the value nan"),
        (lambda: mean_interval({"a": 1.0, "b": 0.0}, confidence=95), "between 0 and 1"),
        (lambda: mean_interval({"a": 1.0, "b": 0.0}, resamples=0), "at least 1"),
        (lambda: average_interval([]), "no set"),
        (lambda: average_interval([{"a": 1.0, "b": 0.0}, {"c": 1.0}]), "at least 2 of them, not 1"),
        (lambda: score_problems([outcome()], "best", 1), "'best' is not known; take one of pass, average"),
        (lambda: score_problems([outcome()], "pass", 2), r"needs 2 samples of each problem.*'a' \(1\)"),
        (lambda: score_problems([outcome(), outcome()], "pass", 1), "sample 0 of problem 'a' stands twice"),
        (
            lambda: score_problems([outcome(answer=None, correct=True)], "majority", 1),
            "problem 'a': a right sample",
        ),
        (
            lambda: paired_difference({"a": 1, "b": 0}, {"a": 1, "c": 0}),
            "not in the second run: 'b'",
        ),
        (
            lambda: paired_difference({"a": 1, "b": 0}, {"a": 1, "b": 0, "c": 0}),
            "not in the first run: 'c'",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_score_problems():
    outcomes = [outcome("a", i, str(i % 2), i % 2 == 1) for i in range(4)]
    outcomes += [outcome("b", i, "7", False) for i in range(5)]
    assert score_problems(outcomes, "average", 4) == {"a": 0.5, "b": 0.0}
    assert score_problems(outcomes, "pass", 2)["a"] == pytest.approx(1 - 1 / 6)
    assert score_problems(outcomes, "majority", 4) == {"a": 0.5, "b": 0.0}
    assert score_problems(reversed(outcomes), "pass", 2) == pytest.approx(score_problems(outcomes, "pass", 2))


def values(rng, n, p):
    return {
        str(i): float(value) for i, value in enumerate(rng.binomial(8, rng.beta(2 * p, 2 - 2 * p, n)) / 8)
    }


def test_an_interval_is_scipys_and_the_same_from_the_same_seed():
    sample = values(np.random.default_rng(1), 40, 0.5)
    interval = mean_interval(sample, resamples=999, seed=7)
    expected = stats.bootstrap(
        ([sample[problem] for problem in sorted(sample)],),
        np.mean,
        n_resamples=999,
        method="BCa",
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert (interval.low, interval.high) == (expected.low, expected.high)
    assert interval == mean_interval(sample, resamples=999, seed=7)
    assert interval != mean_interval(sample, resamples=999, seed=8)
    assert interval.n_problems == 40
    assert interval.estimate == pytest.approx(np.mean(list(sample.values())))


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        interval = mean_interval(values(rng, 40, 0.4), resamples=400, confidence=0.9)
        held += interval.low <= 0.4 <= interval.high
    assert stats.binomtest(held, 200, 0.9).pvalue > 1e-3


@pytest.mark.parametrize("sample", [{"a": 0.0, "b": 1.0}, {"a": 0.0, "b": 0.0, "c": 1.0}])
def test_small_samples_give_finite_intervals(sample):
    interval = mean_interval(sample)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_equal_values_give_a_point():
    interval = mean_interval({"a": 0.5, "b": 0.5})
    assert (interval.low, interval.estimate, interval.high) == (0.5, 0.5, 0.5)


def test_pairing_takes_the_problems_difficulty_out():
    rng = np.random.default_rng(3)
    first = values(rng, 60, 0.5)
    second = {problem: value + 0.05 + 0.01 * rng.normal() for problem, value in reversed(first.items())}
    difference = paired_difference(first, second)
    assert difference.low > 0.04
    assert difference.high < 0.06
    alone = mean_interval(second)
    assert alone.high - alone.low > 5 * (difference.high - difference.low)
    swapped = paired_difference(second, first)
    assert swapped.estimate == pytest.approx(-difference.estimate)
    assert paired_difference(dict(reversed(first.items())), second) == difference


def test_an_average_weighs_sets_alike_whatever_their_sizes():
    rng = np.random.default_rng(4)
    small, large = values(rng, 10, 0.3), values(rng, 400, 0.7)
    average = average_interval([small, large])
    means = [np.mean(list(one.values())) for one in (small, large)]
    assert average.estimate == pytest.approx(np.mean(means))
    assert average.n_problems == 410
    # the two means are independent, and the small set's spread is nearly all of it
    width = np.hypot(*(one.high - one.low for one in map(mean_interval, (small, large)))) / 2
    assert average.high - average.low == pytest.approx(width, rel=0.1)
    assert average_interval([large]) == mean_interval(large)
    assert average_interval([small, large]) == average_interval([dict(reversed(small.items())), large])


def test_averages_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        interval = average_interval(
            [values(rng, 20, 0.2), values(rng, 60, 0.6)], resamples=400, confidence=0.9
        )
        held += interval.low <= 0.4 <= interval.high
    assert stats.binomtest(held, 200, 0.9).pvalue > 1e-3


def test_an_average_of_sets_without_spread_is_a_point():
    interval = average_interval([{"a": 1.0, "b": 1.0}, {"c": 0.0, "d": 0.0}])
    assert (interval.low, interval.estimate, interval.high) == (0.5, 0.5, 0.5)


def test_differences():
    assert differences({"a": 0.25, "b": 1.0}, {"b": 0.5, "a": 0.75}) == {"a": 0.5, "b": -0.5}
