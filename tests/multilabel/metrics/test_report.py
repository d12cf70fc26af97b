import json

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import f1_score

from evenhand.multilabel import metrics


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    n, n_labels = 80, 120
    counts = (300 / (1 + np.arange(n_labels))).astype(int)
    counts[-5:] = 0
    Y = sparse.csr_array(rng.random((n, n_labels)) < np.clip(counts / 400, 0.003, 1))
    scores = rng.standard_normal((n, n_labels)) + 2 * Y.toarray()
    return Y, scores, sparse.csr_array(scores > 1.5), counts


def test_report_holds_the_single_metrics(case):
    Y, scores, predicted, counts = case
    report = metrics.evaluate(Y, scores, predicted, counts, 400, ks=(1, 4), a=0.6, b=2.6)
    p = metrics.propensities(counts, 400, a=0.6, b=2.6)
    rows = dict(report.rows())
    assert rows["P@4"] == metrics.precision_at_k(Y, scores, 4)[4]
    assert rows["R@4"] == metrics.recall_at_k(Y, scores, 4)[4]
    assert rows["nDCG@4"] == metrics.ndcg_at_k(Y, scores, 4)[4]
    assert rows["PSP@4"] == metrics.psp_at_k(Y, scores, p, 4)[4]
    assert rows["PSnDCG@4"] == metrics.psndcg_at_k(Y, scores, p, 4)[4]
    assert rows["mAP"] == metrics.mean_average_precision(Y, scores)
    assert report.f1 == metrics.f1(Y, predicted)
    assert rows["Rare-F1"] == metrics.rare_f1(Y, predicted, metrics.rare_labels(counts))
    assert rows["bottom-half F1"] == metrics.rare_f1(Y, predicted, metrics.bottom_half(counts))
    assert report.n_unseen == 5
    assert report.n_unlabelled == int((np.diff(Y.indptr) == 0).sum())


def test_buckets_are_means_over_present_labels(case):
    Y, scores, predicted, counts = case
    report = metrics.evaluate(Y, scores, predicted, counts, 400)
    assert [row.bucket for row in report.parts] == ["head", "middle", "tail"]
    tail = report.parts[2]
    assert tail.f1 == pytest.approx(report.rare_f1)
    rare = metrics.rare_labels(counts)
    assert (tail.n_labels, tail.n_present) == (rare.sum(), (rare & (Y.sum(axis=0) > 0)).sum())
    assert tail.mean_average_precision == pytest.approx(
        np.nanmean(metrics.average_precision(Y, scores)[rare])
    )
    assert sum(row.n_labels for row in report.buckets) == Y.shape[1]
    overall = sum(row.n_present * row.f1 for row in report.buckets if row.n_present) / report.n_present
    assert overall == pytest.approx(report.f1.macro_present)


def test_what_the_buckets_earn_sums_to_the_whole(case):
    Y, scores, predicted, counts = case
    report = metrics.evaluate(Y, scores, predicted, np.maximum(counts, 1), 400, ks=(1, 4))
    for figure in ("precision_at", "recall_at", "ndcg_at", "psp_at", "psndcg_at"):
        for k, whole in getattr(report, figure).items():
            for groups in (report.parts, report.buckets):
                assert sum(getattr(row, figure)[k] for row in groups) == pytest.approx(whole)
    tail = metrics.head_middle_tail(np.maximum(counts, 1)).index == 2
    first = np.argsort(-scores, axis=1)[:, :4]
    hits = np.take_along_axis(Y.toarray(), first, axis=1) * tail[first]
    assert report.parts[2].precision_at[4] == pytest.approx(hits.sum() / (4 * Y.shape[0]))
    micro = f1_score(Y.toarray()[:, tail], predicted.toarray()[:, tail], average="micro")
    assert report.parts[2].micro_f1 == pytest.approx(micro)


def test_labels_that_shall_count_are_checked(case):
    Y, scores, _, _ = case
    with pytest.raises(ValueError, match=r"earned_by must be bool of shape \(120,\), not int64 of \(120,\)"):
        metrics.precision_at_k(Y, scores, 1, earned_by=np.arange(120))
    with pytest.raises(ValueError, match=r"not bool of \(3,\)"):
        metrics.ndcg_at_k(Y, scores, 1, earned_by=[True, False, True])


def test_report_is_strict_json():
    report = metrics.evaluate([[1, 0]], [[0.9, 0.1]], [[1, 0]], [5, 1], 10, ks=[1])
    plain = report.to_dict()
    text = json.dumps(plain, allow_nan=False)
    assert json.loads(text)["rare_f1"] is None  # the only rare label is not true here
    assert plain["precision_at"] == {"1": 1.0}
    assert plain["f1"]["macro"] == 0.5


def test_label_table(case):
    Y, scores, predicted, counts = case
    table = metrics.label_table(Y, predicted, counts, scores=scores)
    assert table.columns[:5] == ["label", "train", "test", "predicted", "part"]
    assert table["test"].to_list() == Y.sum(axis=0).tolist()
    assert table["predicted"].to_list() == predicted.sum(axis=0).tolist()
    assert table["part"][0] == "head"
    assert table["part"][-1] is None
    absent = (Y.sum(axis=0) == 0).sum()
    assert absent > 0
    assert table["average_precision"].null_count() == absent
    assert "average_precision" not in metrics.label_table(Y, predicted, counts).columns
    with pytest.raises(ValueError, match="2 names for 120 labels"):
        metrics.label_table(Y, predicted, counts, label_names=["a", "b"])


def test_wrong_counts_are_named(case):
    Y, scores, predicted, counts = case
    with pytest.raises(ValueError, match=r"counts must have shape \(120,\)"):
        metrics.evaluate(Y, scores, predicted, counts[:-1], 400)


def test_64_bit_indices_change_nothing(case, wide):
    Y, scores, predicted, counts = case
    best = sparse.csr_array(np.where(scores > 0, scores, 0))
    narrow = metrics.evaluate(Y, best, predicted, counts, 400)
    assert repr(metrics.evaluate(wide(Y), wide(best), wide(predicted), counts, 400)) == repr(narrow)
