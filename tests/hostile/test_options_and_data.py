"""What estimators, metrics, calibrations and decoders say of options and data that cannot be right."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import NotFittedError

from evenhand.multilabel.data import DataError, MultilabelData
from evenhand.multilabel.decoding import (
    GlobalThreshold,
    IsotonicCalibration,
    LabelThresholds,
    MacroF1,
    PlattCalibration,
    PooledCalibration,
    PropensityReranking,
    TopK,
    calibration_from_state,
    decoder_from_state,
    rerank,
)
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.metrics import (
    average_precision,
    confusion,
    evaluate,
    f1,
    ndcg_at_k,
    precision_at_k,
    propensities,
    psndcg_at_k,
    psp_at_k,
    rare_f1,
    recall_at_k,
)
from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.scores import top_k
from evenhand.multilabel.text_views import TextViews
from evenhand.multilabel.views import Views

RNG = np.random.default_rng(0)
X = sparse.random_array((30, 12), density=0.4, rng=RNG, format="csr", dtype=np.float32)
Y = sparse.csr_array((RNG.random((30, 4)) < 0.4).astype(np.float32))


def neural(**options):
    return NeuralGameClassifier(**{"encoders": SparseBag(4), "epochs": 1, "device": "cpu"} | options)


ESTIMATORS = {"game": CuriosityGameClassifier, "trees": ExtremeGameClassifier, "neural": neural}


@pytest.fixture(params=ESTIMATORS)
def make(request):
    return ESTIMATORS[request.param]


# --- options that the three share, and their own ---------------------------------------------------------

HUGE = 10**400  # no float holds it


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("rarity_reward", -1e-300, "rarity_reward must be a finite number of at least 0"),
        ("rarity_reward", float("inf"), "rarity_reward must be a finite number of at least 0, not inf"),
        ("rarity_reward", HUGE, "rarity_reward must be a finite number of at least 0"),
        ("rarity_reward", "3", "rarity_reward must be a finite number of at least 0, not '3'"),
        ("rarity_reward", None, "rarity_reward must be a finite number of at least 0, not None"),
        ("rarity_reward", [3.0], r"rarity_reward must be a finite number of at least 0, not \[3.0\]"),
        ("rarity_reward", 3j, "rarity_reward must be a finite number of at least 0, not 3j"),
        ("disagreement_reward", float("nan"), "disagreement_reward must be a finite number of at least 0"),
        ("tail_owners", 0, "tail_owners must be a whole number of at least 1, not 0"),
        ("tail_owners", 2.0, "tail_owners must be a whole number of at least 1, not 2.0"),
        ("n_players", 0, "n_players must be a whole number of at least 1, or None, not 0"),
        ("n_players", "all", "n_players must be a whole number of at least 1, or None, not 'all'"),
        ("partition", "fair", "partition is 'fair'; choose one of"),
        ("partition", None, "partition is None; choose one of"),
        ("partition", ["all"], r"partition is \['all'\]; choose one of"),
        ("decoder", "best", "decoder is 'best'; choose one of micro, macro"),
        ("random_state", -1, "random_state must be a whole number of at least 0"),
        ("random_state", 1.5, "random_state must be a whole number of at least 0"),
        ("random_state", 2**32, "random_state must be a whole number of at least 0 and at most 4294967295"),
        ("random_state", np.random.default_rng(0), "random_state must be a whole number of at least 0"),
        ("checkpoint", 5, "checkpoint must be the name of a folder, or None, not 5"),
        ("checkpoint", "", "checkpoint must be the name of a folder, or None, not ''"),
    ],
)
def test_options_of_all_estimators(make, refused, option, value, message):
    refused(ValueError, message, lambda: make(**{option: value}).fit(X, Y))


@pytest.mark.parametrize(
    ("kind", "option", "value", "message"),
    [
        ("game", "C", HUGE, "C must be a finite number above 0"),
        ("game", "C", 0.0, "C must be a finite number above 0, not 0.0"),
        ("game", "own_share", 1.5, "own_share must lie between 0 and 1, not 1.5"),
        ("game", "n_folds", 1, "n_folds is 1; take at least 2, or 0 for no cross-fitting"),
        ("game", "rounds", -1, "rounds must be a whole number of at least 0"),
        ("game", "n_neighbors", 0, "n_neighbors must be a whole number of at least 1"),
        ("game", "players", [], "players is empty; name at least one"),
        ("game", "players", "linear", "players must be pairs of a view and a kind"),
        ("game", "players", [("all", "tree")], "is of kind 'tree'; choose one of linear, neighbours"),
        ("game", "players", [("words", "linear")], "players names the view 'words', but the views are all"),
        ("game", "n_jobs", 0, "n_jobs must be a whole number, -1 for all cores, or None, not 0"),
        ("game", "max_dense_bytes", 0, "max_dense_bytes must be a finite number above 0"),
        ("game", "tolerance", 0, "tolerance must be a finite number above 0, not 0"),
        ("trees", "C", HUGE, "C must be a finite number above 0"),
        ("trees", "branching", 3, "branching must be a power of two of at least 2, not 3"),
        ("trees", "branching", 2**40, "branching must be at most 65536"),
        ("trees", "leaf_size", 1, "leaf_size must be a whole number of at least 2, not 1"),
        ("trees", "beam", 0.5, "beam must be a whole number of at least 1, not 0.5"),
        ("trees", "matcher_beam", -1, "matcher_beam must be a whole number of at least 0, not -1"),
        ("trees", "prune", float("nan"), "prune must be a finite number of at least 0, not nan"),
        ("trees", "decoder", "macro_f1", "decoder is 'macro_f1'; choose one of micro, macro, per_label"),
        ("neural", "learning_rate", HUGE, "learning_rate must be a finite number above 0"),
        ("neural", "validation_share", 1, "validation_share must lie between 0 and 1, not 1"),
        ("neural", "epochs", 0, "epochs must be a whole number of at least 1"),
        ("neural", "batch_size", 0, "batch_size must be a whole number of at least 1"),
        ("neural", "monitor", "loss", "monitor is 'loss'; choose one of"),
        ("neural", "loss", "mse", "loss is 'mse'; choose one of"),
        ("neural", "checkpoint_minutes", 0, "checkpoint_minutes must be a finite number above 0"),
        ("neural", "encoders", SparseBag(0), "the width of an encoder's layer must be a whole number"),
        ("neural", "encoders", SparseBag(4, dropout=1.0), r"dropout must lie in \[0, 1\), not 1.0"),
        ("neural", "encoders", {"other": SparseBag(4)}, "encoders names the view 'other', but the views are"),
        ("neural", "device", "abacus", "device is 'abacus', which torch cannot use here .*; give 'cpu'"),
    ],
)
def test_options_of_one_estimator(refused, kind, option, value, message):
    refused(ValueError, message, lambda: ESTIMATORS[kind](**{option: value}).fit(X, Y))


def test_branching_is_checked_with_the_other_options(refused):
    for branching in (3, 6, 48):
        message = f"branching must be a power of two of at least 2, not {branching}"
        refused(ValueError, message, ExtremeGameClassifier(branching=branching).check_options)


# --- data ------------------------------------------------------------------------------------------------


def with_value(value, dtype=np.float64):
    dense = X.toarray().astype(dtype)
    dense[3, 5] = value
    return dense


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (with_value(np.nan), Y, "NaN in row 3, column 5"),
        (with_value(-np.inf), Y, "-inf in row 3, column 5"),
        (sparse.csr_array(with_value(np.inf)), Y, "inf in row 3, column 5"),
        (X[:1], Y[:1], "1 sample|X has one instance"),
        (X[:0], Y[:0], "0 sample|at least one"),
        (X[:, :0], Y, r"0 feature|no column"),
        (X.toarray()[0], Y, "Expected 2D array, got 1D array"),
        (X.toarray()[None], Y, "dim 3|three|dimensional|3"),
        (X, None, "requires y to be passed"),
        (X, Y[:29], "Y has 29 rows, but X has 30"),
        (X, sparse.csr_array((30, 4)), "Y has no positive at all; there is nothing to learn"),
        (X, np.zeros((30, 0)), "Y has no positive at all|at least|nothing"),
        (X, np.arange(30), "Unknown label type: y is 1-dimensional"),
        (X, Y.toarray()[None], "Unknown label type: y is 3-dimensional|Y must be two-dimensional"),
        (X, ["a"] * 30, "Unknown label type"),
        (X, np.full((30, 4), "a"), "Unknown label type"),
        (X, np.full((30, 4), None), "Unknown label type"),
        (X, Y.toarray() + 1j, "Unknown label type"),
        (X, np.where(np.eye(30, 4), np.nan, 1), "Y is nan in row 0, column 0; a label is there .1. or not"),
        (X, np.where(np.eye(30, 4), np.inf, 1), "Y is inf in row 0, column 0"),
        (X, [["a"], ["b"]] * 14, "Y has 28 rows, but X has 30"),
        (X, [[1, 0], [1]] * 15, "Unknown label type"),
        (X, [["a"], [5]] * 15, "y has the tag 5 in row 1, which is no text; write all tags as texts"),
        (X, [[None], ["a"]] * 15, "y has the tag None in row 0, which is no text"),
        (X, [["a", ["b"]]] * 30, r"y has the tag \['b'\] in row 0, which is no text"),
        (X, [["a"], [("b", "c")]] * 15, r"y has the tag \('b', 'c'\) in row 1, which is no text"),
        ([X, X[:29]], Y, "view 'view2' has 29 rows and view 'view1' has 30"),
        ({"": X}, Y, "the name of a view must be a text that is not empty"),
        ({}, Y, "there is no view|at least one"),
        (X.toarray() + 1j, Y, "[Cc]omplex data not supported"),
        (np.full((30, 12), "x"), Y, "could not convert|no text|holds texts|Unable to convert"),
        (np.full((30, 2), None), Y, "holds texts|NaN|None|could not|not supported"),
    ],
)
def test_data_of_all_estimators(make, refused, features, labels, message):
    refused((ValueError, TypeError), message, lambda: make().fit(features, labels))


def test_features_in_bfloat16_are_refused_and_float16_are_read(make, refused):
    half, options = torch.from_numpy(X.toarray()), {"encoders": None} if make is neural else {}
    refused(ValueError, r"X is bfloat16.*float\(\)", lambda: make(**options).fit(half.bfloat16(), Y))
    model = make(**options).fit(half.half(), Y)
    assert (model.predict_topk(half.half(), 2) != model.predict_topk(half.half().float(), 2)).nnz == 0
    refused(ValueError, r"X is bfloat16.*float\(\)", lambda: model.predict_topk(half.bfloat16(), 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X[:, :11], "11 features"),
        (with_value(np.nan), "NaN in row 3, column 5"),
        ([X, X], "views|features"),
        ({"all": X[:, :3]}, r"X has the views \{'all': 3\}|3 features"),
    ],
)
def test_data_of_fitted_estimators(make, refused, given, message):
    model = make().fit(X, Y)
    refused(ValueError, message, lambda: model.predict_topk(given, 2))


@pytest.mark.parametrize("k", [0, -1, 2.0, True, None, "3", [1, 2]])
def test_a_k_that_is_none(make, refused, k):
    model = make().fit(X, Y)
    refused(ValueError, "k must be a whole number of at least 1", lambda: model.predict_topk(X, k))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(30, -1.0), "[Nn]egative values"),
        (np.full(30, np.nan), "NaN"),
        (np.full(30, np.inf), "infinity"),
        (np.ones(29), "sample_weight.shape"),
        (np.ones((30, 2)), "1D array|shape"),
        (np.zeros(30), "[Ss]ample weights must contain at least one non-zero number"),
        (["a"] * 30, "could not convert"),
    ],
)
def test_weights_of_instances(refused, weights, message):
    refused(ValueError, message, lambda: CuriosityGameClassifier().fit(X, Y, sample_weight=weights))


@pytest.mark.parametrize("n_folds", [0, 2])
@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros((30, 1)), r"groups must be of shape \(n,\), one name for each instance, not \(30, 1\)"),
        (np.zeros(29), "groups has 29 entries, but there are 30 instances"),
        (["a", None] * 15, "groups must be texts or whole numbers, not both, nor missing"),
        ([["a"]] * 29 + [["a", "b"]], "groups must be texts or whole numbers"),
        (np.full(30, np.nan), "groups is nan for instance 0; name its group"),
        (5, r"groups must be of shape \(n,\)"),
    ],
)
def test_groups_of_instances(refused, n_folds, groups, message):
    model = CuriosityGameClassifier(n_folds=n_folds)
    refused(ValueError, message, lambda: model.fit(X, Y, groups=groups))


@pytest.mark.parametrize("kind", ["game", "neural"])
def test_a_score_needs_a_fit_and_tags_that_are_texts(refused, kind):
    model = ESTIMATORS[kind]()
    for y in (Y, [["a"]] * 30):
        refused(NotFittedError, "not fitted yet", lambda y=y: model.score(X, y))
    model.fit(X, Y)
    refused(ValueError, "y has the tag 5 in row 1", lambda: model.score(X, [["a"], [5]] * 15))


@pytest.mark.parametrize("kind", ["game", "neural"])
def test_sets_that_need_more_memory_than_allowed(refused, kind):
    model = ESTIMATORS[kind](max_dense_bytes=4 * 4 * 29).fit(X, Y)
    message = "use another decoder, or a larger max_dense_bytes by set_params"
    refused(ValueError, message, lambda: model.predict(X, "macro_f1"))
    assert model.predict(X, "macro").shape == (30, 4)
    assert model.set_params(max_dense_bytes=4 * 4 * 30).predict(X, "macro_f1").shape == (30, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": X[:29]}, r"test: Y has 30 rows for 29 instances"),
        ({"label_names": ("a", "b", "c")}, r"test: label_names has 3 entries for 4 labels"),
        ({"label_names": ("a", "b", "c", "a")}, r"test: the label name 'a' stands twice"),
        ({"instance_ids": ()}, r"test: instance_ids has 0 entries for 30 instances"),
        ({"groups": np.zeros(3)}, r"test: groups has 3 entries for 30 instances"),
        ({"feature_names": ("x",)}, r"test: feature_names has 1 entries for 12 features"),
        ({"X": np.full((30, 1), "x", dtype=object)}, r"test: texts need feature_names"),
        ({"X": np.full((30, 1), 5, dtype=object)}, r"test: row 0, text column 0 is 5, not a text"),
        ({"X": with_value(1e39)}, r"test: X is inf in row 3, column 5 \(as float32\)"),
        ({"Y": with_value(np.nan)[:, 4:8]}, r"Y is nan in row 3, column 1"),
        ({"Y": np.ones(30)}, r"Y must be two-dimensional"),
    ],
)
def test_the_container(refused, change, message):
    good = {"X": X, "Y": Y, "label_names": tuple("abcd"), "instance_ids": tuple(map(str, range(30)))}
    with np.errstate(over="ignore"):
        refused(DataError, message, lambda: MultilabelData(**good | {"source": "test"} | change))


@pytest.mark.parametrize(
    ("options", "texts", "message"),
    [
        ({"views": ()}, ["a text"], "views must be a list of different names"),
        ({"views": "words"}, ["a text"], "views must be a list of different names, not 'words'"),
        ({"views": ("words", "words")}, ["a text"], "views must be a list of different names"),
        ({"views": ("letters",)}, ["a text"], "there is no view 'letters'; views may hold words"),
        ({"min_df": 0}, ["a text"], "min_df must be a whole number from 1 or a share"),
        ({"min_df": 1.5}, ["a text"], "min_df must be a whole number from 1 or a share"),
        ({"min_df": float("nan")}, ["a text"], "min_df must be a whole number from 1 or a share"),
        ({"max_characters": 0}, ["a text"], "max_characters must be None or a whole number from 1"),
        ({"columns": {"words": (1,)}}, ["a text"], r"columns\['words'\] must be numbers from 0 to 0"),
        ({}, ["a", 5], "row 1, text column 0 is 5, not a text"),
        ({}, [b"bytes"], "row 0, text column 0 is b'bytes', not a text"),
        ({}, [], "X must be a list of texts"),
        ({}, "one text", "X must be a list of texts"),
        ({}, ["", "", ""], "in enough texts|no term|lower min_df"),
    ],
)
def test_text_views(refused, options, texts, message):
    refused(ValueError, message, lambda: TextViews(**options).fit(texts))


def test_rows_of_views_that_there_are_not(refused):
    views = Views.of(X)
    refused(IndexError, "30", lambda: views[[30]])
    refused(ValueError, "no row is chosen", lambda: views[[]])
    refused(TypeError, "views are indexed by rows", lambda: views["all"])


# --- metrics ---------------------------------------------------------------------------------------------

TRUTH, SCORES = np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.1], [0.4, 0.6]])
HALF = [0.5, 0.5]
BAD_SCORES = {
    "nan": ([[np.nan, 1], [0, 1]], "scores are nan in row 0, column 0; every score must be a finite number"),
    "inf": ([[0, 1], [0, np.inf]], "scores are inf in row 1, column 1"),
    "shape": ([[0.1, 0.2]], r"scores have shape \(1, 2\) and the labels \(2, 2\)"),
    "one_axis": ([0.1, 0.2], "scores must be two-dimensional"),
    "texts": ([["a", "b"], ["c", "d"]], "scores must be numbers, not <U1"),
    "complex": ([[1j, 0], [0, 1]], "scores must be numbers, not complex128"),
    "objects": ([[None, 0], [0, 1]], "scores must be numbers, not object"),
    "bfloat16": (torch.ones(2, 2, dtype=torch.bfloat16), r"scores are bfloat16.*float\(\)"),
}
RANKINGS = {
    "precision": lambda s, k=1, Y=TRUTH: precision_at_k(Y, s, k),
    "recall": lambda s, k=1, Y=TRUTH: recall_at_k(Y, s, k),
    "ndcg": lambda s, k=1, Y=TRUTH: ndcg_at_k(Y, s, k),
    "psp": lambda s, k=1, Y=TRUTH: psp_at_k(Y, s, HALF, k),
    "psndcg": lambda s, k=1, Y=TRUTH: psndcg_at_k(Y, s, HALF, k),
    "ap": lambda s, Y=TRUTH: average_precision(Y, s),
}


@pytest.mark.parametrize("figure", RANKINGS)
@pytest.mark.parametrize("scores", BAD_SCORES)
def test_scores_of_a_figure(refused, figure, scores):
    given, message = BAD_SCORES[scores]
    refused(ValueError, message, lambda: RANKINGS[figure](given))


@pytest.mark.parametrize("figure", [name for name in RANKINGS if name != "ap"])
@pytest.mark.parametrize("k", [0, -3, 1.5, True, "1", (), (1, 0), None])
def test_k_of_a_figure(refused, figure, k):
    message = "k must be a whole number of at least 1|k is empty"
    refused(ValueError, message, lambda: RANKINGS[figure](SCORES, k))


@pytest.mark.parametrize("figure", RANKINGS)
@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (np.zeros((0, 2)), "there is nothing to learn from or to measure"),
        (np.zeros((2, 0)), "there is nothing to learn from or to measure"),
        ([[np.nan, 0], [0, 1]], "Y is nan in row 0, column 0"),
        ([1, 0], "Y must be two-dimensional"),
    ],
)
def test_truth_of_a_figure(refused, figure, truth, message):
    refused(ValueError, message, lambda: RANKINGS[figure](SCORES, Y=truth))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: f1(TRUTH, [[1, 0]]), r"Y_true has shape \(2, 2\) and Y_pred \(1, 2\)"),
        (lambda: confusion(TRUTH, [[np.inf, 0], [0, 1]]), "Y is inf in row 0, column 0"),
        (lambda: rare_f1(TRUTH, TRUTH, [0, 1]), r"rare must be a mask of shape \(2,\)"),
        (lambda: rare_f1(TRUTH, TRUTH, [True]), r"rare must be a mask of shape \(2,\)"),
        (lambda: propensities([1, 2], 2), "propensities need at least 3 training instances"),
        (lambda: propensities([-1, 2], 9), "count of label 0 is -1"),
        (lambda: propensities([0.5, 2], 9), "count of label 0 is 0.5"),
        (lambda: propensities([np.nan, 2], 9), "count of label 0 is nan"),
        (lambda: propensities([[1]], 9), r"counts must have shape \(L,\)"),
        (lambda: propensities([1, 2], 9, a=np.nan), "a and b must be positive numbers"),
        (lambda: propensities([1, 2], 9, b=-1), "a and b must be positive numbers"),
        (lambda: psp_at_k(TRUTH, SCORES, [0.5, 0.0], 1), "propensity of label 1 is 0.0; it must lie in"),
        (lambda: psp_at_k(TRUTH, SCORES, [0.5, np.nan], 1), "propensity of label 1 is nan"),
        (lambda: psp_at_k(TRUTH, SCORES, [0.5], 1), r"propensities must have shape \(2,\)"),
        (lambda: precision_at_k(TRUTH, SCORES, 1, earned_by=[1, 0]), "earned_by must be bool of shape"),
        (lambda: evaluate(TRUTH, SCORES, TRUTH, [1], 9), r"counts must have shape \(2,\)"),
        (lambda: evaluate(TRUTH, SCORES, TRUTH[:1], [1, 1], 9), r"Y_pred \(1, 2\)"),
        (lambda: top_k(SCORES, 0), "k must be a whole number of at least 1"),
        (
            lambda: top_k(sparse.csr_array((np.ones(2), [1, 1], [0, 2]), shape=(1, 2)), 1),
            "scores hold label 1 twice in row 0; one score is meant",
        ),
    ],
)
def test_other_figures(refused, call, message):
    refused(ValueError, message, call)


def test_ranks_behind_the_last_label_take_no_memory():
    for figure in (precision_at_k, recall_at_k, ndcg_at_k):
        few, many = figure(TRUTH, SCORES, 7)[7], figure(TRUTH, SCORES, [10**15])[10**15]
        assert many == pytest.approx(few * (7 / 10**15 if figure is precision_at_k else 1))
    for figure in (psp_at_k, psndcg_at_k):
        assert figure(TRUTH, SCORES, HALF, 7)[7] == figure(TRUTH, SCORES, HALF, 10**15)[10**15]
    assert (top_k(SCORES, 10**15) != top_k(SCORES, 2)).nnz == 0


def test_a_k_beyond_all_labels_takes_no_memory(make):
    model = make().fit(X, Y)
    assert (model.predict_topk(X, 10**15) != model.predict_topk(X, 4)).nnz == 0


# --- calibrations and decoders ---------------------------------------------------------------------------

FITTED = {
    "micro": lambda: GlobalThreshold("micro"),
    "macro": lambda: GlobalThreshold("macro"),
    "per_label": LabelThresholds,
    "platt": PlattCalibration,
    "isotonic": IsotonicCalibration,
    "pooled": PooledCalibration,
}


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("scores", BAD_SCORES)
def test_scores_that_nothing_is_learnt_from(refused, kind, scores):
    given, message = BAD_SCORES[scores]
    refused(ValueError, message, lambda: FITTED[kind]().fit(given, TRUTH))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GlobalThreshold("best"), "objective must be 'micro' or 'macro', not 'best'"),
        (lambda: GlobalThreshold().fit(SCORES, TRUTH * 0), "Y holds no positive"),
        (lambda: LabelThresholds().fit(SCORES, TRUTH * 0), "Y holds no positive"),
        (lambda: LabelThresholds(shrinkage=-1), "shrinkage must be a finite number of at least 0"),
        (lambda: LabelThresholds(shrinkage=np.nan), "shrinkage must be a finite number of at least 0"),
        (lambda: LabelThresholds().fit(SCORES, TRUTH).decode([[0.1]]), "scores are of 1 labels, but 2"),
        (
            lambda: PooledCalibration(pull=np.inf).fit(SCORES, TRUTH),
            "pull must be a finite number of at least 0",
        ),
        (lambda: PooledCalibration().fit(SCORES, TRUTH).transform([[0.1]]), "scores are of 1 labels, but 2"),
        (lambda: TopK(0), "k must be a whole number of at least 1"),
        (lambda: TopK(2).decode([[np.nan]]), "scores are nan in row 0, column 0"),
        (lambda: MacroF1(k=0), "k must be a whole number of at least 1"),
        (lambda: MacroF1(least_f1=2), r"least_f1 must lie in"),
        (lambda: MacroF1().decode([[2.0]]), r"probabilities must lie in \[0, 1\], but reach from 2 to 2"),
        (lambda: MacroF1().decode([[-1e-9]]), r"probabilities must lie in \[0, 1\]"),
        (lambda: PropensityReranking([0.0], 1), "propensity of label 0 is 0.0"),
        (lambda: PropensityReranking([0.5], 1).decode([[0.1, 0.2]]), "scores are of 2 labels, but 1"),
        (lambda: rerank([[1.5]], [0.5]), r"probabilities must lie in \[0, 1\]"),
        (lambda: decoder_from_state({}), "state is of kind None; known are"),
        (lambda: decoder_from_state({"kind": ["TopK"]}), r"state is of kind \['TopK'\]"),
        (lambda: decoder_from_state({"kind": "TopK"}), "state has no field 'k'"),
        (lambda: decoder_from_state({"kind": "TopK", "k": -1}), "k must be a whole number of at least 1"),
        (lambda: decoder_from_state({"kind": "TopK", "k": np.inf}), "'k' must be a finite number"),
        (lambda: decoder_from_state({"kind": "GlobalThreshold", "threshold": 1}), "objective must be"),
        (
            lambda: decoder_from_state({"kind": "LabelThresholds", "shrinkage": 1, "thresholds": [[1]]}),
            "'thresholds' must be a row of finite numbers",
        ),
        (lambda: calibration_from_state({"kind": "MacroF1"}), "state is of kind 'MacroF1'"),
        (lambda: calibration_from_state({"kind": "PooledCalibration", "pull": 1}), "state has no field"),
    ],
)
def test_calibrations_and_decoders(refused, call, message):
    refused(ValueError, message, call)
