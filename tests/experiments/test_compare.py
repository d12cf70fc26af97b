import numpy as np
import pytest
from scipy import stats

from evenhand.experiments.compare import (
    Comparison,
    bootstrap_interval,
    holm,
    paired_interval,
    show_interval,
    wilcoxon_p,
)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_is_that_of_a_paired_t_test(confidence):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=7), rng.normal(size=7)
    expected = stats.ttest_rel(second, first).confidence_interval(confidence)
    mean, low, high = paired_interval(second - first, confidence=confidence)
    assert (mean, low, high) == pytest.approx(((second - first).mean(), expected.low, expected.high))


def test_one_difference_has_no_interval():
    assert paired_interval([0.3]) is None
    assert show_interval([0.3]) == "+0.3"
    assert show_interval([0.0, 0.0]) == "+0.0 [+0.0, +0.0]"


@pytest.mark.parametrize("bad", [[1.0, np.nan], [[1.0, 2.0]]])
def test_what_is_no_row_of_numbers_is_refused(bad):
    with pytest.raises(ValueError, match="finite numbers in one dimension"):
        paired_interval(bad)


def test_a_comparison_has_the_p_of_its_interval():
    differences = np.random.default_rng(0).normal(0.5, size=6)
    found = Comparison.of(differences)
    assert (found.mean, found.low, found.high) == paired_interval(differences)
    assert found.p == pytest.approx(stats.ttest_rel(differences, np.zeros(6)).pvalue)
    # On the edge of the interval p is what is left of the confidence.
    assert Comparison.of(differences - found.low).p == pytest.approx(0.05)


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.3, 0.25)])  # 0.25: three coins fall alike
def test_equal_differences_have_no_spread(value, p):
    assert Comparison.of([value] * 3) == Comparison(3, value, value, value, p)
    assert bootstrap_interval([value] * 3) == (value, value, value)
    assert Comparison.of([value * (1 + 1e-15), value, value * (1 - 1e-15)]).p == p
    assert Comparison.of([value]) is None
    assert bootstrap_interval([value]) is None


def test_the_bootstrap_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        _, low, high = bootstrap_interval(rng.exponential(size=25), confidence=0.8)
        inside += low <= 1 <= high
    assert 39 <= inside <= 57  # 48 are expected; 99 % of binomial draws lie here


def test_the_bootstrap_is_seeded():
    values = np.random.default_rng(0).normal(size=8)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_wilcoxon_by_counting_signs():
    """Exact: of the 2^n ways to give the ranks signs, how many have a sum as far from the middle."""
    differences = np.array([0.3, -0.1, 0.8, 0.5, -0.2, 0.9])
    ranks = stats.rankdata(abs(differences))
    signs = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T
    sums, found = signs @ ranks, ranks[differences > 0].sum()
    middle = ranks.sum() / 2
    expected = (abs(sums - middle) >= abs(found - middle)).mean()
    assert wilcoxon_p(differences) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no differences"):
        wilcoxon_p([])


def test_holm_rejects_what_stepping_down_rejects():
    p = np.random.default_rng(0).uniform(0, 0.1, size=12)
    corrected = np.array(holm(list(p)))
    for level in (0.05, 0.2, 0.5):
        rejected = np.zeros(12, bool)
        for step, at in enumerate(np.argsort(p)):
            if p[at] > level / (12 - step):
                break
            rejected[at] = True
        assert ((corrected <= level) == rejected).all()
    assert holm([]) == []
    with pytest.raises(ValueError, match="must lie in"):
        holm([1.2])
