"""`evenhand grpo ...` on tiny models: help, training, evaluation, and what goes wrong."""

import importlib.util
import json
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from evenhand.cli import app

COMMANDS = ("train", "evaluate", "score", "compare", "fetch-model", "demo")


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["grpo", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch

    from evenhand.grpo.chain_policy import starting_policy
    from evenhand.grpo.chain_sums import ChainSums, PolicySettings, terms

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("grpo")
    family = ChainSums(n_terms=3)
    policy = PolicySettings(hidden=16, layers=1, heads=2, intermediate=16, n_derivations=96)
    starting_policy(family, policy, path / "model")
    rows = [
        {"prompt": prompt, "answer": str(sum(terms(prompt)))}
        for prompt in dict.fromkeys(family.problems(9, seed=0))
    ]
    (path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluate(folder, *options, code=0):
    return run(
        *("evaluate", folder / "model", folder / "tasks.jsonl", "--max-new-tokens", 6, *options), code=code
    )


def train(folder, *options, code=0):
    return run(
        *("train", "--model_name_or_path", folder / "model", "--tasks", folder / "tasks.jsonl"),
        *("--use_cpu", "--max_steps", 2, "--max_completion_length", 6, "--num_generations", 4),
        *("--per_device_train_batch_size", 8, "--bf16", "False", "--logging_steps", 1, "--report_to", "none"),
        *("--gradient_checkpointing", "False", *options),
        code=code,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    output = run(command, "--help").output
    assert re.search(r"Examples?:", output)
    assert f"evenhand grpo {command}" in output.split("Example")[1]


def test_help_says_which_sets_are_sampled_with_top_p():
    shown = " ".join(run("evaluate", "--help").output.replace("│", " ").split())
    assert "public sets that are asked several times: 0.95" in shown


def test_the_other_system_never_imports_this_one():
    code = """
import sys
from typer.testing import CliRunner
from evenhand.cli import app
CliRunner().invoke(app, ["grpo", "demo", "--help"])
import evenhand.multilabel.estimator, evenhand.multilabel.commands.train
print([m for m in ("trl", "transformers", "accelerate", "datasets") if m in sys.modules])
import evenhand.grpo.aggregation, evenhand.grpo.preference, evenhand.grpo.chain_sums
print([m for m in ("trl", "transformers", "accelerate", "datasets") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


def test_help_is_quick_to_load():
    code = "import sys, evenhand.cli; print([m for m in ('torch', 'numpy', 'trl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_missing_extra_names_its_install_command(monkeypatch):
    found = importlib.util.find_spec
    commands = sys.modules["evenhand.grpo.commands"]
    monkeypatch.setattr(commands, "find_spec", lambda name: None if name == "trl" else found(name))
    output = run("demo", "--quick", code=2).output
    assert "needs trl" in output
    assert "pip install 'evenhand[grpo]'" in output


def test_train_takes_a_recipe_of_trl_and_a_loss_type(folder, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "loss_type: dapo\nlearning_rate: 1.0e-4\nreward_funcs: [accuracy]\nlambda_bounds: [-1, 1]\n"
    )
    out = tmp_path / "run"
    options = ("--config", recipe, "--loss_type", "power", "--output_dir", out, "--lambda_start", "-0.5")
    output = train(folder, *options, "--save_steps", 2).output
    assert "preference/lambda" in output
    assert f"Saved in {out}" in output
    assert (out / "model.safetensors").is_file()
    state = json.loads((out / "checkpoint-2" / "lambda_state.json").read_text())
    assert state["value"] == pytest.approx(-0.5, abs=0.2)
    dapo = train(
        folder, "--config", recipe, "--output_dir", tmp_path / "dapo", "--save_strategy", "no"
    ).output
    assert "preference/" not in dapo


def test_train_punishes_overlong_completions_and_samples_dynamically(folder, tmp_path):
    options = ("--reward_funcs", "accuracy", "overlong_punishment", "--dynamic_sampling_rounds", 1)
    output = train(folder, *options, "--output_dir", tmp_path, "--save_strategy", "no").output
    assert "rewards/overlong_punishment/mean" in output
    assert "dynamic_sampling/left" in output


def test_train_takes_a_reward_by_its_path(folder, tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(
        "def none(completions, **_):\n    return [None] * len(completions)\n"
    )
    monkeypatch.chdir(tmp_path)
    output = train(folder, "--reward_funcs", "my_rewards.none", "--output_dir", "run", code=2).output
    assert "'none' returned None in row 0" in " ".join(output.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--reward_funcs", "accurate"), "reward 'accurate' is not known"),
        (("--reward_funcs", "no_such_module.f"), "'no_such_module.f' cannot be imported"),
        (("--reward_funcs", ".no.f"), "'.no.f' cannot be imported"),
        (("--reward_funcs", "math.pi"), "'math.pi' is 3.14159"),
        ((), "no reward; give --reward_funcs"),
        (
            ("--reward_funcs", "overlong_punishment", "--overlong_cache", "999999"),
            "cache (999999) is more than max_length",
        ),
        (("--learning_speed", "1"), "--learning_speed"),
        (("--learning_rate", "quick"), "lists all options"),
        (("--reward_funcs", "accuracy", "--loss_type", "lambda", "--lambda_r", "0.9"), "lambda_r"),
        (
            ("--reward_funcs", "accuracy", "--eval_strategy", "steps", "--eval_steps", "1"),
            "no evaluation part",
        ),
        (("--config", "no-such.yaml"), "no-such.yaml"),
        (("--reward_funcs", "accuracy", "--tasks_levels", "3"), "give the kind math"),
        (("--reward_funcs", "accuracy", "--tasks_size", "3"), "a size is of problems that reasoning-gym"),
    ],
)
def test_train_says_what_to_mend(folder, tmp_path, options, message):
    output = train(folder, "--output_dir", tmp_path, *options, code=2).output
    assert message in " ".join(output.split())
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--tasks_kind", "gsm8k", "--dataset_train_split", "all"),
            "no split 'all'; it has 'train': give one of these as --dataset_train_split",
        ),
        (
            ("--tasks_kind", "gsm8k", "--eval_strategy", "steps", "--eval_steps", "1"),
            "no split 'test'; it has 'train': give",
        ),
        (("--tasks_kind", "gsm8k", "--dataset_streaming"), "leave out its streaming"),
        (("--tasks_kind", "math"), "row 1 of the data set's split 'train': no field 'problem'"),
        (("--tasks_levels", "3"), "give the kind math"),
        (("--tasks_prompt", "question"), "the problem's field is named for plain files only"),
    ],
)
def test_train_says_what_to_mend_in_a_data_set(folder, tmp_path, options, message):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text(json.dumps({"question": "1+1=", "answer": "#### 2"}) + "\n")
    given = ("--model_name_or_path", folder / "model", "--dataset_name", data, "--output_dir", tmp_path)
    given += ("--reward_funcs", "accuracy", "--use_cpu", "--bf16", "False", *options)
    output = run("train", *given, code=2).output
    assert message in " ".join(output.split())


def test_train_does_not_look_at_a_split_that_it_does_not_use(folder, tmp_path):
    from evenhand.grpo.commands.train import make_trainer

    data = tmp_path / "data"
    data.mkdir()
    for split, answer in (("train", "#### 2"), ("test", "two")):
        (data / f"{split}.jsonl").write_text(json.dumps({"question": "1+1=", "answer": answer}) + "\n")
    given = ["--model_name_or_path", str(folder / "model"), "--dataset_name", str(data)]
    given += ["--tasks_kind", "gsm8k", "--reward_funcs", "accuracy", "--output_dir", str(tmp_path)]
    given += ["--use_cpu", "--bf16", "False"]
    trainer, _ = make_trainer(given)
    assert trainer.train_dataset["answer"][:] == ["2"]
    with pytest.raises(ValueError, match="row 1 of the data set's split 'test', field 'answer': no #"):
        make_trainer([*given, "--eval_strategy", "steps", "--eval_steps", "1"])


def test_train_needs_a_model_and_tasks(folder):
    options = ("--reward_funcs", "accuracy", "--output_dir", "x", "--use_cpu", "--bf16", "False")
    assert "no model" in run("train", *options, code=2).output
    options += ("--model_name_or_path", folder / "model")
    assert "no tasks" in run("train", *options, code=2).output


def test_evaluate_writes_generations_and_is_the_same_again(folder, tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    output = evaluate(folder, "--samples", 4, "--out", first, "--batch-size", 16).output
    for name in ("pass@1", "avg@4", "maj@2", "mean tokens"):
        assert name in output
    evaluate(folder, "--samples", 4, "--out", second, "--batch-size", 16)
    assert first.read_bytes() == second.read_bytes()
    n = len((folder / "tasks.jsonl").read_text().splitlines())
    rows = [json.loads(line) for line in first.read_text().splitlines()]
    assert [(row["problem"], row["sample"]) for row in rows[:5]] == [*(("1", i) for i in range(4)), ("2", 0)]
    assert len(rows) == 4 * n
    assert {row["set"] for row in rows} == {"tasks"}
    assert all(0 < row["tokens"] <= 6 for row in rows)
    assert all(row["tokens"] == 6 for row in rows if row["finish"] == "length")
    settings = json.loads((tmp_path / "a.settings.json").read_text())
    assert settings["model"][0] == str(folder / "model")
    assert settings["sets"]["tasks"]["samples"] == 4


def test_an_interrupted_evaluation_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    from evenhand.grpo.commands import evaluate as command

    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    options = ("--samples", 4, "--batch-size", 8)
    evaluate(folder, *options, "--out", whole)
    judge, calls = command.judged, []

    def judge_twice(*given):
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("stopped")
        return judge(*given)

    with monkeypatch.context() as patch:
        patch.setattr(command, "judged", judge_twice)
        evaluate(folder, *options, "--out", out, code=2)
    part = tmp_path / "out.jsonl.part"
    assert not out.exists()
    with part.open("a") as file:
        file.write('{"set": "tasks", "problem": "9", "sam')  # killed while it wrote
    assert "16 answers" in run("score", part).output
    output = evaluate(folder, *options, "--seed", 1, "--out", out, code=2).output
    assert "is of an evaluation with other settings (seed)" in output
    assert "16 answers are there already" in evaluate(folder, *options, "--out", out).output
    assert out.read_bytes() == whole.read_bytes()
    assert not part.exists()
    with monkeypatch.context() as patch:
        patch.setattr(command, "open_backend", None)  # all is there: no model is loaded
        output = evaluate(folder, *options, "--out", out).output
    assert f"{len(whole.read_text().splitlines())} answers are there already" in output
    assert "avg@4" in output


@pytest.fixture
def sets(tmp_path):
    """A folder with a little of two public sets."""
    path = tmp_path / "math"
    path.mkdir()
    gsm8k = [{"question": f"{i} = ?", "answer": f"that\n#### {i}"} for i in range(3)]
    aime = [{"problem": f"{i} = ?", "answer": f"{i:03}"} for i in range(2)]
    for name, rows in (("gsm8k", gsm8k), ("aime24-test", aime)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answer(handler, body):
    """A model that knows even numbers, and odd ones at every other seed."""
    prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    number = int(prompt.split(" = ?")[0])
    known = number % 2 == 0 or body["seed"] % 2 == 0
    text = f"it is \\boxed{{{number if known else -1}}}"
    choice = {"message": {"content": text}, "text": text, "finish_reason": "stop" if known else "length"}
    reply = {"choices": [choice], "usage": {"completion_tokens": 9 if known else 21}}
    handler.send(200, json.dumps(reply).encode())


def ask_server(server, sets, tasks, *options, code=0):
    server.plan = [answer] * 999
    named = ("evaluate", "served", tasks, "--server", server.address, "--data-dir", sets)
    return run(*named, *options, code=code).output


def test_evaluate_runs_the_public_sets_that_are_there(server, sets, tmp_path):
    out = tmp_path / "out.jsonl"
    output = ask_server(server, sets, "paper", "--out", out)
    assert "Minerva is left out" in " ".join(output.split())
    assert re.search(r"GSM8K +3 +1 +66.7 ", output)
    assert re.search(r"AIME24 +2 +32 +75.0 .* 12.0 +25.0", output)
    assert re.search(r"Minerva +left out +– ", output)
    assert re.search(r"Average of 2 sets +70.8 ", output)
    assert re.search(r"pass@32 +100.0", output)
    assert "has 3 problems here; the published set has 1,319" in " ".join(output.split())
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["set"] for row in rows] == ["gsm8k"] * 3 + ["aime24"] * 64
    assert len({(row["set"], row["prompt"]) for row in rows}) == 5
    bodies = [body for _, path, body, _ in server.requests]
    assert {path for _, path, _, _ in server.requests} == {"/v1/chat/completions"}
    assert {(body["temperature"], body["top_p"], body["max_tokens"]) for body in bodies[:3]} == {(0, 1, 2048)}
    assert {(body["temperature"], body["top_p"], body["max_tokens"]) for body in bodies[3:]} == {
        (1, 0.95, 2048)
    }
    assert len({(body["seed"], body["messages"][0]["content"]) for body in bodies[3:]}) == 64
    settings = (tmp_path / "out.settings.json").read_text()
    assert "127.0.0.1" not in settings


def test_a_set_s_answers_do_not_hang_on_the_other_sets(server, sets, tmp_path):
    both, alone = tmp_path / "both.jsonl", tmp_path / "alone.jsonl"
    ask_server(server, sets, "gsm8k,aime24", "--out", both)
    ask_server(server, sets, "aime24", "--out", alone)
    assert both.read_text().splitlines()[3:] == alone.read_text().splitlines()


def test_options_take_the_place_of_a_set_s_own(server, sets, tmp_path):
    options = ("--samples", 2, "--max-new-tokens", 5, "--no-chat", "--out", tmp_path / "out.jsonl")
    ask_server(server, sets, "gsm8k", *options)
    bodies = [body for _, path, body, _ in server.requests]
    assert {path for _, path, _, _ in server.requests} == {"/v1/completions"}
    assert bodies[0]["prompt"].endswith(
        "?\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert {(body["temperature"], body["top_p"], body["max_tokens"]) for body in bodies} == {(1, 0.95, 5)}
    asked_once = ("--samples", 1, "--temperature", 0.5, "--out", tmp_path / "once.jsonl")
    ask_server(server, sets, "gsm8k", *asked_once)  # as the help of --top-p says
    assert {(body["temperature"], body["top_p"]) for _, _, body, _ in server.requests[6:]} == {(0.5, 1)}
    ask_server(
        server, sets, "aime24", "--temperature", 0, "--instruction", "system", "--out", tmp_path / "g.jsonl"
    )
    greedy = [body for _, _, body, _ in server.requests[9:]]
    assert [(body["temperature"], body["messages"][0]["role"]) for body in greedy] == [(0, "system")] * 2


def test_a_server_that_fails_costs_the_batch_in_hand(server, sets, tmp_path):
    from openai_server import fails

    out = tmp_path / "out.jsonl"
    options = ("--batch-size", 16, "--concurrency", 1, "--out", out)
    server.plan = [answer] * 40 + [fails(400, "out of order")]
    named = ("evaluate", "served", "aime24", "--server", server.address, "--data-dir", sets, *options)
    assert "400 out of order" in run(*named, code=2).output
    assert len((tmp_path / "out.jsonl.part").read_text().splitlines()) == 32
    n_asked = len(server.requests)
    assert "32 answers are there already" in ask_server(server, sets, "aime24", *options)
    assert len(server.requests) - n_asked in (32, 33)  # one may have been on its way when the other failed
    whole = tmp_path / "whole.jsonl"
    ask_server(server, sets, "aime24", "--batch-size", 16, "--out", whole)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ("gsm8k,math501", (), "no set is named 'math501'"),
        ("math500", (), "no math500.jsonl (or math500-test.jsonl, math500/test.jsonl; each also with .gz)"),
        ("gsm8k", ("--backend", "vllm"), "--server is a back end by itself; leave out --backend vllm"),
        ("gsm8k", ("--concurrency", 0), "--concurrency is 0"),
        ("gsm8k", ("--instruction", "system", "--no-chat"), "--instruction system needs messages"),
        ("gsm8k", ("--k", "2"), "from 1 to the 1 answers a problem"),
        ("gsm8k", ("--kind", "math"), "--kind is not for public sets, which have their own; leave it out"),
    ],
)
def test_evaluate_says_what_to_mend_of_public_sets(server, sets, tmp_path, tasks, options, message):
    output = ask_server(server, sets, tasks, *options, "--out", tmp_path / "out.jsonl", code=2)
    assert message in " ".join(output.split())
    assert not server.requests
    assert [path.name for path in tmp_path.iterdir()] == ["math"]


def test_a_back_end_that_is_not_there_leaves_no_file(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    out = tmp_path / "out.jsonl"
    output = evaluate(folder, "--backend", "vllm", "--out", out, code=2).output
    assert "--backend vllm needs vLLM" in " ".join(output.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--concurrency", "--timeout"])
def test_options_of_a_server_are_refused_without_one(folder, tmp_path, option):
    output = evaluate(folder, option, 4, "--out", tmp_path / "out.jsonl", code=2).output
    assert f"{option} is for requests to a server" in " ".join(output.split())
    assert not list(tmp_path.iterdir())


def test_public_sets_need_their_folder(folder, tmp_path):
    output = run("evaluate", folder / "model", "gsm8k,amc23", "--out", tmp_path / "x.jsonl", code=2).output
    assert "gsm8k, amc23: read from files; give their folder as --data-dir" in " ".join(output.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--samples", 0), "--samples is 0"),
        (("--temperature", 0, "--samples", 2), "give --samples 1"),
        (("--top-p", 0), "--top-p"),
        (("--samples", 2, "--k", "4"), "from 1 to the 2 answers a problem"),
        (("--k", "x"), "--k is 'x'"),
        (("--prompt", "question"), "no field 'question'"),
        (("--instruction", "system"), "--instruction is for the public sets (gsm8k, math500, "),
        (("--size", 5), "a size is of problems that reasoning-gym makes; leave it out"),
        (("--kind", "math", "--answer", "gold"), "the answer's field is named for plain files only"),
        (("--chat",), "model has no chat template, and problems are asked by messages"),
        (("--data-dir", "."), "--data-dir is for the public sets (gsm8k, math500, "),
        (("--out", "no-such-folder/out.jsonl"), "no folder no-such-folder"),
    ],
)
def test_evaluate_says_what_to_mend(folder, tmp_path, options, message):
    output = evaluate(folder, "--out", tmp_path / "out.jsonl", *options, code=2).output
    assert message in " ".join(output.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--seeds", 0), "--seeds is 0"), (("--steps", 0), "--steps is 0"), (("--jobs", -2), "--jobs is -2")],
)
def test_demo_says_what_to_mend(tmp_path, options, message):
    assert message in run("demo", "--out", tmp_path / "demo", *options, code=2).output
    assert not (tmp_path / "demo").exists()
