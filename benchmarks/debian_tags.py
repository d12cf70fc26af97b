"""The curiosity game and its controls on Debian's tags, over several splits.

Prints the speed of the solver against scikit-learn on the same view; the quality of every method under the
same calibration and decoders; the average precision of every view, their plain mean and the team by label
frequency; and paired differences with 95 % intervals (Student's t over seeds).

    python benchmarks/debian_tags.py --seeds 5 --out runs/debian-tags

One JSON file for the timings and one a seed are written to --out; what is there is not measured again, so
that an interrupted run can go on. The packages, texts and tags come from the machine's own package index
(`datasets.debian_tags`).

The peers get the same folds (by source package), the same calibration and the same search for thresholds on
their own out-of-fold scores. C is 0.3 for the squared hinge and 3 for the logistic loss, taken from earlier
measurements, not tuned on these splits. All figures are of the test packages.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from evenhand.experiments.compare import show_interval
from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.datasets import debian_split, debian_tags
from evenhand.multilabel.decoding import Decoder, GlobalThreshold, LabelThresholds, MacroF1, PooledCalibration
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.metrics import average_precision, by_bucket, evaluate, frequency_buckets
from evenhand.multilabel.solver import Rows
from evenhand.multilabel.splitting import cross_fitting_folds
from evenhand.multilabel.text_views import TextViews
from evenhand.multilabel.views import Views

C_HINGE, C_LOGISTIC, N_FOLDS = 0.3, 3.0, 3
# β acts in further rounds only, and the default has none: this row is the default with one such round.
DISAGREEMENT = {"rounds": 1, "own_share": 1.0, "disagreement_reward": 4.0}
FloatArray = npt.NDArray[np.floating[Any]]
Decoded = dict[str, sparse.csr_array[Any]]


class Split:
    """One split of the packages, with the views that every method reads."""

    def __init__(self, seed: int) -> None:
        parts = debian_split(debian_tags(), seed=seed)
        self.train, self.test, self.seed = parts["train"], parts["test"], seed
        started = time.perf_counter()
        # Names and short descriptions are where runs of characters tell; the long text would cost most.
        front = TextViews(columns={"characters": (0, 1)}, max_characters=None)
        self.views, self.test_views = front.fit_transform(self.train.X), front.transform(self.test.X)
        self.seconds = time.perf_counter() - started
        assert self.train.groups is not None
        self.groups = self.train.groups
        self.folds = cross_fitting_folds(self.train.Y, N_FOLDS, groups=self.groups, seed=seed)

    def only(self, name: str) -> tuple[Views, Views]:
        """The training and test instances in one view."""
        return Views({name: self.views.blocks[name]}), Views({name: self.test_views.blocks[name]})


def peer(split: Split, estimator: Any, n_jobs: int) -> dict[str, Any]:
    """scikit-learn one-vs-rest on words, calibrated and decoded as the team is."""
    X, X_test = split.views.blocks["words"], split.test_views.blocks["words"]
    Y = sparse.csr_matrix(split.train.Y.astype(np.int64))
    model = OneVsRestClassifier(estimator, n_jobs=n_jobs)
    held_out = np.empty(Y.shape, np.float32)
    for fold in range(N_FOLDS):
        inside = np.flatnonzero(split.folds != fold)
        fitted = _fit(model, X[inside], Y[inside])
        held_out[split.folds == fold] = fitted.decision_function(X[split.folds == fold])
    started = time.perf_counter()
    fitted = _fit(model, X, Y)
    seconds = time.perf_counter() - started
    calibration = PooledCalibration().fit(held_out, split.train.Y)
    probabilities, test = calibration.transform(held_out), fitted.decision_function(X_test)
    test = calibration.transform(test.astype(np.float32))
    decoders: dict[str, Decoder] = {
        "micro": GlobalThreshold("micro").fit(probabilities, split.train.Y),
        "macro": GlobalThreshold("macro").fit(probabilities, split.train.Y),
        "per_label": LabelThresholds().fit(probabilities, split.train.Y),
        "macro_f1": MacroF1(),
    }
    return measure(split, test, {name: one.decode(test) for name, one in decoders.items()}, seconds)


def _fit(model: Any, X: Any, Y: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # a label without a positive
        return clone(model).fit(sparse.csr_matrix(X), Y)


def game(split: Split, views: tuple[Views, Views], n_jobs: int, **options: Any) -> dict[str, Any]:
    """The game, or one of its controls, by the estimator's options."""
    model = CuriosityGameClassifier(n_jobs=n_jobs, random_state=split.seed, n_folds=N_FOLDS, **options)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.fit(views[0], split.train.Y, groups=split.groups)
    seconds = time.perf_counter() - started
    decoded = {name: sparse.csr_array(model.predict(views[1], decoder=name)) for name in model.decoders_}
    figures = measure(split, model.predict_proba(views[1]), decoded, seconds)
    players = model.team_.player_logits(views[1])
    figures["views"] = {
        player.view: precision_by_bucket(split, logits)
        for player, logits in zip(model.team_.players, players)
    }
    figures["views"]["plain mean"] = precision_by_bucket(split, players.mean(0))
    figures["views"]["team"] = precision_by_bucket(split, model.team_.logits(views[1]))
    figures["history"] = model.team_.history
    return figures


