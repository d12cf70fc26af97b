import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import small_game as small
from small_game import KilledError, same

from evenhand.multilabel.neural.checkpoint import module_arrays, random_states, set_random_states
from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.inputs import Inputs
from evenhand.multilabel.neural.network import TeamNetwork
from evenhand.multilabel.neural.training import curiosity_share
from evenhand.multilabel.storage import FolderError


def without_seconds(history):
    return [{name: value for name, value in one.items() if name != "seconds"} for one in history]


@pytest.mark.parametrize("update", ["best_response", "joint"])
def test_training_raises_the_potential_and_says_so(update, tmp_path):
    network = small.make_network()
    history = small.play(network, small.settings(update=update, epochs=6), log=tmp_path / "log.jsonl")
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == history
    assert [one["epoch"] for one in history] == list(range(6))
    assert history[-1]["train_potential"] > history[1]["train_potential"]
    assert history[-1]["map"] > history[0]["map"] + 0.05
    assert history[-1]["rare_f1_bound"] is not None
    for one in history:
        assert one["curiosity"] == pytest.approx(one["potential"] - one["payoff"])
        assert 0 <= one["disagreement_head"] <= 1


def test_same_seed_same_bits():
    runs = []
    for _ in range(2):
        network = small.make_network(dropout=0.3)
        history = small.play(network, small.settings())
        runs.append((module_arrays(network), without_seconds(history)))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    other = small.make_network(dropout=0.3)
    small.play(other, small.settings(seed=1))
    assert not same(module_arrays(other), runs[0][0])


WEIGHTS = np.random.default_rng(0).uniform(0.1, 3, 110) * (np.arange(110) % 5 > 0)


@pytest.mark.parametrize("update", ["best_response", "joint"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_weights": WEIGHTS},
        {"own_share": 0.4},
        {"schedule": "cosine", "schedule_warmup": 0.2},
        {"loss": "focal", "row_weights": WEIGHTS},
    ],
    ids=str,
)
def test_accumulation_changes_nothing(update, options):
    whole, parts = (small.record(update=update, accumulation=n, **options) for n in (1, 3))
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("stop", [(0, 3), (1, 4), (2, 1)], ids=str)
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_an_interrupted_training_ends_with_the_same_bits(stop, schedule, tmp_path):
    """Killed in mid-epoch and at the end of one; dropout makes the random states count."""
    options = small.settings(checkpoint_steps=1, schedule=schedule, schedule_warmup=0.4, own_share=0.3)
    whole = small.make_network(dropout=0.3)
    expected = small.play(whole, options, row_weights=WEIGHTS)

    def kill(epoch, step, value):
        if (epoch, step) == stop:
            raise KilledError

    with pytest.raises(KilledError):
        small.play(
            small.make_network(dropout=0.3),
            options,
            row_weights=WEIGHTS,
            checkpoint=tmp_path / "kept",
            on_step=kill,
        )
    steps = []
    resumed = small.make_network(dropout=0.3)
    history = small.play(
        resumed,
        options,
        row_weights=WEIGHTS,
        checkpoint=tmp_path / "kept",
        on_step=lambda epoch, step, _: steps.append((epoch, step)),
    )
    assert steps[:1] != [(0, 1)]  # it did not start anew
    assert same(module_arrays(whole), module_arrays(resumed))
    assert without_seconds(history) == without_seconds(expected)
    again = small.make_network(dropout=0.3)
    left = small.play(again, options, row_weights=WEIGHTS, checkpoint=tmp_path / "kept", on_step=kill)
    assert left == history  # nothing to do
    assert same(module_arrays(whole), module_arrays(again))


def test_a_checkpoint_by_minutes(tmp_path):
    def kill(epoch, step, value):
        if (epoch, step) == (1, 2):
            raise KilledError

    options = small.settings(checkpoint_minutes=1e-9)
    with pytest.raises(KilledError):
        small.play(small.make_network(), options, checkpoint=tmp_path / "kept", on_step=kill)
    kept = json.loads((tmp_path / "kept" / "latest" / "training.json").read_text())["state"]["progress"]
    assert (kept["epoch"], kept["step"]) == (1, 2)


