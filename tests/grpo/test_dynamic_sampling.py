import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

sys.path.insert(0, str(Path(__file__).parent))
import tiny_policy as tiny
from tiny_policy import GROUP, logged

from evenhand.grpo.dynamic_sampling import check_rows, flat_groups, replace_rows
from evenhand.grpo.trainer import LambdaGRPOTrainer

PROMPTS = 30
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")


def run(folder, data=None, reward=tiny.half_flat, kind=tiny.SetLambdaTrainer, **options):
    data = tiny.make_dataset(PROMPTS) if data is None else data
    args = tiny.make_config(folder, **{"max_steps": 1, **options})
    lora = LORA if args.beta else None  # the model without it is the reference
    torch.manual_seed(1)
    return tiny.train(args, kind, reward_funcs=reward, train_dataset=data, peft_config=lora)


def prompts_of(trainer):
    """The groups' prompts of the latest generation, and each group's advantages."""
    groups: dict[str, list[float]] = {}
    for part in trainer._buffered_inputs:
        texts = trainer.processing_class.batch_decode(part["prompt_ids"], skip_special_tokens=True)
        for text, advantage in zip(texts, part["advantages"].tolist()):
            groups.setdefault(text, []).append(advantage)
    return groups


# The pieces


def test_a_group_is_flat_whatever_rounding_leaves():
    scores = torch.tensor([[0.1] * 3, [0.1 + 0.2, 0.3, 0.3], [0.0, 0.0, 1.0]])
    means = scores.mean(dim=1, keepdim=True)
    advantages = (scores - means) / (scores.std(dim=1, keepdim=True) + 1e-4)
    assert flat_groups(advantages).tolist() == [True, True, False]


