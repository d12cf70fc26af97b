"""`evenhand multilabel demo`: the game beside plain one-vs-rest, on one split, under the same decoders."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from evenhand.multilabel.commands.shared import per_cent, reading_note
from evenhand.multilabel.commands.train import TEXT_PRUNE, check_place, fit_model
from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.datasets import DatasetUnavailable, debian_split, debian_tags, make_long_tail
from evenhand.multilabel.decoding import GlobalThreshold, MacroF1, PooledCalibration
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.metrics import Report, evaluate
from evenhand.multilabel.model_io import Model, save_model
from evenhand.multilabel.progress import progress_bar
from evenhand.multilabel.splitting import cross_fitting_folds, stratified_split
from evenhand.multilabel.text_views import TextViews
from evenhand.terminal import say, show_table, tell, waiting

_C, _FOLDS = 0.3, 3
_BLOCK = 64  # labels that one-vs-rest solves between two steps of its bar
_EXAMPLES = 3
_GAME, _PEER = "the game", "one-vs-rest"


@dataclass(frozen=True)
class _Outcome:
    """What one method says of the test instances, and the seconds from texts to a decided answer."""

    probabilities: npt.NDArray[Any]
    micro: sparse.csr_array[Any]
    macro: sparse.csr_array[Any]
    seconds: float


def run_demo(out: Path, *, seed: int, n_jobs: int, synthetic: bool, n_instances: int) -> None:
    """Train both, compare them, and save the game's model.

    Parameters
    ----------
    out : Path
        The model's folder; a model that is there is replaced.
    seed : int
    n_jobs : int
        Threads and processes; -1 for all cores.
    synthetic : bool
        Made-up data, and no look for Debian's index.
    n_instances : int
        Size of the made-up data.

    Raises
    ------
    ValueError
        If `out` is taken by something else.
    """
    check_place(out, overwrite=True)
    train, test = _split(None if synthetic else _debian(), seed, n_instances)
    tell(
        f"{train.source}: {train.n_instances:,} instances to train on, {test.n_instances:,} to test on,"
        f" {train.n_labels:,} labels"
    )
    say(f"Training {_GAME}: a player for each view, {_FOLDS} folds of cross-fitting")
    model, game = _play(train, test, seed, n_jobs)
    say(f"Training {_PEER}: LinearSVC(C={_C}) on words, the same folds, calibration and decoders")
    peer = _one_vs_rest(train, test, seed, n_jobs)
    _compare(train, test, {_GAME: game, _PEER: peer})
    if len(model.classifier.views_) == 1:
        tell("\nThese data have a single view, so there is one player, and nothing to share out.")
    _show_examples(test, {_GAME: game, _PEER: peer}, seed)
    save_model(model, out)
    _say_next(out, train.kind == "text")


def _debian() -> MultilabelData | None:
    try:
        with waiting("Reading Debian's package index (16 MB are fetched the first time)"):
            return debian_tags()
    except DatasetUnavailable as error:
        say(f"Debian's tags cannot be had: {error}\nMade-up data take their place.")
        return None


def _split(data: MultilabelData | None, seed: int, n_instances: int) -> tuple[MultilabelData, MultilabelData]:
    if data is not None:
        parts = debian_split(data, seed=seed)
        return parts["train"], parts["test"]
    data = make_long_tail(n_instances, seed=seed)
    train, test = stratified_split(data.Y, 0.2, seed=seed)
    return data.take(train), data.take(test)


def _play(train: MultilabelData, test: MultilabelData, seed: int, n_jobs: int) -> tuple[Model, _Outcome]:
    started = time.perf_counter()
    is_text = train.kind == "text"
    # Names and short descriptions are where runs of characters tell; the long text would cost most.
    text_views = TextViews(columns={"characters": (0, 1)}, max_characters=None) if is_text else None
    classifier = CuriosityGameClassifier(
        n_folds=_FOLDS,
        n_jobs=n_jobs,
        random_state=seed,
        prune=TEXT_PRUNE if text_views else 0.0,
        verbose=True,
    )
    notes = {"reading": reading_note({"text": list(train.feature_names or ())}), **train.notes}
    model = fit_model(classifier, train, text_views, notes)
    with waiting("Deciding"):
        p = classifier.predict_proba(model.views(test.X))
        sets = {name: classifier.decoders_[name].decode(p) for name in ("micro", "macro_f1")}
    return model, _Outcome(p, sets["micro"], sets["macro_f1"], time.perf_counter() - started)


def _one_vs_rest(train: MultilabelData, test: MultilabelData, seed: int, n_jobs: int) -> _Outcome:
    """scikit-learn's one-vs-rest, calibrated and decoded by its own out-of-fold scores as the game is."""
    started = time.perf_counter()
    X, X_test = _words(train, test)
    folds = cross_fitting_folds(train.Y, _FOLDS, groups=train.groups, seed=seed)
    held_out = np.empty(train.Y.shape, np.float32)
    scores = np.empty(test.Y.shape, np.float32)
    blocks = np.array_split(np.arange(train.n_labels), max(1, train.n_labels // _BLOCK))
    work = [(fold, labels) for fold in range(_FOLDS + 1) for labels in blocks]
    with progress_bar(True, "label blocks") as report:
        for done, (fold, labels) in enumerate(work, start=1):
            inside, outside = folds != fold, folds == fold  # the last number is no fold: all rows
            fitted = _fit(X[inside], train.Y[:, labels][inside], n_jobs)
            if fold < _FOLDS:
                held_out[np.ix_(outside, labels)] = fitted.decision_function(X[outside])
            else:
                scores[:, labels] = fitted.decision_function(X_test)
            if report is not None:
                report(_PEER, done, len(work))
    calibration = PooledCalibration().fit(held_out, train.Y)
    p = np.asarray(calibration.transform(scores))
    micro = GlobalThreshold("micro").fit(calibration.transform(held_out), train.Y)
    return _Outcome(p, micro.decode(p), MacroF1().decode(p), time.perf_counter() - started)


def _words(train: MultilabelData, test: MultilabelData) -> tuple[Any, Any]:
    if train.kind != "text":
        return sparse.csr_matrix(train.X), sparse.csr_matrix(test.X)
    front = TextViews(("words",))
    with waiting("Making the view of words"):
        X, X_test = front.fit_transform(train.X), front.transform(test.X)
    return sparse.csr_matrix(X.blocks["words"]), sparse.csr_matrix(X_test.blocks["words"])


def _fit(X: Any, Y: Any, n_jobs: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # a label without a positive
        model = OneVsRestClassifier(LinearSVC(C=_C, random_state=0), n_jobs=n_jobs)
        return model.fit(X, sparse.csr_matrix(Y.astype(np.int64)))


def _compare(train: MultilabelData, test: MultilabelData, outcomes: dict[str, _Outcome]) -> None:
    counts, n = train.label_counts(), train.n_instances
    micro = {
        name: evaluate(test.Y, one.probabilities, one.micro, counts, n) for name, one in outcomes.items()
    }
    macro = {
        name: evaluate(test.Y, one.probabilities, one.macro, counts, n) for name, one in outcomes.items()
    }
    columns = ("", *outcomes)
    _show_overall(columns, micro, macro, [one.seconds for one in outcomes.values()])
    rows = []
    for index, part in enumerate(next(iter(macro.values())).parts):
        found = [report.parts[index] for report in macro.values()]
        size = f"{part.bucket} ({part.n_present} labels)"
        rows.append((f"{size}: mAP", *(per_cent(one.mean_average_precision) for one in found)))
        rows.append((f"{size}: F1", *(per_cent(one.f1) for one in found)))
        rows.append((f"{size}: adds to PSP@5", *(per_cent(one.psp_at[5]) for one in found)))
    show_table("Head, middle and tail, %; F1 by decoder macro_f1", columns, rows)


def _show_overall(
    columns: tuple[str, ...], micro: dict[str, Report], macro: dict[str, Report], seconds: list[float]
) -> None:
    def row(name: str, values: list[float]) -> tuple[str, ...]:
        return (name, *map(per_cent, values))

    ranked = list(micro.values())
    rows = [
        *(row(f"P@{k}", [one.precision_at[k] for one in ranked]) for k in (1, 3, 5)),
        *(row(f"PSP@{k}", [one.psp_at[k] for one in ranked]) for k in (1, 3, 5)),
        row("mAP", [one.mean_average_precision for one in ranked]),
        row("micro-F1 (decoder micro)", [one.f1.micro for one in ranked]),
        row("macro-F1 (decoder macro_f1)", [one.f1.macro for one in macro.values()]),
        row("Rare-F1 (decoder macro_f1)", [one.rare_f1 for one in macro.values()]),
        ("seconds, with cross-fitting", *(f"{one:.0f}" for one in seconds)),
    ]
    show_table("Test instances, %", columns, rows)


def _show_examples(test: MultilabelData, outcomes: dict[str, _Outcome], seed: int) -> None:
    chosen = np.random.default_rng(seed).choice(test.n_instances, _EXAMPLES, replace=False)
    tell(f"\n{_EXAMPLES} test instances drawn at random (decoder micro):")
    for row in chosen:
        about = f": {test.X[row][1]}" if test.kind == "text" else ""
        answers = {"true": test.tags(row)}
        for name, one in outcomes.items():
            answers[name] = [test.label_names[label] for label in one.micro[[row]].indices]
        lines = [f"{test.instance_ids[row]}{about}"]
        lines += [f"  {name}: {', '.join(tags) or '–'}" for name, tags in answers.items()]
        tell("\n".join(lines))


def _say_next(out: Path, is_text: bool) -> None:
    lines = [f"\nSaved in {out}. Next:", f"  evenhand multilabel inspect {out}"]
    if is_text:
        question = '{"name": "tinyweb", "short": "small and fast web server", "long": ""}'
        lines.append(f"  echo '{question}' | evenhand multilabel predict {out}")
    tell("\n".join(lines))
