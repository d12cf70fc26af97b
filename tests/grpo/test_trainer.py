import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.utils import DistributedType
from peft import LoraConfig
from transformers import TrainerCallback
from trl import GRPOTrainer, TrlParser

sys.path.insert(0, str(Path(__file__).parent))
import tiny_policy as tiny
from tiny_policy import GROUP, SetLambdaTrainer, SetStockTrainer, largest_difference, logged, record

from evenhand.grpo.config import LambdaGRPOConfig
from evenhand.grpo.trainer import LambdaGRPOTrainer

LAYOUT_4X16 = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4}
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")


def weights_of(trainer):
    return {name: p.detach().float().numpy().copy() for name, p in trainer.model.named_parameters()}


def responses(trainer, n_prompts=8):
    """Prompts and completions of a generation, as lists of token ids, and which of them are whole."""
    rows = []
    for prompt in tiny.make_dataset(n_prompts)["prompt"]:
        ids = trainer.processing_class(prompt)["input_ids"]
        rows += [(ids, trainer._completion(ids, place)) for place in range(GROUP)]
    return rows, np.array([completion[-1] == tiny.END for _, completion in rows])


def advantages_of(trainer, rows):
    """TRL's: reward less mean, over unbiased std + 1e-4, in each group."""
    texts = trainer.processing_class.batch_decode([c for _, c in rows], skip_special_tokens=True)
    rewards = np.array(tiny.ones_and_length(texts)).reshape(-1, GROUP)
    return (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-4)


def paper_weights(lengths, lam, r=1 / 9, counted=None):
    """f of λ-GRPO, one group a row, from the paper's formulae in float64."""
    out = np.zeros(lengths.shape)
    for f, o, c in zip(out, lengths, np.ones(lengths.shape, bool) if counted is None else counted):
        o = o[c].astype(float)
        if len(o) == 0:
            continue
        z = (o - o.mean()) / max(o.std(ddof=1), 1e-8) if len(o) > 1 else np.zeros(1)
        e = np.exp((1 + r * z) ** lam)
        f[c] = len(o) * e / e.sum()
    return out


# λ = 0 is DAPO, and what TRL has is TRL's


@pytest.mark.parametrize("form", ["lambda", "power"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        LAYOUT_4X16 | {"num_iterations": 2, "max_steps": 4},
        LAYOUT_4X16 | {"steps_per_generation": 2},
        {"bf16": True},
        {"mask_truncated_completions": True, "delta": 1.5, "top_entropy_quantile": 0.5, "entropy_coef": 0.01},
    ],
)
def test_fixed_lambda_0_leaves_every_parameter_as_stock_dapo_does(tmp_path, form, options):
    ours, _ = tiny.train(tiny.make_config(tmp_path, loss_type=form, lambda_fixed=True, **options))
    stock, _ = tiny.train(tiny.make_config(tmp_path, loss_type="dapo", **options), SetStockTrainer)
    start = {name: p.detach().numpy() for name, p in tiny.make_model().named_parameters()}
    assert largest_difference(weights_of(stock), start) > 1e-3
    assert largest_difference(weights_of(ours), weights_of(stock)) == 0.0
    assert logged(ours, "loss") == logged(stock, "loss")


@pytest.mark.parametrize("lam", [0.0, 2.0])
def test_groups_of_a_size_that_is_no_power_of_two_sum_to_stock_dapo_at_lambda_0(tmp_path, lam):
    options = {"num_generations": 6, "per_device_train_batch_size": 48, "lambda_start": lam}
    ours, _ = tiny.train(tiny.make_config(tmp_path, lambda_fixed=True, **options))
    stock, _ = tiny.train(tiny.make_config(tmp_path, loss_type="dapo", **options), SetStockTrainer)
    assert (largest_difference(weights_of(ours), weights_of(stock)) == 0.0) == (lam == 0.0)


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "bnpo", "cispo", "sapo"])
def test_trls_own_loss_types_pass_through(tmp_path, loss_type):
    args = tiny.make_config(tmp_path, loss_type=loss_type)
    ours, stock = (tiny.train(args, kind)[0] for kind in (SetLambdaTrainer, SetStockTrainer))
    assert ours.preference is None
    assert largest_difference(weights_of(ours), weights_of(stock)) == 0.0
    assert not any(name.startswith("preference/") for entry in ours.state.log_history for name in entry)


