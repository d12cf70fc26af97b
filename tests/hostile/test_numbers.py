"""Numbers at their ends: extreme scores, one label, one instance, weights of 0, 2^31 values, threads."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse

from evenhand.grpo import aggregation
from evenhand.multilabel import _kernels, game
from evenhand.multilabel.decoding import (
    GlobalThreshold,
    IsotonicCalibration,
    LabelThresholds,
    MacroF1,
    PlattCalibration,
    PooledCalibration,
)
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.metrics import average_precision, evaluate, precision_at_k, ranking
from evenhand.multilabel.neural.encoders import DenseLayers, SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.scores import top_k

RNG = np.random.default_rng(0)
X = sparse.random_array((60, 20), density=0.3, rng=RNG, format="csr", dtype=np.float32)
Y = (RNG.random((60, 5)) < 0.3).astype(np.float32)


def neural(**options):
    return NeuralGameClassifier(SparseBag(4), epochs=1, batch_size=16, device="cpu", **options)


ESTIMATORS = {"game": CuriosityGameClassifier, "trees": ExtremeGameClassifier, "neural": neural}


@pytest.fixture(params=ESTIMATORS)
def make(request):
    return ESTIMATORS[request.param]


def check(model, X, n_labels):
    """It answers, finitely and with probabilities."""
    best = model.predict_topk(X, 3)
    assert best.shape == (X.shape[0], n_labels)
    assert np.isfinite(best.data).all()
    assert ((best.data >= 0) & (best.data <= 1)).all()


# --- few labels, few instances ---------------------------------------------------------------------------


def test_one_label(make):
    model = make().fit(X, Y[:, :1])
    check(model, X, 1)
    if hasattr(model, "fit_decoders"):
        model.fit_decoders(X, Y[:, :1])
    assert model.predict(X).shape == (60, 1)


@pytest.mark.parametrize("partition", ["all", "frequency", "random", "cooccurrence"])
def test_more_players_than_labels(make, partition):
    options = {"n_players": 5, "partition": partition}
    if make is not CuriosityGameClassifier and partition != "all":
        with pytest.raises(ValueError, match="owns no label; take fewer players or another partition"):
            make(**options).fit(X, Y[:, :2])
        return
    check(make(**options).fit(X, Y[:, :2]), X, 2)


def test_all_labels_everywhere(make):
    model = make().fit(X, np.ones((60, 5)))
    check(model, X, 5)
    if make is not ExtremeGameClassifier:
        assert (model.predict_proba(X) > 0.5).all()


def test_one_positive_in_all(make):
    lonely = np.zeros((60, 5))
    lonely[7, 2] = 1
    if make is neural:  # what is learned from or what is held out has no positive then
        with pytest.raises(ValueError, match="has a label; give more instances"):
            make().fit(X, lonely)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels without a positive
        check(make().fit(X, lonely), X, 5)


def test_two_instances_and_one(make):
    if make is not neural:  # which must keep some back
        check(make().fit(X[:2], np.array([[1, 0], [0, 1]])), X[:2], 2)
    model = make().fit(X, Y)
    check(model, X[:1], 5)
    one, all_rows = model.predict_topk(X[:1], 3), model.predict_topk(X, 3)[[0]]
    assert np.allclose(one.toarray(), all_rows.toarray(), rtol=1e-5)


def test_features_that_say_nothing(make):
    for nothing in (
        sparse.csr_array((60, 20), dtype=np.float32),
        np.zeros((60, 20)),
        np.full((60, 20), 1e-30),
    ):
        if make is neural and isinstance(nothing, np.ndarray):
            continue  # its encoder here reads sparse matrices
        check(make().fit(nothing, Y), nothing, 5)


@pytest.mark.parametrize("scale", [1e-30, 1e15, 1e30])
def test_features_of_any_scale(make, scale):
    scaled = (X * np.float32(scale)).astype(np.float32)
    try:
        with np.errstate(all="ignore"):
            check(make().fit(scaled, Y), scaled, 5)
    except (ValueError, FloatingPointError) as error:
        assert scale > 1
        assert "finite" in str(error) or "learning_rate" in str(error)  # noqa: PT017


# --- weights of instances --------------------------------------------------------------------------------


def test_instances_of_weight_0_say_nothing():
    """The players' weights are those of the other instances alone."""
    weights = np.r_[np.ones(40), np.zeros(20)]
    options = {"n_folds": 0, "tolerance": 1e-4, "rarity_reward": 0.0}
    nonsense = Y.copy()
    nonsense[40:] = 1 - nonsense[40:]
    models = [
        CuriosityGameClassifier(**options).fit(X, labels, sample_weight=weights) for labels in (Y, nonsense)
    ]
    one, other = (model.team_.players[0].weights.toarray() for model in models)
    assert np.allclose(one, other, atol=1e-3)
    check(models[0], X, 5)


