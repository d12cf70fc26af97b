import itertools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import small_game as small

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.model_io import load_model
from evenhand.multilabel.neural.checkpoint import NeuralCheckpoint, Progress, module_arrays, random_states
from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.shards import (
    DealtHead,
    check_deal,
    deal_heads,
    dealt_parameters,
    gather_heads,
    keepers,
)
from evenhand.multilabel.storage import FolderError


def agree(found, expected, case):
    """The loss curve, the figures of each epoch and the weights; not what was held on the way."""
    for name in expected.keys() - {"held"}:
        near = 1e-5 if name == "steps" else 1e-7
        np.testing.assert_allclose(
            found[name], expected[name], rtol=0, atol=near, err_msg=f"{name} of {case}"
        )


def test_the_load_is_even():
    assert keepers([7, 7, 7, 7, 7], 3) == (0, 1, 2, 0, 1)
    rng = np.random.default_rng(0)
    for n_players, n_processes in [(2, 2), (3, 2), (7, 3), (12, 5)]:
        sizes = rng.integers(1, 100, n_players)
        load = np.bincount(keepers(sizes, n_processes), weights=sizes, minlength=n_processes)
        assert load.min() > 0
        assert load.max() - load.min() <= sizes.max()


def test_a_process_without_work_is_refused():
    check_deal(2, 2, 2)
    with pytest.raises(ValueError, match="needs a player for each of 3 processes, but there are 2; start"):
        check_deal(2, 9, 3)
    with pytest.raises(ValueError, match="needs a held-out instance for each of 3 processes"):
        check_deal(3, 2, 3)


def test_one_process_keeps_its_heads_as_they_are():
    heads = nn.ModuleList([nn.Linear(2, 3), nn.Linear(2, 4)])
    before = module_arrays(heads)
    deal_heads(heads)
    assert not dealt_parameters(heads)
    gather_heads(heads)
    assert small.same(module_arrays(heads), before)
    plain, dealt = small.record(epochs=1), small.record(epochs=1, shard_heads=True)
    assert small.same(plain, dealt)


TEAMS = [
    {"n_players": n, "private": private, "partition": partition}
    for n, private, partition in [
        (2, False, "all"),
        (2, True, "frequency"),
        (3, False, "frequency"),
        (3, True, "all"),
        (4, False, "all"),
        (4, True, "frequency"),
    ]
]


@pytest.mark.slow
@pytest.mark.parametrize("update", ["best_response", "joint"])
def test_two_processes_with_their_own_heads_learn_what_one_does(tmp_path, update):
    """110 rows in 4 batches: processes and parts have unlike numbers of rows."""
    cases = [
        {"update": update, "curiosity": mode, "accumulation": 3, "epochs": 2, "warmup_epochs": 0} | team
        for team, mode in itertools.product(TEAMS, ["success", "divergence"])
    ]
    cases[0] |= {"learning_rate": 0.2, "patience": 1, "epochs": 12}  # stops early
    cases[2] |= {"accumulation": 1, "space": "logit", "own_share": 0.3}
    cases[5] |= {"accumulation": 1}
    cases[6] |= {"loss": "focal"}
    cases[7] |= {"batch_size": 5, "epochs": 1}  # one process has a row for each part, the other has not
    ranks = small.run_on_ranks(2, tmp_path, [case | {"shard_heads": True} for case in cases])
    for number, case in enumerate(cases):
        one, other = (rank[number] for rank in ranks)
        expected = small.record(**case)
        assert one["held"] + other["held"] == expected["held"]
        most = 0.67 if case["n_players"] == 3 else 0.55
        assert max(one["held"], other["held"]) <= most * expected["held"]
        del one["held"], other["held"]
        assert small.same(one, other)
        agree(one, expected, case)
    assert 1 < len(ranks[0][0]["map"]) < 12


@pytest.mark.slow
def test_three_processes_share_four_heads(tmp_path):
    cases = [{"n_players": 4, "private": private, "epochs": 1} for private in (False, True)]
    cases[1] |= {"batch_size": 13}  # of 40 held-out rows one process takes 14 and the others 13
    ranks = small.run_on_ranks(3, tmp_path, [case | {"shard_heads": True} for case in cases])
    for number, case in enumerate(cases):
        expected = small.record(**case)
        held = np.array([rank[number]["held"] for rank in ranks]) / expected["held"]
        np.testing.assert_allclose(held, [0.5, 0.25, 0.25])
        for rank in ranks:
            agree(rank[number], expected, case)