# The gradients are those of the objective


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_policy_and_lambda_are_those_of_the_paper_s_objective(tmp_path, masked):
    lam, h = 0.7, 1e-5
    args = tiny.make_config(tmp_path, lambda_start=lam, max_steps=1, mask_truncated_completions=masked)
    trainer, gradients = tiny.train(args)
    rows, ended = responses(trainer)
    counted = ended.reshape(-1, GROUP) if masked else np.ones((8, GROUP), bool)
    assert 0 < ended.sum() < len(ended)
    lengths = np.array([len(c) for _, c in rows]).reshape(-1, GROUP)
    advantages = advantages_of(trainer, rows)
    n_tokens = lengths[counted].sum()

    def objective(at):  # on-policy: every ratio is 1, S_i = |o_i| A_i
        return (paper_weights(lengths, at, counted=counted) * lengths * advantages).sum() / n_tokens

    slope = (objective(lam + h) - objective(lam - h)) / (2 * h)
    assert abs(slope) > 0.01
    assert logged(trainer, "preference/gradient") == pytest.approx([slope], rel=1e-5)
    assert float(trainer.preference.value) == pytest.approx(lam + 0.1 * slope, rel=1e-6)

    model = tiny.make_model()
    f = paper_weights(lengths, lam, counted=counted).ravel() * advantages.ravel()
    loss = torch.zeros(())
    for (prompt, completion), scale in zip(rows, f):
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        logps = logits.log_softmax(-1)[range(len(completion)), completion]
        loss = loss - scale / n_tokens * logps.sum()
    loss.backward()
    expected = {name: p.grad.numpy() for name, p in model.named_parameters()}
    assert largest_difference(gradients.steps[0], expected) < 1e-6


@pytest.mark.parametrize("form", ["lambda", "power"])
def test_off_policy_lambda_gradient_is_the_slope_of_the_clipped_loss(tmp_path, form):
    args = tiny.make_config(tmp_path, loss_type=form, num_iterations=2, max_steps=1, learning_rate=2.0)
    trainer, _ = tiny.train(args)
    (inputs,) = trainer._buffered_inputs
    trainer.model.train()

    def loss_at(lam):
        trainer.preference.load_state_dict(trainer.preference.state_dict() | {"value": lam})
        return trainer._compute_loss(trainer.model, inputs).item()

    loss_at(0.5)
    clipped = trainer._metrics["train"]["clip_ratio/region_mean"][-1]
    slope = -float(trainer.preference.step())
    assert clipped > 0.1  # so that S_i is not |o_i| A_i
    assert slope == pytest.approx((loss_at(0.55) - loss_at(0.45)) / 0.1, rel=2e-2)


def test_power_at_minus_1_and_delta_l_are_grpo_up_to_a_scale_in_one_group(tmp_path):
    options = {"per_device_train_batch_size": GROUP, "max_steps": 1, "train_dataset": tiny.make_dataset(1)}
    dataset = options.pop("train_dataset")

    def gradient(kind=SetLambdaTrainer, **more):
        _, g = tiny.train(tiny.make_config(tmp_path, **options, **more), kind, train_dataset=dataset)
        return np.concatenate([x.ravel() for x in g.steps[0].values()])

    grpo = gradient(SetStockTrainer, loss_type="grpo")
    power = gradient(loss_type="power", lambda_fixed=True, lambda_start=-1.0)
    for other in (power, gradient(loss_type="delta_l")):
        scale = other @ grpo / (grpo @ grpo)
        np.testing.assert_allclose(other, scale * grpo, atol=1e-6)
    dapo = gradient(SetStockTrainer, loss_type="dapo")
    assert np.abs(dapo - dapo @ grpo / (grpo @ grpo) * grpo).max() > 1e-3


def test_balanced_gives_each_sign_of_the_advantage_its_own_token_mean(tmp_path):
    trainer, _ = tiny.train(tiny.make_config(tmp_path, loss_type="balanced", max_steps=1))
    rows, _ = responses(trainer)
    lengths = np.array([len(c) for _, c in rows]).reshape(-1, GROUP)
    advantages = advantages_of(trainer, rows)
    loss = 0.0
    for o, a in zip(lengths, advantages):
        for side in (a > 0, a < 0):
            loss -= side.sum() * (o * a)[side].sum() / o[side].sum() / lengths.size
    assert logged(trainer, "loss") == pytest.approx([loss], rel=1e-5)
    assert logged(trainer, "preference/weight_std")[0] > 0


