"""Tasks, rewards, options of the trainer and states of λ that cannot be right."""

import gzip
import json
import math

import polars as pl
import pytest
import torch

from evenhand import gzipped
from evenhand.grpo.commands.evaluate import Sampling
from evenhand.grpo.generations import GenerationFile, GenerationsError, read_generations
from evenhand.grpo.lambda_state import STATE_FILE, read_state
from evenhand.grpo.preference import LearnablePreference
from evenhand.grpo.rewards import (
    accuracy,
    boxed_format,
    check_answers,
    checked,
    overlong_punishment,
    signed_accuracy,
)
from evenhand.grpo.tasks import TaskError, procedural_tasks, read_gsm8k, read_math, read_tasks

GOOD = '{"prompt": "1+1?", "answer": "2"}\n'

# --- files of tasks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.jsonl: it holds no problem"),
        (b"\xef\xbb\xbf", r"a\.jsonl:1: "),
        (GOOD + "\n" + GOOD, r"a\.jsonl:2: blank line; take it out"),
        (GOOD.encode("utf-16"), r"a\.jsonl:1: not one JSON object a line"),
        (GOOD.encode() + b'{"prompt": "\xe9", "answer": "1"}\n', r"a\.jsonl:2: not one JSON object a line"),
        (b"\0" * 100, r"a\.jsonl:1: not one JSON object a line"),
        (GOOD + GOOD[:-9], r"a\.jsonl:2: not one JSON object a line"),
        (GOOD + "[" * 100_000, r"a\.jsonl:2: not one JSON object a line"),
        ('{"prompt": "?", "answer": ' + "9" * 5000 + "}", r"a\.jsonl:1: not one JSON object a line"),
        ('{"prompt": "?", "answer": 1e400}', r"a\.jsonl:1, field 'answer': inf is neither text nor a number"),
        ('{"prompt": "?", "answer": -Infinity}', r"a\.jsonl:1, field 'answer': -inf is neither text"),
        ('{"prompt": "\\ud800", "answer": "1"}', r"a\.jsonl:1: not one JSON object a line"),
        ('{"prompt": "?", "prompt": "!", "answer": "1"}', r"a\.jsonl:1: .*'prompt' stands twice"),
        ('{"prompt": "?", "answer": {"value": 1}}', r"a\.jsonl:1, field 'answer': {'value': 1} is neither"),
        ('{"prompt": "?", "answer": []}', r"a\.jsonl:1, field 'answer': a list of 0 answers; give one"),
        ('{"prompt": "?", "answer": [["1"]]}', r"a\.jsonl:1, field 'answer': \['1'\] is neither text"),
        ('{"prompt": [], "answer": "1"}', r"a\.jsonl:1, field 'prompt': \[\] is neither text nor messages"),
        ('{"prompt": 5, "answer": "1"}', r"a\.jsonl:1, field 'prompt': 5 is neither text nor messages"),
        ('{"prompt": [{"role": 1, "content": "x"}], "answer": "1"}', r"a\.jsonl:1, field 'prompt': "),
        ('{"Prompt": "?", "answer": "1"}', r"a\.jsonl:1: no field 'prompt'; there are 'Prompt', 'answer'"),
        (json.dumps({f"field{n}": n for n in range(5000)}), r"a\.jsonl:1: no field 'prompt'"),
        ('{"prompt": {"' + "x" * 50_000 + '": 1}, "answer": "1"}', r"a\.jsonl:1, field 'prompt': "),
        ("x" * 10_000_000, r"a\.jsonl:1: not one JSON object a line"),
        ("null", r"a\.jsonl:1: NoneType in place of a JSON object"),
    ],
)
def test_bad_tasks(write, refused, content, message):
    path = write("a.jsonl", content)
    refused(TaskError, message, lambda: read_tasks(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl.gz", gzip.compress(GOOD.encode() * 99)[:-9], r"a\.jsonl\.gz: not a sound gzip file"),
        ("a.jsonl.gz", b"no gzip", r"a\.jsonl\.gz: not a sound gzip file"),
        ("a.parquet", b"PAR1", r"a\.parquet: cannot be read as Parquet"),
        ("a.parquet", b"PAR1" + b"\xff" * 99 + b"PAR1", r"a\.parquet: cannot be read as Parquet"),
        ("a.csv", GOOD.encode(), r"a\.csv: not \.jsonl, .* or \.parquet; convert the file"),
        ("a.gz", GOOD.encode(), r"a\.gz: not \.jsonl"),
    ],
)
def test_bad_files_of_tasks(tmp_path, refused, name, content, message):
    (tmp_path / name).write_bytes(content)
    refused(TaskError, message, lambda: read_tasks(tmp_path / name))
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    refused(TaskError, name.rsplit(".", 1)[0], lambda: read_tasks(tmp_path / name))


