"""benchmarks/grpo_gpu.py on a tiny model and the CPU."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import tiny_policy as tiny

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "grpo_gpu.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("grpo_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["grpo_gpu"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def ones_and_length(completions, **columns):
    """A reward that varies: this model is never right."""
    return tiny.ones_and_length([completion[0]["content"] for completion in completions])


@pytest.fixture
def arguments(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "REWARDS", {"accuracy": ones_and_length})
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'][:4] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "model")
    tiny.make_model().save_pretrained(tmp_path / "model")
    for name, first in (("train", 0), ("test", 100)):
        rows = [{"question": f"{first + i}+1=", "answer": f"#### {first + i + 1}"} for i in range(12)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *("--model", str(tmp_path / "model"), "--tasks", str(tmp_path / "train.jsonl")),
        *("--test", str(tmp_path / "test.jsonl"), "--schemes", "power", "--seeds", "1"),
        *("--steps", "3", "--prompts", "2", "--micro-batch", "8", "--max-new-tokens", "8"),
        *("--problems", "12", "--samples", "2", "--learning-rate", "0.01", "--device", "cpu"),
    ]


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_times(run):
    steps = [row for row in rows(run / "metrics.jsonl") if "loss" in row]
    return [{key: value for key, value in row.items() if key != "step_time"} for row in steps]


@pytest.mark.slow
def test_stopped_after_each_step_it_is_the_run_that_was_never_stopped(script, arguments, tmp_path):
    straight, pieces = tmp_path / "straight", tmp_path / "pieces"
    assert script.main([*arguments, "--out", str(straight)]) == 0
    statuses = []
    while 0 not in statuses:
        statuses.append(script.main([*arguments, "--out", str(pieces), "--minutes", "0"]))
    # Two batches of answers, three steps, two batches more; a call may be ended before it closed its file.
    assert set(statuses[:-1]) == {75}
    assert 7 <= len(statuses) <= 9
    ours, theirs = pieces / "power-0", straight / "power-0"
    assert [row["from_step"] for row in rows(ours / "pieces.jsonl")] == [0, 1, 2]
    before, one, other = (load_file(run / "model" / "model.safetensors") for run in (tmp_path, ours, theirs))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert not any(torch.equal(one[name], before[name]) for name in before)
    assert [row["step"] for row in without_times(ours)] == [1, 2, 3]
    assert without_times(ours) == without_times(theirs)
    assert (ours / "answers.jsonl").read_bytes() == (theirs / "answers.jsonl").read_bytes()
    assert not list(ours.glob("checkpoint-*"))
    settings = json.loads((ours / "settings.json").read_text())
    assert (settings["seed"], settings["settings"]["steps"], settings["trainer"]["max_steps"]) == (0, 3, 3)
    assert json.loads((ours / "result.json").read_text())["lambda"] != 0
    table = (pieces / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| start", "| power"]


@pytest.mark.slow
def test_an_adapter_is_kept_and_judged_alone(script, arguments, tmp_path):
    out = tmp_path / "out"
    assert script.main([*arguments, "--out", str(out), "--lora", "2"]) == 0
    files = {path.name for path in (out / "power-0" / "model").iterdir()}
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files
    assert len(rows(out / "power-0" / "answers.jsonl")) == 24


def test_a_folder_of_other_settings_is_refused(script, arguments, tmp_path):
    out = ["--out", str(tmp_path / "out")]
    script.main([*arguments, *out, "--minutes", "0"])
    with pytest.raises(SystemExit, match=r"settings.json: group was 8 and is now 4; give another --out"):
        script.main([*arguments, *out, "--group", "4"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--micro-batch", "5"), r"--micro-batch is 5; give a divisor of --prompts × --group \(16\)"),
        (("--problems", "13"), r"--problems is 13, but .*test.jsonl holds 12"),
        (("--tasks", "reasoning_gym:chain_sum"), "made-up problems need none"),
    ],
)
def test_what_cannot_be_is_said(script, arguments, tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        script.main([*arguments, "--out", str(tmp_path / "out"), *options])


def test_the_table_pairs_by_seed(script):
    def result(scheme, seed, accuracy, lam=None):
        return {
            "scheme": scheme,
            "seed": seed,
            "accuracy": accuracy,
            "length": 10.0,
            "cut_off": 0.25,
            "lambda": lam,
            "step_seconds": 2.0,
            "devices": ["a"],
        }

    results = [result("dapo", 0, 0.5), result("dapo", 1, 0.6)]
    results += [
        result("lambda", 0, 0.51, 0.1),
        result("lambda", 1, 0.62, -0.2),
        result("lambda", 2, 0.4, 0.0),
    ]
    lines = script.table(0.1, results)
    assert lines[2] == "| start | | 10.0 | | | | | | |"
    assert lines[3] == "| dapo | 2 | 55.0 ± 7.1 | – | 10 | 25.0 | – | 2.00 | a |"
    cells = lines[4].split(" | ")
    assert cells[3] == "+1.5 [-4.9, +7.9]"
    assert cells[6] == "+0.100 -0.200 +0.000"