def test_kl_is_neither_weighted_nor_part_of_lambda_s_gradient(tmp_path):
    """With rewards all alike the loss is the KL term alone."""
    options = {"beta": 0.5, "lambda_start": 2.0, "num_iterations": 2}
    alike = {"reward_funcs": lambda completions, **_: [1.0] * len(completions), "peft_config": LORA}
    torch.manual_seed(1)
    ours, _ = tiny.train(tiny.make_config(tmp_path, **options), **alike)
    torch.manual_seed(1)
    stock, _ = tiny.train(tiny.make_config(tmp_path, loss_type="dapo", **options), SetStockTrainer, **alike)
    assert logged(stock, "kl")[0] > 1e-3
    moved = [values for name, values in weights_of(stock).items() if "lora_B" in name]  # which start at 0
    assert max(np.abs(values).max() for values in moved) > 1e-3
    assert largest_difference(weights_of(ours), weights_of(stock)) == 0.0
    assert logged(ours, "preference/gradient") == [0.0, 0.0]
    assert float(ours.preference.value) == 2.0


# The layout of the batch does not matter


@pytest.mark.parametrize("form", ["lambda", "power"])
def test_gradients_do_not_depend_on_how_the_batch_is_split(tmp_path, form):
    options = {"loss_type": form, "num_iterations": 2, "max_steps": 4, "lambda_start": 0.5}
    whole = record(*tiny.train(tiny.make_config(tmp_path, **options)))
    split = record(*tiny.train(tiny.make_config(tmp_path, **options, **LAYOUT_4X16)))
    assert abs(whole["0 lambda"]) > 0.01
    assert whole["3 lambda"] != whole["0 lambda"]
    assert largest_difference(whole, split) < 1e-6


def test_two_steps_a_generation_have_the_mean_gradient_of_the_whole_generation(tmp_path):
    still = {"learning_rate": 0.0, "lambda_fixed": True, "lambda_start": 1.5}
    whole = record(*tiny.train(tiny.make_config(tmp_path, max_steps=1, **still)))
    options = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2, "steps_per_generation": 4}
    halves = record(*tiny.train(tiny.make_config(tmp_path, max_steps=2, **options, **still)))
    means = {
        name: (g + halves["1" + name[1:]]) / 2 if name.startswith("0") else g
        for name, g in halves.items()
        if not name.startswith("1")
    }
    assert largest_difference(whole, means) < 1e-6


# The replica of the authors' runs


def test_micro_batches_as_groups_have_the_gradient_of_their_own_objective(tmp_path, caplog):
    lam, h = 0.7, 1e-5
    options = LAYOUT_4X16 | {"lambda_group_by": "micro_batch", "lambda_start": lam, "lambda_r": 0.2}
    with caplog.at_level(logging.WARNING, "evenhand.grpo.trainer"):
        trainer, _ = tiny.train(tiny.make_config(tmp_path, **options, max_steps=1))
    assert len([r for r in caplog.records if "replica of the authors' public runs" in r.getMessage()]) == 1
    parts = trainer._buffered_inputs
    lengths = np.stack([part["completion_mask"].sum(dim=1).numpy() for part in parts])
    sums = lengths * np.stack([part["advantages"].numpy() for part in parts])
    assert lengths.shape == (4, 16)

    def objective(at):
        return (paper_weights(lengths, at, r=0.2) * sums).sum() / lengths.sum()

    slope = (objective(lam + h) - objective(lam - h)) / (2 * h)
    by_prompt, _ = tiny.train(
        tiny.make_config(tmp_path, **options | {"lambda_group_by": "prompt"}, max_steps=1)
    )
    assert logged(by_prompt, "preference/gradient") != pytest.approx([slope], rel=1e-2)
    assert logged(trainer, "preference/gradient") == pytest.approx([slope], rel=1e-4)
    assert logged(trainer, "loss") == pytest.approx([-objective(lam)], rel=1e-4)
    assert logged(trainer, "preference/weight_max") == pytest.approx(
        [paper_weights(lengths, lam, r=0.2).max()]
    )


