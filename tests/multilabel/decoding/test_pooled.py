import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.exceptions import NotFittedError

from evenhand.multilabel.decoding import PlattCalibration, PooledCalibration, calibration_from_state
from evenhand.multilabel.metrics import frequency_buckets


def simulated(n=20_000, seed=0, rates=(-6.0, -5.0, -4.0, -3.0, -2.0, 0.0)):
    """Scores whose log-odds are a straight line, another for every label, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, len(rates)))
    odds = np.array(rates) + np.linspace(0.8, 2.0, len(rates)) * z
    return z.astype(np.float32), expit(odds), (rng.random(odds.shape) < expit(odds)).astype(np.int64)


def log_loss(p, Y):
    p = np.clip(p.astype(float), 1e-12, 1 - 1e-12)
    return -np.where(Y > 0, np.log(p), np.log1p(-p)).mean()


def test_probabilities_of_new_instances_are_right_as_often_as_they_say():
    scores, _, Y = simulated()
    p = PooledCalibration().fit(scores[:10_000], Y[:10_000]).transform(scores[10_000:])
    truth = Y[10_000:]
    for low, high in ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1)):
        inside = (p >= low) & (p < high)
        spread = np.sqrt((p[inside] * (1 - p[inside])).sum())
        assert abs((truth[inside] - p[inside]).sum()) < 4 * spread + 0.02 * truth[inside].sum()


def test_nearly_the_true_probabilities_are_found():
    scores, true, Y = simulated(seed=1)
    p = PooledCalibration().fit(scores, Y).transform(scores)
    assert np.abs(p - true).mean() < 0.01
    assert log_loss(p, Y) < log_loss(true, Y) * 1.01


def test_overconfident_tails_of_platts_curve_are_held_down():
    # Below 1 the odds rise with the score, above it they stay: a logistic curve runs on to certainty.
    rng = np.random.default_rng(2)
    scores = rng.normal(scale=2, size=(4000, 20))
    true = expit(np.minimum(2 * scores, 2.0) - 4)
    Y = rng.random(true.shape) < true
    new = np.full((1, 20), 6.0)
    pooled, platt = PooledCalibration().fit(scores, Y), PlattCalibration().fit(scores, Y)
    assert np.abs(pooled.transform(new) - expit(-2)).max() < 0.05
    assert platt.transform(new).min() > 0.3
    assert log_loss(pooled.transform(scores), Y) < log_loss(platt.transform(scores), Y)


def test_probabilities_rise_with_the_score_of_each_label():
    scores, _, Y = simulated(3000, seed=3)
    grid = np.repeat(np.linspace(-8, 8, 500)[:, None], Y.shape[1], axis=1)
    p = PooledCalibration().fit(scores, Y).transform(grid)
    assert (np.diff(p, axis=0) >= 0).all()
    assert (np.diff(p[100:300], axis=0) > 0).all()  # beyond, float32 has no room below 1
    assert p.min() >= 0
    assert p.max() <= 1


def test_a_label_whose_scores_mislead_keeps_its_order_and_says_its_share():
    # Out-of-fold scores of a rare label may by chance be lower on its positives.
    scores, _, Y = simulated(3000, seed=4)
    Y[:, 3] = scores[:, 3] < -1.5
    p = PooledCalibration(pull=0.1).fit(scores, Y).transform(scores)
    assert (np.diff(p[np.argsort(scores[:, 3], kind="stable"), 3]) >= 0).all()
    assert len(np.unique(p[:, 3])) > 1000
    assert p[:, 3].mean() == pytest.approx(Y[:, 3].mean(), abs=0.03)
    assert np.ptp(p[:, 3]) < 0.1


def test_log_odds_are_pooled_over_labels_of_one_bucket_only():
    scores, _, Y = simulated(2000, seed=5)
    Y[:, 0] = 0
    Y[:4, 0] = 1
    calibration = PooledCalibration().fit(scores, Y)
    np.testing.assert_array_equal(calibration.buckets_, frequency_buckets(Y.sum(0)).index)
    changed = Y.copy()
    changed[:, 5] = np.random.default_rng(0).permutation(Y[:, 5])
    again = PooledCalibration().fit(scores, changed)
    assert np.abs(again.levels_[6] - calibration.levels_[6]).max() > 0.01
    # The Platt curves are pulled to that of all labels, so the other buckets' bins may move a little.
    assert np.abs(again.levels_[0] - calibration.levels_[0]).max() < 0.01


def test_buckets_without_labels_leave_platts_curve_as_it_is():
    scores, _, Y = simulated(2000, seed=6, rates=(-1.0, 0.0))
    calibration = PooledCalibration().fit(scores, Y)
    assert set(calibration.buckets_) == {6}
    middles = np.linspace(-30, 30, calibration.levels_.shape[1])
    for bucket in range(6):
        np.testing.assert_allclose(calibration.levels_[bucket], expit(middles), atol=1e-12)


@pytest.mark.parametrize("value", [0, 1])
def test_labels_that_are_everywhere_or_nowhere(value):
    scores, _, Y = simulated(500, seed=7)
    Y[:, 2] = value
    p = PooledCalibration().fit(scores, Y).transform(scores)
    assert np.isfinite(p).all()
    assert np.abs(p[:, 2] - value).max() < 0.1


def test_constant_scores_say_the_share_of_positives():
    Y = np.zeros((100, 2))
    Y[:30, 0] = 1
    Y[:60, 1] = 1
    p = PooledCalibration().fit(np.zeros((100, 2)), Y).transform(np.zeros((1, 2)))
    np.testing.assert_allclose(p, [[0.3, 0.6]], atol=0.02)


def test_scores_far_out_are_finite_probabilities():
    scores, _, Y = simulated(500, seed=8)
    calibration = PooledCalibration().fit(scores, Y)
    p = calibration.transform(np.array([[1e30] * 6, [-1e30] * 6]))
    assert np.isfinite(p).all()
    assert (p[0] > p[1]).all()


def test_sparse_scores_get_the_probabilities_of_dense_ones_and_no_others():
    scores, _, Y = simulated(500, seed=10)
    calibration = PooledCalibration().fit(scores, Y)
    scores[3, 2] = 0  # stored all the same
    stored = np.random.default_rng(0).random(scores.shape) < 0.4
    stored[3, 2] = True
    parts = (scores[stored], np.nonzero(stored)[1], np.append(0, np.cumsum(stored.sum(1))))
    found = calibration.transform(sparse.csr_array(parts, shape=scores.shape))
    assert isinstance(found, sparse.csr_array)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.indices, parts[1])
    np.testing.assert_array_equal(found.data, calibration.transform(scores)[stored])


def test_a_state_gives_back_the_calibration_to_the_bit():
    scores, _, Y = simulated(500, seed=9)
    calibration = PooledCalibration(pull=5).fit(scores, Y)
    again = calibration_from_state(calibration.get_state())
    assert isinstance(again, PooledCalibration)
    assert again.pull == 5
    assert again.transform(scores).tobytes() == calibration.transform(scores).tobytes()
    assert again.get_state().keys() == calibration.get_state().keys()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("levels", np.zeros(5), "does not fit 'buckets'"),
        ("levels", np.full(7 * 2048, np.nan), "finite numbers"),
        ("buckets", np.full(6, 7), "does not fit 'buckets'"),
        ("buckets", np.zeros(5), "row of 6 finite numbers"),
    ],
)
def test_a_damaged_state_is_refused(field, value, message):
    scores, _, Y = simulated(200, seed=10)
    state = PooledCalibration().fit(scores, Y).get_state()
    with pytest.raises(ValueError, match=message):
        calibration_from_state({**state, field: value})


def test_bad_input_is_refused():
    scores, _, Y = simulated(200, seed=11)
    with pytest.raises(NotFittedError):
        PooledCalibration().transform(scores)
    with pytest.raises(ValueError, match="both must be of the same instances and labels"):
        PooledCalibration().fit(scores[:, :3], Y)
    calibration = PooledCalibration().fit(scores, Y)
    with pytest.raises(ValueError, match="scores are of 3 labels, but 6 labels were fitted"):
        calibration.transform(scores[:, :3])
    with pytest.raises(ValueError, match="pull must be a finite number"):
        PooledCalibration(pull=-1).fit(scores, Y)
    with pytest.raises(ValueError, match="give a dense array"):
        PooledCalibration().fit(sparse.csr_array(scores), Y)