@pytest.mark.parametrize("filler", ["\n", "x"])
def test_a_gzip_bomb_of_tasks(tmp_path, refused, monkeypatch, filler):
    monkeypatch.setattr(gzipped, "FREE_BYTES", 1 << 20)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(filler.encode() * (1 << 22)))
    message = r"a\.jsonl\.gz:(1: blank line| unpacks to more than [\d,]+ bytes, the bound .*gunzip)"
    refused(TaskError, message, lambda: read_tasks(path))


def test_a_parquet_bomb_of_tasks(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(gzipped, "FREE_BYTES", 1 << 20)
    pl.DataFrame({"prompt": ["word " * 2000] * 2000, "answer": ["1"] * 2000}).write_parquet(
        tmp_path / "a.parquet"
    )
    refused(TaskError, r"a\.parquet: unpacks to more than", lambda: read_tasks(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: read_tasks(p, form="last"), "form 'last' is not known; take one of whole, hashes, boxed"),
        (lambda p: read_tasks(p, form="hashes"), r":1, field 'answer': no #### before an answer"),
        (lambda p: read_tasks(p, form="boxed"), r":1, field 'answer': no \\boxed{} with the answer"),
        (lambda p: read_tasks(p, problem_id="name"), r":1: no field 'name'"),
        (lambda p: read_gsm8k(p), r":1: no field 'question'"),
        (lambda p: read_math(p), r":1: no field 'problem'"),
        (lambda p: procedural_tasks("chain_sum", size=0), "size must be a whole number of problems"),
        (lambda p: procedural_tasks("chain_sum", size=True), "size must be a whole number of problems"),
        (lambda p: procedural_tasks("chain_sum", size=2.0), "size must be a whole number of problems"),
    ],
)
def test_bad_options_of_tasks(write, refused, call, message):
    path = write("a.jsonl", GOOD)
    refused(TaskError, message, lambda: call(path))


# --- rewards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [accuracy, signed_accuracy, boxed_format])
@pytest.mark.parametrize(
    ("completions", "message"),
    [
        ([b"2"], "the completion in row 0 is neither text nor a list of messages"),
        ([2], "the completion in row 0 is neither text nor a list of messages"),
        ([[]], "the completion in row 0 is neither text nor a list of messages"),
        ([["2"]], "the completion in row 0 is neither text nor a list of messages"),
        ([[{"content": 2}]], "the completion in row 0 is neither text nor a list of messages"),
        ([{"content": "2"}], "the completion in row 0 is neither text nor a list of messages"),
        (["2", "2"], "2 completions for 1 prompts"),
    ],
)
def test_completions_that_are_none(refused, function, completions, message):
    columns = {"answer": ["2"]}
    refused(ValueError, f"{function.__name__}: {message}", lambda: function(["?"], completions, **columns))


@pytest.mark.parametrize(
    "returned",
    [None, 1.0, [], [1.0, 2.0], [None], [math.nan], [-math.inf], ["1"], [[1.0]], [1j], [10**400], {}],
    ids=str,
)
def test_rewards_that_are_none(refused, returned):
    def mine(prompts, completions, **columns):
        return returned

    refused(
        ValueError,
        "^reward function 'mine' returned .*",
        lambda: checked(mine)(prompts=["?"], completions=["a"]),
    )


@pytest.mark.parametrize(
    ("length", "cache", "message"),
    [
        (0, 1, "max_length is 0; give a whole number of tokens ≥ 1"),
        (10, 0, "cache is 0; give a whole number of tokens ≥ 1"),
        (10, 11, r"cache \(11\) is more than max_length \(10\)"),
        (10.0, 2, "max_length is 10.0"),
        ("10", 2, "max_length is '10'"),
    ],
)
def test_overlong_punishment(refused, length, cache, message):
    refused(ValueError, message, lambda: overlong_punishment(length, cache))


def test_gold_answers_that_nothing_can_match(refused):
    message = r"no usable answer in row 1 \(None\), row 2 \(''\), row 3 \(5\)"
    refused(ValueError, message, lambda: check_answers(["1", None, "", 5, "2"]))


