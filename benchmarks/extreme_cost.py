"""What a label tree costs as the labels grow: time, memory and size on synthetic long tails.

    python benchmarks/extreme_cost.py --labels 1000 10000 100000 500000

Twice as many instances as labels, three labels an instance, so that positives grow as the labels do. Prints
the exponent b of time = a · positives^b, fitted by least squares in logarithms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.metrics import precision_at_k

_TEST = 2000  # instances


def prepare(folder: Path, n_labels: int) -> int:
    """Write the files of one size; the number of training positives."""
    folder.mkdir(parents=True, exist_ok=True)
    n = 2 * n_labels
    data = make_long_tail(n + _TEST, n_labels, n_labels, n_topics=max(20, n_labels // 50), seed=0)
    x = sparse.csr_matrix(TfidfTransformer(sublinear_tf=True).fit_transform(data.X), dtype=np.float32)
    for name, rows in (("train", slice(0, n)), ("val", slice(n, None)), ("test", slice(n, None))):
        sparse.save_npz(folder / f"x_{name}.npz", x[rows], compressed=False)
        sparse.save_npz(folder / f"y_{name}.npz", sparse.csr_matrix(data.Y[rows]), compressed=False)
    return int(data.Y[:n].nnz)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[1_000, 10_000, 100_000, 500_000])
    parser.add_argument("--out", type=Path, default=Path("runs/extreme-cost"), help="folder of the results")
    options = parser.parse_args()
    table = Table(title="Cost of one label tree")
    for column in ("labels", "positives", "P@1", "train, s", "ms an instance", "model, MB", "memory, GB"):
        table.add_column(column, justify="right")
    found = []
    for n_labels in options.labels:
        folder = options.out / str(n_labels)
        positives = prepare(folder, n_labels)
        script = Path(__file__).with_name("extreme_method.py")
        subprocess.run([sys.executable, str(script), "evenhand", str(folder)], check=True)
        run = json.loads((folder / "evenhand.json").read_text())
        scores, y = (sparse.load_npz(folder / f"{name}.npz") for name in ("evenhand.test", "y_test"))
        found.append((positives, run["train"]))
        table.add_row(
            f"{n_labels:,}",
            f"{positives:,}",
            f"{100 * precision_at_k(y, scores, 1)[1]:.1f}",
            f"{run['train']:.1f}",
            f"{1000 * run['predict']:.3f}",
            f"{run['size'] / 1e6:.0f}",
            f"{run['memory'] / 1e9:.2f}",
        )
    console = Console(width=110)
    console.print(table)
    if len(found) > 1:
        positives, seconds = np.log(np.array(found)).T
        console.print(
            f"time grows with the positives to the power of {np.polyfit(positives, seconds, 1)[0]:.2f}"
        )


if __name__ == "__main__":
    main()
