"""All figures of one prediction in one report, and the table of its labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from evenhand.multilabel.metrics.average_precision import average_precision
from evenhand.multilabel.metrics.buckets import (
    Buckets,
    bottom_half,
    frequency_buckets,
    head_middle_tail,
    rare_labels,
)
from evenhand.multilabel.metrics.ranking import (
    as_counts,
    as_ks,
    ndcg_at_k,
    precision_at_k,
    propensities,
    psndcg_at_k,
    psp_at_k,
    recall_at_k,
)
from evenhand.multilabel.metrics.sets import F1, Confusion, confusion, f1, mean_over
from evenhand.multilabel.scores import as_scores, as_truth, top_k


@dataclass(frozen=True)
class BucketRow:
    """The labels of one frequency bucket.

    Parameters
    ----------
    bucket : str
        Its name.
    n_labels, n_present : int
        Its labels, and those of them that are true at least once in the test set.
    mean_average_precision, precision, recall, f1 : float
        Means over the present labels; NaN where there is none.
    micro_f1 : float
        Of all decisions about these labels; NaN where none is true or taken.
    precision_at, recall_at, ndcg_at, psp_at, psndcg_at : dict of int to float
        What hits of these labels add to the figure of all labels, by k.
    """

    bucket: str
    n_labels: int
    n_present: int
    mean_average_precision: float
    precision: float
    recall: float
    f1: float
    micro_f1: float
    precision_at: dict[int, float]
    recall_at: dict[int, float]
    ndcg_at: dict[int, float]
    psp_at: dict[int, float]
    psndcg_at: dict[int, float]


@dataclass(frozen=True)
class Report:
    """Figures of one prediction on one test set, as shares (0 to 1); NaN where a figure is not defined.

    Parameters
    ----------
    n_instances, n_labels : int
        Size of the test set.
    n_unlabelled : int
        Instances without a true label; they count as 0 in every figure at k.
    n_present, n_unseen : int
        Labels that are true at least once in the test set; labels without a training positive.
    precision_at, recall_at, ndcg_at, psp_at, psndcg_at : dict of int to float
        P@k, R@k, nDCG@k, PSP@k and PSnDCG@k, by k.
    f1 : F1
        Micro, macro over all labels, macro over the present labels, samples.
    rare_f1, bottom_half_f1 : float
        Macro-F1 over the present labels of the rare set, and of the rarer half of the labels.
    mean_average_precision : float
        Over the present labels.
    parts, buckets : tuple of BucketRow
        The labels by head, middle and tail, and by training count.
    """

    n_instances: int
    n_labels: int
    n_unlabelled: int
    n_present: int
    n_unseen: int
    precision_at: dict[int, float]
    recall_at: dict[int, float]
    ndcg_at: dict[int, float]
    psp_at: dict[int, float]
    psndcg_at: dict[int, float]
    f1: F1
    rare_f1: float
    bottom_half_f1: float
    mean_average_precision: float
    parts: tuple[BucketRow, ...]
    buckets: tuple[BucketRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain dicts, lists, numbers and strings that JSON can hold (None for NaN).

        Returns
        -------
        dict
        """
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def rows(self) -> list[tuple[str, float]]:
        """The overall figures as rows of a table.

        Returns
        -------
        list of (str, float)
            Name and value: P@k … PSnDCG@k by k, mAP, the F1s.
        """
        at_k = {
            "P": self.precision_at,
            "R": self.recall_at,
            "nDCG": self.ndcg_at,
            "PSP": self.psp_at,
            "PSnDCG": self.psndcg_at,
        }
        return [
            *((f"{name}@{k}", value) for name, values in at_k.items() for k, value in values.items()),
            ("mAP", self.mean_average_precision),
            ("micro-F1", self.f1.micro),
            ("macro-F1 (all labels)", self.f1.macro),
            ("macro-F1 (labels in test)", self.f1.macro_present),
            ("samples-F1", self.f1.samples),
            ("Rare-F1", self.rare_f1),
            ("bottom-half F1", self.bottom_half_f1),
        ]


