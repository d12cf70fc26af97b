import numpy as np
import pytest

from evenhand.multilabel.datasets import make_pictures


def test_same_arguments_same_pictures():
    one, labels = make_pictures(20, seed=3)
    other, labels_too = make_pictures(20, seed=3)
    assert np.array_equal(one, other)
    assert np.array_equal(labels.toarray(), labels_too.toarray())
    assert not np.array_equal(one, make_pictures(20, seed=4)[0])


def test_one_to_three_objects_and_a_long_tail():
    pictures, labels = make_pictures(600, size=16)
    assert pictures.shape == (600, 16, 16, 3)
    assert pictures.dtype == np.uint8
    assert set(labels.sum(1)) == {1, 2, 3}
    counts = labels.sum(0)
    assert counts[0] > 5 * counts[-1]
    even = make_pictures(600, size=16, exponent=0)[1].sum(0)
    assert even.max() < 2 * even.min()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_instances": 0}, "n_instances must be a whole number of at least 1, not 0"),
        ({"n_instances": 5.0}, "n_instances must be a whole number of at least 1, not 5.0"),
        ({"size": 15}, "size must be a whole number of at least 16, not 15"),
        ({"size": 16.5}, "size must be a whole number of at least 16, not 16.5"),
        ({"exponent": -1}, "exponent must lie between 0 and 10, not -1"),
        ({"exponent": float("inf")}, "exponent must lie between 0 and 10, not inf"),
        ({"exponent": float("nan")}, "exponent must lie between 0 and 10, not nan"),
        ({"exponent": "1"}, "exponent must lie between 0 and 10, not '1'"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_pictures(**options)


def test_the_steepest_tail_can_be_drawn():
    assert make_pictures(50, size=16, exponent=10)[1].shape == (50, 20)