# --- options of the trainer ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_r": math.nan}, "lambda_r .nan. must be positive and finite"),
        ({"lambda_r": math.inf, "lambda_clamp": True}, "lambda_r .inf. must be positive and finite"),
        ({"lambda_r": -0.1}, "lambda_r .-0.1. must be positive"),
        ({"lambda_start": math.nan}, "lambda_start .nan. must be a finite number"),
        ({"lambda_start": -4}, "lambda_start .-4. must lie within lambda_bounds"),
        ({"lambda_bounds": [-math.inf, math.inf]}, "lambda_bounds .* must be two finite numbers"),
        ({"lambda_bounds": [math.nan, 1]}, "lambda_bounds .* must be two finite numbers"),
        ({"lambda_bounds": []}, "lambda_bounds .* must be two finite numbers"),
        ({"lambda_bounds": [1, 1]}, "lambda_bounds .* must be two finite numbers"),
        ({"lambda_learning_rate": math.nan}, "lambda_learning_rate .nan. must be a finite number"),
        ({"lambda_pull": math.nan}, "lambda_pull .nan. must be a finite number"),
        ({"lambda_start": math.nan, "lambda_fixed": True}, "lambda_start .nan. must be a finite number"),
        ({"lambda_start": -math.inf, "lambda_fixed": True}, "lambda_start .-inf. must be a finite number"),
        ({"lambda_learning_rate": math.inf}, "lambda_learning_rate .inf. must be a finite number"),
        ({"lambda_pull": math.inf}, "lambda_pull .inf. must be a finite number"),
        ({"lambda_pull": -1.0}, "lambda_pull .-1.0. must not be negative"),
        ({"lambda_bounds": 3}, "lambda_bounds .3. must be two finite numbers"),
        ({"lambda_bounds": ["-1e0", "1e0"]}, "lambda_bounds .* must be two finite numbers"),
        ({"lambda_group_by": ""}, "lambda_group_by .''. must be one of prompt, micro_batch"),
        ({"lambda_base_loss": "bnpo"}, "lambda_base_loss .'bnpo'. must be one of dapo, cispo, vespo"),
        ({"loss_type": "delta_l", "delta_l_exponent": -1.0}, "delta_l_exponent .-1.0. must be a finite"),
        ({"loss_type": "delta_l", "delta_l_exponent": math.inf}, "delta_l_exponent .inf. must be a finite"),
        ({"dynamic_sampling_rounds": -1}, "dynamic_sampling_rounds .-1. must not be negative"),
        (
            {"dynamic_sampling_rounds": 1, "scale_rewards": "batch"},
            "scale_rewards='batch' cannot go with dynamic_sampling_rounds",
        ),
    ],
)
def test_options_of_the_trainer(tmp_path, refused, options, message):
    from evenhand.grpo.config import LambdaGRPOConfig

    usual = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none"}
    refused(ValueError, message, lambda: LambdaGRPOConfig(**usual | options))


@pytest.mark.parametrize("gradient", [math.nan, math.inf, -math.inf, torch.tensor(torch.nan)])
def test_a_gradient_of_lambda(refused, gradient):
    preference = LearnablePreference()
    preference.accumulate(gradient)
    refused(ValueError, "∂J/∂λ is .*; λ stays at 0", preference.step)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lambda_state.json: "),
        (b"{", "lambda_state.json: "),
        (b"\xff", "lambda_state.json: "),
        (b"[" * 100_000, "lambda_state.json: "),
        (b"5", "lambda_state.json: the state of λ holds 5; it must hold bounds, form, value"),
        (b"[1, 2, 3]", "lambda_state.json: the state of λ holds"),
        (b'{"form": "lambda", "bounds": [-3, 3]}', "lambda_state.json: the state of λ holds"),
        (b'{"form": "power", "bounds": [-3, 3], "value": 0}', "is of form 'power'"),
        (b'{"form": "lambda", "bounds": [-2, 3], "value": 0}', "has bounds"),
        (b'{"form": "lambda", "bounds": 3, "value": 0}', "has bounds 3, and this one has"),
        (b'{"form": "lambda", "bounds": [-3, 3], "value": "0"}', "value is '0'; λ must lie in its bounds"),
        (b'{"form": "lambda", "bounds": [-3, 3], "value": null}', "value is None; λ must lie in its bounds"),
        (b'{"form": "lambda", "bounds": [-3, 3], "value": NaN}', "value is nan; λ must lie in its bounds"),
        (b'{"form": "lambda", "bounds": [-3, 3], "value": 1e400}', "value is inf; λ must lie in its bounds"),
    ],
)
def test_a_state_of_lambda(tmp_path, refused, content, message):
    (tmp_path / STATE_FILE).write_bytes(content)
    preference = LearnablePreference(start=0.5)
    refused(ValueError, message, lambda: read_state(preference, tmp_path, mend="train anew"))
    assert float(preference.value) == 0.5
    (tmp_path / STATE_FILE).unlink()
    refused(
        ValueError, "lambda_state.json is missing: train anew",
        lambda: read_state(preference, tmp_path, mend="train anew"),
    )  # fmt: skip


