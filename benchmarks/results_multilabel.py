"""The multi-label part of the results: which cells are played, and how one is played.

Every method is tuned with the same number of configurations on a split that no reported seed uses, by mAP
plus the bottom half's F1 (macro_f1), once a data set: what was tried is kept in tuning.json beside the seeds
of a method. Ablations are not tuned. All figures are of the test part, in per cent.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evenhand.experiments.grid import Cell
from evenhand.experiments.page import Section
from evenhand.experiments.runs import Run
from evenhand.files import replacing
from evenhand.multilabel.metrics import average_precision, by_bucket, confusion, evaluate, frequency_deciles
from evenhand.terminal import say
from results_ablations import ABLATIONS, variant
from results_data import MULAN, TAGS, TUNING_SEED, Problem, load, why_absent
from results_methods import (
    DECODERS,
    ENSEMBLE,
    GAME,
    NEURAL_ENSEMBLE,
    NEURAL_GAME,
    PEERS,
    Configuration,
    LinearGame,
    Method,
    NeuralGame,
    Outcome,
    Team,
    linear_methods,
    neural_methods,
    peer_methods,
)
from results_multilabel_page import BOTTOM_HALF, RANKED, page

_F1S = {
    "micro-F1": "micro-F1",
    "macro-F1 (all labels)": "macro-F1",
    "Rare-F1": "Rare-F1",
    "bottom-half F1": BOTTOM_HALF,
}
# More than 100 labels: with fewer a tree has nothing to do.
_WITH_TREES = ("made up", "corel5k", "bibtex", "delicious", TAGS)


@dataclass(frozen=True)
class Size:
    """How much is played.

    Parameters
    ----------
    data : sequence of str
    seeds, budget, epochs : int
        Reported seeds; configurations that a method is tried with; epochs of a neural one, at most.
    methods : sequence of str, optional
        None: all.
    ablated : sequence of str
        Data sets on which one option at a time is changed.
    ablations : mapping of str to sequence of str
        Names of the ablations by family. Empty: all.
    """

    data: Sequence[str]
    seeds: int
    budget: int
    epochs: int
    methods: Sequence[str] | None
    ablated: Sequence[str]
    ablations: Mapping[str, Sequence[str]]


_MAIN = (
    *(GAME, ENSEMBLE, "game, rounds", "game, rounds, β = 0", "one player"),
    *("OvR LinearSVC", "OvR logistic"),
    *(NEURAL_GAME, "neural, β = 0", NEURAL_ENSEMBLE, "neural, positive weight"),
)
# One fit of the game takes 45 s of a processor on delicious and 150 s on tags, so methods are fewer there.
_LARGE = ("delicious", TAGS)
_ON_LARGE = (
    *(GAME, ENSEMBLE, "one player", "OvR LinearSVC", "pecos", "omikuji (Bonsai)"),
    *(NEURAL_GAME, "neural, β = 0", "neural, ρ ≡ 1", NEURAL_ENSEMBLE, "neural, one player"),
    "neural, positive weight",
)
_BUDGET_ON_LARGE = 2
SIZES = {
    "full": Size(("made up", *MULAN, TAGS), 5, 4, 30, None, ("made up", "yeast", "enron"), {}),
    "quick": Size(
        ("made up", "yeast", "medical"),
        3,
        2,
        15,
        _MAIN,
        ("medical",),
        {"linear": ("α",), "neural": ("N", "α", "β")},
    ),
    "tiny": Size(
        ("made up, small",), 2, 2, 2, (GAME, ENSEMBLE, NEURAL_GAME), ("made up, small",), {"neural": ("N",)}
    ),
}


def cells(size: str, given: argparse.Namespace) -> list[Cell]:
    """What is to be played; data sets that cannot be had are left out, and told.

    Parameters
    ----------
    size : {"full", "quick", "tiny"}
    given : Namespace
        With ``data``, ``peers`` and ``jobs``.

    Returns
    -------
    list of Cell
    """
    chosen = SIZES[size]
    names = []
    for name in chosen.data:
        if reason := why_absent(name, given.data):
            say(f"{name} is left out: {reason}")
        else:
            names.append(name)
    if given.peers is None and size == "full":
        say("label trees of other libraries are left out: no Python that has them was given (--peers)")
    found = [
        cell for name in names for cell in (*_compared(name, chosen, given), *(_ablated(name, chosen, given)))
    ]
    minutes = expected_seconds(found) / 60 / given.jobs
    told = f"{len(found)} runs on {len(names)} data sets, {minutes:.0f} minutes on {given.jobs} idle cores"
    say(f"multi-label: {told} if none is there yet")
    return found


# Processor seconds of one fit, measured: linear, neural, a peer (on delicious a guess).
_SECONDS = {
    "made up": (3, 3, 8),
    "made up, small": (0.3, 0.5, 0),
    "yeast": (1, 2, 0),
    "medical": (0.5, 1, 0),
    "enron": (2, 1, 0),
    "corel5k": (11, 4, 12),
    "bibtex": (11, 5, 20),
    "delicious": (45, 35, 60),
    TAGS: (110, 0, 47),
}


def expected_seconds(cells: Sequence[Cell]) -> float:
    """Processor seconds of some cells, with their tuning once a method; a rough guess."""
    total = 0.0
    tuned = set()
    for cell in cells:
        family = 1 if cell.method.startswith("neural") else 2 if cell.method in PEERS else 0
        tried = cell.config["tried"]
        is_first = (cell.data, cell.method) not in tuned
        tuned.add((cell.data, cell.method))
        total += _SECONDS[cell.data][family] * (1 + (len(tried) if is_first and len(tried) > 1 else 0))
    return total


def _compared(name: str, size: Size, given: argparse.Namespace) -> Iterator[Cell]:
    """Seed by seed, so that two processes seldom tune the same method."""
    methods = _methods(name, size.epochs, given.peers)
    large = name in _LARGE
    budget = _BUDGET_ON_LARGE if large else size.budget
    wanted = _ON_LARGE if large else size.methods
    for seed in range(size.seeds):
        for method, one in methods.items():
            if wanted is None or method in wanted:
                config = {**_places(given), "kind": "compared", "epochs": size.epochs}
                yield Cell(method, name, seed, {**config, "tried": one.tried[:budget]})


def _ablated(name: str, size: Size, given: argparse.Namespace) -> Iterator[Cell]:
    if name not in size.ablated:
        return
    wanted = {
        (family, played.method): played.options
        for family, ablations in ABLATIONS.items()
        for ablation in ablations
        if not size.ablations or ablation.name in size.ablations.get(family, ())
        for value in ablation.values
        for played in (variant(family, ablation, value),)
    }
    for seed in range(size.seeds):
        for (family, method), options in wanted.items():
            tried = [{**options, "epochs": size.epochs} if family == "neural" else options]
            yield Cell(method, name, seed, {**_places(given), "kind": family, "tried": tried})


def _places(given: argparse.Namespace) -> dict[str, str | None]:
    return {
        name: None if place is None else str(place)
        for name, place in (("data", given.data), ("peers", given.peers))
    }


def _methods(name: str, epochs: int, peers: Path | None) -> dict[str, Method]:
    """The methods of a data set: neural ones read MULAN's, trees are for many labels."""
    found = linear_methods()
    if name in MULAN or name == "made up, small":
        found |= neural_methods(epochs)
    if peers is not None and name in _WITH_TREES:
        found |= peer_methods(peers)
    return found


