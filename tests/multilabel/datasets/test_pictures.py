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


@pytest.mark.parametrize("options", [{"n_instances": 0}, {"size": 15}, {"exponent": -1}])
def test_what_is_out_of_range_is_refused(options):
    with pytest.raises(ValueError, match="size at least 16"):
        make_pictures(**options)
