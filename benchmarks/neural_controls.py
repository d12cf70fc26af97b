"""The neural game beside the controls that a claim for it needs, on MULAN's data with their published splits.

    pip install 'evenhand[neural]'
    python benchmarks/neural_controls.py FOLDER --seeds 5 --out runs/neural-controls

FOLDER holds NAME-train.arff.gz, NAME-test.arff.gz and NAME.xml of every set. A try of a few minutes, with
two epochs and two configurations: --data yeast --seeds 1 --quick.

Every neural method has the same encoder and three heads over the same label subsets (but "one player"), the
same batches and epochs, and stops early by mAP (patience 3) on the same held-out fifth of the training part,
where calibration and thresholds are learned too. Every one is tuned by the same budget: two learning rates
times two values of its own strength, by the mean of mAP and the bottom half's F1 on the held-out fifth of a
split that no seed uses. "ensemble" is three heads without rewards and stands for BCE too: α = β = 0 gives the
same bits as `loss="bce"`, which is cheaper. Its strength, like that of "one player", is the weight decay.
Where the estimator has no option (ρ ≡ 1; a loss's own value), the library's function is replaced for the time
of a fit.

Two linear references with their defaults, not tuned: one-vs-rest logistic regression learned from the same
rows, and `CuriosityGameClassifier`, which is cross-fitted and so learns from all rows.

A seed draws the held-out fifth, weights and batches (for the cross-fitted game: folds); the test part is
always the published one, so that the intervals say nothing of other test instances. One JSON file a fit is
written to --out; what is there is not fitted again, so that an interrupted run can go on. Tables are printed
as Markdown. All figures are of the test part, in per cent.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from debian_tags import once
from evenhand.experiments.compare import paired_interval, show_interval
from evenhand.multilabel import game
from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.metrics import evaluate
from evenhand.multilabel.neural import losses
from evenhand.multilabel.neural.encoders import DenseLayers, Recipe, SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.predictions import LabelSetPredictor
from evenhand.multilabel.readers import read_arff
from evenhand.multilabel.splitting import stratified_split
from evenhand.multilabel.views import Views

DATA = ("yeast", "enron", "medical", "corel5k", "bibtex", "delicious")
HELD_OUT, TUNING_SEED = 0.2, 1000
LEARNING_RATES = (2e-3, 5e-3)
RANKED = ("P@1", "P@3", "P@5", "PSP@5", "mAP")
F1S = {
    "micro-F1": "micro",
    "macro-F1 (all labels)": "macro",
    "Rare-F1": "rare",
    "bottom-half F1": "bottom half",
}
COLUMNS = (*RANKED, *(f"{f1} ({decoder})" for decoder in ("micro", "macro_f1") for f1 in F1S.values()))
GAME = "game, joint"

Configuration = dict[str, float]
Figures = dict[str, float]


@dataclass(frozen=True)
class Neural:
    """A method with neural players: the values of options, or of its loss, that are tried; options set."""

    strengths: Mapping[str, tuple[float, float]]
    options: Mapping[str, Any] = field(default_factory=dict)
    even_rarity: bool = False

    def configurations(self) -> list[Configuration]:
        """Learning rates times strengths."""
        names, values = self.strengths.keys(), list(zip(*self.strengths.values()))
        return [
            {"learning_rate": rate, **dict(zip(names, own))} for own, rate in product(values, LEARNING_RATES)
        ]


_REWARDS = {"rarity_reward": (1.0, 3.0), "disagreement_reward": (1.0, 3.0)}
_RARITY_ONLY = {"rarity_reward": (1.0, 3.0)}
_DECAY = {"weight_decay": (0.01, 0.3)}
NEURAL = {
    GAME: Neural(_REWARDS),
    "game, best response": Neural(_REWARDS, {"update": "best_response"}),
    "game, β = 0": Neural(_RARITY_ONLY, {"disagreement_reward": 0.0}),
    "game, ρ ≡ 1": Neural(_REWARDS, even_rarity=True),
    "ensemble (BCE)": Neural(_DECAY, {"loss": "bce"}),
    "one player (BCE)": Neural(_DECAY, {"loss": "bce", "n_players": 1}),
    "positive weight": Neural({"alpha": (3.0, 10.0)}, {"loss": "positive_weight"}),
    "focal": Neural({"gamma": (1.0, 2.0)}, {"loss": "focal"}),
    "asymmetric": Neural({"negative_gamma": (2.0, 4.0)}, {"loss": "asymmetric"}),
    "class-balanced": Neural({"beta": (0.99, 0.999)}, {"loss": "class_balanced"}),
    "distribution-balanced": Neural({"negative_scale": (2.0, 5.0)}, {"loss": "distribution_balanced"}),
}
LOGISTIC, LINEAR_GAME = "linear, logistic", "linear, evenhand"
METHODS = (*NEURAL, LOGISTIC, LINEAR_GAME)


class OneVsRestLogistic(LabelSetPredictor):
    """scikit-learn's one-vs-rest, calibrated and decoded on held-out rows as the neural players are."""

    decoder, max_dense_bytes = "micro", 1 << 32

    def fit(self, X: Any, y: Any, validation_data: tuple[Any, Any]) -> Self:
        """Learn the models from X, decisions from the held-out rows."""
        model = OneVsRestClassifier(LogisticRegression(solver="liblinear"))
        self.model_ = model.fit(self._fitted_inputs(X).blocks["all"], sparse.csr_matrix(y))
        self.n_train_, n_labels = y.shape
        self.classes_, self.sparse_labels_ = np.arange(n_labels), True
        self.label_counts_ = np.bincount(y.indices, minlength=n_labels)
        held_out, truth = validation_data
        self._learn_decisions((next(self._score_chunks(self._fitted_inputs(held_out))), truth))
        return self

    def _fitted_inputs(self, X: Any) -> Any:
        return Views.of(X)

    def _score_chunks(self, inputs: Any) -> Iterator[npt.NDArray[Any]]:
        yield self.model_.decision_function(inputs.blocks["all"]).astype(np.float32)


