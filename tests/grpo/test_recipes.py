"""Each recipe as a trainer: tiny model and data in place of those it names, on the CPU.

vLLM and mixed precision are off, since they need a GPU; the files for Accelerate are parsed, not launched,
since DeepSpeed and FSDP need several.
"""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

sys.path.insert(0, str(Path(__file__).parent))
import tiny_policy as tiny

from evenhand.grpo.commands.train import make_trainer, train_model

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
QWEN = ("qwen2.5-1.5b-math", "qwen2.5-3b-math", "qwen2.5-7b-math")
MATH = [
    {"problem": f"What is {i}+{i}?", "level": level, "solution": rf"It is $\boxed{{{2 * i}}}$."}
    for i, level in enumerate(["Level 1", "Level 2", "Level 3", "Level 4", "Level 5", "Level ?"] * 2)
]
GSM8K = [{"question": f"What is {i}+{i}?", "answer": f"Add.\n#### {2 * i}"} for i in range(6)]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}="


def name(path):
    return path.stem


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Where the tiny model and the data sets are, by what they stand in for."""
    root = tmp_path_factory.mktemp("recipes")
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(root / "model")
    tiny.make_model().save_pretrained(root / "model")
    config = "---\nconfigs:\n- config_name: {}\n  data_files: train.jsonl\n---\n"
    for folder, config_name, rows in (("math", "default", MATH), ("gsm8k", "main", GSM8K)):
        (root / folder).mkdir()
        (root / folder / "README.md").write_text(config.format(config_name))
        (root / folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def options(recipe, places, out):
    kind = yaml.safe_load(recipe.read_text(encoding="utf-8"))["tasks_kind"]
    return [
        *("--config", str(recipe), "--model_name_or_path", str(places / "model")),
        *("--dataset_name", str(places / kind), "--output_dir", str(out)),
        *("--use_cpu", "--bf16", "False", "--use_vllm", "False"),
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_becomes_a_trainer_with_its_settings(recipe, places, tmp_path):
    stated = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    trainer, _ = make_trainer(options(recipe, places, tmp_path))
    overridden = ("output_dir", "use_vllm", "bf16")
    of_args = {
        key: value for key, value in stated.items() if hasattr(trainer.args, key) and key not in overridden
    }
    assert len(of_args) > 10
    assert {key: getattr(trainer.args, key) for key in of_args} == of_args
    assert (trainer.preference is not None) == (stated["loss_type"] in ("lambda", "power"))
    assert [reward.__name__ for reward in trainer.reward_funcs] == stated["reward_funcs"]
    expected = 6  # all of GSM8K's; two each of levels 3 to 5
    assert len(trainer.train_dataset) == expected
    trained = [key for key, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert any("lora" in key for key in trained) == stated.get("use_peft", False)


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_trains(recipe, places, tmp_path):
    small = ("--max_steps", "1", "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1")
    train_model([*options(recipe, places, tmp_path), *small, "--max_completion_length", "4"])
    assert {"model.safetensors", "adapter_model.safetensors"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("recipe", QWEN)
def test_the_paper_s_settings(recipe):
    text = (FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8")
    stated = yaml.safe_load(text)
    published = {
        "num_generations": 8,
        "learning_rate": 5e-7,
        "beta": 1e-4,
        "epsilon": 0.2,
        "temperature": 1.0,
        "max_completion_length": 2048,
        "max_steps": 160,
        "tasks_levels": [3, 4, 5],
        "loss_type": "lambda",
        "lambda_start": 0.0,
        "lambda_r": 1 / 9,
        "lambda_bounds": [-3.0, 3.0],
    }
    assert {key: stated[key] for key in published} == published
    launched = re.search(r"recipes/(accelerate/\w+\.yaml)", text)
    n_processes = load_config_from_file(str(FOLDER / launched[1])).num_processes
    rows = stated["per_device_train_batch_size"] * stated["gradient_accumulation_steps"] * n_processes
    assert rows == 1024 * 8


@pytest.mark.parametrize(
    ("file", "kind"), [("zero2", "DEEPSPEED"), ("zero3", "DEEPSPEED"), ("fsdp2", "FSDP")]
)
def test_accelerate_takes_its_files(file, kind):
    found = load_config_from_file(str(FOLDER / "accelerate" / f"{file}.yaml"))
    assert (found.distributed_type, found.mixed_precision) == (kind, "bf16")


def test_files_that_recipes_and_their_page_name_are_there():
    page = FOLDER.parent / "docs" / "recipes.md"
    text = "".join(path.read_text(encoding="utf-8") for path in [page, *RECIPES])
    named = set(re.findall(r"recipes/((?:accelerate/)?[\w.-]+\.yaml)", text))
    named |= set(re.findall(r"`([\w./-]+\.yaml)`", text))
    assert {recipe.name for recipe in RECIPES} <= named
    assert not [file for file in named if not (FOLDER / file).is_file()]


def test_without_vllm_the_message_says_what_to_do(places, tmp_path, monkeypatch):
    monkeypatch.setattr("evenhand.grpo.commands.train.find_spec", lambda name: None)
    given = options(FOLDER / "qwen2.5-1.5b-math.yaml", places, tmp_path)
    given[-1] = "True"
    with pytest.raises(ValueError, match=r"pip install 'trl\[vllm\]'; or give --use_vllm False"):
        make_trainer(given)


def test_the_recipe_and_the_problem_of_the_tutorial_become_a_trainer(places, tmp_path):
    page = (FOLDER.parent / "docs" / "trl.md").read_text(encoding="utf-8")
    for name, block in (("recipe.yaml", r"```yaml\n(.*?)```"), ("tasks.jsonl", r'```\n(\{"prompt".*?)```')):
        (tmp_path / name).write_text(re.search(block, page, re.DOTALL)[1], encoding="utf-8")
    given = ["--config", str(tmp_path / "recipe.yaml"), "--tasks", str(tmp_path / "tasks.jsonl")]
    given += ["--model_name_or_path", str(places / "model"), "--output_dir", str(tmp_path / "run")]
    trainer, _ = make_trainer([*given, "--use_cpu", "--bf16", "False"])
    assert (trainer.preference.form, trainer.args.lambda_learning_rate) == ("power", 1)
    assert trainer.train_dataset[0]["prompt"][0]["content"].endswith(r"\boxed{}.")
