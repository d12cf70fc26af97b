import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from evenhand.multilabel import scores as scores_module
from evenhand.multilabel.decoding import IsotonicCalibration, PlattCalibration


def problem(seed: int, n: int = 400, n_labels: int = 6):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n, n_labels)) * 0.7 - 1
    true_p = 1 / (1 + np.exp(-(2.5 * scores + np.linspace(1, -2, n_labels))))
    return scores.astype(np.float32), rng.random(scores.shape) < true_p


def log_loss(p, Y) -> float:
    p = np.clip(np.asarray(p, dtype=np.float64), 1e-7, 1 - 1e-7)
    return float(-(Y * np.log(p) + (1 - Y) * np.log1p(-p)).mean())


class TakesScores(ClassifierMixin, BaseEstimator):
    """Its decision function is the feature itself."""

    classes_ = np.array([0, 1])

    def fit(self, X, y):
        return self

    def decision_function(self, X):
        return X[:, 0]

    def predict(self, X):
        return X[:, 0] > 0

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("seed", range(2))
def test_platt_without_pull_is_scikit_learns_sigmoid(seed):
    scores, Y = problem(seed)
    ours = PlattCalibration(pull=0).fit(scores, Y).transform(scores)
    for label in range(Y.shape[1]):
        column = scores[:, [label]].astype(np.float64)
        peer = CalibratedClassifierCV(FrozenEstimator(TakesScores()), method="sigmoid", ensemble=False)
        expected = peer.fit(column, Y[:, label]).predict_proba(column)[:, 1]
        np.testing.assert_allclose(ours[:, label], expected, atol=1e-4)


def test_platt_with_pull_minimises_the_stated_objective():
    scores, Y = problem(3)
    pull = 7.0
    fitted = PlattCalibration(pull=pull).fit(scores, Y)
    shared = PlattCalibration(pull=1e12).fit(scores, Y)  # each label's curve is its bucket's
    z = scores.astype(np.float64)
    centre, spread = z.mean(), z.std()
    for label in range(Y.shape[1]):
        prior = np.array(
            [shared.slopes_[label] * spread, shared.intercepts_[label] + shared.slopes_[label] * centre]
        )
        n_pos = Y[:, label].sum()
        target = np.where(Y[:, label], (n_pos + 1) / (n_pos + 2), 1 / (len(Y) - n_pos + 2))

        def loss(curve, z=(z[:, label] - centre) / spread, target=target, prior=prior):
            f = curve[0] * z + curve[1]
            return np.sum(np.logaddexp(0, f) - target * f) + pull / 2 * np.sum((curve - prior) ** 2)

        best = minimize(loss, prior, tol=1e-12).x
        got = np.array(
            [fitted.slopes_[label] * spread, fitted.intercepts_[label] + fitted.slopes_[label] * centre]
        )
        np.testing.assert_allclose(got, best, atol=2e-4)


def test_shared_curve_is_the_pooled_platt_curve():
    """All labels in one bucket: with an endless pull every label has the curve of all scores together."""
    rng = np.random.default_rng(0)
    scores, Y = problem(0, n=400, n_labels=4)
    Y = rng.random(scores.shape) < 1 / (1 + np.exp(-2 * (scores + 1)))
    assert ((Y.sum(axis=0) > 100) & (Y.sum(axis=0) <= 300)).all()
    shared = PlattCalibration(pull=1e12).fit(scores, Y)
    pooled = PlattCalibration(pull=0).fit(scores.reshape(-1, 1), Y.reshape(-1, 1))
    # the bucket is pulled to the curve of all labels, which here is the same curve
    np.testing.assert_allclose(shared.slopes_, pooled.slopes_[0], rtol=1e-3)
    np.testing.assert_allclose(shared.intercepts_, pooled.intercepts_[0], rtol=1e-3)


def test_pull_helps_where_positives_are_few():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((2, 600, 80)).astype(np.float32)
    true_p = 1 / (1 + np.exp(-(2 * scores - 6)))
    Y = rng.random(scores.shape) < true_p
    losses = [
        log_loss(PlattCalibration(pull=pull).fit(scores[0], Y[0]).transform(scores[1]), Y[1])
        for pull in (0, 3)
    ]
    assert losses[1] < losses[0]


