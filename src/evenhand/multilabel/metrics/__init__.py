"""Metrics on sparse truth: rankings, label sets, average precision, all by label frequency too."""

from evenhand.multilabel.metrics.average_precision import average_precision, mean_average_precision
from evenhand.multilabel.metrics.buckets import (
    Buckets,
    bottom_half,
    by_bucket,
    frequency_buckets,
    frequency_deciles,
    head_middle_tail,
    rare_labels,
)
from evenhand.multilabel.metrics.ranking import (
    ndcg_at_k,
    precision_at_k,
    propensities,
    psndcg_at_k,
    psp_at_k,
    recall_at_k,
)
from evenhand.multilabel.metrics.report import BucketRow, Report, evaluate, label_table
from evenhand.multilabel.metrics.sets import F1, Confusion, confusion, f1, rare_f1

__all__ = [
    "F1",
    "BucketRow",
    "Buckets",
    "Confusion",
    "Report",
    "average_precision",
    "bottom_half",
    "by_bucket",
    "confusion",
    "evaluate",
    "f1",
    "frequency_buckets",
    "frequency_deciles",
    "head_middle_tail",
    "label_table",
    "mean_average_precision",
    "ndcg_at_k",
    "precision_at_k",
    "propensities",
    "psndcg_at_k",
    "psp_at_k",
    "rare_f1",
    "rare_labels",
    "recall_at_k",
]
