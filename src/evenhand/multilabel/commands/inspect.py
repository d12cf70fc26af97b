"""`evenhand multilabel inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evenhand.multilabel.commands.shared import label_names, per_cent, show_rounds
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.metrics import by_bucket, frequency_deciles
from evenhand.multilabel.model_io import Model, load_model
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.players import player_name
from evenhand.terminal import show_table, tell


def inspect_model(folder: Path, hardest: int) -> None:
    """Show what a model is made of.

    Parameters
    ----------
    folder : Path
    hardest : int
        How many labels to show.

    Raises
    ------
    ValueError
        If the folder is no sound model, or `hardest` is negative.
    """
    if hardest < 0:
        raise ValueError(f"--hardest is {hardest}; it must be at least 0")
    model = load_model(folder)
    classifier: Any = model.classifier
    _show_head(model)
    if model.kind == "trees":
        _show_trees(classifier)
        return
    if model.kind == "neural":
        _show_neural(classifier)
    else:
        _show_players(classifier)
        _show_shares(classifier)
    show_rounds(model)
    seen = "held-out instances" if model.kind == "neural" else "training instances, out-of-fold"
    _show_hardest(classifier, label_names(model), hardest, seen)


def _show_head(model: Model) -> None:
    classifier = model.classifier
    lines = [
        f"{classifier.n_train_:,} training instances, {len(classifier.classes_):,} labels,"
        f" decoder {classifier.decoder!r}",
        *(f"{name}: {note}" for name, note in model.notes.items()),
    ]
    tell("\n".join(lines))


def _show_trees(classifier: ExtremeGameClassifier) -> None:
    rows = [
        (
            player.view,
            classifier.views_[player.view],
            int(owned.sum()),
            " - ".join(f"{size:,}" for size in player.tree.sizes),
            sum(len(level.value) for level in player.levels),
        )
        for player, owned in zip(classifier.players_, classifier.owners_)
    ]
    columns = ("view", "features", "labels owned", "nodes of each level", "weights stored")
    show_table("Players, each with a label tree", columns, rows)


def _show_players(classifier: CuriosityGameClassifier) -> None:
    rows = [
        (player_name(player.view, player.kind), player.n_features, int(player.owned.sum()), player.n_stored)
        for player in classifier.team_.players
    ]
    show_table("Players", ("view", "features", "labels owned", "values stored"), rows)


def _show_neural(classifier: NeuralGameClassifier) -> None:
    network = classifier.network_
    rows = []
    for player, encoder in enumerate(network.encoder_of):
        kind = type(network.encoders[encoder]).__name__
        weights = sum(one.numel() for one in network.player_parameters(player))
        own = network.private_encoder(player) is not None
        name = f"{classifier.encoder_views_[encoder]}, {kind}{'' if own else ' (shared)'}"
        rows.append((name, int(network.owners[player].sum()), weights))
    show_table("Players", ("view, encoder", "labels owned", "weights of its own"), rows)


def _show_shares(classifier: CuriosityGameClassifier) -> None:
    """Who speaks for which labels: each player's mean share of Σω by label frequency."""
    players, fusion = classifier.team_.players, classifier.team_.fusion
    counts = classifier.label_counts_
    weights = np.where([player.owned for player in players], fusion.weights, 0.0)
    total = weights.sum(0)
    # A label whose weights are all 0 has no share to show; one without a positive was never learnt.
    seen = (counts > 0) & (total > 0)
    shares = np.where(seen, weights / np.where(total > 0, total, 1.0), np.nan)
    deciles = frequency_deciles(counts)
    rows = [
        (player_name(player.view, player.kind), *map(per_cent, by_bucket(share, deciles)))
        for player, share in zip(players, shares)
    ]
    ranges = []
    for decile in range(10):
        inside = counts[deciles.index == decile]
        ranges.append(f"{inside.min()}-{inside.max()}" if inside.size else "–")
    show_table(
        "Share of the fusion weights, %, by tenths of the labels from the rarest to the commonest",
        ("player \\ training positives", *ranges),
        rows,
    )


def _show_hardest(
    classifier: CuriosityGameClassifier | NeuralGameClassifier, names: list[str], n: int, seen_on: str
) -> None:
    """Of equally low F1 the commonest label first: there a failure costs most."""
    counts, f1 = classifier.label_counts_, classifier.held_out_f1_
    if f1 is None:
        tell("\nHardest labels: not known, since this model was trained without folds (n_folds 0).")
        return
    seen = np.flatnonzero(counts)
    order = seen[np.lexsort((-counts[seen], f1[seen]))][:n]
    show_table(
        f"Hardest labels: lowest F1 on {seen_on}, decoder 'micro', %",
        ("label", "F1", "training positives"),
        [(names[label], per_cent(float(f1[label])), int(counts[label])) for label in order],
    )
