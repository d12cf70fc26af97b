"""Teams of several kinds of players on Debian's tags: sparse views, an embedding, nearest neighbours on it.

    pip install 'evenhand[minilm]'
    python benchmarks/mixed_teams.py --seeds 5 --out runs/mixed-teams

Every player is trained once a split; all methods are made of the same players' outputs, so that they differ
in nothing but who takes part and how they are joined. All get the same calibration and decoders, fitted on
out-of-fold outputs, as in debian_tags.py. Three controls stand beside the teams: each player alone; the plain
mean of all players' calibrated probabilities; and that mean of players that were trained without curiosity
(α = 0), which has nothing of the game. "best single" is, for each figure, the player that is best in the mean
over the test parts: more than anybody could choose beforehand.

One JSON file a split and method is written to --out, and the players' outputs beside them; what is there is
not measured again, so that an interrupted run goes on. MiniLM encodes the texts once (the first run, 15
minutes on one core). All figures are of the test packages.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from scipy.special import logit

from debian_tags import C_HINGE, N_FOLDS, Split, measure, once, precision_by_bucket
from evenhand.experiments.compare import show_interval
from evenhand.multilabel import game
from evenhand.multilabel.decoding import Decoder, GlobalThreshold, LabelThresholds, MacroF1, PooledCalibration
from evenhand.multilabel.embedding import TextEmbedder
from evenhand.multilabel.fusion import Outputs, fit_fusion
from evenhand.multilabel.players import PlayerKind, player_name
from evenhand.multilabel.training import Settings, fused_logits, train
from evenhand.multilabel.views import Views

SPARSE = ("words", "word_pairs", "characters")
PLAYERS: tuple[tuple[str, PlayerKind], ...] = (
    *((view, "linear") for view in SPARSE),
    ("minilm", "linear"),
    ("minilm", "neighbours"),
)
NAMES = tuple(player_name(view, kind) for view, kind in PLAYERS)
TEAMS = {"three sparse views": NAMES[:3], "and MiniLM": NAMES[:4], "mixed team": NAMES}
PLAIN, GAMELESS = "plain mean of all", "plain mean, α = 0"
RULES = game.Rules("squared_hinge", "success", 3.0, 1.0, 0.0, "logit", 1.0)
PULL, OTHER_PULLS = 100.0, (10.0, 1000.0)
FIGURES = ("rare (macro_f1)", "rare (macro)", "macro (macro_f1)", "micro (micro)", "PSP@5", "P@1", "mAP")
BUCKETS = ("all", "<=5", "6-10", "11-20", "21-50", "51-100", "101-300", ">300")

FloatArray = npt.NDArray[np.floating[Any]]


class Play:
    """One split, and what each player says of its training (out-of-fold) and test packages."""

    def __init__(self, seed: int, folder: Path, n_jobs: int) -> None:
        self.seed, self.folder, self.n_jobs = seed, folder, n_jobs

    @cached_property
    def split(self) -> Split:
        """The packages, with the embedding as a fourth view."""
        split = Split(self.seed)
        embedder = TextEmbedder(verbose=True)
        for name, data in (("views", split.train), ("test_views", split.test)):
            blocks = {**getattr(split, name).blocks, "minilm": embedder.transform(data.X)}
            setattr(split, name, Views(blocks))
        return split

    @cached_property
    def players(self) -> tuple[Outputs, FloatArray]:
        """Outputs of the training packages, and logits (N, n, K) of the test packages."""
        return self._trained(RULES, "players")

    @cached_property
    def players_without_curiosity(self) -> tuple[Outputs, FloatArray]:
        """The same at α = 0."""
        return self._trained(replace(RULES, rarity_reward=0.0), "players-without-curiosity")

    def _trained(self, rules: game.Rules, name: str) -> tuple[Outputs, FloatArray]:
        split = self.split
        settings = Settings(rules, C_HINGE, 0, N_FOLDS, PULL, 0.05, 0.0, self.n_jobs, self.seed)
        owners = np.ones((len(PLAYERS), split.train.Y.shape[1]), np.bool_)
        with Console(stderr=True).status(f"seed {self.seed}: training the players"):
            trained = train(
                split.views,
                split.train.Y,
                owners,
                tuple(view for view, _ in PLAYERS),
                settings,
                player_kinds=tuple(kind for _, kind in PLAYERS),
                groups=split.groups,
                checkpoint=self.folder / name,
            )
        return trained.outputs, trained.team.player_logits(split.test_views)

    def alone(self, name: str) -> dict[str, Any]:
        """One player."""
        outputs, test = self.players
        player = NAMES.index(name)
        return self._judged(outputs.logits[player].T, test[player])

    def plain_mean(self, players: tuple[Outputs, FloatArray]) -> dict[str, Any]:
        """The mean of all players' calibrated probabilities."""
        outputs, test = players
        held_out, new = np.zeros(test.shape[2]), np.zeros(test.shape[2])
        for ours, theirs in zip(outputs.logits, test):
            calibration = PooledCalibration().fit(ours.T, self.split.train.Y)
            held_out = held_out + calibration.transform(ours.T) / len(test)
            new = new + calibration.transform(theirs) / len(test)
        return self._judged(_logits(held_out), _logits(new))

    def team(self, names: tuple[str, ...], pull: float = PULL) -> dict[str, Any]:
        """Some players, joined by the game's fusion."""
        outputs, test = self.players
        chosen = [NAMES.index(name) for name in names]
        ours, test = outputs.logits[chosen], test[chosen]
        owners = np.ones((len(chosen), test.shape[2]), np.bool_)
        counts = torch.from_numpy(self.split.train.label_counts())
        rarity = game.rarity(counts, self.split.train.n_instances).numpy()
        fusion = fit_fusion(
            Outputs(ours, outputs.labels, outputs.row_weights, outputs.fold_of, outputs.usable),
            owners,
            1 + RULES.rarity_reward * rarity,
            loss="squared_hinge",
            space="logit",
            pull=pull,
            n_jobs=self.n_jobs,
            seed=self.seed,
        )
        ours = np.ascontiguousarray(ours.transpose(0, 2, 1))
        joined = [fused_logits(one, fusion, owners, "logit") for one in (ours, test)]
        return self._judged(*joined)

    def _judged(self, held_out: FloatArray, test: FloatArray) -> dict[str, Any]:
        """All figures, after calibration and thresholds learnt from out-of-fold scores."""
        labels, seen = self.split.train.Y, self.split.train.label_counts() > 0
        calibration = PooledCalibration().fit(held_out, labels)
        p, p_test = calibration.transform(held_out), calibration.transform(test)
        for scores in (p, p_test):
            scores[:, ~seen] = 0.5 / (len(p) + 1)
        decoders: dict[str, Decoder] = {
            "micro": GlobalThreshold("micro").fit(p, labels),
            "macro": GlobalThreshold("macro").fit(p, labels),
            "per_label": LabelThresholds().fit(p, labels),
            "macro_f1": MacroF1(),
        }
        sets = {name: decoder.decode(p_test) for name, decoder in decoders.items()}
        found = measure(self.split, p_test, sets, 0.0)
        return {"figures": found["figures"], "buckets": precision_by_bucket(self.split, test)}


