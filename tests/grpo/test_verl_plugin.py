"""What needs verl skips where it is not installed: it pins versions that TRL's path does not share."""

import importlib.util
import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evenhand.grpo import verl_plugin
from evenhand.grpo.aggregation import aggregate, preference_gradient, response_weights
from evenhand.grpo.lambda_state import STATE_FILE
from evenhand.grpo.preference import LearnablePreference
from evenhand.grpo.verl_plugin import LambdaAdvantage, LambdaOptions, weigh

HAS_VERL = importlib.util.find_spec("verl") is not None
needs_verl = pytest.mark.skipif(
    not HAS_VERL, reason="verl is not installed; it needs an environment of its own (CONTRIBUTING.md)"
)
GROUP, TOKENS = 5, 12


def made_up(n_prompts=6, seed=0):
    """Rewards, mask and uids of a shuffled batch with a response that is masked as a whole, and padding."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, TOKENS + 1, size=n_prompts * GROUP)
    lengths[7] = 0
    uids = np.array(
        [f"prompt {i}" for i in range(n_prompts) for _ in range(GROUP)] + ["pad"] * 2, dtype=object
    )
    lengths = np.append(lengths, [0, 0])
    order = rng.permutation(len(uids))
    lengths, uids = lengths[order], uids[order]
    mask = torch.arange(TOKENS) < torch.tensor(lengths)[:, None]
    scores = torch.tensor(rng.normal(size=len(uids)) + 0.3 * lengths, dtype=torch.float32)
    scores = torch.where(mask.any(dim=1), scores, 0.0)
    rewards = torch.zeros(mask.shape)
    rewards[torch.arange(len(uids)), (mask.sum(dim=1) - 1).clamp(min=0)] = scores
    return rewards, mask.long(), uids


def ids_of(uids):
    return torch.tensor(np.unique(uids.astype(str), return_inverse=True)[1])


# The mathematics, with or without verl


@pytest.mark.parametrize("form", ["lambda", "power"])
def test_weights_and_gradient_are_those_of_the_shared_functions(form):
    _, mask, uids = made_up()
    lengths = mask.sum(dim=1)
    sums = lengths * torch.randn(len(lengths), generator=torch.Generator().manual_seed(0))
    batch = weigh(LearnablePreference(form, start=0.7), lengths, sums, uids)
    lam = torch.tensor(0.7, requires_grad=True)
    expected = response_weights(form, lengths, ids_of(uids), lam=lam, counted=lengths > 0)
    (gradient,) = torch.autograd.grad((expected * sums).sum() / lengths.sum(), lam)
    assert abs(gradient) > 0.01
    torch.testing.assert_close(batch.weights, expected.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(batch.gradient, gradient, rtol=0, atol=1e-6)


def test_the_order_of_rows_does_not_matter():
    _, mask, uids = made_up()
    lengths = mask.sum(dim=1)
    sums = lengths * torch.randn(len(lengths), generator=torch.Generator().manual_seed(0))
    preference = LearnablePreference("power", start=-0.8)
    batch = weigh(preference, lengths, sums, uids)
    order = torch.randperm(len(uids), generator=torch.Generator().manual_seed(1))
    shuffled = weigh(preference, lengths[order], sums[order], uids[order.numpy()])
    assert float((shuffled.weights - batch.weights[order]).abs().max()) < 1e-6
    assert float(shuffled.gradient - batch.gradient) == pytest.approx(0, abs=1e-6)
    assert shuffled.figures == pytest.approx(batch.figures, abs=1e-5)


def test_a_batch_without_tokens_moves_nothing():
    batch = weigh(LearnablePreference(start=1.0), torch.zeros(4), torch.zeros(4), ["a", "a", "b", "b"])
    assert batch.weights.tolist() == [0.0] * 4
    assert float(batch.gradient) == 0.0


@pytest.mark.parametrize("form", ["lambda", "power"])
def test_it_is_the_trl_path_on_a_batch_that_trl_generated(tmp_path, form):
    pytest.importorskip("trl", reason="trl is not installed")
    sys.path.insert(0, str(Path(__file__).parent))
    import tiny_policy as tiny

    options = {"loss_type": form, "lambda_start": 0.7, "lambda_learning_rate": 1.0}
    trainer, _ = tiny.train(tiny.make_config(tmp_path, **options, max_steps=1))
    (inputs,) = trainer._buffered_inputs
    theirs = tiny.logged(trainer, "preference/gradient")[0]
    lengths = inputs["completion_mask"].sum(dim=1)
    preference = LearnablePreference(form, start=0.7, learning_rate=1.0)
    uids = [prompt.tobytes() for prompt in inputs["prompt_ids"].numpy()]
    batch = weigh(preference, lengths, lengths * inputs["advantages"], uids)
    assert len(set(uids)) == 8
    assert float(batch.gradient) == pytest.approx(theirs, abs=1e-6)
    preference.accumulate(batch.gradient)
    preference.step()
    assert float(preference.value) == pytest.approx(float(trainer.preference.value), abs=1e-6)
    trainer.preference.load_state_dict(trainer.preference.state_dict() | {"value": 0.7})
    weights = trainer._weights(inputs["group_bases"], inputs["group_counted"])
    weights = weights.gather(1, inputs["group_place"][:, None]).squeeze(1)
    assert float((weights - batch.weights).abs().max()) < 1e-6
    for name, figure in batch.figures.items():
        assert tiny.logged(trainer, name) == pytest.approx([figure], abs=1e-5), name


# Options and messages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 1}, "algorithm.lambda_grpo has no option 'lr'; it has form, start"),
        ({"form": "grpo"}, "algorithm.lambda_grpo: form is 'grpo'; choose one of lambda, power"),
        ({"start": 4}, "algorithm.lambda_grpo: start is 4.0"),
        ({"start": "high"}, "algorithm.lambda_grpo.start is 'high'; give a finite number"),
        ({"fixed": "yes"}, "algorithm.lambda_grpo.fixed is 'yes'; give true or false"),
        ({"learning_rate": True}, "algorithm.lambda_grpo.learning_rate is True; give a finite number"),
        ({"bounds": [1]}, r"algorithm.lambda_grpo.bounds is \[1\]; give two finite numbers"),
        ({"bounds": "35"}, "algorithm.lambda_grpo.bounds is '35'; give two finite numbers, like"),
        ({"bounds": ["-3", "3"]}, "algorithm.lambda_grpo.bounds is .*; give two finite numbers"),
        ({"bounds": [-math.inf, 3]}, "algorithm.lambda_grpo.bounds is .*; give two finite numbers"),
        ({"bounds": [3, -3]}, "algorithm.lambda_grpo: bounds is .*, the lower first"),
        ({"bounds": {"low": -3, "high": 3}}, "algorithm.lambda_grpo.bounds is .*; give two finite numbers"),
        ({"start": math.inf, "fixed": True}, "algorithm.lambda_grpo.start is inf; give a finite number"),
        ({"learning_rate": 10**400}, "algorithm.lambda_grpo.learning_rate is 1000+; give a finite number"),
        ({"form": None}, "algorithm.lambda_grpo.form is None; give text"),
        ({"r": math.nan}, "algorithm.lambda_grpo.r is nan; give a finite number"),
        ("power", "algorithm.lambda_grpo is 'power'; give options by name"),
        (5, "algorithm.lambda_grpo is 5; give options by name"),
        ({"r": 0}, "algorithm.lambda_grpo.r is 0.0"),
    ],
)
def test_an_option_that_cannot_be_right_is_refused_by_its_name(options, message):
    with pytest.raises(ValueError, match=message):
        LambdaOptions.read(options)


def test_a_fixed_lambda_may_lie_outside_the_bounds_and_stays():
    preference = LambdaOptions.read({"start": -4, "fixed": True, "bounds": [-1, 1]}).preference()
    preference.accumulate(10.0)
    preference.step()
    assert float(preference.value) == -4.0


def test_a_reward_that_is_none_is_named_by_its_row_and_prompt(monkeypatch):
    monkeypatch.setattr(verl_plugin, "_grpo_advantages", lambda: None)
    rewards, mask, uids = made_up()
    rewards[3, 1] = math.nan
    estimator = LambdaAdvantage()
    with pytest.raises(ValueError, match=rf"row 3 of the batch \(uid '{uids[3]}'\) is nan; mend the reward"):
        estimator(rewards, mask, uids)
    assert estimator.preference is None


def test_a_checkpoint_to_resume_from_has_to_be_named():
    trainer = SimpleNamespace(resume_mode="resume_path", resume_from_path=None)
    with pytest.raises(ValueError, match=r"trainer\.resume_from_path is not given"):
        verl_plugin._resumed_folder(trainer)


def test_without_verl_the_module_is_imported_and_says_what_is_missing_when_used():
    code = (
        "import sys; sys.modules['verl'] = None\n"
        "from evenhand.grpo.verl_plugin import ESTIMATOR\n"
        "assert not {'trl', 'transformers'} & set(sys.modules)\n"
        "import torch; ESTIMATOR(torch.zeros(2, 3), torch.ones(2, 3), ['a', 'a'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: the estimator lambda_grpo needs verl" in run.stderr
    assert "LambdaGRPOTrainer" in run.stderr


# With verl


def data_proto(rewards, mask, uids):
    from verl import DataProto

    return DataProto.from_dict(
        tensors={"token_level_rewards": rewards, "response_mask": mask}, non_tensors={"uid": uids}
    )


@pytest.fixture
def estimator(monkeypatch):
    """verl's registry with an estimator of this test's own."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    fresh = LambdaAdvantage()
    monkeypatch.setitem(ADV_ESTIMATOR_REGISTRY, "lambda_grpo", fresh)
    monkeypatch.setattr(verl_plugin, "ESTIMATOR", fresh)
    return fresh