class Published:
    """A data set with its published parts, and how large a training suits its size."""

    def __init__(self, folder: Path, name: str, epochs: int | None) -> None:
        self.name = name
        self.train, self.test = (read_arff(folder / f"{name}-{part}.arff.gz") for part in ("train", "test"))
        n = self.train.n_instances
        self.batch_size = 32 if n < 1_000 else 64 if n < 2_000 else 128 if n < 10_000 else 256
        self.epochs = epochs or (30 if n < 10_000 else 10)
        self.encoder: Recipe = (
            DenseLayers((256, 128), dropout=0.3) if self.train.kind == "dense" else SparseBag(128)
        )

    def parts(self, seed: int) -> tuple[MultilabelData, MultilabelData]:
        """What is learned from and what is held out of the training part."""
        rows, others = stratified_split(self.train.Y, HELD_OUT, seed=seed)
        return self.train.take(rows), self.train.take(others)


def configurations(method: str) -> list[Configuration]:
    """What a method is tried with; only its defaults where it is not tuned."""
    return NEURAL[method].configurations() if method in NEURAL else [{}]


def fit(data: Published, method: str, configuration: Configuration, seed: int) -> LabelSetPredictor:
    """One model."""
    if method == LINEAR_GAME:
        return CuriosityGameClassifier(random_state=seed).fit(data.train.X, data.train.Y)
    train, held_out = data.parts(seed)
    validation = (held_out.X, held_out.Y)
    if method == LOGISTIC:
        return OneVsRestLogistic().fit(train.X, train.Y, validation)
    neural = NEURAL[method]
    model = NeuralGameClassifier(
        data.encoder,
        epochs=data.epochs,
        batch_size=data.batch_size,
        patience=3,
        random_state=seed,
        device="cpu",
    )
    options = {"update": "joint", **neural.options, **configuration}
    of_loss = {name: options.pop(name) for name in configuration.keys() - model.get_params()}
    model.set_params(**options)
    with _replaced(model.loss, of_loss, even_rarity=neural.even_rarity):
        return model.fit(train.X, train.Y, validation)


@contextmanager
def _replaced(loss: str | None, values: Configuration, *, even_rarity: bool) -> Iterator[None]:
    """What the estimator has no option for: a loss with values of its own, or ρ = 1 for every label."""
    if loss is not None and values:
        with patch.object(losses, loss, partial(getattr(losses, loss), **values)):
            yield
    elif even_rarity:
        with patch.object(game, "rarity", lambda counts, n: torch.ones(len(counts), dtype=torch.float64)):
            yield
    else:
        yield


def measure(model: LabelSetPredictor, data: MultilabelData, train: MultilabelData) -> Figures:
    """All figures that are defined; which labels are rare says the training part."""
    scores = model.predict_proba(data.X)
    found: Figures = {}
    for decoder in ("micro", "macro_f1"):
        sets = model.predict(data.X, decoder=decoder)
        report = dict(evaluate(data.Y, scores, sets, train.label_counts(), train.n_instances).rows())
        found |= {name: report[name] for name in RANKED}
        found |= {f"{short} ({decoder})": report[name] for name, short in F1S.items()}
    return {name: 100 * value for name, value in found.items() if not np.isnan(value)}


def run(data: Published, method: str, configuration: Configuration, seed: int) -> dict[str, Any]:
    """Fit and measure: on the held-out rows where a configuration is tried, else on the test part."""
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label without a positive
        model = fit(data, method, configuration, seed)
    seconds = time.perf_counter() - started
    judged = data.parts(seed)[1] if seed == TUNING_SEED else data.test
    return {
        "configuration": configuration,
        "seconds": seconds,
        "epochs": len(getattr(model, "history_", ())),
        "figures": measure(model, judged, data.train),
    }


