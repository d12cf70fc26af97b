import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score

from evenhand.multilabel import scores as scores_module
from evenhand.multilabel.decoding import GlobalThreshold, LabelThresholds
from evenhand.multilabel.decoding import thresholds as module


def problem(seed: int, n: int = 60, n_labels: int = 8, *, ties: bool = False):
    rng = np.random.default_rng(seed)
    Y = rng.random((n, n_labels)) < rng.uniform(0.03, 0.4, n_labels)
    Y[0, 0] = True
    scores = rng.standard_normal((n, n_labels)) + 1.5 * Y
    return (np.round(scores) if ties else scores), Y


def full_csr(scores: np.ndarray) -> sparse.csr_array:
    n, n_labels = scores.shape
    indices = np.tile(np.arange(n_labels), n)
    return sparse.csr_array((scores.ravel(), indices, np.arange(n + 1) * n_labels), shape=scores.shape)


def f1_of(decided, Y, average):
    """Micro over all labels, macro over those with a positive."""
    labels = np.flatnonzero(Y.any(axis=0)) if average == "macro" else None
    return f1_score(Y, decided, average=average, labels=labels, zero_division=0)


@given(
    seed=st.integers(0, 1000),
    ties=st.booleans(),
    objective=st.sampled_from(["micro", "macro"]),
    chunk=st.sampled_from([7, 1 << 20]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=12, deadline=None)
def test_global_threshold_is_the_best_of_all_thresholds(seed, ties, objective, chunk, dtype):
    scores, Y = problem(seed, n=12, n_labels=5, ties=ties)
    scores = scores.astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "_CHUNK", chunk)
        decoder = GlobalThreshold(objective).fit(scores, Y)
        decided = decoder.decode(scores).toarray()
        from_sparse = GlobalThreshold(objective).fit(full_csr(scores), Y)
    best = max(f1_of(scores >= t, Y, objective) for t in np.unique(scores))
    assert f1_of(decided, Y, objective) == pytest.approx(best, rel=1e-12)
    assert from_sparse.threshold_ == decoder.threshold_
    np.testing.assert_array_equal(decided, from_sparse.decode(full_csr(scores)).toarray())


def test_micro_and_macro_thresholds_differ_where_rare_labels_score_low():
    rng = np.random.default_rng(0)
    Y = np.zeros((400, 11), dtype=bool)
    Y[:200, 0] = True
    for label in range(1, 11):
        Y[label * 3 : label * 3 + 3, label] = True
    scores = np.where(Y, 1.0, -1.0) * 0.5 + rng.standard_normal(Y.shape) * 0.1
    scores[:, 1:] -= 1.0
    micro, macro = GlobalThreshold("micro").fit(scores, Y), GlobalThreshold("macro").fit(scores, Y)
    assert macro.threshold_ < micro.threshold_


def test_threshold_stands_halfway_down_to_the_next_score():
    scores = np.array([[0.9], [0.6], [0.2]])
    assert GlobalThreshold().fit(scores, [[1], [1], [0]]).threshold_ == pytest.approx(0.4)
    assert GlobalThreshold("macro").fit(scores, [[1], [1], [0]]).threshold_ == pytest.approx(0.4)
    assert GlobalThreshold().fit(scores, [[1], [1], [1]]).threshold_ == 0.2


def test_adjacent_float32_scores_are_told_apart():
    low = np.float32(0.1)
    high = np.nextafter(low, np.float32(1))
    scores = np.array([[high], [low]], dtype=np.float32)
    for decoder in (GlobalThreshold(), GlobalThreshold("macro"), LabelThresholds(0)):
        decided = decoder.fit(scores, [[1], [0]]).decode(scores)
        np.testing.assert_array_equal(decided.toarray(), [[1], [0]])


def macro_threshold(candidates, Y, n_c):
    """The best of all candidates' macro-F1, by counting."""
    values, hits = candidates[~np.isnan(candidates)], candidates[Y & ~np.isnan(candidates)]
    tried = np.unique(hits)
    f1 = [
        np.mean(2 * (Y & (candidates >= t)).sum(axis=0) / ((candidates >= t).sum(axis=0) + n_c))
        for t in tried
    ]
    best = tried[np.flatnonzero(np.isclose(f1, max(f1), rtol=1e-12))[-1]]
    lower = values[values < best]
    return (best + lower.max()) / 2 if lower.size else best


