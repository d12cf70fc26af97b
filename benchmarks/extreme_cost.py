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


def prepare(folder: Path, n_labels: int) -> None:
    """Write the files of one size."""
    folder.mkdir(parents=True, exist_ok=True)
    n = 2 * n_labels
    data = make_long_tail(n + _TEST, n_labels, n_labels, n_topics=max(20, n_labels // 50), seed=0)
    x = sparse.csr_matrix(TfidfTransformer(sublinear_tf=True).fit_transform(data.X), dtype=np.float32)
    for name, rows in (("train", slice(0, n)), ("val", slice(n, None)), ("test", slice(n, None))):
        sparse.save_npz(folder / f"x_{name}.npz", x[rows], compressed=False)
        sparse.save_npz(folder / f"y_{name}.npz", sparse.csr_matrix(data.Y[rows]), compressed=False)


def measured(folder: Path, n_labels: int) -> dict[str, float]:
    """What one size costs, with its positives and P@1; not measured again if it is there."""
    file = folder / "evenhand.json"
    if not file.exists():
        prepare(folder, n_labels)
        script = Path(__file__).with_name("extreme_method.py")
        subprocess.run([sys.executable, str(script), "evenhand", str(folder)], check=True)
    scores, y = (sparse.load_npz(folder / f"{name}.npz") for name in ("evenhand.test", "y_test"))
    found: dict[str, float] = json.loads(file.read_text())
    positives = sparse.load_npz(folder / "y_train.npz").nnz
    return found | {"positives": positives, "P@1": precision_at_k(y, scores, 1)[1]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[1_000, 10_000, 100_000, 500_000])
    parser.add_argument("--out", type=Path, default=Path("runs/extreme-cost"), help="folder of the results")
    options = parser.parse_args()
    table = Table(title="Cost of one label tree")
    columns = ("labels", "positives", "P@1", "train, s", "of processor", "ms an instance", "model, MB")
    for column in (*columns, "memory, GB"):
        table.add_column(column, justify="right")
    runs = [measured(options.out / str(n_labels), n_labels) for n_labels in options.labels]
    for n_labels, run in zip(options.labels, runs):
        table.add_row(
            f"{n_labels:,}",
            f"{run['positives']:,}",
            f"{100 * run['P@1']:.1f}",
            f"{run['train']:.1f}",
            f"{run['processor']:.1f}",
            f"{1000 * run['predict']:.3f}",
            f"{run['size'] / 1e6:.0f}",
            f"{run['memory'] / 1e9:.2f}",
        )
    console = Console(width=110)
    console.print(table)
    for key, what in (("train", "time"), ("processor", "processor time")):
        if len(runs) > 1:
            positives, cost = (np.log([run[name] for run in runs]) for name in ("positives", key))
            power = np.polyfit(positives, cost, 1)[0]
            console.print(f"{what} grows with the positives to the power of {power:.2f}")


if __name__ == "__main__":
    main()
