"""A small neural game, what the tests of training share.

As a script it is one process of a distributed run: `python small_game.py OUT.npz '[{"batch_size": 32}]'`.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.game import Rules
from evenhand.multilabel.neural import checkpoint
from evenhand.multilabel.neural.checkpoint import module_arrays
from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.evaluation import Examples
from evenhand.multilabel.neural.inputs import Inputs
from evenhand.multilabel.neural.network import TeamNetwork
from evenhand.multilabel.neural.processes import processes
from evenhand.multilabel.neural.training import Settings, train
from evenhand.multilabel.partition import partition_labels

DATA = make_long_tail(150, 12, 60, seed=0)
CPU = torch.device("cpu")
TEAM = ("n_players", "dropout", "private", "partition")
TRAIN_ROWS = np.arange(110)


def settings(**options):
    rules = {name: options.pop(name) for name in [*Rules.__dataclass_fields__] if name in options}
    given = {
        "loss": None,
        "update": "best_response",
        "epochs": 3,
        "warmup_epochs": 1,
        "annealing": False,
        "batch_size": 32,
        "accumulation": 1,
        "learning_rate": 0.01,
        "encoder_learning_rate": 0.01,
        "weight_decay": 0.01,
        "bfloat16": False,
        "shard_heads": False,
        "monitor": "map",
        "patience": 10,
        "checkpoint_steps": None,
        "checkpoint_minutes": None,
        "seed": 0,
    }
    return Settings(Rules(**({"space": "probability"} | rules)), **given | options)


class KilledError(Exception):
    """What a test stops a training with."""


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def make_network(n_players=3, dropout=0.0, double=False, private=False, partition="all"):
    torch.manual_seed(0)
    column = Inputs.of(DATA.X).columns["all"]
    encoders = [SparseBag(8, (8,), dropout).build(column) for _ in range(n_players if private else 1)]
    owners = partition_labels(DATA.Y, n_players, method=partition)
    network = TeamNetwork(encoders, range(n_players) if private else [0] * n_players, owners)
    return network.double() if double else network


def play(network, game_settings, *, views=None, train_rows=TRAIN_ROWS, **options):
    inputs, test_rows = Inputs.of(DATA.X), np.arange(110, 150)
    return train(
        network,
        views or ["all"] * len(network.encoders),
        Examples(inputs[train_rows], DATA.Y[train_rows]),
        Examples(inputs[test_rows], DATA.Y[test_rows]),
        game_settings,
        **{"device": CPU} | options,
    )


def record(**options):
    """Φ of each step, figures of each epoch, head weights held in training, and the weights at the end.

    With `stop` the training is killed after that step and taken up again; with `torn` at that checkpoint,
    when only the dealt heads have been written. "steps" are then those after it was taken up.
    """
    team = {name: options.pop(name) for name in TEAM if name in options}
    kept, stop, torn = (options.pop(name, None) for name in ("checkpoint", "stop", "torn"))
    given = {name: options.pop(name) for name in ("row_weights", "train_rows") if name in options}
    options = settings(**options)

    def run(stop=None):
        values, held = [], set()
        network = make_network(double=True, **team)

        def on_step(epoch, step, value):
            values.append(value)
            held.add(sum(p.numel() for p in network.heads.parameters()))
            if [epoch, step] == stop:
                raise KilledError

        history = play(network, options, on_step=on_step, checkpoint=kept and Path(kept), **given)
        figures = {name: np.array([one[name] for one in history]) for name in ("potential", "map")}
        return {"steps": np.array(values), "held": max(held), **figures, **module_arrays(network)}

    if stop is not None or torn is not None:
        try:
            with mock.patch.object(checkpoint, "write_folder", tearing_at(torn)):
                run(stop)
        except KilledError:
            return run()
        raise AssertionError("it was not killed")
    return run()


def tearing_at(number):
    """As `write_folder`, but all processes are killed when they have written their heads this many times."""
    write, written = checkpoint.write_folder, []

    def tearing(place, kind, state):
        write(place, kind, state)
        if place.name.startswith("heads-"):
            written.append(place)
            if len(written) == number:
                processes().wait_for_everyone()
                raise KilledError

    return tearing


def launch(commands):
    """Run the processes of one distributed run, over gloo on the CPU, each by its own command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(len(commands)),
        "LOCAL_WORLD_SIZE": str(len(commands)),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, *command],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    try:
        errors = [rank.communicate(timeout=500)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * len(ranks), "\n".join(errors)


def run_on_ranks(n, folder, cases):
    """What each of n processes records of each case."""
    outs = [folder / f"rank{rank}.npz" for rank in range(n)]
    launch([[__file__, str(out), json.dumps(cases)] for out in outs])
    found = [[{} for _ in cases] for _ in outs]
    for rank, out in zip(found, outs):
        for name, value in np.load(out).items():
            case, _, name = name.partition("/")
            rank[int(case)][name] = value
    return found


if __name__ == "__main__":
    arrays = {}
    for number, case in enumerate(json.loads(sys.argv[2])):
        found = record(**case) | {"processes": processes().num_processes}
        arrays |= {f"{number}/{name}": value for name, value in found.items()}
    np.savez(sys.argv[1], **arrays)