@given(seed=st.integers(0, 1000), ties=st.booleans(), stored=st.sampled_from([0.3, 0.7, 1.0]))
@settings(max_examples=30, deadline=None)
def test_macro_threshold_of_candidates_is_the_best_by_counting(seed, ties, stored):
    scores, Y = problem(seed, n=20, n_labels=5, ties=ties)
    Y = Y[:, Y.any(axis=0)]
    scores = scores[:, : Y.shape[1]]
    kept = np.random.default_rng(seed).random(scores.shape) < stored
    kept[0, 0] = True
    indptr = np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
    candidates = sparse.csr_array((scores[kept], np.nonzero(kept)[1], indptr), shape=scores.shape)
    expected = macro_threshold(np.where(kept, scores, np.nan), Y, Y.sum(axis=0))
    assert GlobalThreshold("macro").fit(candidates, Y).threshold_ == pytest.approx(expected, rel=1e-12)


def test_a_limit_just_above_a_float32_score_is_kept():
    # Four instances share the first label's only hit, so its limit lies one float32 above them.
    scores = np.array([[0.5] * 4 + [0.25] * 6, [0.6] + [0.5] * 4 + [0.25] * 5], dtype=np.float32).T
    Y = np.array([[0, 0, 0, 1] + [0] * 6, [1] + [0] * 9]).T
    own, pulled, shared = (LabelThresholds(s).fit(scores, Y).thresholds_[0] for s in (0, 10, 1e15))
    assert own > 0.5
    assert own == pytest.approx(0.5, abs=1e-6)
    assert pulled == pytest.approx(own / 11 + 10 / 11 * shared, abs=1e-12)


def test_macro_candidates_are_thinned_but_stay_good(monkeypatch):
    scores, Y = problem(3, n=400)
    exact = GlobalThreshold("macro").fit(scores, Y)
    monkeypatch.setattr(module, "_MAX_CANDIDATES", 40)
    thinned = GlobalThreshold("macro").fit(scores, Y)
    f1 = [f1_score(Y, d.decode(scores).toarray(), average="macro") for d in (exact, thinned)]
    assert 0 <= f1[0] - f1[1] < 0.01


@given(seed=st.integers(0, 1000), ties=st.booleans(), chunk=st.sampled_from([7, 1 << 20]))
@example(seed=58, ties=True, chunk=7)  # the optimum without the limit lies beyond it
@settings(max_examples=10, deadline=None)
def test_label_thresholds_without_shrinkage_are_each_labels_best(seed, ties, chunk):
    scores, Y = problem(seed, n=15, n_labels=5, ties=ties)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "_CHUNK", chunk)
        decided = LabelThresholds(shrinkage=0).fit(scores, Y).decode(scores).toarray()
    for label in np.flatnonzero(Y.any(axis=0)):
        column, truth = scores[:, [label]], Y[:, [label]]
        few = [t for t in np.unique(column) if (column >= t).sum() <= 3 * truth.sum()]
        best = max((f1_score(truth, column >= t, zero_division=0) for t in few), default=0.0)
        assert f1_score(truth, decided[:, label]) == pytest.approx(best, rel=1e-12)


def test_shrinkage_is_the_stated_formula():
    scores, Y = problem(5, n=300, n_labels=30)
    n_c = Y.sum(axis=0)
    own = LabelThresholds(shrinkage=0).fit(scores, Y).thresholds_
    shared = LabelThresholds(shrinkage=1e12).fit(scores, Y).thresholds_
    for s in (1.0, 10.0):
        weight = n_c / (n_c + s)
        expected = weight * own + (1 - weight) * shared
        np.testing.assert_allclose(
            LabelThresholds(shrinkage=s).fit(scores, Y).thresholds_, expected, atol=1e-8
        )
    bucket = np.digitize(n_c, [5, 10, 20, 50, 100, 300], right=True)
    for group in np.unique(bucket):
        members = bucket == group
        alone = GlobalThreshold("macro").fit(scores[:, members], Y[:, members]).threshold_
        np.testing.assert_allclose(shared[members], alone, atol=1e-8)


def test_labels_without_a_positive_are_taken_only_above_every_known_score():
    scores, Y = problem(0, n=100, n_labels=6)
    Y[:, 3] = False
    scores[:, 3] = 0.0  # as scikit-learn's one-vs-rest says; margins are about -1
    for dtype in (np.float32, np.float64):
        decoder = LabelThresholds().fit(scores.astype(dtype), Y)
        assert decoder.decode(scores.astype(dtype)).toarray()[:, 3].sum() == 0
    assert decoder.decode(scores + 10).toarray()[:, 3].all()