def test_score_unit_does_not_matter():
    scores, Y = problem(1)
    plain = PlattCalibration(pull=5).fit(scores, Y).transform(scores)
    scaled = (1000 * scores.astype(np.float64) + 77).astype(np.float64)
    np.testing.assert_allclose(PlattCalibration(pull=5).fit(scaled, Y).transform(scaled), plain, atol=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_isotonic_without_shrinkage_is_scikit_learns(seed):
    scores, Y = problem(seed)
    unseen, _ = problem(seed + 10)
    ours = IsotonicCalibration(shrinkage=0).fit(scores, Y)
    for label in range(Y.shape[1]):
        peer = IsotonicRegression(out_of_bounds="clip").fit(scores[:, label], Y[:, label])
        np.testing.assert_allclose(
            ours.transform(unseen)[:, label], peer.predict(unseen[:, label]), atol=1e-5
        )


def test_isotonic_blend_is_the_stated_formula():
    scores, Y = problem(2)
    n_c = Y.sum(axis=0)
    weight = n_c / (n_c + 50)
    isotonic = IsotonicCalibration(shrinkage=0).fit(scores, Y).transform(scores)
    platt = PlattCalibration(pull=2).fit(scores, Y).transform(scores)
    blend = IsotonicCalibration(shrinkage=50, pull=2).fit(scores, Y).transform(scores)
    np.testing.assert_allclose(blend, weight * isotonic + (1 - weight) * platt, atol=1e-6)


BOTH = [PlattCalibration(), IsotonicCalibration(), PlattCalibration(0), IsotonicCalibration(0, pull=0)]


@pytest.mark.parametrize("calibration", BOTH, ids=str)
def test_sparse_scores_get_the_same_probabilities(calibration):
    scores, Y = problem(4)
    fitted = calibration.fit(scores, Y)
    kept = np.where(np.abs(scores) > 1, scores, 0)
    result = fitted.transform(sparse.csr_array(kept))
    assert result.dtype == np.float32
    assert result.nnz == np.count_nonzero(kept)
    dense = fitted.transform(scores)
    np.testing.assert_allclose(result.toarray(), np.where(kept != 0, dense, 0), atol=1e-6)


@pytest.mark.parametrize("calibration", BOTH, ids=str)
def test_chunks_do_not_matter(calibration, monkeypatch):
    scores, Y = problem(4, n=60)
    expected = calibration.fit(scores, Y).transform(scores)
    monkeypatch.setattr(scores_module, "_CHUNK", 17)
    np.testing.assert_allclose(calibration.fit(scores, Y).transform(scores), expected, atol=1e-7)


@pytest.mark.parametrize("calibration", BOTH, ids=str)
def test_degenerate_labels_have_sound_probabilities(calibration):
    scores, Y = problem(5, n_labels=5)
    scores[:, 3] = 0.25
    Y[:, 0], Y[:, 1] = False, True
    scores[:, 4] = np.where(Y[:, 4], 3, -3)  # perfectly separated
    p = calibration.fit(scores, Y).transform(scores)
    assert p.dtype == np.float32
    assert np.isfinite(p).all()
    assert p.min() >= 0
    assert p.max() <= 1
    assert p[:, 0].max() < 0.1
    assert p[:, 1].min() > 0.9
    np.testing.assert_allclose(p[:, 3], p[0, 3])
    assert p[0, 3] == pytest.approx(Y[:, 3].mean(), abs=0.02)
    assert p[Y[:, 4], 4].min() > 0.9
    assert p[~Y[:, 4], 4].max() < 0.1


@pytest.mark.parametrize("calibration", BOTH, ids=str)
def test_all_scores_constant(calibration):
    Y = np.array([[1, 0], [0, 0], [0, 0], [1, 0]])
    p = calibration.fit(np.zeros((4, 2)), Y).transform(np.zeros((1, 2)))
    assert 0.3 < p[0, 0] < 0.7
    assert p[0, 1] < p[0, 0]


@pytest.mark.parametrize("kind", [PlattCalibration, IsotonicCalibration])
def test_bad_input_is_named(kind):
    scores, Y = problem(0, n=20)
    with pytest.raises(NotFittedError, match="is not fitted"):
        kind().transform(scores)
    with pytest.raises(NotFittedError, match="is not fitted"):
        kind().get_state()
    with pytest.raises(ValueError, match="give a dense array"):
        kind().fit(sparse.csr_array(scores), Y)
    with pytest.raises(ValueError, match="pull must be a finite number"):
        kind(pull=-1)
    with pytest.raises(ValueError, match=r"scores have shape \(20, 5\) and the labels \(20, 6\)"):
        kind().fit(scores[:, :5], Y)
    with pytest.raises(ValueError, match="scores are of 5 labels, but 6 labels were fitted"):
        kind().fit(scores, Y).transform(scores[:, :5])
    scores[7, 2] = np.nan
    with pytest.raises(ValueError, match="scores are nan in row 7, column 2"):
        kind().fit(scores, Y)