def test_replaced_rows_are_padded_on_their_own_side():
    batch = {
        "prompt_ids": torch.tensor([[0, 3], [4, 5]]),
        "prompt_mask": torch.tensor([[0, 1], [1, 1]]),
        "completion_ids": torch.tensor([[6, 7, 8], [9, 0, 0]]),
        "tool_mask": torch.tensor([[1, 1, 0], [1, 1, 1]]),
        "advantages": torch.tensor([0.0, 0.5]),
        "num_items_in_batch": torch.tensor(4),
    }
    other = {
        "prompt_ids": torch.tensor([[1, 1, 1]]),
        "prompt_mask": torch.tensor([[1, 1, 1]]),
        "completion_ids": torch.tensor([[2, 2]]),
        "tool_mask": torch.tensor([[1, 0]]),
        "advantages": torch.tensor([-1.0]),
    }
    before = {name: rows.clone() for name, rows in batch.items()}
    new = replace_rows(batch, other, torch.tensor([0]), torch.tensor([0]), pad_token=0)
    assert new["prompt_ids"].tolist() == [[1, 1, 1], [0, 4, 5]]
    assert new["prompt_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    assert new["completion_ids"].tolist() == [[2, 2, 0], [9, 0, 0]]
    assert new["tool_mask"].tolist() == [[1, 0, 1], [1, 1, 1]]
    assert new["advantages"].tolist() == [-1.0, 0.5]
    assert all(torch.equal(batch[name], rows) for name, rows in before.items())


def test_what_cannot_be_moved_is_refused():
    with pytest.raises(
        ValueError, match=r"cannot go with pixel_values in a batch.*dynamic_sampling_rounds=0"
    ):
        check_rows({"prompt_ids": 0, "num_items_in_batch": 0, "pixel_values": 0})


# In training


@pytest.mark.parametrize(
    "options",
    [
        {"lambda_start": 0.7},
        {"loss_type": "power", "per_device_train_batch_size": 16, "gradient_accumulation_steps": 4},
        {"loss_type": "dapo"},
        {"loss_type": "grpo", "mask_truncated_completions": True},
        {"loss_type": "balanced", "scale_rewards": "none"},
        {"num_iterations": 2, "max_steps": 2, "beta": 0.01},
    ],
)
def test_the_step_is_that_of_the_groups_that_came_in(tmp_path, options):
    options = {**options, "learning_rate": 0.05}
    trainer, gradients = run(tmp_path, dynamic_sampling_rounds=10, **options)
    groups = prompts_of(trainer)
    kept = [prompt for prompt in tiny.make_dataset(8)["prompt"] if int(prompt[0]) % 2]
    assert len(groups) >= 7  # a prompt may have been drawn twice
    assert all(max(group) - min(group) > 0.1 for group in groups.values())
    assert set(kept) < set(groups)
    assert logged(trainer, "dynamic_sampling/resampled") == [4]
    assert logged(trainer, "dynamic_sampling/left") == [0]
    assert logged(trainer, "dynamic_sampling/rounds")[0] >= 1

    data = Dataset.from_dict({"prompt": [p for p, g in groups.items() for _ in range(len(g) // GROUP)]})
    direct, expected = run(tmp_path, data, **options)
    for step, other in zip(gradients.steps, expected.steps, strict=True):
        assert tiny.largest_difference(step, other) < 1e-6
    assert logged(trainer, "preference/gradient") == pytest.approx(
        logged(direct, "preference/gradient"), abs=1e-6
    )


def test_the_rounds_are_bounded_and_what_stays_flat_stays(tmp_path):
    calls = []

    def always(completions, **_):
        calls.append(len(completions))
        return [1.0] * len(completions)

    trainer, _ = run(tmp_path, reward=always, dynamic_sampling_rounds=3)
    assert calls == [64] * 4
    assert logged(trainer, "dynamic_sampling/left") == [8]
    assert logged(trainer, "dynamic_sampling/rounds") == [3]
    assert logged(trainer, "preference/gradient") == [0.0]


def test_only_flat_groups_are_generated_again_and_none_without_the_option(tmp_path):
    calls = []

    def reward(prompts, completions, **columns):
        calls.append(len(completions))
        return tiny.half_flat(prompts, completions)

    trainer, _ = run(tmp_path, reward=reward, dynamic_sampling_rounds=1)
    assert calls == [64, 32]
    left = logged(trainer, "dynamic_sampling/left")[0]
    assert left + logged(trainer, "dynamic_sampling/resampled")[0] == 4
    trainer, _ = run(tmp_path, reward=reward)
    assert calls == [64, 32, 64]
    assert logged(trainer, "dynamic_sampling/left") == []


def test_columns_of_the_data_set_come_along(tmp_path):
    data = tiny.make_dataset(PROMPTS)
    data = data.add_column("answer", [prompt + "!" for prompt in data["prompt"]])

    def reward(prompts, completions, answer, **_):
        assert answer == [prompt + "!" for prompt in prompts]
        return tiny.half_flat(prompts, completions)

    trainer, _ = run(tmp_path, data, reward, dynamic_sampling_rounds=10)
    assert logged(trainer, "dynamic_sampling/resampled") == [4]


def test_evaluation_samples_once(tmp_path):
    args = tiny.make_config(tmp_path, dynamic_sampling_rounds=2, per_device_eval_batch_size=16)
    trainer = tiny.make_trainer(
        args,
        reward_funcs=lambda completions, **_: [1.0] * len(completions),
        eval_dataset=tiny.make_dataset(2),
    )
    assert "eval_dynamic_sampling/left" not in trainer.evaluate()
    assert not trainer._metrics["train"]


def test_a_resumed_run_draws_the_same_prompts(tmp_path):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "dynamic_sampling_rounds": 2}

    def trainer(name):
        args = tiny.make_config(tmp_path / name, **options)
        data = tiny.make_dataset(PROMPTS)
        return tiny.make_trainer(args, LambdaGRPOTrainer, reward_funcs=tiny.half_flat, train_dataset=data)

    straight, resumed = trainer("straight"), trainer("resumed")
    straight.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-2"))
    assert sum(logged(straight, "dynamic_sampling/resampled")[2:]) > 0
    for name in ("loss", "dynamic_sampling/resampled", "preference/lambda"):
        assert logged(resumed, name) == logged(straight, name)
    assert prompts_of(resumed) == prompts_of(straight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dynamic_sampling_rounds": -1}, r"dynamic_sampling_rounds \(-1\).*0 turns it off"),
        (
            {"dynamic_sampling_rounds": 1, "scale_rewards": "batch"},
            "scale_rewards='batch'.*'group' or 'none'",
        ),
        (
            {"dynamic_sampling_rounds": 1, "multi_objective_aggregation": "normalize_then_sum"},
            "multi_objective_aggregation='normalize_then_sum'.*Set 'sum_then_normalize'",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        tiny.make_config(tmp_path, **options)


def test_a_stream_is_refused(tmp_path):
    data = tiny.make_dataset(PROMPTS).to_iterable_dataset()
    with pytest.raises(ValueError, match=r"dynamic_sampling_rounds \(1\).*is a stream"):
        tiny.make_trainer(tiny.make_config(tmp_path, dynamic_sampling_rounds=1), train_dataset=data)