def _logits(p: FloatArray) -> FloatArray:
    return np.asarray(logit(np.clip(p, 1e-9, 1 - 1e-7)), np.float32)


def methods(play: Play) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is measured, by name."""
    return {
        **{name: lambda name=name: play.alone(name) for name in NAMES},  # type: ignore[misc]
        PLAIN: lambda: play.plain_mean(play.players),
        GAMELESS: lambda: play.plain_mean(play.players_without_curiosity),
        **{team: lambda names=names: play.team(names) for team, names in TEAMS.items()},  # type: ignore[misc]
        **{
            f"mixed team, pull {pull:g}": lambda pull=pull: play.team(NAMES, pull)  # type: ignore[misc]
            for pull in OTHER_PULLS
        },
    }


def measured(seed: int, out: Path, n_jobs: int) -> dict[str, Any]:
    """Every method on one split."""
    folder = out / f"seed-{seed}"
    play, found = Play(seed, folder, n_jobs), {}
    for name, method in methods(play).items():
        file = folder / f"{name.replace(', ', '-').replace(' ', '-')}.json"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a label without a positive
            found[name] = once(file, method)
        Console(stderr=True).print(f"seed {seed}: {name}")
    return found


def show(results: list[dict[str, Any]], console: Console) -> None:
    """Print figures and buckets, with the differences that decide."""
    values = {
        name: np.array([[r[name]["figures"][figure] for figure in FIGURES] for r in results])
        for name in results[0]
    }
    buckets = {name: np.array([r[name]["buckets"] for r in results]) for name in results[0]}
    _table(
        f"Test packages, %, mean over {len(results)} splits; F1s as 'F1 (decoder)'", FIGURES, values, console
    )
    _table("Mean average precision by training frequency of the label, %", BUCKETS, buckets, console)


def _table(title: str, columns: tuple[str, ...], values: dict[str, FloatArray], console: Console) -> None:
    table = Table(title=title)
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left")
    for name, found in values.items():
        table.add_row(name, *(f"{value:.1f}" for value in found.mean(0)))
    single = np.stack([values[name] for name in NAMES])
    best = single[single.mean(1).argmax(0), :, np.arange(len(columns))].T
    rivals = {"best single": best, **{name: values[name] for name in (PLAIN, GAMELESS, *TEAMS)}}
    for name, rival in rivals.items():
        if name != "mixed team":
            differences = (values["mixed team"] - rival).T
            table.add_row(f"mixed team - {name}", *(show_interval(column) for column in differences))
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of splits (default 5)")
    parser.add_argument("--out", type=Path, default=Path("runs/mixed-teams"), help="folder of the results")
    parser.add_argument("--jobs", type=int, default=1, help="threads (default 1)")
    given = parser.parse_args()
    show([measured(seed, given.out, given.jobs) for seed in range(given.seeds)], Console(width=200))


if __name__ == "__main__":
    main()