@dataclass(frozen=True)
class Grid:
    """All fits, and where their results are kept."""

    folder: Path
    methods: Sequence[str]
    out: Path
    seeds: int
    epochs: int | None
    n_configurations: int
    console: Console

    def results(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """By method, what each seed gave with the configuration that was chosen."""
        data = Published(self.folder, name, self.epochs)
        return {method: self._of_method(data, method) for method in self.methods}

    def _of_method(self, data: Published, method: str) -> list[dict[str, Any]]:
        tried = configurations(method)[: self.n_configurations]
        chosen = tried[0]
        if len(tried) > 1:
            found = [self._cell(data, method, one, TUNING_SEED)["figures"] for one in tried]
            chosen = tried[int(np.argmax([one["mAP"] + one["bottom half (macro_f1)"] for one in found]))]
        return [self._cell(data, method, chosen, seed) for seed in range(self.seeds)]

    def _cell(self, data: Published, method: str, configuration: Configuration, seed: int) -> dict[str, Any]:
        folder = self.out / data.name / method.replace(", ", "-").replace(" ", "-")
        values = "-".join(f"{name}={value:g}" for name, value in configuration.items()) or "defaults"
        file = folder / f"{values}-seed-{seed}.json"
        is_new = not file.exists()
        result = once(file, lambda: run(data, method, configuration, seed))
        if is_new:
            self.console.print(f"{data.name}: {method}, {values}, seed {seed} ({result['seconds']:.1f} s)")
        return result


def show(name: str, results: Mapping[str, Sequence[Mapping[str, Any]]], console: Console) -> None:
    """Print a data set's figures, and the game minus each control."""
    columns = [column for column in COLUMNS if column in results[GAME][0]["figures"]]
    table = Table(title=f"{name}: test part, mean ± sd over {len(results[GAME])} seeds", box=box.MARKDOWN)
    for column in ("", *columns, "epochs", "s", "chosen"):
        table.add_column(column)
    for method, found in results.items():
        values = np.array([[one["figures"][column] for column in columns] for one in found])
        cells = [_mean_and_spread(column) for column in values.T]
        epochs, seconds = (np.median([one[what] for one in found]) for what in ("epochs", "seconds"))
        chosen = ", ".join(f"{name} {value:g}" for name, value in found[0]["configuration"].items())
        table.add_row(method, *cells, f"{epochs:.0f}", f"{seconds:.1f}", chosen)
    console.print(table)
    table = Table(title=f"{name}: {GAME} minus", box=box.MARKDOWN)
    for column in ("", *columns):
        table.add_column(column)
    for method in results:
        if method != GAME:
            table.add_row(method, *(show_interval(_differences(results, method, one)) for one in columns))
    console.print(table)


def show_counts(by_data: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], console: Console) -> None:
    """Print on how many data sets the game is above and below each control, the interval clear of 0."""
    table = Table(
        title=f"Data sets on which {GAME} is above / below, interval clear of 0 (of those with the figure)",
        box=box.MARKDOWN,
    )
    for column in ("", *COLUMNS):
        table.add_column(column)
    for method in next(iter(by_data.values())):
        if method == GAME:
            continue
        cells = []
        for column in COLUMNS:
            intervals = [
                paired_interval(_differences(results, method, column))
                for results in by_data.values()
                if column in results[GAME][0]["figures"]
            ]
            known = [one for one in intervals if one is not None]
            above, below = sum(low > 0 for _, low, _ in known), sum(high < 0 for _, _, high in known)
            cells.append(f"{above} / {below} ({len(known)})")
        table.add_row(method, *cells)
    console.print(table)


def _mean_and_spread(values: npt.NDArray[Any]) -> str:
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def _differences(results: Mapping[str, Sequence[Mapping[str, Any]]], method: str, column: str) -> list[float]:
    return [
        ours["figures"][column] - theirs["figures"][column]
        for ours, theirs in zip(results[GAME], results[method])
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder of the data")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA), help="sets (default: all)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each method (default 5)")
    parser.add_argument("--quick", action="store_true", help="2 epochs, 2 configurations: only to try it out")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/neural-controls"), help="folder of the results"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    given = parser.parse_args()
    if GAME not in given.methods:
        parser.error(f"the methods are compared with {GAME!r}, so it must be among them")
    torch.set_num_threads(given.threads)
    progress = Console(stderr=True)
    grid = (
        Grid(given.folder, given.methods, given.out / "quick", given.seeds, 2, 2, progress)
        if given.quick
        else Grid(given.folder, given.methods, given.out, given.seeds, None, 4, progress)
    )
    console = Console(width=400)
    by_data = {}
    for name in given.data:
        by_data[name] = grid.results(name)
        show(name, by_data[name], console)
    show_counts(by_data, console)


if __name__ == "__main__":
    main()