def test_a_micro_batch_that_is_one_prompt_s_group_is_the_paper_s_form(tmp_path):
    def run(**options):
        args = tiny.make_config(tmp_path, per_device_train_batch_size=GROUP, lambda_start=0.5, **options)
        return record(*tiny.train(args, train_dataset=tiny.make_dataset(1)))

    assert largest_difference(run(), run(lambda_group_by="micro_batch")) < 1e-6


def test_the_bound_on_r_is_that_of_the_micro_batch_in_the_replica(tmp_path):
    args = {"lambda_group_by": "micro_batch", "per_device_train_batch_size": 16, "lambda_r": 0.3}
    with pytest.raises(
        ValueError, match=r"lambda_r .* = 0\.266667 .*Lower lambda_r or per_device_train_batch_size"
    ):
        tiny.make_config(tmp_path, **args)
    assert tiny.make_config(tmp_path, **args | {"lambda_group_by": "prompt"}).lambda_r == 0.3


def test_lora_and_its_split_batch(tmp_path):
    def run(**options):
        torch.manual_seed(1)
        return tiny.train(tiny.make_config(tmp_path, lambda_start=0.5, **options), peft_config=LORA)

    trainer, gradients = run()
    assert all("lora" in name for name in gradients.steps[0])
    assert float(trainer.preference.value) != 0.5
    assert largest_difference(record(trainer, gradients), record(*run(**LAYOUT_4X16))) < 1e-6


@pytest.mark.parametrize("whole_model", [False, True])
def test_bf16_keeps_lambda_in_float32(tmp_path, whole_model):
    model = tiny.make_model(torch.bfloat16 if whole_model else torch.float32)
    trainer, _ = tiny.train(tiny.make_config(tmp_path, bf16=True), model=model)
    exact, _ = tiny.train(tiny.make_config(tmp_path))
    assert trainer.preference.value.dtype == torch.float32
    assert logged(trainer, "preference/gradient")[0] == pytest.approx(
        logged(exact, "preference/gradient")[0], rel=1e-3
    )  # on-policy it needs lengths and advantages only


def test_evaluation_has_groups_of_its_own_size_and_does_not_move_lambda(tmp_path):
    args = tiny.make_config(tmp_path, num_generations_eval=4, per_device_eval_batch_size=8, lambda_start=1.0)
    trainer, _ = tiny.train(args, eval_dataset=tiny.make_dataset(4))
    before = trainer.preference.state_dict()
    assert math.isfinite(trainer.evaluate()["eval_loss"])
    trainer.preference.step()  # with whatever gradient evaluation may have left
    assert trainer.preference.state_dict() == before


def test_cispo_takes_the_weights_of_a_fixed_lambda(tmp_path):
    def run(kind=SetLambdaTrainer, **options):
        return weights_of(tiny.train(tiny.make_config(tmp_path, **options), kind)[0])

    stock = run(SetStockTrainer, loss_type="cispo", epsilon_high=5.0)
    fixed = {"lambda_fixed": True, "lambda_base_loss": "cispo", "epsilon_high": 5.0}
    assert largest_difference(run(**fixed), stock) == 0.0
    assert largest_difference(run(**fixed, lambda_start=3.0), stock) > 1e-4


# Look-ahead

LOOK_AHEAD = {"lambda_signal": "look_ahead", "loss_type": "power"}


class LambdaAtStep(TrainerCallback):
    """Sets λ before a step."""

    trainer = None

    def __init__(self, at, value):
        self.at, self.value = at, value

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.at:
            preference = self.trainer.preference
            preference.load_state_dict(preference.state_dict() | {"value": self.value})


