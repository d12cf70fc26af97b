"""A neural training that can be interrupted: weights, optimizer, random numbers and place, at one stroke."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evenhand.multilabel.neural.processes import processes, sum_over_processes
from evenhand.multilabel.neural.shards import dealt_parameters
from evenhand.multilabel.resuming import ResumableFolder
from evenhand.multilabel.storage import FolderError, Kind, array_entry, entry, read_folder, write_folder

_KIND = Kind("evenhand neural training", 1, "training.json")
_HEADS = Kind("evenhand heads in training", 1, "heads.json")

Arrays = dict[str, npt.NDArray[Any]]


@dataclass
class Progress:
    """How far a training is.

    Parameters
    ----------
    epoch : int
        The one in progress, from 0.
    step : int
        Steps of it that are done.
    potential_sum : float
        Of the batches of this epoch.
    seconds : float
        That training has taken.
    history : list of dict
        One record a finished epoch.
    best : dict of str to ndarray
        The network's state after the best epoch; empty before the first record.
    best_epoch : int
        Its number; -1 before the first record.
    """

    epoch: int
    step: int
    potential_sum: float
    seconds: float
    history: list[dict[str, Any]]
    best: Arrays
    best_epoch: int


class NeuralCheckpoint(ResumableFolder):
    """The latest state of one training.

    Parameters
    ----------
    folder, fingerprint
        As for `ResumableFolder`.

    Notes
    -----
    The first process writes what all have. Where heads are dealt out (`shards`), each process first writes
    its own, by turns to one of two folders, and the first one's state then says which of the two belongs to
    it: whenever the processes end, they leave a whole state.
    """

    _turn = 0

    def write(
        self, network: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, rng: Arrays
    ) -> None:
        """Replace the state by a later one; every process calls this.

        Parameters
        ----------
        network : Module
        optimizer : Optimizer
        progress : Progress
        rng : dict of str to ndarray
            As `random_states` gives it.

        Raises
        ------
        FolderError
            If a weight is not finite.
        """
        process = processes()
        self._turn = 1 - self._turn
        if dealt_parameters(network):
            own = _weights(network, optimizer, progress, dealt=True)
            when = {"epoch": progress.epoch, "step": progress.step}
            write_folder(self._heads(), _HEADS, own | when)
            process.wait_for_everyone()
        if process.is_main_process:
            state = _weights(network, optimizer, progress, dealt=False)
            state["progress"] = vars(replace(progress, best=state.pop("best")))
            write_folder(self.folder / "latest", _KIND, state | {"rng": rng, "turn": self._turn})
        process.wait_for_everyone()

    def read(
        self, network: torch.nn.Module, optimizer: torch.optim.Optimizer, monitor: str
    ) -> tuple[Progress, Arrays] | None:
        """Take up the state; None where there is none yet.

        Parameters
        ----------
        network : Module
        optimizer : Optimizer
            Both are given the state that was kept.
        monitor : str
            The figure that every record must have.

        Returns
        -------
        (Progress, dict of str to ndarray) or None
            And the random states, for `set_random_states`.

        Raises
        ------
        FolderError
            If it is damaged.
        """
        place = self.folder / "latest"
        if not place.exists():
            return None
        state = read_folder(place, _KIND)
        try:
            arrays, slots = entry(state, "network", dict), entry(state, "optimizer", dict)
            progress = _progress(entry(state, "progress", dict), monitor)
            self._turn = entry(state, "turn", int)
            if dealt_parameters(network):
                own = self._read_heads(progress)
                arrays |= entry(own, "network", dict)
                slots |= entry(own, "optimizer", dict)
                progress.best |= entry(own, "best", dict)
            load_arrays(network, arrays)
            known = optimizer.state_dict()
            known["state"] = _slots(slots, optimizer)
            optimizer.load_state_dict(known)
            return progress, entry(state, "rng", dict)
        except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
            raise FolderError(f"{place}: {error}; delete {self.folder} to start anew") from error

    def _heads(self) -> Path:
        """Where this process has its heads of this turn."""
        return self.folder / f"heads-{processes().process_index}-{self._turn}"

    def _read_heads(self, progress: Progress) -> dict[str, Any]:
        place = self._heads()
        own = read_folder(place, _HEADS)
        when = entry(own, "epoch", int), entry(own, "step", int)
        if when != (progress.epoch, progress.step):
            raise FolderError(
                f"the heads in {place.name} are of epoch {when[0]}, step {when[1]}, but the training is at"
                f" epoch {progress.epoch}, step {progress.step}"
            )
        return own


def _slots(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """What the optimizer keeps of each weight: numbers, or as many as there are weights."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    slots = {}
    for number, slot in state.items():
        if not (number.isdecimal() and len(number) < 10 and int(number) < len(weights)):
            raise FolderError(f"the optimizer has no weight {number[:80]!r}")
        shape = tuple(weights[int(number)].shape)
        for name in slot:
            value = entry(slot, name, np.ndarray)
            if value.shape and value.shape != shape:
                raise FolderError(f"the optimizer's {name!r} is of shape {value.shape}, not {shape}")
        slots[int(number)] = {name: torch.from_numpy(np.array(value)) for name, value in slot.items()}
    return slots