def work(run: Run) -> Mapping[str, float]:
    """Play a cell: choose a configuration, learn, log the evidence and measure.

    Parameters
    ----------
    run : Run

    Returns
    -------
    dict
        Figures on the test part, in per cent.
    """
    torch.set_num_threads(1)  # several cells are played side by side
    run.keep(0)
    folder = None if run.config["data"] is None else Path(run.config["data"])
    method = _method_of(run)
    configuration = _chosen(run, method, folder)
    problem = load(run.data, folder, run.seed)
    started = time.perf_counter()
    outcome = method.play(problem, configuration, run.seed)
    seconds = time.perf_counter() - started
    figures = measure(outcome, problem)
    if outcome.team is not None:
        for record in outcome.team.history:
            run.log(record)
        figures |= _division(outcome.team, problem)
    run.log({"configuration": configuration, "fit_seconds": seconds})
    return figures


def _method_of(run: Run) -> Method:
    kind, peers = run.config["kind"], run.config["peers"]
    if kind == "compared":
        place = None if peers is None else Path(peers)
        return _methods(run.data, run.config["epochs"], place)[run.method]
    return LinearGame(run.config["tried"]) if kind == "linear" else NeuralGame(run.config["tried"])


def _chosen(run: Run, method: Method, folder: Path | None) -> Configuration:
    """The best configuration on the split for tuning, which is tried once a data set."""
    tried: list[Configuration] = run.config["tried"]
    if len(tried) == 1:
        return tried[0]
    place = run.folder.parent / "tuning.json"
    if place.exists():
        found = json.loads(place.read_text(encoding="utf-8"))
        if [one["configuration"] for one in found] == tried:
            return _best(found)
    problem = load(run.data, folder, TUNING_SEED)
    found = []
    for configuration in tried:
        figures = measure(method.play(problem, configuration, TUNING_SEED), problem)
        found.append({"configuration": configuration, "figures": figures})
    with replacing(place) as file:
        json.dump(found, file, ensure_ascii=False, indent=1)
    return _best(found)


