"""Commands whose target cannot be written: one line that names it, exit code 2, and all as it was."""

import json
import os
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from evenhand.cli import app
from evenhand.experiments.runs import Run
from evenhand.grpo.chain_policy import starting_policy
from evenhand.grpo.chain_sums import ChainSums, PolicySettings
from evenhand.multilabel.datasets import make_long_tail

DATA = make_long_tail(120, 8, 60, labels_per_instance=2.0, seed=0)

TRAIN = ("multilabel", "train", "train.csv", "--views", "words")
GRPO_TRAIN = (
    *("grpo", "train", "--model_name_or_path", "policy", "--tasks", "tasks.jsonl", "--use_cpu"),
    *("--max_steps", "1", "--max_completion_length", "6", "--num_generations", "4", "--bf16", "False"),
    *("--per_device_train_batch_size", "4", "--report_to", "none"),
)

# What is run, and the name in its error; TARGET is the folder that cannot be written.
COMMANDS = {
    "train": ((*TRAIN, "--out", "TARGET/new"), "new.partial"),
    "train, trees": ((*TRAIN, "--method", "trees", "--out", "TARGET/new"), "new.partial"),
    "train, neural": ((*TRAIN, "--method", "neural", "--epochs", "1", "--out", "TARGET/new"), "new.partial"),
    "train over a model": ((*TRAIN, "--out", "TARGET/model", "--overwrite"), "model.partial"),
    "demo over a model": (
        ("multilabel", "demo", "--synthetic", "--instances", "150", "--jobs", "1", "--out", "TARGET/model"),
        "model",
    ),
    "evaluate, all figures": (
        ("multilabel", "evaluate", "model", "train.csv", "--json", "TARGET/a.json"),
        "a.json",
    ),
    "evaluate, labels": (
        ("multilabel", "evaluate", "model", "train.csv", "--labels", "TARGET/a.csv"),
        "a.csv",
    ),
    "predict": (
        ("multilabel", "predict", "model", "train.csv", "--out", "TARGET/answers.jsonl"),
        "answers.jsonl",
    ),
    "report": (("report", "runs", "--out", "TARGET/page.html"), "page.html"),
    "grpo train": ((*GRPO_TRAIN, "--reward_funcs", "accuracy", "--output_dir", "TARGET/run"), "run"),
    "grpo evaluate": (
        ("grpo", "evaluate", "policy", "tasks.jsonl", "--max-new-tokens", "4", "--out", "TARGET/a.jsonl"),
        "a.settings.json",
    ),
    "grpo score": (("grpo", "score", "generations.jsonl", "--out", "TARGET/a.jsonl"), "a.jsonl"),
    "grpo demo": (("grpo", "demo", "--quick", "--jobs", "1", "--out", "TARGET/demo"), "demo"),
}


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What the commands read."""
    folder = tmp_path_factory.mktemp("inputs")
    rows = [
        f'{" ".join(f"w{column}" for column in DATA.X[[row]].indices)},"{",".join(DATA.tags(row))}"\n'
        for row in range(DATA.n_instances)
    ]
    (folder / "train.csv").write_text("text,tags\n" + "".join(rows))
    done = run(*TRAIN[:2], folder / "train.csv", *TRAIN[3:], "--out", folder / "model")
    assert done.exit_code == 0, done.output
    for seed in range(2):
        Run.start(folder / "runs" / str(seed), "a", "tags", seed).finish({"P@1": 50.0 + seed})
    settings = PolicySettings(hidden=16, layers=1, heads=2, intermediate=16, n_derivations=96)
    starting_policy(ChainSums(n_terms=3), settings, folder / "policy")
    (folder / "tasks.jsonl").write_text(
        '{"prompt": "1+1=", "answer": "2"}\n{"prompt": "1+2=", "answer": "3"}\n'
    )
    generation = {"set": "tasks", "prompt": "", "gold": "2", "text": "2", "answer": "2", "correct": True}
    generation |= {"sample": 0, "tokens": 1, "finish": "stop", "procedural": None}
    (folder / "generations.jsonl").write_text(
        "".join(json.dumps({**generation, "problem": problem}) + "\n" for problem in "ab")
    )
    return folder


@pytest.fixture(scope="module")
def target(inputs, tmp_path_factory):
    """A folder with an old model, an old page and old answers, which cannot be written."""
    folder = tmp_path_factory.mktemp("target")
    if os.geteuid() == 0:  # whom no mode stops
        if subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode:
            pytest.skip("root can write to every folder, and a file system cannot be mounted here")
        undo = ["umount", folder]
        close = ["mount", "-o", "remount,ro", folder]
    else:
        close, undo = ["chmod", "-R", "a-w", folder], ["chmod", "-R", "u+w", folder]
    try:
        shutil.copytree(inputs / "model", folder / "model")
        for name in ("a.json", "a.csv", "answers.jsonl", "page.html", "page.md"):
            (folder / name).write_text("old")
        subprocess.run(close, check=True)
        yield folder
    finally:
        subprocess.run(undo, check=True)


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_a_target_that_cannot_be_written_is_named_and_stays_as_it_was(
    command, inputs, target, tmp_path, monkeypatch
):
    shutil.copytree(inputs, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    arguments, name = COMMANDS[command]
    before = content(target)
    result = run(*(argument.replace("TARGET", str(target)) for argument in arguments))
    assert result.exit_code == 2, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    error = result.stderr.splitlines()[-1]
    assert error.startswith((f"error: {target / name}: ", f"error: {target / name}/arrays-")), error
    assert error.endswith(("Read-only file system", "Permission denied"))
    assert content(target) == before
