"""The game as it is played by neural players: epochs of steps, evidence after each, early stop, checkpoints.

A process of a distributed run (Accelerate) takes its share of every batch; gradients are summed over the
processes, so that the global batch alone decides what is learned.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evenhand import __version__
from evenhand.files import replacing
from evenhand.multilabel import game
from evenhand.multilabel.neural.ascent import Ascent, ControlObjective, GameObjective, Objective, Part, Update
from evenhand.multilabel.neural.checkpoint import (
    NeuralCheckpoint,
    Progress,
    load_arrays,
    module_arrays,
    random_states,
    set_random_states,
)
from evenhand.multilabel.neural.evaluation import Examples, Metric, player_logits, record
from evenhand.multilabel.neural.losses import LossName, loss_of
from evenhand.multilabel.neural.network import TeamNetwork
from evenhand.multilabel.neural.processes import agreed, processes, take_from_the_first
from evenhand.multilabel.neural.schedule import Schedule, scheduler
from evenhand.multilabel.neural.shards import check_deal, deal_heads, gather_heads
from evenhand.multilabel.resuming import digest

IntArray = npt.NDArray[np.integer[Any]]
OnStep = Callable[[int, int, float], None]
"""Called after each step with the epoch, the steps of it that are done, and Φ of the batch before it (minus
the loss, where there is one)."""


@dataclass(frozen=True)
class Settings:
    """How the game is played; see `NeuralGameClassifier` for the meaning of each."""

    rules: game.Rules
    loss: LossName | None
    update: Update
    epochs: int
    warmup_epochs: int
    annealing: bool
    batch_size: int
    accumulation: int
    learning_rate: float
    encoder_learning_rate: float
    weight_decay: float
    bfloat16: bool
    shard_heads: bool
    monitor: Metric
    patience: int
    checkpoint_steps: int | None
    checkpoint_minutes: float | None
    seed: int
    schedule: Schedule = "constant"
    schedule_warmup: float = 0.0


def curiosity_share(epoch: int, settings: Settings) -> float:
    """What α and β are multiplied by in an epoch.

    Parameters
    ----------
    epoch : int
        From 0.
    settings : Settings

    Returns
    -------
    float
        0 while warming up, then 1; with annealing it falls in a straight line from 1 in the first epoch after
        the warm-up to 0 in the last one.
    """
    if epoch < settings.warmup_epochs:
        return 0.0
    if not settings.annealing:
        return 1.0
    last, first = settings.epochs - 1, settings.warmup_epochs
    return 1.0 if last == first else (last - epoch) / (last - first)


def train(
    network: TeamNetwork,
    views: Sequence[str],
    examples: Examples,
    held_out: Examples,
    settings: Settings,
    *,
    row_weights: npt.NDArray[np.float64] | None = None,
    label_rarity: npt.NDArray[np.float64] | None = None,
    device: torch.device | None = None,
    checkpoint: Path | None = None,
    log: Path | None = None,
    on_step: OnStep | None = None,
) -> list[dict[str, Any]]:
    """Play the game; the network is left with the weights of its best epoch.

    Parameters
    ----------
    network : TeamNetwork
        The same on every process.
    views : sequence of str
        The column that each encoder reads.
    examples, held_out : Examples
        To learn from, and to decide by when to stop.
    settings : Settings
    row_weights : ndarray, shape (n,), optional
        Weights ≥ 0, not all 0, of the instances that are learned from. The game is about their weighted mean,
        so that a factor common to all changes nothing; weights that are all the same are none.
    label_rarity : ndarray, shape (K,), optional
        ρ. None: by the instances that are learned from.
    device : torch.device, optional
        None: Accelerate's choice.
    checkpoint : Path, optional
        A folder that keeps the state. A training of the same data and settings takes up from it, with the
        same results to the bit on the same number of processes and devices of the same kind.
    log : Path, optional
        A file that is given the records as JSON lines, one an epoch.
    on_step : callable, optional

    Returns
    -------
    list of dict
        One record an epoch: ``epoch``, ``seconds``, ``train_potential`` (the mean of Φ, or of minus the
        loss, over the epoch's batches, by what was then paid), ``curiosity_share``, and what
        `evaluation.record` says of the held-out instances, by the full rules.

    Raises
    ------
    ValueError
        If a batch is too small to be shared out, the payoff cannot be split, or heads cannot be dealt out.
    FloatingPointError
        If Φ is no longer finite.
    FolderError
        If the checkpoint is of another training, or damaged.
    """
    run = _Run(
        network,
        tuple(views),
        examples,
        held_out,
        settings,
        row_weights,
        label_rarity,
        device,
        checkpoint,
        log,
        on_step,
    )
    return run.play()


class _Run:
    """One training in progress."""

    def __init__(
        self,
        network: TeamNetwork,
        views: tuple[str, ...],
        examples: Examples,
        held_out: Examples,
        settings: Settings,
        row_weights: npt.NDArray[np.float64] | None,
        label_rarity: npt.NDArray[np.float64] | None,
        device: torch.device | None,
        checkpoint: Path | None,
        log: Path | None,
        on_step: OnStep | None,
    ) -> None:
        self.process = processes()
        self.device = self.process.device if device is None else device
        self.network, self.views, self.settings = network, views, settings
        self.examples, self.held_out = examples, held_out
        self.log, self.on_step = log, on_step
        n, n_labels = examples.labels.shape
        self.n_batches = -(-n // settings.batch_size)
        self._check_sizes(n)
        self.counts = np.bincount(examples.labels.indices, minlength=n_labels)
        known = label_rarity is not None
        rho = torch.from_numpy(label_rarity) if known else game.rarity(torch.from_numpy(self.counts), n)
        dtype = torch.promote_types(network.dtype, torch.float32)
        self.rarity = rho.to(self.device, dtype)
        self.row_weights = _relative(row_weights)
        self.saved = None if checkpoint is None else self._open(checkpoint)
        if settings.shard_heads:
            deal_heads(network.heads)
        network.to(self.device)
        self.optimizer = _optimizer(network, settings)
        self.ascent = Ascent(network, self.optimizer, self.rarity, self._autocast)
        self.progress = Progress(0, 0, 0.0, 0.0, [], {}, -1)
        self.started = self.written = time.perf_counter()

    def _check_sizes(self, n: int) -> None:
        ranks, settings = self.process.num_processes, self.settings
        if n // self.n_batches < ranks:
            raise ValueError(
                f"{n} instances in batches of {settings.batch_size} leave a process of {ranks} without any;"
                " take a larger batch_size"
            )
        if settings.rules.payoff == "soft_macro_f1" and (ranks > 1 or settings.accumulation > 1):
            raise ValueError(
                "payoff='soft_macro_f1' is a figure of a whole batch and cannot be summed up from parts; set"
                " accumulation=1 and train in one process"
            )
        if settings.shard_heads:
            check_deal(len(self.network.heads), self.held_out.labels.shape[0], ranks)

    def _open(self, folder: Path) -> NeuralCheckpoint:
        with self.process.main_process_first():  # who makes the folder
            saved = NeuralCheckpoint(folder, self._fingerprint())
        self.process.wait_for_everyone()  # nobody writes while another one clears up
        return saved

    def _fingerprint(self) -> dict[str, Any]:
        data: dict[str, str] = {}
        for part, given in (("training", self.examples), ("held-out", self.held_out)):
            data |= {f"{part} view {name!r}": c.digest() for name, c in given.inputs.columns.items()}
            data[f"{part} labels"] = digest(given.labels)
        if self.row_weights is not None:
            data["training row weights"] = digest(self.row_weights)
        data["rarity"] = digest(self.rarity.cpu().numpy())
        data["owners"] = digest(self.network.owners.cpu().numpy())
        data["starting weights"] = digest(
            np.concatenate([a.ravel().astype(np.float64) for a in module_arrays(self.network).values()])
        )
        settings = asdict(self.settings)
        when = ("checkpoint_steps", "checkpoint_minutes")  # says nothing about the result
        settings = {name: value for name, value in settings.items() if name not in when}
        settings |= {"views": list(self.views), "processes": self.process.num_processes}
        return {"release": __version__, "settings": settings, "data": data}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bfloat16)

    def play(self) -> list[dict[str, Any]]:
        """All epochs that are left."""
        torch.manual_seed(self.settings.seed + self.process.process_index)  # dropout differs by process
        if self.saved is not None and (
            found := self.saved.read(self.network, self.optimizer, self.settings.monitor)
        ):
            self.progress, states = found
            set_random_states(states, self.device)
            self.started -= self.progress.seconds
        settings, steps = self.settings, self.settings.epochs * self.n_batches
        self.rates = scheduler(
            self.optimizer, steps, settings.schedule, settings.schedule_warmup, self._steps_done()
        )
        self.network.train()
        while self.progress.epoch < self.settings.epochs and not self._is_stale():
            self._play_epoch()
            self._record_epoch()
        self._keep(due=True)
        load_arrays(self.network, self.progress.best)
        gather_heads(self.network.heads)
        self.network.eval()
        return self.progress.history

    def _is_stale(self) -> bool:
        """Whether the last epochs brought nothing. All processes hear of the same record."""
        progress = self.progress
        return progress.best_epoch >= 0 and progress.epoch - 1 - progress.best_epoch >= self.settings.patience

    def _play_epoch(self) -> None:
        progress, objective = self.progress, self._objective()
        for step, rows in enumerate(self._batches(progress.epoch)):
            if step < progress.step:
                continue
            value = self.ascent.step(list(self._parts(rows)), objective, self.settings.update)
            self.rates.step()
            take_from_the_first(self.network.encoders.buffers())  # running means, as of batch normalisation
            if not np.isfinite(value):
                raise FloatingPointError(
                    f"the potential is {value} in epoch {progress.epoch}, step {step};"
                    " take a lower learning_rate"
                )
            progress.potential_sum += value
            progress.step = step + 1
            self._keep(due=self._is_due())
            if self.on_step is not None:
                self.on_step(progress.epoch, progress.step, value)

    def _objective(self) -> Objective:
        settings = self.settings
        if settings.loss is not None:
            counts = torch.from_numpy(self.counts).to(self.device)
            loss = loss_of(settings.loss, counts, self.examples.labels.shape[0])
            return ControlObjective(loss, settings.rules.space)
        share = curiosity_share(self.progress.epoch, settings)
        rules = settings.rules
        alpha, beta = rules.rarity_reward * share, rules.disagreement_reward * share
        return GameObjective(replace(rules, rarity_reward=alpha, disagreement_reward=beta))

    def _batches(self, epoch: int) -> list[IntArray]:
        """The rows of each batch, sizes as equal as can be; the same on every process."""
        rng = np.random.default_rng([self.settings.seed, epoch])
        return np.array_split(rng.permutation(self.examples.labels.shape[0]), self.n_batches)

    def _parts(self, batch: IntArray) -> Iterator[Part]:
        ranks = self.process.num_processes
        mine = np.array_split(batch, ranks)[self.process.process_index]
        least = len(batch) // ranks  # as many parts on every process: dealt heads are called together
        for rows in np.array_split(mine, min(self.settings.accumulation, least)):
            columns = [self.examples.inputs.columns[view].take(rows) for view in self.views]
            tensors = [e.tensors(c) for e, c in zip(self.network.encoders, columns)]  # type: ignore[operator]
            targets = torch.from_numpy(self.examples.labels[rows].toarray()).to(self.rarity)
            if self.row_weights is None:
                yield Part(tensors, targets, len(rows) / len(batch))
                continue
            # By the number of instances, not by the batch's weight: light batches count for less.
            weights = self.row_weights[rows]
            share = float(weights.sum()) / len(batch)
            yield Part(tensors, targets, share, torch.from_numpy(weights).to(self.rarity))

    def _record_epoch(self) -> None:
        progress, settings = self.progress, self.settings
        logits = player_logits(
            self.network, self.held_out.inputs, self.views, settings.batch_size, shared_out=True
        )
        found = record(self.network, logits, self.held_out.labels, self.rarity, self.counts, settings.rules)
        progress.history.append(
            {
                "epoch": progress.epoch,
                "seconds": time.perf_counter() - self.started,
                "train_potential": progress.potential_sum / self.n_batches,
                "curiosity_share": curiosity_share(progress.epoch, settings),
                **found,
            }
        )
        if self._is_best():
            progress.best, progress.best_epoch = module_arrays(self.network), progress.epoch
        progress.epoch, progress.step, progress.potential_sum = progress.epoch + 1, 0, 0.0
        if self.log is not None and self.process.is_main_process:
            with replacing(self.log) as file:  # all so far, as a training that is taken up writes them too
                file.writelines(json.dumps(one) + "\n" for one in progress.history)

    def _is_best(self) -> bool:
        """Whether the last record beats all before it, in the eyes of the first process."""
        monitor, history = self.settings.monitor, self.progress.history
        figures = [-np.inf if one[monitor] is None else one[monitor] for one in history]
        better = self.progress.best_epoch < 0 or figures[-1] > figures[self.progress.best_epoch]
        return agreed(better)

    def _steps_done(self) -> int:
        return self.progress.epoch * self.n_batches + self.progress.step

    def _is_due(self) -> bool:
        settings = self.settings
        if self.saved is None:
            return False
        if settings.checkpoint_steps is not None and self._steps_done() % settings.checkpoint_steps == 0:
            return True
        if settings.checkpoint_minutes is None:
            return False
        late = time.perf_counter() - self.written >= 60 * settings.checkpoint_minutes
        return agreed(late)

    def _keep(self, *, due: bool) -> None:
        if self.saved is None or not due:
            return
        self.progress.seconds = time.perf_counter() - self.started
        self.saved.write(self.network, self.optimizer, self.progress, random_states(self.device))
        self.written = time.perf_counter()


def _relative(row_weights: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64] | None:
    """Weights of mean 1; None where all are the same."""
    if row_weights is None or (row_weights == row_weights[0]).all():
        return None
    relative: npt.NDArray[np.float64] = row_weights / row_weights.mean()
    return relative


def _optimizer(network: TeamNetwork, settings: Settings) -> torch.optim.AdamW:
    """AdamW; biases, norms and fusion weights do not decay."""
    encoders = {id(p) for p in network.encoders.parameters()}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rate = settings.encoder_learning_rate if id(parameter) in encoders else settings.learning_rate
            decays = parameter.ndim > 1 and name != "mixture"
            groups.setdefault((rate, settings.weight_decay if decays else 0.0), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": part, "lr": rate, "weight_decay": decay} for (rate, decay), part in groups.items()]
    )