def run_with_lambda_set(folder, lam, **options):
    """λ is set for the second step, which AdamW takes with moments of the first."""
    args = tiny.make_config(folder, lambda_fixed=True, **LOOK_AHEAD, **options)
    setter = LambdaAtStep(1, lam)
    parts = {"model": tiny.make_model(torch.float64), "train_dataset": tiny.make_dataset(24)}
    setter.trainer = tiny.make_trainer(args, callbacks=[setter], **parts)
    setter.trainer.train()
    return setter.trainer


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 0.1])
def test_look_ahead_is_the_slope_of_the_next_batch_s_reward(tmp_path, optim, max_grad_norm):
    """The policy's likelihood of the third batch, by the advantages, after a second step under λ ± h."""
    options = {
        "optim": optim,
        "max_grad_norm": max_grad_norm,
        "learning_rate": {"sgd": 0.1, "adamw_torch": 1e-3}[optim],
    }
    lam, h = 0.5, 2.0**-7  # λ and f are float32 in a trainer, and AdamW's second step bends: hence 5 %
    trainer = run_with_lambda_set(tmp_path, lam, max_steps=3, **options)
    if max_grad_norm:  # without one transformers 5.0 logs no norm
        assert min(logged(trainer, "grad_norm")) > max_grad_norm
    rows = responses(trainer, 24)[0][2 * 8 * GROUP :]
    advantages = advantages_of(trainer, rows).ravel()
    n_tokens = sum(len(completion) for _, completion in rows)

    def reward_after(at):
        model = run_with_lambda_set(tmp_path, at, max_steps=2, **options).model
        total = 0.0
        for (prompt, completion), advantage in zip(rows, advantages):
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
            logps = logits.log_softmax(-1)[range(len(completion)), completion]
            total += advantage * logps.sum().item()
        return total / n_tokens

    slope = (reward_after(lam + h) - reward_after(lam - h)) / (2 * h)
    assert logged(trainer, "preference/look_ahead")[0] == 0.0
    assert logged(trainer, "preference/look_ahead")[2] == pytest.approx(slope, rel=0.05)
    assert abs(logged(trainer, "preference/look_ahead_cosine")[2]) > 0.01


def test_lambda_climbs_the_cosine_within_its_bounds_and_nothing_else_changes(tmp_path):
    options = LOOK_AHEAD | {"max_steps": 3, "lambda_bounds": [-0.5, 0.5], "lambda_learning_rate": 0.2}
    trainer, gradients = tiny.train(tiny.make_config(tmp_path, **options))
    lambdas = [*logged(trainer, "preference/lambda"), float(trainer.preference.value)]
    cosines = logged(trainer, "preference/look_ahead_cosine")
    assert lambdas[1:] == pytest.approx([lam + 0.2 * c for lam, c in zip(lambdas, cosines)], rel=1e-6)
    assert lambdas[3] != 0.0
    surrogate, others = tiny.train(tiny.make_config(tmp_path, **options | {"lambda_signal": "surrogate"}))
    assert logged(trainer, "preference/gradient")[0] == logged(surrogate, "preference/gradient")[0] != 0.0
    assert largest_difference(gradients.steps[0], others.steps[0]) == 0.0
    assert surrogate.look_ahead is None
    bound, _ = tiny.train(tiny.make_config(tmp_path, **options | {"lambda_learning_rate": 1e6}))
    assert abs(float(bound.preference.value)) == 0.5


def test_look_ahead_does_not_depend_on_how_the_batch_is_split(tmp_path):
    options = LOOK_AHEAD | {"max_steps": 3, "lambda_start": 0.5}
    whole = record(*tiny.train(tiny.make_config(tmp_path, **options)))
    split = record(*tiny.train(tiny.make_config(tmp_path, **options, **LAYOUT_4X16)))
    assert abs(whole["2 look-ahead"]) > 1e-4
    assert largest_difference(whole, split) < 1e-6


def test_look_ahead_of_lora_keeps_what_it_trains_and_no_more(tmp_path):
    def run(**options):
        torch.manual_seed(1)
        args = tiny.make_config(tmp_path, **LOOK_AHEAD, max_steps=3, **options)
        return tiny.train(args, peft_config=LORA)

    trainer, gradients = run()
    kept = trainer.look_ahead.state_dict()
    assert kept.keys() == {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert all("lora" in name for name in kept)
    assert abs(logged(trainer, "preference/look_ahead_cosine")[2]) > 1e-3
    assert largest_difference(record(trainer, gradients), record(*run(**LAYOUT_4X16))) < 1e-6


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"bf16": True}])
def test_look_ahead_with_checkpointed_activations_and_in_bf16(tmp_path, options):
    def cosines(**more):
        trainer, _ = tiny.train(tiny.make_config(tmp_path, **LOOK_AHEAD, max_steps=3, **more))
        return logged(trainer, "preference/look_ahead_cosine")

    assert cosines(**options) == pytest.approx(cosines(), rel=1e-5 if "bf16" not in options else 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_signal": "reward"}, "lambda_signal .*surrogate, look_ahead"),
        ({"lambda_group_by": "micro_batch"}, "lambda_group_by='micro_batch' cannot go"),
        ({"lambda_base_loss": "cispo", "lambda_fixed": True}, "lambda_base_loss='cispo' cannot go"),
        ({"num_iterations": 2}, "num_iterations=2 cannot go"),
        ({"torch_compile": True}, "torch_compile=True cannot go"),
        (
            {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
            "use_reentrant cannot go",
        ),
    ],
)
def test_what_look_ahead_cannot_go_with_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        tiny.make_config(tmp_path, **LOOK_AHEAD | options)