def evaluate(
    Y_true: Any,
    scores: Any,
    Y_pred: Any,
    train_counts: npt.ArrayLike,
    n_train: int,
    *,
    ks: Sequence[int] = (1, 3, 5),
    a: float = 0.55,
    b: float = 1.5,
) -> Report:
    """Measure scores and decided label sets against the truth.

    Parameters
    ----------
    Y_true : sparse array or array-like, shape (n, L)
        True labels.
    scores : ndarray or sparse array, shape (n, L)
        Scores of all labels, or the top k of each instance. From a top-k array the average precision is a
        lower bound: a positive that is no candidate adds 0.
    Y_pred : sparse array or array-like, shape (n, L)
        Decided label sets.
    train_counts : array-like of int, shape (L,)
        n_c, training positives of each label.
    n_train : int
        M, training instances.
    ks : sequence of int
    a, b : float
        A and B of the propensities, see `propensities`.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If shapes differ, a score is not finite or an option is out of range.

    Examples
    --------
    >>> scores = np.array([[0.9, 0.2], [0.6, 0.7]])
    >>> report = evaluate([[1, 0], [0, 1]], scores, scores > 0.5, train_counts=[5, 1], n_train=6, ks=[1])
    >>> report.rows()[0], round(report.f1.macro, 2)
    (('P@1', 1.0), 0.83)
    """
    Y = as_truth(Y_true)
    ks = as_ks(ks)
    scores = as_scores(scores, shape=Y.shape)
    n_c = as_counts(train_counts, Y.shape[1])
    best = top_k(scores, max(ks))
    p = propensities(n_c, n_train, a=a, b=b)
    labels = confusion(Y, Y_pred)
    precisions = average_precision(Y, scores)
    present = labels.support > 0

    def rankings(among: npt.NDArray[np.bool_] | None) -> dict[str, dict[int, float]]:
        return {
            "precision_at": precision_at_k(Y, best, ks, earned_by=among),
            "recall_at": recall_at_k(Y, best, ks, earned_by=among),
            "ndcg_at": ndcg_at_k(Y, best, ks, earned_by=among),
            "psp_at": psp_at_k(Y, best, p, ks, earned_by=among),
            "psndcg_at": psndcg_at_k(Y, best, p, ks, earned_by=among),
        }

    def rows(groups: Buckets) -> tuple[BucketRow, ...]:
        return tuple(
            _bucket_row(name, groups.index == i, labels, precisions, rankings(groups.index == i))
            for i, name in enumerate(groups.names)
        )

    return Report(
        n_instances=Y.shape[0],
        n_labels=Y.shape[1],
        n_unlabelled=int(np.sum(np.diff(Y.indptr) == 0)),
        n_present=int(present.sum()),
        n_unseen=int(np.sum(n_c == 0)),
        **rankings(None),
        f1=f1(Y, Y_pred),
        rare_f1=mean_over(labels.f1, rare_labels(n_c) & present),
        bottom_half_f1=mean_over(labels.f1, bottom_half(n_c) & present),
        mean_average_precision=mean_over(precisions, present),
        parts=rows(head_middle_tail(n_c)),
        buckets=rows(frequency_buckets(n_c)),
    )


def label_table(
    Y_true: Any,
    Y_pred: Any,
    train_counts: npt.ArrayLike,
    *,
    scores: Any = None,
    label_names: Sequence[str] | None = None,
) -> pl.DataFrame:
    """One row for each label: support and quality.

    Parameters
    ----------
    Y_true, Y_pred : sparse array or array-like, shape (n, L)
        True and decided label sets.
    train_counts : array-like of int, shape (L,)
        n_c, training positives of each label.
    scores : ndarray or sparse array, shape (n, L), optional
        For the average precision.
    label_names : sequence of str, optional
        Default: the label ids.

    Returns
    -------
    polars.DataFrame
        Columns label, train, test, predicted (numbers of instances), part (head, middle, tail, or null where
        `head_middle_tail` gives none), precision, recall, f1 and, where scores are given, average_precision
        (null for a label without a test positive). Rows in the order of the labels.

    Raises
    ------
    ValueError
        If shapes differ.

    Examples
    --------
    >>> table = label_table([[1, 0], [1, 1]], [[1, 0], [0, 1]], [50, 3], label_names=["game", "editor"])
    >>> table.select("label", "train", "recall").rows()
    [('game', 50, 0.5), ('editor', 3, 1.0)]
    """
    labels = confusion(Y_true, Y_pred)
    n_labels = labels.tp.size
    n_c = as_counts(train_counts, n_labels)
    names = [str(label) for label in range(n_labels)] if label_names is None else list(label_names)
    if len(names) != n_labels:
        raise ValueError(f"label_names has {len(names)} names for {n_labels} labels")
    parts = head_middle_tail(n_c)
    columns: dict[str, Any] = {
        "label": names,
        "train": n_c,
        "test": labels.support,
        "predicted": labels.tp + labels.fp,
        "part": [parts.names[i] if i >= 0 else None for i in parts.index],
        "precision": labels.precision,
        "recall": labels.recall,
        "f1": labels.f1,
    }
    if scores is not None:
        columns["average_precision"] = pl.Series(average_precision(Y_true, scores), nan_to_null=True)
    return pl.DataFrame(columns)


def _bucket_row(
    name: str,
    members: npt.NDArray[np.bool_],
    labels: Confusion,
    precisions: npt.NDArray[np.float64],
    rankings: dict[str, dict[int, float]],
) -> BucketRow:
    present = members & (labels.support > 0)
    right, wrong, missed = (int(one[members].sum()) for one in (labels.tp, labels.fp, labels.fn))
    return BucketRow(
        name,
        int(members.sum()),
        int(present.sum()),
        mean_over(precisions, present),
        mean_over(labels.precision, present),
        mean_over(labels.recall, present),
        mean_over(labels.f1, present),
        2 * right / (2 * right + wrong + missed) if right + wrong + missed else math.nan,
        **rankings,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
