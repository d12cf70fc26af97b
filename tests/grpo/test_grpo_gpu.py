"""benchmarks/grpo_gpu.py on a tiny model and the CPU."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import tiny_policy as tiny

from evenhand.experiments.runs import Run

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
    return [
        {key: value for key, value in row.items() if key != "step_time"}
        for row in rows(run / "metrics.jsonl")
    ]


@pytest.mark.slow
def test_stopped_after_each_step_it_is_the_run_that_was_never_stopped(
    script, arguments, tmp_path, monkeypatch
):
    monkeypatch.setattr(script, "_PATIENCE", 0.001)  # sees the first batch before the second is written
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
    run = Run.read(ours)
    assert (run.method, run.seed, run.config["trainer"]["max_steps"]) == ("power", 0, 3)
    assert run.figures.keys() == {"accuracy", "gain", "length", "cut off", "seconds a step", "λ"}
    assert run.figures["λ"] != 0
    assert "| power |" in (pieces / "report.md").read_text()


@pytest.mark.slow
def test_an_adapter_is_kept_and_judged_alone(script, arguments, tmp_path):
    out = tmp_path / "out"
    assert script.main([*arguments, "--out", str(out), "--lora", "2"]) == 0
    files = {path.name for path in (out / "power-0" / "model").iterdir()}
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files
    assert len(rows(out / "power-0" / "answers.jsonl")) == 24


def test_a_folder_of_other_settings_is_refused(script, arguments, tmp_path, monkeypatch):
    def stop(*given):
        raise script.TimeUp

    monkeypatch.setattr(script, "evaluate", stop)
    out = ["--out", str(tmp_path / "out")]
    assert script.main([*arguments, *out]) == 75
    with pytest.raises(SystemExit, match=r"power-0 is a run with config .*'group': 8.*; delete it"):
        script.main([*arguments, *out, "--group", "4"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--micro-batch", "5"), r"--micro-batch is 5; give a divisor of --prompts × --group \(16\)"),
        (("--micro-batch", "0"), "--micro-batch is 0; give at least 1"),
        (("--group", "1"), "--group is 1; give at least 2"),
        (("--seeds", "0"), "--seeds is 0; give at least 1"),
        (("--minutes", "nan"), "--minutes is nan; give at least 0"),
        (("--learning-rate", "inf"), "--learning-rate is inf; give a number above 0"),
        (("--problems", "13"), r"--problems is 13, but .*test.jsonl holds 12"),
        (("--tasks", "reasoning_gym:chain_sum"), "made-up problems need none"),
    ],
)
def test_what_cannot_be_is_said(script, arguments, tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        script.main([*arguments, "--out", str(tmp_path / "out"), *options])


def test_an_answer_that_nothing_can_match_is_named_by_file_and_line(script, arguments, tmp_path):
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(json.dumps({"question": "?", "answer": "#### ???"}) + "\n")
    with pytest.raises(SystemExit, match=r"train\.jsonl: .* in problem 13 \('\?\?\?'\)"):
        script.main([*arguments, "--out", str(tmp_path / "out")])


def test_what_is_shown_is_paired_by_seed(script, tmp_path, capsys):
    runs = []
    for scheme, seed, accuracy in (
        ("dapo", 0, 50.0),
        ("dapo", 1, 60.0),
        ("lambda", 0, 51.0),
        ("lambda", 1, 62.0),
        ("lambda", 2, 40.0),
    ):
        run = Run.start(tmp_path / f"{scheme}-{seed}", scheme, "gsm8k", seed)
        run.finish({"accuracy": accuracy, "gain": accuracy - 10})
        runs.append(run)
    script.show(runs, tmp_path)
    shown = capsys.readouterr().out
    assert re.search(r"dapo +2 +55\.0 +\+45\.0 +–", shown)
    assert re.search(r"lambda +3 +51\.0 +\+41\.0 +\+1\.5 \[-4\.9, \+7\.9\]", shown)
    assert (tmp_path / "report.html").is_file()