def test_an_optimiser_that_look_ahead_cannot_differentiate_is_refused_before_training(tmp_path):
    def never(**_):
        raise AssertionError("generated")

    for args, parts in (
        (tiny.make_config(tmp_path, **LOOK_AHEAD, optim="adafactor"), {}),
        (tiny.make_config(tmp_path, **LOOK_AHEAD), {"model": (model := tiny.make_model())}),
    ):
        if parts:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            parts["optimizers"] = (optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer))
        trainer = tiny.make_trainer(args, reward_funcs=never, **parts)
        with pytest.raises(ValueError, match="look-ahead cannot differentiate"):
            trainer.train()


def test_sharded_training_is_refused_with_look_ahead(tmp_path, monkeypatch):
    trainer = tiny.make_trainer(tiny.make_config(tmp_path, **LOOK_AHEAD))
    monkeypatch.setattr(trainer.accelerator.state, "distributed_type", DistributedType.FSDP)
    with pytest.raises(ValueError, match="FSDP cannot go with lambda_signal='look_ahead'"):
        trainer._make_look_ahead()


# Checkpoints


def sampled(folder, **options):
    return tiny.make_config(
        folder,
        save_strategy="steps",
        save_steps=2,
        max_steps=4,
        optim="adamw_torch",
        lambda_pull=0.1,
        **options,
    )


@pytest.mark.parametrize("options", [{}, LAYOUT_4X16 | {"num_iterations": 2}, LOOK_AHEAD])
def test_resuming_is_exact_to_the_bit(tmp_path, options):
    straight = tiny.make_trainer(sampled(tmp_path / "straight", **options), LambdaGRPOTrainer)
    straight.train()
    checkpoint = tmp_path / "straight" / "checkpoint-2"
    resumed = tiny.make_trainer(sampled(tmp_path / "resumed", **options), LambdaGRPOTrainer)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert json.loads((checkpoint / "lambda_state.json").read_text())["value"] != 0.0
    assert not [path for path in checkpoint.iterdir() if path.name.startswith(".")]
    assert resumed.preference.state_dict() == straight.preference.state_dict()
    assert largest_difference(weights_of(resumed), weights_of(straight)) == 0.0
    names = ("loss", "preference/lambda", "preference/gradient", "preference/weight_max")
    for name in (*names, "preference/look_ahead"):
        assert logged(resumed, name) == logged(straight, name)
    assert ("lambda_signal" in options) == (len(logged(straight, "preference/look_ahead")) == 4)


def test_lambda_is_no_parameter_of_the_model(tmp_path):
    trainer, _ = tiny.train(tiny.make_config(tmp_path, max_steps=1))
    stock = {name: tuple(p.shape) for name, p in tiny.make_model().state_dict().items()}
    assert {name: tuple(p.shape) for name, p in trainer.model.state_dict().items()} == stock


