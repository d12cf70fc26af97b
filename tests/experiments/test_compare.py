import numpy as np
import pytest
from scipy import stats

from evenhand.experiments.compare import paired_interval, show_interval


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