def _progress(state: dict[str, Any], monitor: str) -> Progress:
    types = {"epoch": int, "step": int, "potential_sum": float, "seconds": float, "history": list}
    progress = Progress(
        **{name: entry(state, name, kind) for name, kind in types.items()},
        best=entry(state, "best", dict),
        best_epoch=entry(state, "best_epoch", int),
    )
    if not -1 <= progress.best_epoch < max(1, len(progress.history)):
        raise FolderError(f"the best epoch is {progress.best_epoch} of {len(progress.history)}")
    _check_history(progress, monitor)
    return progress


def _check_history(progress: Progress, monitor: str) -> None:
    if len(progress.history) != progress.epoch:
        raise FolderError(
            f"the history has {len(progress.history)} records of {progress.epoch} epochs; the file is damaged"
        )
    for number, one in enumerate(progress.history):
        try:
            if entry(one, "epoch", int) != number:
                raise FolderError(f"it is of epoch {one['epoch']}; the file is damaged")
            entry(one, monitor, float, int, type(None))
        except FolderError as error:
            raise FolderError(f"record {number} of the history: {error}") from error


def module_arrays(module: torch.nn.Module) -> Arrays:
    """A module's weights and buffers, by name.

    Examples
    --------
    >>> sorted(module_arrays(torch.nn.Linear(2, 3)))
    ['bias', 'weight']
    """
    return {name: _array(value) for name, value in module.state_dict().items()}


def load_arrays(module: torch.nn.Module, arrays: dict[str, Any]) -> None:
    """Give a module weights and buffers.

    Parameters
    ----------
    module : Module
    arrays : dict of str to ndarray

    Raises
    ------
    FolderError
        If one is missing, of another shape or type, or belongs nowhere.
    """
    wanted = module.state_dict()
    if strange := sorted(arrays.keys() - wanted.keys()):
        raise FolderError(f"the array {strange[0]!r} belongs to no part of the network; the file is damaged")
    for name, there in wanted.items():
        dtype = str(there.dtype).removeprefix("torch.")
        found = array_entry(arrays, name, [dtype], tuple(there.shape))
        there.copy_(torch.from_numpy(np.array(found)))


def random_states(device: torch.device) -> Arrays:
    """The states of torch's generators that a training on `device` draws from, one row a process."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    return {name: _rows_of_all(value) for name, value in own.items()}


def set_random_states(states: Arrays, device: torch.device) -> None:
    """Take up what `random_states` gave; with a warning where that was on a device of another kind.

    Parameters
    ----------
    states : dict of str to ndarray of int32, shape (processes, bytes)
    device : torch.device

    Raises
    ------
    FolderError
        If they are damaged.
    """
    state = processes()
    setters: dict[str, Callable[[Tensor], None]] = {"cpu": torch.set_rng_state}
    if device.type == "cuda":
        setters["cuda"] = lambda value: torch.cuda.set_rng_state(value, device)
    if ("cuda" in states) != ("cuda" in setters):
        setters.pop("cuda", None)
        warnings.warn(
            "the checkpoint was written on a device of another kind; the training goes on from it, but draws"
            " other random numbers than it would have drawn there",
            stacklevel=2,
        )
    for name, setter in setters.items():
        rows = array_entry(states, name, ["int32"], (state.num_processes, None))
        try:
            setter(torch.from_numpy(rows[state.process_index].astype(np.uint8)))
        except RuntimeError as error:
            raise FolderError(f"the state of the random numbers {name!r} is damaged: {error}") from error


def _rows_of_all(own: Tensor) -> npt.NDArray[np.int32]:
    state = processes()
    rows = torch.zeros(state.num_processes, len(own), dtype=torch.int32)
    rows[state.process_index] = own.to(rows)
    sum_over_processes([rows])
    gathered: npt.NDArray[np.int32] = rows.numpy()
    return gathered


def _weights(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, *, dealt: bool
) -> dict[str, Any]:
    """Weights, moments and best weights of the heads that are dealt out, or of all else."""
    own = dealt_parameters(network)
    ids = {id(parameter) for parameter in own.values()}
    numbered = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        "network": {n: _array(v) for n, v in network.state_dict().items() if (n in own) == dealt},
        "optimizer": {
            str(number): {name: _array(value) for name, value in slot.items()}
            for number, slot in optimizer.state_dict()["state"].items()
            if (id(numbered[number]) in ids) == dealt
        },
        "best": {n: v for n, v in progress.best.items() if (n in own) == dealt},
    }


def _array(value: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = value.detach().cpu().numpy().copy()
    return array