@pytest.mark.parametrize(
    ("written", "resumed", "message"),
    [
        ({"loss_type": "dapo"}, {}, "lambda_state.json is missing.*loss_type='lambda'.*`model`"),
        ({"loss_type": "power"}, {}, "lambda_state.json: .*'power'"),
        ({}, {"lambda_bounds": [-1.0, 1.0]}, "lambda_state.json: .*bounds"),
        ({"loss_type": "power"}, LOOK_AHEAD, "look_ahead.safetensors is missing.*'surrogate'.*`model`"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, written, resumed, message):
    tiny.train(tiny.make_config(tmp_path, max_steps=1, save_strategy="steps", save_steps=1, **written))
    trainer = tiny.make_trainer(tiny.make_config(tmp_path, **resumed))
    with pytest.raises(ValueError, match=message):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_damaged_last_update_is_named(tmp_path):
    options = LOOK_AHEAD | {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    tiny.train(tiny.make_config(tmp_path, **options))
    file = tmp_path / "checkpoint-1" / "look_ahead.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    trainer = tiny.make_trainer(tiny.make_config(tmp_path, **options))
    with pytest.raises(ValueError, match=r"look_ahead\.safetensors: "):
        trainer.train(resume_from_checkpoint=str(file.parent))


# Options


def test_options_come_from_flags_and_from_yaml(tmp_path):
    flags = ["--loss_type", "power", "--lambda_bounds", "-2", "4.5", "--lambda_fixed", "--lambda_start", "-1"]
    (args,) = TrlParser(LambdaGRPOConfig).parse_args_and_config([*flags, "--use_cpu", "--bf16", "false"])
    assert (args.loss_type, args.lambda_bounds, args.lambda_start) == ("power", [-2.0, 4.5], -1.0)
    assert args.lambda_fixed
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "loss_type: lambda\nlambda_r: 0.2\nlambda_bounds: [-1, 1]\nuse_cpu: true\nbf16: false\n"
    )
    (args,) = TrlParser(LambdaGRPOConfig).parse_args_and_config(["--config", str(recipe)])
    assert (args.lambda_r, args.lambda_bounds, args.lambda_learning_rate) == (0.2, [-1, 1], 0.1)
    TrlParser(LambdaGRPOConfig).format_help()  # a bare % in a help text would end in an error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_base_loss": "cispo"}, "lambda_base_loss='cispo'.*lambda_fixed=True"),
        ({"lambda_base_loss": "vespo", "loss_type": "power"}, "lambda_base_loss='vespo'.*lambda_fixed=True"),
        ({"lambda_base_loss": "grpo"}, "lambda_base_loss .*dapo, cispo, vespo"),
        ({"lambda_r": math.sqrt(8) / 7}, "lambda_r .*lambda_clamp=True"),
        ({"lambda_r": 0.0, "lambda_clamp": True}, "lambda_r .*positive"),
        ({"lambda_start": 3.5}, "lambda_start .*lambda_bounds"),
        ({"lambda_bounds": [1.0]}, "lambda_bounds"),
        ({"lambda_bounds": [1.0, -1.0]}, "lambda_bounds"),
        ({"lambda_learning_rate": 0.0}, "lambda_learning_rate .*lambda_fixed=True"),
        ({"lambda_pull": -1.0}, "lambda_pull"),
        ({"lambda_group_by": "batch"}, "lambda_group_by .*prompt, micro_batch"),
    ],
)
def test_options_that_cannot_be_right_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        tiny.make_config(tmp_path, **options)


def test_the_bound_on_r_is_of_the_paper_s_form_only(tmp_path):
    assert tiny.make_config(tmp_path, loss_type="power", lambda_r=2.0).lambda_r == 2.0
    assert tiny.make_config(tmp_path, lambda_r=math.sqrt(8) / 7 - 1e-6).lambda_r > 0.4


def test_a_fixed_lambda_may_lie_outside_the_bounds(tmp_path):
    args = tiny.make_config(tmp_path, lambda_fixed=True, lambda_start=-4.0, max_steps=1)
    assert float(tiny.train(args)[0].preference.value) == -4.0


def test_args_of_another_class_are_refused(tmp_path):
    with pytest.raises(TypeError, match="LambdaGRPOConfig, not a GRPOConfig"):
        tiny.make_trainer(
            GRPOTrainer.__init__.__globals__["GRPOConfig"](str(tmp_path), bf16=False, use_cpu=True)
        )


def test_args_keep_the_loss_type_that_was_asked_for(tmp_path):
    trainer = tiny.make_trainer(tiny.make_config(tmp_path, loss_type="power"))
    assert (trainer.args.loss_type, trainer.loss_type) == ("power", "dapo")


def test_a_liger_loss_is_refused_where_trl_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr(GRPOTrainer, "compute_liger_loss", lambda *_: None, raising=False)
    with pytest.raises(ValueError, match=r"use_liger_kernel=True.*Set use_liger_kernel=False"):
        tiny.make_config(tmp_path, use_liger_kernel=True)


