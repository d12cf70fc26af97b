"""Extreme label sets: label trees of evenhand beside PECOS, Omikuji, napkinXC and LibMultiLabel.

    python benchmarks/extreme_labels.py depends --peers PEERS/bin/python --splits 5 --rounds 3

PEERS is a virtual environment of its own, since the peers need an older numpy; `make .venv-peers/ready`
makes one. Without --peers only evenhand runs. Each method trains and predicts in a process of its own, on all
cores; times leave out reading the files and compiling; memory is the process's peak, libraries and data
included. A run that is there already is not repeated: delete the folder to start anew. Costs are those of
split 0.
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

from evenhand.experiments.compare import show_interval
from evenhand.multilabel.decoding import GlobalThreshold, LabelThresholds
from evenhand.multilabel.decoding.reranking import rerank
from evenhand.multilabel.metrics import f1, precision_at_k, propensities, psp_at_k, rare_f1, rare_labels
from extreme_data import DATA, load, prepare
from extreme_method import METHODS

KS = (1, 3, 5)
_PEER = "pecos"  # costs are given as ratios to it
_COMPARED = ("P@1", "P@5", "PSP@5", "re-ranked PSP@5", "micro-F1", "Rare-F1", "Rare-F1 per label")


def quality(folder: Path, name: str) -> dict[str, float]:
    """Figures of one run, in per cent. Thresholds are chosen on the validation part."""
    y_train, y_val, y = (load(folder, f"y_{part}") for part in ("train", "val", "test"))
    counts = np.bincount(y_train.indices, minlength=y.shape[1])
    p = propensities(counts, y_train.shape[0])
    scores, held_out = (load(folder, f"{name}.{part}") for part in ("test", "val"))
    found: dict[str, float] = {}
    for prefix, one in (("", scores), ("re-ranked ", rerank(scores, p))):
        found |= {f"{prefix}P@{k}": value for k, value in precision_at_k(y, one, KS).items()}
        found |= {f"{prefix}PSP@{k}": value for k, value in psp_at_k(y, one, p, KS).items()}
    rare = rare_labels(counts)
    found["micro-F1"] = f1(y, GlobalThreshold("micro").fit(held_out, y_val).decode(scores)).micro
    found["Rare-F1"] = rare_f1(y, GlobalThreshold("macro").fit(held_out, y_val).decode(scores), rare)
    sets = LabelThresholds().fit(held_out, y_val).decode(scores)
    found["Rare-F1 per label"] = rare_f1(y, sets, rare)
    return {key: 100 * value for key, value in found.items()}


def run(folder: Path, name: str, at: int, python: str, limit: float) -> None:
    """One run of a method, unless it is there; its cost goes to a file. Too long is a cost too."""
    place = folder / f"{name}.{at}.json"
    if place.exists():
        return
    print(f"{folder}, run {at + 1}: {name}", file=sys.stderr, flush=True)
    command = [python, str(Path(__file__).with_name("extreme_method.py")), name, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        place.write_text(json.dumps({"gave_up_after": limit}))
        return
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    (folder / f"{name}.json").replace(place)


def costs(folder: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """The median of each cost over all runs of a method that came to an end."""
    found = {}
    for name in names:
        files = sorted(folder.glob(f"{name}.[0-9]*.json"))
        runs = [record for file in files if "train" in (record := json.loads(file.read_text()))]
        if runs:
            found[name] = {key: float(np.median([one[key] for one in runs])) for key in runs[0]}
    return found


def show(folders: list[Path], names: list[str], console: Console) -> None:
    """Print means over splits, differences to each peer with their intervals, and costs."""
    cost = costs(folders[0], names)
    for name in names:
        if name not in cost:
            console.print(f"{name}: gave up after the limit")
    names = [name for name in names if name in cost]
    figures = {
        name: {folder: quality(folder, name) for folder in folders if (folder / f"{name}.0.json").exists()}
        for name in names
    }
    table = Table(title="Quality, mean over splits")
    groups = ("P@", "PSP@", "re-ranked P@", "re-ranked PSP@")
    for column in ("", "splits", *(f"{group}1/3/5" for group in groups), *_COMPARED[-3:]):
        table.add_column(column, justify="right" if column else "left")
    for name, found in figures.items():
        mean = {
            key: float(np.mean([one[key] for one in found.values()])) for key in next(iter(found.values()))
        }
        cells = ["/".join(f"{mean[f'{group}{k}']:.2f}" for k in KS) for group in groups]
        table.add_row(name, str(len(found)), *cells, *(f"{mean[key]:.1f}" for key in _COMPARED[-3:]))
    console.print(table)
    table = Table(title="evenhand minus the other on the same splits, points [95 % interval]")
    for column in ("", *_COMPARED):
        table.add_column(column, justify="right" if column else "left")
    own = figures["evenhand"]
    for name, found in figures.items():
        if name != "evenhand":
            common = own.keys() & found.keys()
            table.add_row(
                name,
                *(
                    show_interval([own[at][key] - found[at][key] for at in sorted(common)])
                    for key in _COMPARED
                ),
            )
    console.print(table)
    show_costs(cost, console)


def show_costs(cost: dict[str, dict[str, float]], console: Console) -> None:
    """Print costs, each with its ratio to the peer's."""
    table = Table(title=f"Cost, median of all runs (ratio to {_PEER})")
    for column in ("", "train, s", "of processor", "ms an instance", "model, MB", "memory, GB"):
        table.add_column(column, justify="right" if column else "left")
    for name, one in cost.items():
        cells = []
        scales = {"train": 1, "processor": 1, "predict": 1e3, "size": 1e-6, "memory": 1e-9}
        for key, scale in scales.items():
            cell = f"{one[key] * scale:.3g}"
            if _PEER in cost:
                cell += f" ({one[key] / cost[_PEER][key]:.2f})"
            cells.append(cell)
        table.add_row(name, *cells)
    console.print(table)


def main() -> None:
    """Prepare, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--peers", type=Path, help="the Python of the peers' environment")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the results")
    parser.add_argument("--splits", type=int, default=1, help="number of splits (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="runs on the first split (default 3)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--limit", type=float, default=3600, help="seconds a run may take (default 3600)")
    options = parser.parse_args()
    names = [name for name in options.methods if name.startswith("evenhand") or options.peers is not None]
    if "evenhand" not in names:
        parser.error("the methods are compared with evenhand, so it must be among them")
    folders = [options.out / f"extreme-{options.data}" / str(seed) for seed in range(options.splits)]
    for seed, folder in enumerate(folders):
        prepare(folder, options.data, seed)
        for at in range(options.rounds if seed == 0 else 1):  # in turn, so that all meet the same machine
            for name in names:
                own = name.startswith("evenhand")
                run(folder, name, at, sys.executable if own else str(options.peers), options.limit)
    y = load(folders[0], "y_train")
    console = Console(width=190)
    console.print(f"{options.data}, split 0: {y.shape[0]:,} instances, {y.shape[1]:,} labels")
    show(folders, [name for name in METHODS if any(folders[0].glob(f"{name}.[0-9]*.json"))], console)


if __name__ == "__main__":
    main()