def test_a_label_whose_scores_say_nothing_is_not_given_to_everything():
    rng = np.random.default_rng(1)
    Y = rng.random((600, 12)) < 0.01
    Y[0] = True
    scores = np.where(Y, 2.0, 0.0) + rng.standard_normal(Y.shape)
    scores[:, 0] = 3.0 + 1e-3 * rng.standard_normal(600)
    for shrinkage in (0.0, 10.0, 1e6):
        taken = LabelThresholds(shrinkage).fit(scores, Y).decode(scores).toarray().sum(axis=0)
        assert np.all(taken <= 3 * Y.sum(axis=0))
        assert taken[0] == 3 * Y[:, 0].sum() or shrinkage == 0.0


def test_label_that_is_always_positive_and_constant_scores():
    scores, Y = np.full((6, 2), 0.5), np.array([[1, 1], [1, 0], [1, 0], [1, 0], [1, 0], [1, 0]])
    for decoder in (GlobalThreshold(), GlobalThreshold("macro")):
        np.testing.assert_array_equal(decoder.fit(scores, Y).decode(scores).toarray(), np.ones((6, 2)))
    decided = LabelThresholds().fit(scores, Y).decode(scores).toarray()
    np.testing.assert_array_equal(decided, [[1, 0]] * 6)  # six times as often as it is true would be too much


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("objective", ["micro", "macro"])
def test_global_threshold_counts_positives_that_are_no_candidates(seed, objective):
    scores, Y = problem(seed, n=15, n_labels=5)
    kept = np.random.default_rng(seed).random(scores.shape) < 0.4
    candidates = sparse.csr_array(np.where(kept, scores, 0))
    decided = GlobalThreshold(objective).fit(candidates, Y).decode(candidates).toarray()
    best = max(f1_of(kept & (scores >= t), Y, objective) for t in scores[kept])
    assert f1_of(decided, Y, objective) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("decoder", [GlobalThreshold(), GlobalThreshold("macro"), LabelThresholds(0)])
def test_missed_positives_make_a_lower_threshold_worth_while(decoder):
    candidates = np.r_[0.9, 0.8, 0.7, 0.65, 0.6, np.zeros(5)][:, None]
    Y = np.array([1, 0, 0, 0, 1, 1, 1, 1, 1, 1])[:, None]
    assert decoder.fit(candidates[:5], Y[:5]).decode(candidates[:5]).nnz == 1
    assert decoder.fit(sparse.csr_array(candidates), Y).decode(sparse.csr_array(candidates)).nnz == 5


def test_positives_that_are_no_candidates_count_as_missed():
    scores = sparse.csr_array(np.array([[0.9, 0.0], [0.8, 0.0], [0.0, 0.3]]))
    Y = [[1, 0], [0, 1], [1, 1]]
    decoder = LabelThresholds(shrinkage=0).fit(scores, Y)
    np.testing.assert_array_equal(decoder.decode(scores).toarray(), [[1, 0], [0, 0], [0, 1]])
    none = sparse.csr_array((3, 2))
    for empty in (GlobalThreshold(), GlobalThreshold("macro"), LabelThresholds()):
        with pytest.raises(ValueError, match="among the candidates"):
            empty.fit(none, Y)


@pytest.mark.parametrize("decoder", [GlobalThreshold(), GlobalThreshold("macro"), LabelThresholds()])
def test_bad_input_is_named(decoder):
    with pytest.raises(NotFittedError, match="is not fitted"):
        type(decoder)().decode(np.zeros((1, 2)))
    with pytest.raises(NotFittedError, match="is not fitted"):
        type(decoder)().get_state()
    with pytest.raises(ValueError, match="Y holds no positive"):
        decoder.fit(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="scores are nan in row 1, column 0"):
        decoder.fit([[0, 1], [np.nan, 1]], [[0, 1], [1, 1]])
    with pytest.raises(ValueError, match=r"scores have shape \(2, 2\) and the labels \(2, 3\)"):
        decoder.fit(np.zeros((2, 2)), np.ones((2, 3)))


def test_bad_options_and_label_counts_are_named():
    with pytest.raises(ValueError, match="objective must be 'micro' or 'macro'"):
        GlobalThreshold("samples")
    with pytest.raises(ValueError, match="shrinkage must be a finite number of at least 0"):
        LabelThresholds(shrinkage=-1)
    with pytest.raises(ValueError, match="scores are of 3 labels, but 2 labels were fitted"):
        LabelThresholds().fit(np.eye(2), np.eye(2)).decode(np.zeros((1, 3)))


def test_decoding_no_instance_gives_no_instance():
    decoder = LabelThresholds().fit(np.eye(2), np.eye(2))
    assert decoder.decode(np.zeros((0, 2))).shape == (0, 2)
