import time

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import f1_score

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.datasets.synthetic import _without_repeats, _zipf_counts


def zipf_slope(counts, ranks):
    ordered = np.sort(counts)[::-1]
    return np.polyfit(np.log(ranks), np.log(ordered[ranks - 1]), 1)[0]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_label_frequencies_follow_zipf(exponent, noise):
    data = make_long_tail(20_000, 500, 1000, exponent=exponent, noise=noise)
    # beyond the cap at the head and before the floor of 1 at the tail
    assert zipf_slope(data.label_counts(), np.arange(5, 150)) == pytest.approx(-exponent, abs=0.02)


def test_form():
    data = make_long_tail(500, 60, 300)
    assert data.kind == "sparse"
    assert (data.X.shape, data.X.dtype) == ((500, 300), np.float32)
    assert data.X.indices.dtype == np.int32
    assert (data.X.data >= 1).all()
    assert data.Y.shape == (500, 60)
    assert set(data.Y.data) == {1}
    assert data.notes["noise"] == "0.1"


@pytest.mark.parametrize("labels_per_instance", [1.0, 3.0, 6.5])
def test_labels_per_instance(labels_per_instance):
    n = np.diff(make_long_tail(5000, 100, 500, labels_per_instance=labels_per_instance).Y.indptr)
    error = 5 * np.sqrt(max(labels_per_instance - 1, 1e-12) / 5000)
    assert n.mean() == pytest.approx(labels_per_instance, abs=error)
    assert n.min() >= 1


@pytest.mark.parametrize("shape", [(40, 60), (300, 600), (4, 4), (1000, 12)])
def test_every_label_has_a_positive_where_there_are_enough(shape):
    data = make_long_tail(*shape, 100, labels_per_instance=min(3, shape[1] / 4))
    if data.Y.nnz >= data.n_labels:
        assert data.label_counts().min() >= 1
    assert data.label_counts().max() <= shape[0] / 2 + 1


def test_more_labels_than_positives_leaves_the_rest_empty():
    counts = make_long_tail(10, 1000, 100).label_counts()
    assert set(counts) == {0, 1}


@pytest.mark.parametrize(
    ("total", "n_labels", "exponent", "most"), [(5970, 200, 1, 1000), (40, 40, 2, 9), (900, 30, 3, 31.5)]
)
def test_counts_add_up_and_stay_in_bounds(total, n_labels, exponent, most):
    counts = _zipf_counts(total, n_labels, exponent, most)
    assert counts.sum() == total
    assert counts.min() >= 1
    assert counts.max() <= most + 1


def co_occurrence(data):
    Y = data.Y.astype(np.float64)
    pairs = sparse.csr_array(Y.T @ Y).toarray()
    counts = np.diag(pairs)
    return pairs[np.triu_indices_from(pairs, 1)], (np.outer(counts, counts) / data.n_instances)[
        np.triu_indices_from(pairs, 1)
    ]


def dispersion(data):
    """Mean of (observed − expected)² / expected over pairs of labels that are expected together often."""
    observed, expected = co_occurrence(data)
    often = expected > 2
    return float(((observed - expected) ** 2 / expected)[often].mean())


def test_topics_make_labels_occur_together():
    by_topic = make_long_tail(20_000, 200, 1000, n_topics=20, noise=0)
    by_chance = make_long_tail(20_000, 200, 1000, n_topics=1, noise=0)
    assert dispersion(by_chance) < 2
    assert dispersion(by_topic) > 3 * dispersion(by_chance)
    observed, expected = co_occurrence(by_topic)
    # about one pair in 20 shares a topic, and there is together many times as often as by chance
    assert 0.02 < (observed > 4 * expected)[expected > 2].mean() < 0.1


def test_same_seed_same_data():
    one, two, other = make_long_tail(seed=5), make_long_tail(seed=5), make_long_tail(seed=6)
    for name in ("X", "Y"):
        a, b = getattr(one, name), getattr(two, name)
        assert np.array_equal(a.indices, b.indices)
        assert np.array_equal(a.data, b.data)
    assert not np.array_equal(one.Y.indices, other.Y.indices)


def test_label_order_and_row_order_tell_nothing():
    data = make_long_tail(4000, 400, 500)
    order = np.argsort(-data.label_counts())
    assert abs(np.corrcoef(np.arange(400), order)[0, 1]) < 0.2
    first, second = data.Y[:2000].sum(axis=0), data.Y[2000:].sum(axis=0)
    assert np.abs(first - second).max() < 5 * np.sqrt(data.label_counts().max())


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_noise_is_the_share_of_words_and_of_positives_exchanged(noise):
    clean, noisy = make_long_tail(noise=0), make_long_tail(noise=noise)
    exchanged = np.abs((clean.X - noisy.X).data).sum() / 2 / clean.X.sum()
    assert noisy.X.sum() == clean.X.sum()
    # some exchanges bring back the same word or label
    assert 0.9 * noise < exchanged < 1.05 * noise
    kept = clean.Y.multiply(noisy.Y).nnz / clean.Y.nnz
    assert 0.9 * noise < 1 - kept < 1.25 * noise  # more, so that no row has a label twice
    assert np.array_equal(clean.label_counts(), noisy.label_counts())


def micro_f1(noise):
    data = make_long_tail(3000, 40, 600, labels_per_instance=2, noise=noise, seed=1)
    X, Y = data.X, data.Y.toarray()
    return f1_score(Y[2000:], RidgeClassifier().fit(X[:2000], Y[:2000]).predict(X[2000:]), average="micro")


def test_noise_decides_what_can_be_learned():
    clean, noisy, hopeless = micro_f1(0), micro_f1(0.2), micro_f1(1)
    assert clean > 0.95
    assert hopeless < 0.3
    assert hopeless + 0.1 < noisy < clean - 0.1


def test_without_repeats_keeps_each_labels_number():
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(200), 3)
    labels = np.repeat(np.arange(30), 20)
    mended = _without_repeats(rng, rows, labels, 30)
    assert np.array_equal(np.sort(mended), labels)
    assert np.unique(rows * 30 + mended).size == rows.size
    assert np.array_equal(labels, np.repeat(np.arange(30), 20)), "the caller's array was changed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_instances": 3}, "n_instances must lie between 4"),
        ({"n_instances": 10.5}, "n_instances must be a whole number"),
        ({"n_instances": 1000.0}, "n_instances must be a whole number, not 1000.0"),
        ({"n_topics": None}, "n_topics must be a whole number, not None"),
        ({"exponent": "1"}, "exponent must lie between 0 and 10, not '1'"),
        ({"n_labels": 0}, "n_labels"),
        ({"n_features": 0}, "n_features"),
        ({"n_topics": 0}, "n_topics"),
        ({"labels_per_instance": 0.5}, "labels_per_instance must lie between 1"),
        ({"labels_per_instance": 51}, r"labels_per_instance must be at most a quarter of n_labels \(50\)"),
        ({"exponent": -1}, "exponent"),
        ({"exponent": float("nan")}, "exponent"),
        ({"noise": 1.5}, "noise must lie between 0 and 1, not 1.5"),
    ],
)
def test_bad_options_name_themselves(options, message):
    with pytest.raises(ValueError, match=message):
        make_long_tail(**options)


@pytest.mark.slow
def test_a_hundred_thousand_labels():
    start = time.perf_counter()
    data = make_long_tail(200_000, 100_000, 200_000)
    assert time.perf_counter() - start < 60
    assert data.Y.nnz == pytest.approx(600_000, rel=0.01)
    assert data.label_counts().min() == 1