# --- evaluation ------------------------------------------------------------------------------------------

GENERATION = {
    "set": "s", "problem": "1", "sample": 0, "prompt": "c97c3a9c9b990740", "gold": "2", "text": "2",
    "answer": "2", "correct": True, "tokens": 3, "finish": "stop", "procedural": None,
}  # fmt: skip
LINE = json.dumps(GENERATION) + "\n"


def _line(**change):
    return json.dumps(GENERATION | change).encode() + b"\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": 1}, "field 'problem': 1 is not text"),
        ({"sample": -1}, "field 'sample': -1 is not a whole number from 0"),
        ({"sample": True}, "field 'sample': True is not a whole number from 0"),
        ({"answer": 2}, "field 'answer': 2 is not text or null"),
        ({"correct": 1}, "field 'correct': 1 is not true or false"),
        ({"tokens": 1.5}, "field 'tokens': 1.5 is not a whole number from 0"),
        ({"finish": None}, "field 'finish': None is not text"),
    ],
)
def test_a_field_of_a_generation(write, refused, change, message):
    path = write("a.jsonl", json.dumps(GENERATION | change) + "\n")
    refused(GenerationsError, rf"a\.jsonl:1, {message}", lambda: read_generations(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"the file holds no generation"),
        ("\n", r":1: not a JSON object"),
        ("[" * 100_000, r":1: not a JSON object"),
        ("[1]\n", r":1: list in place of a generation"),
        ("{}\n", r":1: no field 'set'"),
        (b"\xff\n", r":1: not a JSON object"),
        (LINE * 2, r":2: sample 0 of problem '1' of s stands at line 1 already"),
    ],
)
def test_a_file_of_generations(write, refused, content, message):
    path = write("a.jsonl", content)
    refused(GenerationsError, rf"a\.jsonl.*{message}", lambda: read_generations(path))


@pytest.mark.parametrize(
    ("settings", "content", "message"),
    [
        (b'{"seed": 0}', b"{}\n", r"part:1: no field 'set'"),
        (b'{"seed": 0}', b"[" * 100_000 + b"\n", r"part:1: not a JSON object"),
        (
            b'{"seed": 0}',
            LINE.encode().replace(b'"s"', b'"t"'),
            r"part:1: sample 0 of problem '1' of t is not what .*; delete the file",
        ),
        (
            b'{"seed": 0}',
            LINE.encode() + _line(problem="3"),
            r"part:2: sample 0 of problem '3' of s is not what",
        ),
        (
            b'{"seed": 0}',
            LINE.encode() + _line(problem="2") + _line(problem="2", sample=1),
            r"part:3: sample 1 of problem '2' of s is not what this evaluation writes there; delete the file",
        ),
        (b'{"seed": 1}', LINE.encode(), r"with other settings \(seed\); delete the file"),
        (
            b"[" * 100_000,
            LINE.encode(),
            r"of what it is cannot be read from a\.settings\.json; delete the file",
        ),
        (b"\xff", LINE.encode(), r"of what it is cannot be read"),
        (b"[1]", LINE.encode(), r"of what it is cannot be read"),
    ],
)
def test_what_an_interrupted_evaluation_left(write, refused, settings, content, message):
    part = write("a.jsonl.part", content)
    write("a.settings.json", settings)
    batches = [[("s", "1", 0), ("s", "2", 0)]]
    make = lambda: GenerationFile(part.with_name("a.jsonl"), {"seed": 0}, batches)  # noqa: E731
    refused(GenerationsError, message, make)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "--samples is 0; give at least 1"),
        ({"max_new_tokens": -1}, "--max-new-tokens is -1; give at least 1"),
        ({"batch_size": 0}, "--batch-size is 0; give at least 1"),
        ({"temperature": -1.0}, "--temperature must be a number from 0"),
        ({"temperature": math.nan}, "--temperature must be a number from 0"),
        ({"temperature": math.inf}, "--temperature must be a number from 0"),
        ({"temperature": 0.0}, "at --temperature 0 all samples of a problem are one"),
        ({"top_p": math.nan}, "--top-p above 0 and at most 1"),
        ({"top_p": 1.5}, "--top-p above 0 and at most 1"),
    ],
)
def test_how_answers_are_drawn(refused, change, message):
    usual = {"samples": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 4, "batch_size": 4, "seed": 0}
    refused(ValueError, message, lambda: Sampling(**usual | change).check())
