"""`evenhand multilabel evaluate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from evenhand.files import replacing
from evenhand.multilabel.commands.shared import check_decoder, label_names, per_cent, read_data
from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.decoding import MacroF1
from evenhand.multilabel.metrics import BucketRow, Report, evaluate, label_table
from evenhand.multilabel.model_io import Model, load_model
from evenhand.multilabel.progress import progress_bar
from evenhand.multilabel.scores import Scores
from evenhand.terminal import say, show_table, tell

_DENSE_BYTES = 1 << 30
_CANDIDATES = 100  # labels of an instance that are scored where all would not fit
_ROWS = 1024


def evaluate_model(
    folder: Path,
    path: Path,
    reading: Mapping[str, Any],
    *,
    decoder: str | None,
    ks: str,
    a: float,
    b: float,
    json_file: Path | None,
    labels_file: Path | None,
) -> None:
    """Measure a model on a file.

    Parameters
    ----------
    folder, path : Path
        The model and the data.
    reading : mapping
        Options of the reader.
    decoder : str, optional
        Instead of the model's own.
    ks : str
        Ranks, parted by commas.
    a, b : float
        Of the propensities.
    json_file, labels_file : Path, optional
        Where to write all figures, and those of each label.

    Raises
    ------
    ValueError
        If the data do not fit the model or an option is wrong.
    """
    ranks = _ranks(ks)
    model = load_model(folder)
    classifier = model.classifier
    name = decoder or classifier.decoder
    check_decoder(model, name)
    data, unknown = align(read_data(path, reading, model), model)
    scores, sets = score(model, data.X, name, at_least=max(ranks))
    n_more = data.n_labels - len(classifier.classes_)
    counts = np.concatenate([classifier.label_counts_, np.zeros(n_more, np.int64)])
    scores, sets = _widen(scores, data.n_labels), _widen(sets, data.n_labels)
    report = evaluate(data.Y, scores, sets, counts, classifier.n_train_, ks=ranks, a=a, b=b)
    show_report(report, name)
    _say_unknown(unknown, data)
    if json_file is not None:
        figures = {"model": str(folder), "data": data.source, "decoder": name, "unknown_labels": len(unknown)}
        with replacing(json_file) as file:
            json.dump({**figures, **report.to_dict()}, file, indent=1, allow_nan=False)
    if labels_file is not None:
        table = label_table(data.Y, sets, counts, scores=scores, label_names=data.label_names)
        with replacing(labels_file) as file:
            file.write(table.write_csv())


def align(data: MultilabelData, model: Model) -> tuple[MultilabelData, list[str]]:
    """The data with the model's labels in the model's order, by name.

    Parameters
    ----------
    data : MultilabelData
    model : Model

    Returns
    -------
    data : MultilabelData
        Labels that the model does not know stand behind its own.
    unknown : list of str
        Their names; those without a positive are left out.
    """
    names = label_names(model)
    known = set(names)
    unknown = [
        name for name, count in zip(data.label_names, data.label_counts()) if count and name not in known
    ]
    return data.align_labels([*names, *unknown]), unknown


def score(model: Model, X: Any, decoder: str, *, at_least: int) -> tuple[Scores, sparse.csr_array[Any]]:
    """Probabilities and label sets of instances, some rows at a time.

    Parameters
    ----------
    model : Model
    X : features or texts
    decoder : str
        A name in the classifier's ``decoders_``.
    at_least : int
        How many labels of an instance need a score.

    Returns
    -------
    scores : ndarray or csr_array, shape (n, L)
        Of all labels; of the 100 most probable of each instance where all would take more than a GiB, and by
        label trees, which name no others.
    sets : csr_array, shape (n, L)
        By decoder macro_f1 of the labels that have a score, else of all.
    """
    classifier, n = model.classifier, X.shape[0]
    chosen = classifier.decoders_[decoder]
    together = isinstance(chosen, MacroF1)  # which weighs all instances against each other
    scores_all = model.kind != "trees"
    dense = scores_all and n * len(classifier.classes_) * 4 <= _DENSE_BYTES
    if scores_all and not dense:
        say(f"All scores would not fit: the {_CANDIDATES} most probable labels of each instance are ranked.")
    scores: list[Any] = []
    sets: list[Any] = []
    with progress_bar(True, "instances") as report:
        for start in range(0, n, _ROWS):
            stop = min(start + _ROWS, n)
            views = model.views(X[start:stop])
            if dense:
                scores.append(classifier.predict_proba(views))
            else:
                scores.append(classifier.predict_topk(views, max(_CANDIDATES, at_least)))
                if not together:
                    sets.append(sparse.csr_array(classifier.predict(views, decoder)))
            if report is not None:
                report("scoring", stop, n)
    if dense:
        p = np.concatenate(scores)
        return p, chosen.decode(p)
    best = sparse.csr_array(sparse.vstack(scores))
    return best, chosen.decode(best) if together else sparse.csr_array(sparse.vstack(sets))


def show_report(report: Report, decoder: str) -> None:
    """Print a report: rankings, label sets, and both by label frequency, in per cent.

    Parameters
    ----------
    report : Report
    decoder : str
        Its name.
    """
    tell(
        f"{report.n_instances:,} instances ({report.n_unlabelled:,} without a label),"
        f" {report.n_labels:,} labels ({report.n_present:,} in these data,"
        f" {report.n_unseen:,} without a training positive)"
    )
    ks = list(report.precision_at)
    at_k = {
        "P@k": report.precision_at,
        "PSP@k": report.psp_at,
        "nDCG@k": report.ndcg_at,
        "PSnDCG@k": report.psndcg_at,
        "R@k": report.recall_at,
    }
    rows = [(name, *(per_cent(values[k]) for k in ks)) for name, values in at_k.items()]
    show_table("Rankings, %", ("", *(f"k = {k}" for k in ks)), rows)
    rest = [(name, per_cent(value)) for name, value in report.rows() if "@" not in name]
    show_table(f"Label sets by decoder {decoder!r}, and mAP, %", ("", ""), rest)
    show_buckets("By part, %: means over the labels in these data", report.parts)
    show_buckets("By number of training positives, %", report.buckets)
    show_shares("What hits of each part add to the rankings, %", report.parts)


def show_buckets(title: str, buckets: tuple[BucketRow, ...]) -> None:
    """Print the rows of one grouping of labels."""
    columns = ("", "labels", "in these data", "mAP", "precision", "recall", "F1", "micro-F1")
    rows = []
    for one in buckets:
        shares = (one.mean_average_precision, one.precision, one.recall, one.f1, one.micro_f1)
        rows.append((one.bucket, one.n_labels, one.n_present, *map(per_cent, shares)))
    show_table(title, columns, rows)


def show_shares(title: str, buckets: tuple[BucketRow, ...]) -> None:
    """Print how much of P@k and PSP@k the labels of each bucket earn."""
    ks = list(buckets[0].precision_at)
    rows = [
        (one.bucket, *(per_cent(figure[k]) for figure in (one.precision_at, one.psp_at) for k in ks))
        for one in buckets
    ]
    show_table(title, ("", *(f"{name}@{k}" for name in ("P", "PSP") for k in ks)), rows)


def _ranks(ks: str) -> list[int]:
    try:
        ranks = [int(k) for k in ks.split(",")]
    except ValueError:
        ranks = []
    if not ranks or min(ranks) < 1:
        raise ValueError(f"--k is {ks!r}; write whole numbers from 1, like 1,3,5")
    return ranks


def _widen(scores: Any, n_labels: int) -> Any:
    """More columns at the end: nothing stored, or probability 0."""
    if isinstance(scores, sparse.csr_array):
        parts = (scores.data, scores.indices, scores.indptr)
        return sparse.csr_array(parts, shape=(scores.shape[0], n_labels))
    return np.pad(scores, ((0, 0), (0, n_labels - scores.shape[1])))


def _say_unknown(unknown: list[str], data: MultilabelData) -> None:
    if unknown:
        positives = int(data.label_counts()[-len(unknown) :].sum())
        say(
            f"The model does not know {len(unknown):,} labels of these data (first: {unknown[0]!r}) with"
            f" {positives:,} positives. They count as missed in all figures: they stay in the truth, score 0"
            " and are never predicted."
        )