def measure(split: Split, scores: FloatArray, decoded: Decoded, seconds: float) -> dict[str, Any]:
    """All figures of one method in per cent."""
    train, test = split.train, split.test
    reports = {
        name: evaluate(test.Y, scores, sets, train.label_counts(), train.n_instances)
        for name, sets in decoded.items()
    }
    figures = {key: 100 * value for key, value in reports["micro"].rows() if "F1" not in key}
    for part in reports["micro"].parts:
        figures[f"P@5 earned by {part.bucket}"] = 100 * part.precision_at[5]
        figures[f"PSP@5 earned by {part.bucket}"] = 100 * part.psp_at[5]
        figures[f"mAP of {part.bucket}"] = 100 * part.mean_average_precision
    for name, report in reports.items():
        rows = dict(report.rows())
        for part in report.parts:
            figures[f"F1 of {part.bucket} ({name})"] = 100 * part.f1
        for f1, short in (("micro-F1", "micro"), ("macro-F1 (all labels)", "macro"), ("Rare-F1", "rare")):
            figures[f"{short} ({name})"] = 100 * rows[f1]
    return {"seconds": seconds, "figures": figures}


def precision_by_bucket(split: Split, logits: FloatArray) -> list[float]:
    """Mean average precision over all labels, then by training frequency, in per cent."""
    seen = split.train.label_counts() > 0
    precision = np.where(seen, average_precision(split.test.Y, logits), np.nan)
    buckets = frequency_buckets(split.train.label_counts())
    return [100 * float(np.nanmean(precision)), *(100 * by_bucket(precision, buckets)).tolist()]


def speed(split: Split, n_jobs: int, repeats: int) -> dict[str, Any]:
    """Seconds of one player's solve and of scikit-learn's on the same view, and of the whole team."""
    Y = sparse.csr_matrix(split.train.Y.astype(np.int64))
    alone = CuriosityGameClassifier(
        n_folds=0, rarity_reward=0.0, disagreement_reward=0.0, C=C_HINGE, n_jobs=n_jobs
    )
    svc = OneVsRestClassifier(LinearSVC(C=C_HINGE), n_jobs=n_jobs)
    alone.fit(split.only("words")[0][np.arange(500)], split.train.Y[:500])  # compile before the clock runs
    team = CuriosityGameClassifier(n_jobs=n_jobs, n_folds=N_FOLDS)
    seconds: dict[str, dict[str, list[float]]] = {
        name: {"ours": [], "peer": []} for name in (*split.views.names, "team")
    }
    for _ in range(
        repeats
    ):  # in turn, since a machine that others use as well is not equally fast all the time
        for name in split.views.names:
            views, X = split.only(name)[0], split.views.blocks[name]
            seconds[name]["ours"].append(_timed(lambda: alone.fit(views, split.train.Y)))  # noqa: B023
            seconds[name]["peer"].append(_timed(lambda: _fit(svc, X, Y)))  # noqa: B023
        seconds["team"]["ours"].append(
            _timed(lambda: team.fit(split.views, split.train.Y, groups=split.groups))
        )
    rows = {
        name: {who: float(np.median(found)) for who, found in both.items() if found}
        for name, both in seconds.items()
    }
    for name in split.views.names:
        rows[name]["nnz"] = Rows.of(split.views.blocks[name]).values.size
    return rows


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        work()
    return time.perf_counter() - started


def methods(n_jobs: int) -> dict[str, Callable[[Split], dict[str, Any]]]:
    """What is compared, by name."""
    none = {"rarity_reward": 0.0, "disagreement_reward": 0.0}
    return {
        "OvR LinearSVC, words": lambda s: peer(s, LinearSVC(C=C_HINGE), n_jobs),
        "OvR logistic, words": lambda s: peer(
            s, LogisticRegression(C=C_LOGISTIC, solver="liblinear"), n_jobs
        ),
        "rarity only, words": lambda s: game(s, s.only("words"), n_jobs),
        "ensemble, no curiosity": lambda s: game(s, (s.views, s.test_views), n_jobs, **none),
        "with disagreement": lambda s: game(s, (s.views, s.test_views), n_jobs, **DISAGREEMENT),
        "default game": lambda s: game(s, (s.views, s.test_views), n_jobs),
    }


def quality(seed: int, n_jobs: int, console: Console) -> dict[str, Any]:
    """Measure every method on one split."""
    split = Split(seed)
    result: dict[str, Any] = {"seed": seed, "size": _size(split), "methods": {}}
    for name, method in methods(n_jobs).items():
        started = time.perf_counter()
        result["methods"][name] = method(split)
        console.print(f"seed {seed}: {name} ({time.perf_counter() - started:.0f} s)")
    return result