@pytest.mark.slow
def test_more_processes_than_players_are_refused(tmp_path):
    with pytest.raises(AssertionError, match="needs a player for each of 2 processes, but there are 1"):
        small.run_on_ranks(2, tmp_path, [{"n_players": 1, "shard_heads": True}])


@pytest.mark.slow
def test_bfloat16_travels(tmp_path):
    case = {"bfloat16": True, "update": "joint", "epochs": 2}
    ranks = small.run_on_ranks(2, tmp_path, [case, case | {"shard_heads": True}])
    for whole, dealt in ranks:
        np.testing.assert_allclose(dealt["steps"], whole["steps"], rtol=0.01)


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path):
    """Killed between two steps, or when the heads of a checkpoint are written and the rest is not."""
    whole = {"shard_heads": True, "dropout": 0.3, "checkpoint_steps": 1, "n_players": 3}
    kills = [{"stop": [0, 3]}, {"stop": [1, 4]}, {"torn": 5}, {"torn": 6}]
    cases = [whole | kill | {"checkpoint": str(tmp_path / f"kept{n}")} for n, kill in enumerate(kills)]
    for expected, *resumed in small.run_on_ranks(2, tmp_path, [whole, *cases]):
        steps = expected.pop("steps")
        for done, one in zip([3, 8, 4, 5], resumed, strict=True):
            assert np.array_equal(one.pop("steps"), steps[done:])
            assert small.same(one, expected)


def test_heads_of_another_moment_are_refused(tmp_path):
    network = small.make_network()
    for player in range(3):
        network.heads[player] = DealtHead(network.heads[player], 0)
    optimizer = torch.optim.AdamW(network.parameters())
    saved = NeuralCheckpoint(tmp_path / "kept", {"release": "0", "settings": {}, "data": {}})
    saved.write(network, optimizer, Progress(0, 2, 0.0, 0.0, [], {}, -1), random_states(small.CPU))
    assert saved.read(network, optimizer, "map")[0].step == 2
    (file,) = (tmp_path / "kept").glob("heads-0-*/heads.json")
    file.write_text(file.read_text().replace('"step": 2', '"step": 3'))
    with pytest.raises(FolderError, match="are of epoch 0, step 3, but the training is at epoch 0, step 2"):
        saved.read(network, optimizer, "map")
    shutil.rmtree(file.parent)
    with pytest.raises(FolderError, match="heads-0-1"):
        saved.read(network, optimizer, "map")


LONG_TAIL = make_long_tail(200, 15, 80, seed=0)
FIT = """
import sys
import numpy as np
from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.model_io import Model, save_model
from evenhand.multilabel.neural.processes import processes

data = make_long_tail(200, 15, 80, seed=0)
model = NeuralGameClassifier(SparseBag(16), epochs=3, device="cpu", shard_heads=True)
model.fit(data.X, data.Y)
if processes().is_main_process:
    save_model(Model(model), sys.argv[1] + ".model")
potential = [one["train_potential"] for one in model.history_]
np.savez(sys.argv[1], potential=potential, p=model.predict_proba(data.X))
"""


@pytest.mark.slow
def test_an_estimator_with_its_heads_dealt_out(tmp_path):
    """Every process ends with the whole model; the first one saves it as any other."""
    outs = [tmp_path / f"rank{rank}.npz" for rank in range(2)]
    small.launch([["-c", FIT, str(out)] for out in outs])
    one, other = (dict(np.load(out)) for out in outs)
    assert small.same(one, other)
    model = load_model(f"{outs[0]}.model").classifier
    assert model.shard_heads
    assert np.array_equal(model.predict_proba(LONG_TAIL.X), one["p"])
    alone = clone(model).set_params(encoders=SparseBag(16), device="cpu").fit(LONG_TAIL.X, LONG_TAIL.Y)
    np.testing.assert_allclose(
        one["potential"], [record["train_potential"] for record in alone.history_], rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(one["p"], alone.predict_proba(LONG_TAIL.X), atol=1e-3)