def test_a_trainer_that_is_patched_past_the_weights_is_refused(tmp_path, monkeypatch):
    def patched(self, model, inputs, *_, **__):
        return GRPOTrainer._compute_loss(self, model, inputs)

    monkeypatch.setattr(GRPOTrainer, "compute_loss", patched)
    with pytest.raises(ValueError, match=r"loss_type='lambda' had no effect.*unsloth"):
        tiny.train(tiny.make_config(tmp_path))
    tiny.train(tiny.make_config(tmp_path, loss_type="dapo"))


# The log


def test_each_step_logs_what_lambda_did(tmp_path):
    trainer, _ = tiny.train(tiny.make_config(tmp_path, loss_type="lambda", lambda_start=2.0, lambda_r=0.3))
    rows, _ = responses(trainer)
    lengths = np.array([len(c) for _, c in rows]).reshape(-1, GROUP)
    advantages = advantages_of(trainer, rows)
    z = (lengths - lengths.mean(1, keepdims=True)) / lengths.std(1, ddof=1, keepdims=True)
    f = paper_weights(lengths, 2.0, r=0.3)
    longest = np.argsort(-lengths, axis=1)[:, :2]
    tokens = f * lengths
    expected = {
        "lambda": 2.0,
        "r_lambda": 0.6,
        "weight_min": f.min(),
        "weight_max": f.max(),
        "weight_std": f.std(),
        "longest_quarter_share": np.take_along_axis(tokens, longest, 1).sum() / tokens.sum(),
        "advantage_length_corr": np.corrcoef(advantages.ravel(), z.ravel())[0, 1],
        "informative_groups": 1.0,
        "clamped_bases": 0.0,
    }
    first = {name: trainer.state.log_history[0]["preference/" + name] for name in expected}
    assert first == pytest.approx(expected, rel=1e-5)
    assert logged(trainer, "preference/lambda")[1] != 2.0


def test_the_power_form_s_r_is_the_mean_of_sigma_over_mu(tmp_path):
    trainer, _ = tiny.train(tiny.make_config(tmp_path, loss_type="power", lambda_start=2.0, max_steps=1))
    lengths = np.array([len(c) for _, c in responses(trainer)[0]]).reshape(-1, GROUP)
    r = (lengths.std(1, ddof=1) / lengths.mean(1)).mean()
    assert logged(trainer, "preference/r_lambda") == pytest.approx([2 * r], rel=1e-6)


@pytest.mark.parametrize(("lam", "said"), [(0.1, True), (0.5, False)])
def test_a_run_that_is_dapo_in_effect_says_so_once(tmp_path, caplog, lam, said):
    args = tiny.make_config(tmp_path, lambda_fixed=True, lambda_start=lam)
    trainer = tiny.make_trainer(args)
    with caplog.at_level(logging.WARNING, "evenhand.grpo.trainer"):
        trainer.train()
        trainer.train()
    messages = [r.getMessage() for r in caplog.records if "in effect DAPO" in r.getMessage()]
    assert len(messages) == said


def test_clamped_bases_are_counted_and_told_once(tmp_path, caplog):
    args = tiny.make_config(tmp_path, lambda_r=0.9, lambda_clamp=True, max_steps=3)
    with caplog.at_level(logging.WARNING, "evenhand.grpo.trainer"):
        trainer, _ = tiny.train(args)
    assert min(logged(trainer, "preference/clamped_bases")) > 0
    assert len([r for r in caplog.records if "lambda_r (0.9) is too large" in r.getMessage()]) == 1


class AllTruncated(SetLambdaTrainer):
    def _completion(self, prompt, place):
        return [3 + place] * 16


@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_cut_off_without_reward_is_told_once_and_leaves_lambda(tmp_path, caplog, masked):
    args = tiny.make_config(tmp_path, mask_truncated_completions=masked)
    with caplog.at_level(logging.WARNING, "evenhand.grpo.trainer"):
        trainer, _ = tiny.train(
            args, AllTruncated, reward_funcs=lambda completions, **_: [0.0] * len(completions)
        )
    assert len([r for r in caplog.records if "100% of the completions were cut off" in r.getMessage()]) == 1
    assert float(trainer.preference.value) == 0.0
    assert logged(trainer, "preference/gradient") == [0.0, 0.0]
    assert logged(trainer, "preference/informative_groups") == [0.0, 0.0]


def test_the_mathematics_is_imported_without_trl():
    code = "import sys, evenhand.grpo.preference; sys.exit(bool({'trl', 'transformers'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
