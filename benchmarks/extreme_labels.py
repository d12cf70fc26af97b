"""Extreme label sets: label trees of evenhand beside PECOS, Omikuji and napkinXC, on the same files.

    python benchmarks/extreme_labels.py --peers PEERS/bin/python --out runs/extreme-labels

PEERS is a virtual environment of its own, since the peers need an older numpy:

    pip install 'numpy<2' 'scipy<1.14' scikit-learn omikuji napkinxc && pip install --no-deps libpecos

Without --peers only evenhand runs. Data: what each Debian package depends on, from names and descriptions,
split by source package. Each method trains and predicts in a process of its own, on all cores; times leave
out reading the files and compiling; memory is the process's peak, libraries and data included.
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
from sklearn.feature_extraction.text import TfidfVectorizer

from evenhand.multilabel.datasets import debian_depends, debian_split
from evenhand.multilabel.decoding.reranking import rerank
from evenhand.multilabel.metrics import precision_at_k, propensities, psp_at_k
from extreme_method import METHODS

KS = (1, 3, 5)


def prepare(folder: Path, seed: int) -> None:
    """Words as TF-IDF; labels with at least two training positives; test instances with such a label."""
    parts = debian_split(debian_depends(), seed=seed)
    kept = np.flatnonzero(parts["train"].label_counts() >= 2)
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, dtype=np.float32)
    texts = {name: [" ".join(map(str, row)) for row in parts[name].X] for name in ("train", "test")}
    x = {"train": vectorizer.fit_transform(texts["train"]), "test": vectorizer.transform(texts["test"])}
    for name in x:
        y = sparse.csr_array(parts[name].Y[:, kept])
        rows = np.flatnonzero(np.diff(y.indptr)) if name == "test" else np.arange(y.shape[0])
        sparse.save_npz(folder / f"x_{name}.npz", sparse.csr_matrix(x[name])[rows])
        sparse.save_npz(folder / f"y_{name}.npz", sparse.csr_matrix(y[rows]))


def show(folder: Path, names: list[str], rounds: int, console: Console) -> None:
    """Print quality, raw and re-ranked by inverse propensity, and cost as ratios to PECOS."""
    y_train, y = (sparse.csr_array(sparse.load_npz(folder / f"y_{name}.npz")) for name in ("train", "test"))
    p = propensities(np.bincount(y_train.indices, minlength=y.shape[1]), y_train.shape[0])
    table = Table(title=f"{y_train.shape[0]} x {y_train.shape[1]} labels, {y.shape[0]} test instances")
    columns = ("", "P@1/3/5", "PSP@1/3/5", "re-ranked P@1/3/5", "re-ranked PSP@1/3/5")
    for column in (*columns, "train, s", "ms an instance", "model, MB", "memory, GB"):
        table.add_column(column, justify="right" if column else "left")
    for name in names:
        scores = sparse.csr_array(sparse.load_npz(folder / f"{name}.npz"))
        ranked = rerank(scores, p)
        cells = [
            "/".join(f"{100 * value:.2f}" for value in found.values())
            for one in (scores, ranked)
            for found in (precision_at_k(y, one, KS), psp_at_k(y, one, p, KS))
        ]
        runs = [json.loads((folder / f"{name}.{at}.json").read_text()) for at in range(rounds)]
        median = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
        table.add_row(
            name,
            *cells,
            f"{median['train']:.1f}",
            f"{1000 * median['predict']:.3f}",
            f"{median['size'] / 1e6:.0f}",
            f"{median['memory'] / 1e9:.2f}",
        )
    console.print(table)


def main() -> None:
    """Prepare, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, help="the Python of the peers' environment")
    parser.add_argument("--out", type=Path, default=Path("runs/extreme-labels"), help="folder of the results")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default 0)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each method (default 3)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    prepare(options.out, options.seed)
    names = [name for name in METHODS if name.startswith("evenhand") or options.peers is not None]
    for at in range(options.rounds):
        for name in names:
            python = sys.executable if name.startswith("evenhand") else str(options.peers)
            script = Path(__file__).with_name("extreme_method.py")
            print(f"round {at + 1} of {options.rounds}: {name}", file=sys.stderr)
            command = [python, str(script), name, str(options.out)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
            (options.out / f"{name}.json").replace(options.out / f"{name}.{at}.json")
    show(options.out, names, options.rounds, Console(width=190))


if __name__ == "__main__":
    main()