def once(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure, or read what was measured before."""
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    result = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(result))
    os.replace(unfinished, path)
    return result


def _size(split: Split) -> dict[str, Any]:
    data: MultilabelData = split.train
    return {
        "train": data.n_instances,
        "test": split.test.n_instances,
        "labels": int((data.label_counts() > 0).sum()),
        "features": split.views.n_features,
        "source": data.source,
        "notes": dict(data.notes),
        "vectorise_seconds": split.seconds,
    }


PARTS = ("head", "middle", "tail")
COLUMNS = (
    "P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5", "mAP",
    "micro (micro)", "macro (micro)", "rare (micro)", "micro (macro)", "macro (macro)", "rare (macro)",
    "micro (per_label)", "macro (per_label)", "rare (per_label)",
    "micro (macro_f1)", "macro (macro_f1)", "rare (macro_f1)",
    *(f"{figure} {part}" for figure in ("P@5 earned by", "PSP@5 earned by", "mAP of") for part in PARTS),
    *(f"F1 of {part} (macro_f1)" for part in PARTS),
)  # fmt: skip


def show(results: list[dict[str, Any]], console: Console) -> None:
    """Print the tables of quality."""
    size = results[0]["size"]
    console.print(
        f"{size['source']}: {size['train']} train, {size['test']} test, {size['labels']} labels,"
        f" features {size['features']}; {len(results)} seeds; notes {size['notes']}"
    )
    values = {
        name: {
            column: np.array([r["methods"][name]["figures"][column] for r in results]) for column in COLUMNS
        }
        for name in results[0]["methods"]
    }
    seconds = {name: np.median([r["methods"][name]["seconds"] for r in results]) for name in values}
    table = Table(title="Quality on the test packages, mean ± sd over seeds; F1s as 'F1 (decoder)'")
    for column in ("", *values, *(f"default game − {name}" for name in values if name != "default game")):
        table.add_column(column, justify="right" if column else "left")
    for column in COLUMNS:
        cells = [
            f"{values[name][column].mean():.1f} ± {values[name][column].std(ddof=1):.1f}" for name in values
        ]
        ours = values["default game"][column]
        differences = [
            show_interval(ours - values[name][column]) for name in values if name != "default game"
        ]
        table.add_row(column, *cells, *differences)
    table.add_row("seconds (median)", *(f"{seconds[name]:.0f}" for name in values))
    console.print(table)
    _show_buckets(results, console)


def show_speed(rows: dict[str, Any], console: Console) -> None:
    """Print the timings."""
    table = Table(title="Speed: seconds to solve all labels on one view, median")
    for column in ("view", "stored values", "one player", "OvR LinearSVC", "ratio"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        if name != "team":
            ratio = f"{row['ours'] / row['peer']:.2f}"
            table.add_row(name, f"{row['nnz']:,}", f"{row['ours']:.1f}", f"{row['peer']:.1f}", ratio)
    console.print(table)
    ours, peer_seconds = rows["team"]["ours"], rows["words"]["peer"]
    console.print(
        f"Team of three views with {N_FOLDS} folds: {ours:.1f} s, {ours / peer_seconds:.1f} times"
        f" OvR LinearSVC on words ({peer_seconds:.1f} s)"
    )


def _show_buckets(results: list[dict[str, Any]], console: Console) -> None:
    """Views, plain mean and team by frequency, and the differences that decide."""
    first = results[0]["methods"]["default game"]["views"]
    by_view = {
        name: np.array([r["methods"]["default game"]["views"][name] for r in results]) for name in first
    }
    table = Table(title="Mean average precision by training frequency of the label, mean over seeds")
    for column in ("", "all", "<=5", "6-10", "11-20", "21-50", "51-100", "101-300", ">300"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in by_view.items():
        table.add_row(name, *(f"{value:.1f}" for value in values.mean(0)))
    team, mean = by_view["team"], by_view["plain mean"]
    single = np.stack([by_view[name] for name in by_view if name not in ("team", "plain mean")])
    best = single[single.mean(1).argmax(0), :, np.arange(team.shape[1])].T
    table.add_row("team − best view", *(show_interval(column) for column in (team - best).T))
    table.add_row("team − plain mean", *(show_interval(column) for column in (team - mean).T))
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of splits (default 5)")
    parser.add_argument("--out", type=Path, default=Path("runs/debian-tags"), help="folder of the results")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="threads and processes (default: all)"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="timings of which the median is shown (default 3)"
    )
    options = parser.parse_args()
    console = Console(width=250)
    timings = once(options.out / "speed.json", lambda: speed(Split(0), options.jobs, options.repeats))
    show_speed(timings, console)
    results = [
        once(options.out / f"seed-{seed}.json", lambda: quality(seed, options.jobs, console))  # noqa: B023
        for seed in range(options.seeds)
    ]
    show(results, console)


if __name__ == "__main__":
    main()