def _best(found: Sequence[Mapping[str, Any]]) -> Configuration:
    worth = [one["figures"]["mAP"] + one["figures"].get(f"{BOTTOM_HALF} (macro_f1)", 0.0) for one in found]
    configuration: Configuration = found[int(np.argmax(worth))]["configuration"]
    return configuration


def measure(outcome: Outcome, problem: Problem) -> dict[str, float]:
    """All figures that are defined, in per cent; which labels are rare says the training part."""
    truth, counts = problem.test.Y, problem.train.label_counts()
    tenths = frequency_deciles(counts)
    found: dict[str, float] = {}
    for decoder in DECODERS:
        sets = outcome.sets[decoder]
        report = evaluate(truth, outcome.probabilities, sets, counts, problem.train.n_instances)
        rows = dict(report.rows())
        found |= {name: rows[name] for name in RANKED}
        found |= {f"{short} ({decoder})": rows[name] for name, short in _F1S.items()}
        for part in report.parts:
            found[f"F1 of {part.bucket} ({decoder})"] = part.f1
            found[f"mAP of {part.bucket}"] = part.mean_average_precision
    of_labels = confusion(truth, outcome.sets["macro_f1"])
    by_label = {
        "Average precision": average_precision(truth, outcome.probabilities),
        "F1 (macro_f1)": np.where(of_labels.support > 0, of_labels.f1, np.nan),
    }
    for name, values in by_label.items():
        found |= {f"{name}, tenth {i + 1}": value for i, value in enumerate(by_bucket(values, tenths))}
    return {name: 100 * float(value) for name, value in found.items() if not np.isnan(value)}


def _division(team: Team, problem: Problem) -> dict[str, float]:
    """Who is right where: the players' average precision and share of Σω, and the entropy of ω, by tenths."""
    truth, tenths = problem.test.Y, frequency_deciles(problem.train.label_counts())
    total = team.weights.sum(0)
    shares = np.where(total > 0, team.weights / np.where(total > 0, total, 1), np.nan)
    logs = np.log(np.where(shares > 0, shares, 1))
    values = {"Entropy of ω": -(shares * logs).sum(0)}
    for i, (logits, share) in enumerate(zip(team.logits, shares)):
        owned = np.isfinite(logits).all(0)
        precision = average_precision(truth, np.where(owned, logits, 0.0))
        values[f"Average precision of player {i + 1}"] = np.where(owned, precision, np.nan)
        values[f"Share of ω of player {i + 1}"] = share
    found = {
        f"{name}, tenth {number + 1}": float(one)
        for name, of_labels in values.items()
        for number, one in enumerate(by_bucket(of_labels, tenths) * (1 if name == "Entropy of ω" else 100))
    }
    return {name: value for name, value in found.items() if not np.isnan(value)}


def sections(runs: Sequence[Run]) -> list[Section]:
    """The multi-label part of the page.

    Parameters
    ----------
    runs : sequence of Run
        Those that are not finished are left out.

    Returns
    -------
    list of Section
    """
    return page([run for run in runs if run.figures is not None])
