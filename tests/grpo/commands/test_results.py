"""`evenhand grpo score` and `compare`, on files of generations."""

import re
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from evenhand.cli import app
from evenhand.grpo.generations import Generation, read_generations, write_generations


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["grpo", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def generation(problem, sample, number, **fields):
    """An answer to a problem whose answer is 1."""
    defaults = {"set": "gsm8k", "prompt": "p", "gold": "1", "answer": str(number), "correct": number == 1}
    text = f"\\boxed{{{number}}}"
    defaults |= {"text": text, "tokens": 10 * number, "finish": "stop" if number == 1 else "length"}
    return Generation(problem=str(problem), sample=sample, **defaults | fields)


def answers(numbers, **fields):
    """A row of `numbers` for each problem."""
    return [generation(p, s, n, **fields) for p, row in enumerate(numbers) for s, n in enumerate(row)]


@pytest.fixture
def put(tmp_path):
    def write(name, generations):
        write_generations(tmp_path / name, generations)
        return tmp_path / name

    return write


def test_score_judges_anew(put, tmp_path):
    kept = answers([[1], [2], [1], [1]])
    kept[0], kept[1] = replace(kept[0], correct=False), replace(kept[1], correct=True, answer="7")
    path, out = put("a.jsonl", kept), tmp_path / "b.jsonl"
    before = path.read_bytes()
    output = run("score", path)
    assert re.search(r"GSM8K +4 +1 +75.0 .* 12.5 +25.0", output)
    assert f"Of 4 verdicts in {path}, 1 are now right and 1 now wrong." in " ".join(output.split())
    assert path.read_bytes() == before
    run("score", path, "--out", out)
    assert read_generations(out) == answers([[1], [2], [1], [1]])


def test_score_shows_k_where_there_are_samples(put):
    path = put("a.jsonl", answers([[1, 2], [2, 2], [1, 1]]) + answers([[1], [2]], set="math500"))
    output = run("score", path)
    assert re.search(r"pass@2 +66.7", output)
    assert re.search(r"maj@2 +50.0", output)
    assert re.search(r"MATH-500 +2 +1 +50.0", output)
    assert re.search(r"Average of 2 sets +50.0", output)
    assert "pass@1" not in run("score", path, "--k", "2")
    assert "from 1 to the 2 answers a problem" in " ".join(run("score", path, "--k", "3", code=2).split())


def test_score_says_what_made_up_problems_need(put, monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    path = put("a.jsonl", answers([[1], [2]], procedural="{}"))
    assert "pip install 'evenhand[procedural]'" in run("score", path, code=2)


def test_a_set_of_one_problem_has_no_interval(put):
    path = put("a.jsonl", answers([[1, 2]]))
    assert re.search(r"GSM8K +1 +2 +50.0 +– ", run("score", path))


def test_compare_pairs_the_problems(put):
    first = put("a.jsonl", answers([[2, 2]] * 5 + [[1, 1]] * 5))
    second = put("b.jsonl", list(reversed(answers([[1, 2]] * 5 + [[1, 1]] * 5))))
    output = run("compare", first, second)
    assert re.search(r"GSM8K +10 +50.0 +75.0 +\+25.0 +\+[0-9.]+ to \+[0-9.]+", output)
    assert re.search(r"pass@2 +\+50.0", output)
    assert "different words" not in output
    assert re.search(r"GSM8K +10 +75.0 +50.0 +-25.0 ", run("compare", second, first))


def test_a_run_against_itself_shows_no_difference(put):
    path = put("a.jsonl", answers([[1], [2], [1]]))
    assert re.search(r"GSM8K +3 +66.7 +66.7 +\+0.0 +\+0.0 to \+0.0", run("compare", path, path))


def test_compare_takes_the_sets_that_both_have(put):
    both = answers([[1], [2]]) + answers([[1], [1]], set="math500")
    first = put("a.jsonl", both + answers([[1], [1]], set="amc23"))
    second = put("b.jsonl", [replace(one, prompt="q") for one in both])
    output = " ".join(run("compare", first, second).split())
    assert f"Only in {first}: AMC23." in output
    assert "The two were asked in different words." in output
    assert "Average of 2 sets" in output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: replace(one, set="x"), "a.jsonl has gsm8k, and"),
        (lambda one: replace(one, problem=f"9{one.problem}"), "gsm8k: 2 problems are in"),
        (lambda one: replace(one, gold="3"), "gsm8k, problem 0: the right answer is '1' in"),
    ],
)
def test_what_cannot_be_compared(put, change, message):
    first = put("a.jsonl", answers([[1], [2]]))
    second = put("b.jsonl", list(map(change, answers([[1], [2]]))))
    assert message in " ".join(run("compare", first, second, code=2).split())


@pytest.mark.parametrize("command", [("score", "{}"), ("compare", "{}", "{}")])
def test_a_file_that_is_not_there(tmp_path, command):
    arguments = [part.format(tmp_path / "absent.jsonl") for part in command]
    assert "absent.jsonl: No such file" in " ".join(run(*arguments, code=2).split())