def verl_config(*overrides):
    """verl's own configuration, as its command line puts it together."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=["algorithm.adv_estimator=lambda_grpo", *overrides])


def compute(data, config):
    """What verl's trainer does with a batch."""
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    keys = [f"{uid}_{row}_0" for row, uid in enumerate(data.non_tensor_batch["uid"])]
    return compute_advantage_for_multi_trajectories(
        data,
        keys,
        config.algorithm.adv_estimator,
        norm_adv_by_std_in_grpo=config.algorithm.norm_adv_by_std_in_grpo,
        config=config.algorithm,
    )


@needs_verl
def test_verl_finds_the_plugin_by_its_entry_point():
    from importlib.metadata import entry_points

    if "evenhand" not in entry_points(group="verl.plugins").names:
        pytest.skip("evenhand is on the path, but not installed")
    code = (
        "from verl.trainer.ppo.core_algos import get_adv_estimator_fn\n"
        "import sys; estimator = get_adv_estimator_fn('lambda_grpo')\n"
        "assert estimator is sys.modules['evenhand.grpo.verl_plugin'].ESTIMATOR"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_verl
@pytest.mark.parametrize("form", ["lambda", "power"])
def test_verl_s_advantages_are_grpo_s_times_f_and_lambda_moves_by_the_closed_form(estimator, form):
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    rewards, mask, uids = made_up()
    config = verl_config(f"+algorithm.lambda_grpo={{form: {form}, start: 0.7, learning_rate: 1}}")
    data = compute(data_proto(rewards, mask, uids), config)
    plain, _ = compute_grpo_outcome_advantage(rewards, mask, uids)
    lengths, lam = mask.sum(dim=1), torch.tensor(0.7, requires_grad=True)
    f = response_weights(form, lengths, ids_of(uids), lam=lam, counted=lengths > 0)
    assert float((data.batch["advantages"] - plain * f.detach()[:, None]).abs().max()) < 1e-6
    assert torch.equal(data.batch["returns"], plain)
    (slopes,) = torch.autograd.grad((f * plain.sum(dim=1)).sum(), lam)
    gradient = preference_gradient(slopes, torch.ones(()), lengths.sum())
    assert abs(gradient) > 0.01
    assert float(estimator.preference.value) == pytest.approx(0.7 + float(gradient), abs=1e-6)


@needs_verl
def test_at_lambda_0_it_is_verl_s_grpo_to_the_bit(estimator):
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    rewards, mask, uids = made_up()
    config = verl_config("algorithm.norm_adv_by_std_in_grpo=false")
    data = compute(data_proto(rewards, mask, uids), config)
    plain, _ = compute_grpo_outcome_advantage(rewards, mask, uids, norm_adv_by_std_in_grpo=False)
    assert torch.equal(data.batch["advantages"], plain)
    assert float(estimator.preference.value) != 0.0


def verl_gradient(data, config, ranks, micro):
    """∂loss/∂logits of each row, by verl's own loss, over ranks and micro-batches; gradients are averaged."""
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.utils.config import omega_conf_to_dataclass

    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    n_tokens, rows = int(data.batch["response_mask"].sum()), []
    for rank in data.chunk(ranks):
        for part in rank.split(micro):
            actor.global_batch_info.update(dp_size=ranks, batch_num_tokens=n_tokens)
            logits = torch.zeros(part.batch["response_mask"].shape, requires_grad=True)
            old = logits.detach()
            loss, _ = get_policy_loss_fn("vanilla")(
                old, logits, part.batch["advantages"], part.batch["response_mask"], "token-mean", actor
            )
            rows.append(torch.autograd.grad(loss, logits)[0] / ranks)
    return torch.cat(rows)


@needs_verl
@pytest.mark.parametrize(("ranks", "micro"), [(1, 32), (1, 4), (2, 16), (2, 4)])
def test_verl_s_loss_has_the_objective_s_gradient_on_any_split(estimator, ranks, micro):
    rewards, mask, uids = made_up()
    config = verl_config(
        "+algorithm.lambda_grpo={form: power, start: 1.5}",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4",
    )
    data = compute(data_proto(rewards, mask, uids), config)
    gradient = verl_gradient(data, config, ranks, micro)

    logps = torch.zeros(mask.shape, requires_grad=True)
    lengths = mask.sum(dim=1)
    f = response_weights("power", lengths, ids_of(uids), lam=1.5, counted=lengths > 0)
    per_token = logps.exp() * data.batch["returns"]
    (-aggregate(per_token, mask, f, lengths.sum())).backward()
    assert float(logps.grad.abs().max()) > 1e-3
    assert float((gradient - logps.grad).abs().max()) < 1e-6


@needs_verl
def test_a_batch_that_verl_reordered_moves_lambda_alike(estimator):
    rewards, mask, uids = made_up()
    config = verl_config("+algorithm.lambda_grpo={form: power, start: 0.5}")
    data = compute(data_proto(rewards, mask, uids), config)
    value = float(estimator.preference.value)
    order = torch.randperm(len(uids), generator=torch.Generator().manual_seed(2))
    other = data_proto(rewards, mask, uids)
    other.reorder(order)
    estimator.start(LambdaOptions("power", 0.5))
    other = compute(other, config)
    assert float((other.batch["advantages"] - data.batch["advantages"][order]).abs().max()) < 1e-6
    assert float(estimator.preference.value) == pytest.approx(value, abs=1e-6)


# Checkpoints


def callback_config(folder, *overrides):
    return verl_config(
        "trainer.checkpoint_callback_class=evenhand.grpo.verl_plugin.LambdaGRPO",
        f"trainer.default_local_dir={folder}",
        *overrides,
    )


def run_and_save(config, folder, step, seed):
    """A batch, and verl's own save of it, without a model."""
    from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    trainer = SimpleNamespace(
        config=config,
        checkpoint_callback=build_checkpoint_callback(config),
        global_steps=step,
        trainer_mode="sync",
        use_critic=False,
        actor_rollout_wg=SimpleNamespace(save_checkpoint=lambda *_, **__: None),
        train_dataloader=SimpleNamespace(state_dict=dict),
    )
    compute(data_proto(*made_up(seed=seed)), config)
    PPOTrainer._save_checkpoint(trainer)
    return folder / f"global_step_{step}"


@needs_verl
@pytest.mark.parametrize("by_path", [False, True])
def test_lambda_is_saved_and_resumed_to_the_bit(tmp_path, estimator, by_path):
    options = "+algorithm.lambda_grpo={form: power, learning_rate: 1}"
    config = callback_config(tmp_path, options)
    first = run_and_save(config, tmp_path, 1, seed=0)
    compute(data_proto(*made_up(seed=1)), config)
    straight = estimator.preference.state_dict()
    if by_path:
        (tmp_path / "latest_checkpointed_iteration.txt").unlink()
        config = callback_config(
            tmp_path, options, "trainer.resume_mode=resume_path", f"trainer.resume_from_path={first}"
        )
    second = run_and_save(config, tmp_path, 2, seed=1)
    assert json.loads((first / STATE_FILE).read_text()) != straight
    assert json.loads((second / STATE_FILE).read_text()) == straight
    assert sorted(path.name for path in first.iterdir()) == ["data.pt", STATE_FILE]
    log = [json.loads(line) for line in (tmp_path / verl_plugin.LOG_FILE).read_text().splitlines()]
    assert len(log) == 3
    assert log[0]["preference/lambda"] == 0.0
    assert log[1] == log[2]


@needs_verl
def test_a_run_that_starts_anew_takes_no_lambda(tmp_path, estimator):
    run_and_save(callback_config(tmp_path), tmp_path, 1, seed=0)
    verl_plugin.LambdaGRPO(callback_config(tmp_path, "trainer.resume_mode=disable"))
    assert float(estimator.preference.value) == 0.0


@needs_verl
def test_a_checkpoint_without_lambda_is_refused(tmp_path, estimator):
    config = callback_config(tmp_path)
    (run_and_save(config, tmp_path, 1, seed=0) / STATE_FILE).unlink()
    with pytest.raises(ValueError, match=r"lambda_state.json is missing: .*resume_mode=disable"):
        verl_plugin.LambdaGRPO(config)


@needs_verl
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm.adv_estimator=grpo"], "adv_estimator is 'grpo'.*set it to lambda_grpo"),
        (["actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean"], "loss_agg_mode.*'token-mean'"),
        (["actor_rollout_ref.actor.policy_loss.loss_mode=sapo"], "loss_mode is 'sapo'"),
        (["+algorithm.lambda_grpo.lr=1"], "has no option 'lr'"),
    ],
)
def test_settings_under_which_the_weights_would_do_something_else_are_refused(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        verl_plugin.LambdaGRPO(callback_config(tmp_path, *overrides))


@needs_verl
def test_a_lambda_that_is_not_kept_is_told_once(estimator, caplog):
    config = verl_config()
    with caplog.at_level(logging.WARNING, "evenhand.grpo.verl_plugin"):
        compute(data_proto(*made_up()), config)
        compute(data_proto(*made_up()), config)
    assert len([r for r in caplog.records if "learned but not kept" in r.getMessage()]) == 1


@needs_verl
def test_a_run_that_is_dapo_in_effect_is_told_at_its_checkpoints(tmp_path, estimator, caplog):
    with caplog.at_level(logging.WARNING, "evenhand.grpo.verl_plugin"):
        run_and_save(callback_config(tmp_path), tmp_path, 1, seed=0)
    assert [r for r in caplog.records if "in effect DAPO" in r.getMessage()]


@needs_verl
def test_bad_batches_are_refused(estimator):
    rewards, mask, uids = made_up()
    with pytest.raises(ValueError, match="no `uid`"):
        estimator(rewards, mask)
    rewards[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"reward of row 0 of the batch \(uid .*\) is nan"):
        estimator(rewards, mask, uids)
