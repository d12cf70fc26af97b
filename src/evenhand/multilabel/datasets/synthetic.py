"""A seeded generator of long-tail multi-label data, for where no real data can be had."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import brentq

from evenhand.multilabel.data import MultilabelData

_Ints: TypeAlias = npt.NDArray[np.int64]

_LABEL_WORDS, _TOPIC_WORDS = 5, 20  # size of the vocabulary of a label and of a topic
_WORDS_PER_LABEL, _WORDS_PER_TOPIC = 3, 5  # tokens in an instance for each of its labels, and for its topic
_AT_HOME = 0.8  # share of a rare label's positives that lie in its own topic
_MAX_SHARE = 0.5  # no label is on more than this share of the instances
_ROUNDS = 100
_RANGES = {
    "n_instances": (4, 2**40),
    "n_labels": (4, 2**20),
    "n_features": (1, 2**40),
    "n_topics": (1, 2**20),
    "labels_per_instance": (1, 2**20),
    "exponent": (0, 10),
    "noise": (0, 1),
}  # the product of instances and labels stays within 64 bits


def make_long_tail(
    n_instances: int = 2000,
    n_labels: int = 200,
    n_features: int = 2000,
    *,
    n_topics: int = 20,
    labels_per_instance: float = 3.0,
    exponent: float = 1.0,
    noise: float = 0.1,
    seed: int = 0,
) -> MultilabelData:
    """Bags of words with labels whose frequencies follow Zipf's law and that occur together by topic.

    Parameters
    ----------
    n_instances, n_labels, n_features : int
        At least 4 instances, 4 labels and 1 feature.
    n_topics : int
        At least 1; each instance and each label belongs to one topic.
    labels_per_instance : float
        Mean number of labels, to the sampling error; at least 1, at most a quarter of `n_labels`. No instance
        is without a label.
    exponent : float
        s, 0 to 10, in n_c ∝ rank(c)^(−s); 0 makes all labels equally frequent.
    noise : float
        Share, in [0, 1], of the words that are exchanged for words of no meaning (feature noise), and of the
        positives that are exchanged for labels that the words know nothing of (label noise). 0: the words
        tell the labels; 1: they tell nothing.
    seed : int
        The same arguments give the same data.

    Returns
    -------
    MultilabelData
        X: csr_array of word counts, float32. `notes` holds the arguments.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    The number of positives of each label is fixed first: the power law, scaled to the number of positives
    wanted, at least 1 and at most half of the instances. (Where there are more labels than positives, the
    rarest labels have none.) Each positive is then put in an instance: four in five of a label's own topic;
    labels too frequent for their topic are spread over all. So the frequencies are Zipf's by construction,
    noise or not, and labels of one topic occur together. Label numbers are in random order, not by frequency.

    Every label has 5 words of its own and every topic 20, drawn from all features, so that words are shared
    where `n_features` is small. An instance holds 3 words of each of its labels and 5 of its topic, with
    repetition. Words of no meaning are Zipf-distributed over all features. Time and memory grow with the
    number of positives: 200,000 instances × 100,000 labels took 2.3 s on one core.

    Examples
    --------
    >>> data = make_long_tail(1000, 50, 500, seed=1)
    >>> data.X.shape, data.Y.shape, int(data.label_counts().min())
    ((1000, 500), (1000, 50), 14)
    """
    options = {
        "n_instances": n_instances,
        "n_labels": n_labels,
        "n_features": n_features,
        "n_topics": n_topics,
        "labels_per_instance": labels_per_instance,
        "exponent": exponent,
        "noise": noise,
    }
    _check(options)
    rng = np.random.default_rng(seed)
    n_of_row = 1 + rng.poisson(labels_per_instance - 1, size=n_instances)
    n_of_row = np.minimum(n_of_row, n_labels // 2)
    counts = rng.permutation(_zipf_counts(int(n_of_row.sum()), n_labels, exponent, _MAX_SHARE * n_instances))
    rows, labels, topics = _place_positives(rng, n_of_row, counts, n_topics)
    X = _draw_words(rng, rows, labels, topics, n_labels, n_features, n_topics, noise)
    labels = _exchange_labels(rng, rows, labels, n_labels, noise)
    return MultilabelData(
        X=X,
        Y=_count_matrix(rows, labels, (n_instances, n_labels)),
        label_names=tuple(f"label_{label}" for label in range(n_labels)),
        instance_ids=tuple(str(row) for row in range(n_instances)),
        source=f"synthetic long tail, seed {seed}",
        notes={name: str(value) for name, value in {**options, "seed": seed}.items()},
    )


def _check(options: dict[str, float]) -> None:
    for name, value in options.items():
        least, most = _RANGES[name]
        if name.startswith("n_") and not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
        if not isinstance(value, Real) or not least <= value <= most:
            raise ValueError(f"{name} must lie between {least} and {most:,}, not {value!r}")
    mean, limit = options["labels_per_instance"], options["n_labels"] / 4
    if mean > limit:
        raise ValueError(f"labels_per_instance must be at most a quarter of n_labels ({limit:g}), not {mean}")


def _zipf_counts(total: int, n_labels: int, exponent: float, most: float) -> _Ints:
    """Positives of each label by rank, together `total`: clip(scale · rank^(−s), 1, most), rounded."""
    if total <= n_labels:
        return (np.arange(n_labels) < total).astype(np.int64)
    law = np.arange(1, n_labels + 1, dtype=np.float64) ** -exponent

    def surplus(log_scale: float) -> float:
        return float(np.clip(np.exp(log_scale) * law, 1, most).sum() - total)

    # at the lower end every label has 1, at the upper end every label has `most`
    log_scale = brentq(surplus, 0, np.log(most / law[-1]))
    wanted = np.clip(np.exp(log_scale) * law, 1, most)
    # Rounding the running sum keeps the total; each count is off by less than 1.
    return np.diff(np.floor(np.cumsum(wanted) + 0.5), prepend=0).astype(np.int64)


def _place_positives(
    rng: np.random.Generator, n_of_row: _Ints, counts: _Ints, n_topics: int
) -> tuple[_Ints, _Ints, _Ints]:
    """Row and label of each positive, and the topic of each row.

    Positives are lined up by topic, beside them the instances with as many places as they have labels: who
    stands where decides both who gets which label and which topic an instance has.
    """
    labels = np.repeat(np.arange(counts.size), counts)
    home = rng.integers(n_topics, size=counts.size)
    # A label with more positives than half a topic's share of the instances would fill its topic.
    at_home = np.minimum(_AT_HOME, n_of_row.size / (2 * n_topics * np.maximum(counts, 1)))
    stays = rng.random(labels.size) < at_home[labels]
    topic = np.where(stays, home[labels], rng.integers(n_topics, size=labels.size))
    order = np.lexsort((rng.random(labels.size), topic))
    labels, topic = labels[order], topic[order]
    row_at = rng.permutation(n_of_row.size)
    rows = np.repeat(row_at, n_of_row[row_at])
    topics = np.empty(n_of_row.size, dtype=np.int64)
    topics[row_at] = topic[np.cumsum(n_of_row[row_at]) - 1]
    return rows, _without_repeats(rng, rows, labels, counts.size), topics


def _without_repeats(rng: np.random.Generator, rows: _Ints, labels: _Ints, n_labels: int) -> _Ints:
    """Labels changed about until no row has one twice; each label keeps its number of positives.

    What random exchanges cannot mend in `_ROUNDS` rounds stays and will count once.
    """
    labels = labels.copy()
    for _ in range(_ROUNDS):
        pairs = rows * n_labels + labels
        order = np.argsort(pairs, kind="stable")
        repeated = order[1:][pairs[order[1:]] == pairs[order[:-1]]]
        if repeated.size == 0:
            break
        chosen = np.unique(np.concatenate([repeated, rng.integers(labels.size, size=repeated.size)]))
        labels[chosen] = labels[rng.permutation(chosen)]
    return labels


def _draw_words(
    rng: np.random.Generator,
    rows: _Ints,
    labels: _Ints,
    topics: _Ints,
    n_labels: int,
    n_features: int,
    n_topics: int,
    noise: float,
) -> sparse.csr_array[Any]:
    n_instances = topics.size
    label_words = rng.integers(n_features, size=(n_labels, _LABEL_WORDS))
    topic_words = rng.integers(n_features, size=(n_topics, _TOPIC_WORDS))
    of_labels = label_words[labels[:, None], rng.integers(_LABEL_WORDS, size=(labels.size, _WORDS_PER_LABEL))]
    of_topic = topic_words[topics[:, None], rng.integers(_TOPIC_WORDS, size=(n_instances, _WORDS_PER_TOPIC))]
    words = np.concatenate([of_labels.ravel(), of_topic.ravel()])
    places = np.concatenate(
        [np.repeat(rows, _WORDS_PER_LABEL), np.repeat(np.arange(n_instances), _WORDS_PER_TOPIC)]
    )
    exchanged = np.flatnonzero(rng.random(words.size) < noise)
    # exp(u·log(D + 1)) with u uniform has the distribution function of Zipf's law with exponent 1.
    ranks = np.exp(rng.random(exchanged.size) * np.log(n_features + 1)).astype(np.int64) - 1
    words[exchanged] = rng.permutation(n_features)[np.minimum(ranks, n_features - 1)]
    return _count_matrix(places, words, (n_instances, n_features))


def _exchange_labels(
    rng: np.random.Generator, rows: _Ints, labels: _Ints, n_labels: int, noise: float
) -> _Ints:
    """A share of the positives swap their labels, so that the label frequencies stay.

    A few more swap with them where a row would have a label twice.
    """
    exchanged = np.flatnonzero(rng.random(labels.size) < noise)
    labels = labels.copy()
    labels[exchanged] = labels[rng.permutation(exchanged)]
    return _without_repeats(rng, rows, labels, n_labels)


def _count_matrix(rows: _Ints, columns: _Ints, shape: tuple[int, int]) -> sparse.csr_array[Any]:
    # liblinear and others take 32-bit indices only; SciPy keeps 64-bit ones as they come.
    index = sparse.get_index_dtype(maxval=max(*shape, rows.size))
    places = (rows.astype(index), columns.astype(index))
    return sparse.csr_array((np.ones(rows.size, dtype=np.float32), places), shape=shape)
