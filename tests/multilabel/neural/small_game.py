"""A small neural game, what the tests of training share.

As a script it is one process of a distributed run: `python small_game.py OUT.npz '{"batch_size": 32}'`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.game import Rules
from evenhand.multilabel.neural.checkpoint import module_arrays
from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.evaluation import Examples
from evenhand.multilabel.neural.inputs import Inputs
from evenhand.multilabel.neural.network import TeamNetwork
from evenhand.multilabel.neural.processes import processes
from evenhand.multilabel.neural.training import Settings, train

DATA = make_long_tail(150, 12, 60, seed=0)
CPU = torch.device("cpu")
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
        "monitor": "map",
        "patience": 10,
        "checkpoint_steps": None,
        "checkpoint_minutes": None,
        "seed": 0,
    }
    return Settings(Rules(**({"space": "probability"} | rules)), **given | options)


def make_network(n_players=3, dropout=0.0, double=False):
    torch.manual_seed(0)
    columns = Inputs.of(DATA.X).columns
    encoder = SparseBag(8, (8,), dropout).build(columns["all"])
    network = TeamNetwork([encoder], [0] * n_players, np.ones((n_players, 12), bool))
    return network.double() if double else network


def play(network, game_settings, *, views=("all",), train_rows=TRAIN_ROWS, **options):
    inputs, test_rows = Inputs.of(DATA.X), np.arange(110, 150)
    return train(
        network,
        views,
        Examples(inputs[train_rows], DATA.Y[train_rows]),
        Examples(inputs[test_rows], DATA.Y[test_rows]),
        game_settings,
        **{"device": CPU} | options,
    )


def record(**options):
    """Φ of each step and the weights at the end, as arrays."""
    values = []
    network = make_network(double=True)
    folder = options.pop("checkpoint", None)
    given = {name: options.pop(name) for name in ("row_weights", "train_rows") if name in options}
    history = play(
        network,
        settings(**options),
        on_step=lambda epoch, step, value: values.append(value),
        checkpoint=None if folder is None else Path(folder),
        **given,
    )
    figures = {name: np.array([one[name] for one in history]) for name in ("potential", "map")}
    return {"steps": np.array(values), **figures, **module_arrays(network)}


if __name__ == "__main__":
    found = record(**json.loads(sys.argv[2]))
    np.savez(sys.argv[1], **found, processes=processes().num_processes)