@pytest.mark.parametrize("there", [torch.device("cpu"), torch.device("cuda")], ids=str)
def test_a_checkpoint_of_another_kind_of_device_is_taken_up_with_a_warning(tmp_path, monkeypatch, there):
    here = torch.device("cuda" if there.type == "cpu" else "cpu")
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *a: pytest.fail("there is no such state"))
    kept, before = random_states(there), torch.get_rng_state()
    torch.rand(1)
    with pytest.warns(UserWarning, match="was written on a device of another kind; the training goes on"):
        set_random_states(kept, here)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_gpus_random_state_is_kept_with_the_processors(monkeypatch):
    taken, state = [], torch.arange(16, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda value, device: taken.append((value, device)))
    second = torch.device("cuda:1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_random_states(random_states(second), second)
    ((value, device),) = taken
    assert torch.equal(value, state)
    assert device == second


def test_the_log_is_replaced_at_one_stroke_and_nothing_is_left_beside_it(tmp_path):
    log = tmp_path / "log.jsonl"

    def look(epoch, step, value):
        assert sorted(tmp_path.iterdir()) == ([log] if epoch else [])

    small.play(small.make_network(), small.settings(epochs=2), log=log, on_step=look)
    with pytest.raises(OSError, match=r"none/log\.jsonl"):
        small.play(small.make_network(), small.settings(epochs=1), log=tmp_path / "none" / "log.jsonl")


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    small.play(small.make_network(), small.settings(epochs=1), checkpoint=tmp_path / "kept")
    with pytest.raises(
        FolderError, match=r"another training: other settings \(learning_rate was 0.01 and is 0.02\)"
    ):
        small.play(
            small.make_network(), small.settings(epochs=1, learning_rate=0.02), checkpoint=tmp_path / "kept"
        )
    other = small.make_network()
    with torch.no_grad():
        other.heads[0].weight[0, 0] += 1
    with pytest.raises(FolderError, match=r"other data \(starting weights\)"):
        small.play(other, small.settings(epochs=1), checkpoint=tmp_path / "kept")
    for given, message in (
        ({"row_weights": WEIGHTS}, r"other data \(training row weights\)"),
        ({"label_rarity": np.full(12, 0.5)}, r"other data \(rarity\)"),
    ):
        with pytest.raises(FolderError, match=message):
            small.play(small.make_network(), small.settings(epochs=1), checkpoint=tmp_path / "kept", **given)
    with pytest.raises(FolderError, match="schedule was 'constant' and is 'cosine'"):
        small.play(
            small.make_network(), small.settings(epochs=1, schedule="cosine"), checkpoint=tmp_path / "kept"
        )


def test_a_damaged_checkpoint_is_refused(tmp_path):
    small.play(small.make_network(), small.settings(epochs=1), checkpoint=tmp_path / "kept")
    file = tmp_path / "kept" / "latest" / "training.json"
    document = json.loads(file.read_text())
    document["state"]["network"]["strange"] = document["state"]["network"].pop("mixture")
    file.write_text(json.dumps(document))
    with pytest.raises(
        FolderError, match=r"'strange' belongs to no part of the network.*delete .* to start anew"
    ):
        small.play(small.make_network(), small.settings(epochs=1), checkpoint=tmp_path / "kept")


@pytest.mark.parametrize("update", ["best_response", "joint"])
@pytest.mark.parametrize("options", [{}, {"loss": "bce"}, {"own_share": 0.5}], ids=str)
def test_weights_of_instances(update, options):
    plain = small.record(update=update, **options)
    ones = small.record(update=update, row_weights=np.ones(110), **options)
    assert same(plain, ones)
    weighed = small.record(update=update, row_weights=WEIGHTS, **options)
    assert np.abs(weighed["steps"] - plain["steps"]).max() > 1e-3
    scaled = small.record(update=update, row_weights=0.3 * WEIGHTS, **options)
    for name, value in weighed.items():
        np.testing.assert_allclose(scaled[name], value, rtol=1e-7, atol=1e-9)


def test_an_epoch_of_one_batch_is_about_the_weighted_mean():
    """Whole weights against copies of the rows: the same first step, and Φ before it."""
    times = np.arange(110) % 3
    rows = np.repeat(np.arange(110), times)
    options = {"epochs": 1, "batch_size": 1000, "rarity_reward": 0.0, "disagreement_reward": 0.0}
    weighed = small.record(row_weights=times.astype(float), **options)
    copied = small.record(train_rows=rows, **options)
    for name, value in copied.items():
        np.testing.assert_allclose(weighed[name], value, rtol=1e-6, atol=1e-9)


def test_a_light_batch_counts_for_less():
    """The mean of Φ over the batches of an epoch is the weighted mean over the instances."""
    weights = np.where(np.arange(110) < 32, 0.01, 1.0)
    still = {"epochs": 1, "learning_rate": 1e-300, "encoder_learning_rate": 1e-300, "weight_decay": 0.0}
    parts = small.record(batch_size=11, row_weights=weights, **still)["steps"]
    whole = small.record(batch_size=1000, row_weights=weights, **still)["steps"]
    assert len(parts) == 10
    assert parts.mean() == pytest.approx(whole.item(), rel=1e-9)


def test_paid_for_their_own_scores_alone_players_learn_as_if_alone():
    """η = 1 and no curiosity: each with an encoder of its own, beside a training of each by itself."""
    options = {"rarity_reward": 0.0, "disagreement_reward": 0.0, "epochs": 1}
    seeds, columns = (3, 4), Inputs.of(small.DATA.X).columns["all"]

    def encoder(seed):
        torch.manual_seed(seed)
        return SparseBag(8, (8,)).build(columns)

    def network_of(*chosen):
        encoders = [encoder(seed) for seed in chosen]
        network = TeamNetwork(encoders, range(len(chosen)), np.ones((len(chosen), 12), bool))
        with torch.no_grad():
            for head in network.heads:
                head.weight.fill_(0.1)
        return network.double()

    team = network_of(*seeds)
    small.play(team, small.settings(own_share=1.0, **options), views=["all", "all"])
    for player, seed in enumerate(seeds):
        alone = network_of(seed)
        small.play(alone, small.settings(space="logit", **options))
        mine, others = team.player_parameters(player), alone.player_parameters(0)
        for one, other in zip(mine, others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(team.mixture, torch.zeros_like(team.mixture))


def test_what_is_recorded_of_a_share_of_ones_own():
    (first, *_), (plain, *_) = (
        small.play(small.make_network(), small.settings(epochs=1, own_share=share)) for share in (1.0, 0.0)
    )
    assert first["curiosity"] < 0
    assert plain["curiosity"] == pytest.approx(plain["potential"] - plain["payoff"])
    # Three players are paid for their own scores: about three times the team's payoff.
    assert first["potential"] - first["curiosity"] == pytest.approx(3 * first["payoff"], rel=0.1)


def test_the_learning_rates_follow_the_schedule(monkeypatch):
    seen, real = [], torch.optim.AdamW.step

    def step(self, *given):
        seen.append([group["lr"] for group in self.param_groups])
        return real(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    options = {"learning_rate": 0.02, "encoder_learning_rate": 0.01, "update": "joint", "epochs": 2}
    small.play(small.make_network(), small.settings(schedule="linear", schedule_warmup=0.25, **options))
    shares = [1 / 3, 2 / 3, *(1 - i / 6 for i in range(6))]
    rates = np.unique(np.array(seen), axis=1)  # of two kinds of weights there are groups of the same rate
    np.testing.assert_allclose(rates, [[0.01 * share, 0.02 * share] for share in shares])


def test_it_stops_when_the_metric_no_longer_rises_and_keeps_the_best_epoch():
    network = small.make_network()
    history = small.play(network, small.settings(epochs=200, patience=3, learning_rate=0.05))
    figures = [one["map"] for one in history]
    best = int(np.argmax(figures))
    assert len(history) == best + 4 < 200
    shorter = small.make_network()
    small.play(shorter, small.settings(epochs=best + 1, patience=300, learning_rate=0.05))
    assert same(module_arrays(network), module_arrays(shorter))


def test_curiosity_warms_up_and_falls():
    plain = [curiosity_share(e, small.settings(epochs=5, warmup_epochs=2)) for e in range(5)]
    assert plain == [0, 0, 1, 1, 1]
    falling = [
        curiosity_share(e, small.settings(epochs=5, warmup_epochs=2, annealing=True)) for e in range(5)
    ]
    assert falling == [0, 0, 1, 0.5, 0]


def test_warming_up_is_training_without_curiosity():
    warm = small.record(epochs=1, warmup_epochs=1)
    without = small.record(epochs=1, warmup_epochs=0, rarity_reward=0.0, disagreement_reward=0.0)
    curious = small.record(epochs=1, warmup_epochs=0)
    assert np.array_equal(warm["steps"], without["steps"])
    assert not np.array_equal(warm["steps"], curious["steps"])


def test_a_potential_that_is_not_finite_is_named():
    network = small.make_network()
    with torch.no_grad():
        network.heads[0].weight[0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"the potential is .* in epoch 0, step 0; take a lower"):
        small.play(network, small.settings())


def test_soft_macro_f1_is_not_split():
    with pytest.raises(ValueError, match="set accumulation=1"):
        small.play(small.make_network(), small.settings(payoff="soft_macro_f1", accumulation=2))
    small.play(small.make_network(), small.settings(payoff="soft_macro_f1", epochs=1))


def test_bfloat16_learns_about_the_same():
    exact = small.play(small.make_network(), small.settings())
    rough = small.play(small.make_network(), small.settings(bfloat16=True))
    assert rough[-1]["train_potential"] != exact[-1]["train_potential"]
    assert rough[-1]["train_potential"] == pytest.approx(exact[-1]["train_potential"], rel=0.02)


@pytest.mark.parametrize("loss", ["bce", "focal", "distribution_balanced"])
def test_controls_train_too(loss):
    history = small.play(small.make_network(), small.settings(loss=loss, epochs=5))
    assert history[-1]["train_potential"] > history[0]["train_potential"]


def test_the_control_of_cross_entropy_is_the_game_without_curiosity():
    control = small.record(loss="bce")
    without = small.record(rarity_reward=0.0, disagreement_reward=0.0)
    np.testing.assert_allclose(control["steps"], without["steps"], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("update", ["best_response", "joint"])
def test_two_processes_learn_what_one_does(tmp_path, update):
    whole = small.record(update=update)
    options = {"update": update, "checkpoint": str(tmp_path / "kept"), "checkpoint_steps": 2}
    ranks = [found for (found,) in small.run_on_ranks(2, tmp_path, [options])]
    assert [rank.pop("processes") for rank in ranks] == [2, 2]
    assert same(*ranks)
    assert len(whole["steps"]) == 12
    for name, value in whole.items():
        np.testing.assert_allclose(ranks[0][name], value, rtol=0, atol=1e-5 if name == "steps" else 1e-7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_gpu_learns_what_the_processor_does(bfloat16):
    here, there = small.make_network(), small.make_network()
    expected = small.play(here, small.settings())
    found = small.play(there, small.settings(bfloat16=bfloat16), device=torch.device("cuda"))
    near = 0.03 if bfloat16 else 1e-3
    assert found[-1]["train_potential"] == pytest.approx(expected[-1]["train_potential"], rel=near)