def test_weights_that_are_tiny_or_huge():
    for weight in (1e-12, 1e12):
        model = CuriosityGameClassifier().fit(X, Y, sample_weight=np.full(60, weight))
        check(model, X, 5)


# --- extreme scores --------------------------------------------------------------------------------------

BIG = np.finfo(np.float64).max
EXTREMES = np.array([[BIG, -BIG], [BIG, BIG], [-BIG, -BIG], [0, 5e-324], [1e300, -1e-300], [-1, 1]])
TRUTH = np.array([[1, 0], [1, 1], [0, 0], [0, 1], [1, 0], [0, 1]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", [PlattCalibration, IsotonicCalibration, PooledCalibration])
def test_probabilities_of_extreme_scores(kind, dtype):
    scores = np.clip(EXTREMES, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    p = kind().fit(scores, TRUTH).transform(scores)
    assert np.isfinite(p).all()
    assert ((p >= 0) & (p <= 1)).all()
    rising = p[np.argsort(scores[:, 0], kind="stable"), 0]
    assert (np.diff(rising) >= 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("objective", ["micro", "macro"])
def test_thresholds_between_extreme_scores(objective, dtype):
    scores = np.clip(EXTREMES, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    threshold = GlobalThreshold(objective).fit(scores, TRUTH)
    assert np.isfinite(threshold.threshold_)
    assert threshold.decode(scores).toarray()[:2].sum() >= 3
    labels = LabelThresholds(shrinkage=0).fit(scores, TRUTH)
    assert np.isfinite(labels.thresholds_).all()
    assert labels.decode(scores).toarray()[:3, 0].tolist() == [1, 1, 0]


def test_a_threshold_between_the_largest_floats():
    scores, truth = np.array([[BIG], [np.nextafter(BIG, 0)]]), np.array([[1], [0]])
    for decoder in (GlobalThreshold("micro"), GlobalThreshold("macro"), LabelThresholds(shrinkage=0)):
        assert decoder.fit(scores, truth).decode(scores).toarray().tolist() == [[1], [0]]


def test_figures_of_extreme_scores():
    p = precision_at_k(TRUTH, EXTREMES, 1)
    assert p == precision_at_k(TRUTH, np.sign(EXTREMES) * np.log1p(np.abs(EXTREMES)), 1)
    assert np.isfinite(average_precision(TRUTH, EXTREMES)).all()
    assert top_k(EXTREMES, 1).data[0] == BIG


def test_float16_scores_are_ranked_as_they_are():
    half = RNG.normal(size=(50, 9)).astype(np.float16)
    truth = RNG.random((50, 9)) < 0.3
    assert precision_at_k(truth, half, (1, 3)) == precision_at_k(truth, half.astype(np.float64), (1, 3))
    assert (top_k(half, 2) != top_k(half.astype(np.float64), 2)).nnz == 0


def test_probabilities_that_are_0_and_1_throughout():
    for value in (0.0, 1.0):
        p = np.full((4, 3), value)
        assert MacroF1().decode(p).toarray().tolist() == np.full((4, 3), value).tolist()
        report = evaluate(np.ones((4, 3)), p, p, [4, 4, 4], 4)
        assert report.f1.micro == value


def test_log_odds_of_certain_labels_are_finite():
    class Certain(CuriosityGameClassifier):
        def predict_proba(self, X):
            return np.array([[0.0, 1.0]], dtype=np.float32)

    scores = Certain().decision_function(X)
    assert np.isfinite(scores).all()
    assert scores[0, 0] < -80
    assert scores[0, 1] > 15


# --- half precision in torch -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("space", ["logit", "probability"])
@pytest.mark.parametrize("pay", ["log_likelihood", "squared_hinge", "soft_macro_f1"])
def test_the_game_in_half_precision(dtype, space, pay):
    logits = torch.tensor([[[30.0, -30, 0]], [[-30, 30, 1e-3]]], dtype=dtype, requires_grad=True)
    targets, owners = torch.tensor([[1, 1, 0]], dtype=dtype), torch.ones(2, 3, dtype=torch.bool)
    half = torch.full((2, 3), 0.5, dtype=dtype)
    team = game.Team(half, owners, torch.tensor([1, 0.5, 0], dtype=dtype))
    for curiosity in ("success", "divergence"):
        rules = game.Rules(pay, curiosity, 1.0, 1.0, 0.5, space)
        value = game.potential(logits, targets, team, rules)
        (slope,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert slope.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["lambda", "power"])
def test_token_preferences_in_half_precision(dtype, form):
    lengths, ids = torch.tensor([1, 200, 60_000, 7]), torch.tensor([0, 0, 0, 0])
    exact = aggregation.response_weights(form, lengths.double(), ids, lam=1.0)
    bases = aggregation.length_bases(form, lengths.double(), ids).to(dtype)[None]
    weights = aggregation.preference_weights(form, bases, 1.0)
    assert torch.allclose(weights[0].double(), exact, atol=0.05)
    assert aggregation.preference_slopes(form, bases, 1.0).isfinite().all()


# --- 2^31 stored values ----------------------------------------------------------------------------------

PAST = 2**31 + 3  # where the rows of the test start


@pytest.fixture(scope="module")
def far():
    """Arrays of more than 2^31 entries, of which only the last are touched: the rest is address space."""
    try:
        indices, values = np.zeros(PAST + 6, np.int32), np.zeros(PAST + 6, np.float32)
        found = np.zeros(PAST + 6, np.bool_)
    except MemoryError:
        pytest.skip("this machine gives out no more address space than it has memory")
    indices[PAST:] = [0, 2, 4, 1, 2, 3]
    values[PAST:] = [0.1, 0.9, 0.5, 0.7, 0.7, 0.2]
    return np.array([PAST, PAST + 3, PAST + 6]), indices, values, found


def test_rows_past_2_31_are_ranked(far):
    indptr, indices, values, _ = far
    ids = np.full((2, 2), -1)
    _kernels.rank_sparse(indptr, indices, values, ids)
    assert ids.tolist() == [[2, 4], [1, 2]]


def test_scores_past_2_31_are_found(far):
    indptr, indices, values, _ = far
    kept = _kernels.look_up(indptr, indices, values, np.array([0, 2, 3]), np.array([2, 4, 3]))
    assert kept.tolist() == np.float32([0.9, 0.5, 0.2]).tolist()


def test_hits_past_2_31_are_counted(far):
    indptr, indices, _, _ = far
    assert ranking._hits(np.array([[2, 3], [3, 0]]), indptr, indices).tolist() == [
        [True, False],
        [True, False],
    ]


def test_parts_past_2_31_are_sorted(far):
    indptr, _, values, _ = far
    _kernels.sort_parts(indptr, values)
    assert values[PAST:].tolist() == np.float32([0.1, 0.5, 0.9, 0.2, 0.7, 0.7]).tolist()
    sums = np.zeros(2)
    hits = np.array([0, 1, 2]), np.float32([0.5, 0.7])
    _kernels.add_precisions((np.array([0, 1]), indptr, values), hits, sums)
    assert sums.tolist() == [0.5, 0.5]


# --- threads ---------------------------------------------------------------------------------------------


def bits(model, X):
    return model.predict_topk(X, 5).toarray().tobytes()


@pytest.mark.parametrize("kind", ["game", "trees"])
def test_the_same_bits_on_any_number_of_threads(kind):
    options = {"game": {"rounds": 1, "n_players": 2, "partition": "frequency"}, "trees": {"leaf_size": 2}}[
        kind
    ]
    models = [ESTIMATORS[kind](n_jobs=n, **options).fit(X, Y) for n in (1, 2, 3)]
    assert len({bits(model, X) for model in models}) == 1


def test_the_same_bits_on_any_number_of_torch_s_threads():
    dense = RNG.normal(size=(300, 64)).astype(np.float32)
    labels = (RNG.random((300, 40)) < 0.1).astype(np.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for n, encoder in itertools.product((1, 2), (DenseLayers((128,)),)):
            torch.set_num_threads(n)
            model = NeuralGameClassifier(encoder, epochs=2, batch_size=128, device="cpu").fit(dense, labels)
            found.append(bits(model, dense))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]
