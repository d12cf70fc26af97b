import gzip
import json
import sys

import datasets
import polars as pl
import pytest

from evenhand.grpo.checking import AnswerChecker
from evenhand.grpo.tasks import (
    BOXED_INSTRUCTION,
    TaskError,
    procedural_tasks,
    read_gsm8k,
    read_math,
    read_tasks,
)


@pytest.fixture(scope="session")
def math_sets(public_data):
    return public_data("math")


@pytest.fixture
def write(tmp_path):
    def write_rows(name, rows):
        path = tmp_path / name
        if name.endswith(".parquet"):
            pl.DataFrame(rows).write_parquet(path)
            return path
        text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write_rows


ROWS = [{"q": "1 + 1?", "a": "2", "n": "one"}, {"q": "2 + 2?", "a": "4", "n": "two"}]


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.jsonl.gz", "t.parquet"])
def test_any_field_names(write, name):
    data = read_tasks(write(name, ROWS), prompt="q", answer="a", problem_id="n")
    assert data.to_dict() == {
        "prompt": ["1 + 1?", "2 + 2?"],
        "answer": ["2", "4"],
        "problem_id": ["one", "two"],
    }
    assert read_tasks(write(name, ROWS), prompt="q", answer="a")["problem_id"][:] == ["1", "2"]


def test_instruction_and_conversation(write):
    path = write("t.jsonl", ROWS)
    data = read_tasks(path, prompt="q", answer="a", instruction="Think.", conversational=True)
    assert data[0]["prompt"] == [{"role": "user", "content": "1 + 1?\n\nThink."}]


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_prompts_that_are_messages_stay_as_they_are(write, name):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}]
    data = read_tasks(write(name, [{"prompt": messages, "answer": "1"}]), instruction="Think.")
    assert data[0]["prompt"] == messages


@pytest.mark.parametrize(
    ("value", "answer"),
    [(27.0, "27"), (27, "27"), (1e-7, "0.0000001"), (0.1, "0.1"), (["3"], "3"), (" x ", "x"), (-2.5, "-2.5")],
)
def test_answers_that_are_not_text(write, value, answer):
    assert read_tasks(write("t.jsonl", [{"prompt": "?", "answer": value}]))["answer"][:] == [answer]


@pytest.mark.parametrize(
    ("form", "text", "answer"),
    [
        ("hashes", "16 - 3 = <<16-3=13>>13\n#### 13", "13"),
        ("hashes", "#### 1\n#### 1,234", "1,234"),
        ("boxed", r"so \boxed{1}, no, \boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        ("boxed", r"so $\boxed 7$.", "7"),
    ],
)
def test_forms_of_answers(write, form, text, answer):
    assert read_tasks(write("t.jsonl", [{"prompt": "?", "answer": text}]), form=form)["answer"][:] == [answer]


LEVELS = [
    {"problem": f"p{i}", "solution": rf"\boxed{{{i}}}", "level": level}
    for i, level in enumerate(["Level 1", "Level 3", "Level ?", "Level 5", "Level 3"])
]


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", None])
def test_levels_keep_the_numbers_of_problems(write, name):
    source = datasets.Dataset.from_list(LEVELS) if name is None else write(name, LEVELS)
    data = read_math(source, levels=[3, 5], instruction="")
    assert data.to_dict() == {
        "prompt": ["p1", "p3", "p4"],
        "answer": ["1", "3", "4"],
        "problem_id": ["2", "4", "5"],
    }
    assert len(read_math(source)) == 5
    with pytest.raises(TaskError, match="it holds no problem of level 2 or 4"):
        read_math(source, levels=[2, 4])


def test_levels_may_be_numbers_and_must_be_levels(write):
    rows = [dict(row, level=level) for row, level in zip(LEVELS, (3, 4, 3, 1, 2))]
    assert read_math(write("t.jsonl", rows), levels=[3])["answer"][:] == ["0", "2"]
    rows[1]["level"] = "hard"
    with pytest.raises(
        TaskError, match=r"t.jsonl:2, field 'level': 'hard' is no level, like \"Level 3\" or 3"
    ):
        read_math(write("t.jsonl", rows), levels=[3])


def test_rows_that_are_loaded_are_read_as_a_file_is(write):
    rows = [{"question": "1 + 1?", "answer": "#### 2"}, {"question": "2 + 2?", "answer": "4"}]
    source = datasets.Dataset.from_list(rows[:1])
    assert read_gsm8k(source).to_dict() == read_gsm8k(write("t.jsonl", rows[:1])).to_dict()
    with pytest.raises(TaskError, match="row 2 of the data set, field 'answer': no ####"):
        read_gsm8k(datasets.Dataset.from_list(rows))


GOOD = {"prompt": "?", "answer": "1"}


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, ": it holds no problem"),
        ([GOOD, "{\n"], {}, ":2: not one JSON object a line"),
        ([GOOD, "\n", GOOD], {}, ":2: blank line"),
        ([GOOD, "[1]\n"], {}, ":2: list in place of a JSON object"),
        ([GOOD, {"prompt": "?"}], {}, ":2: no field 'answer'; there are 'prompt'"),
        ([GOOD, {"prompt": " ", "answer": "1"}], {}, ":2, field 'prompt': ' ' is neither text nor messages"),
        ([{"prompt": [{"role": "user"}], "answer": "1"}], {}, ":1, field 'prompt': "),
        ([{"prompt": "?", "answer": None}], {}, ":1, field 'answer': None is neither text nor a number"),
        ([{"prompt": "?", "answer": True}], {}, ":1, field 'answer': True is neither text nor a number"),
        ([{"prompt": "?", "answer": float("nan")}], {}, ":1, field 'answer': nan is neither"),
        ([{"prompt": "?", "answer": ["1", "2"]}], {}, ":1, field 'answer': a list of 2 answers"),
        ([GOOD, {"prompt": "?", "answer": " "}], {}, ":2, field 'answer': the answer is empty"),
        ([GOOD], {"form": "hashes"}, ":1, field 'answer': no #### before an answer"),
        ([{"prompt": "?", "answer": "####"}], {"form": "hashes"}, ":1, field 'answer': the answer is empty"),
        ([{"prompt": "?", "answer": r"\boxed{1"}], {"form": "boxed"}, r":1, field 'answer': no \boxed{}"),
        ([GOOD, GOOD], {"problem_id": "prompt"}, ":2, field 'prompt': '?' already names the problem at "),
        (
            [GOOD, {"prompt": [{"role": "user", "content": "?"}], "answer": "1"}],
            {},
            ":2, field 'prompt': give all problems as text or all",
        ),
    ],
)
def test_bad_files_name_the_place(write, rows, options, message):
    path = write("t.jsonl", rows)
    with pytest.raises(TaskError) as caught:
        read_tasks(path, **options)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_problem_without_an_answer_may_be_kept(write):
    path = write("t.jsonl", [GOOD, {"prompt": "?", "answer": " "}])
    assert read_tasks(path, keep_unanswered=True)["answer"][:] == ["1", ""]


def test_bad_parquet_rows_and_files(write, tmp_path):
    path = write("t.parquet", [GOOD, {"prompt": "?", "answer": None}])
    with pytest.raises(TaskError, match=r"t.parquet: row 2, field 'answer': None"):
        read_tasks(path)
    with pytest.raises(TaskError, match=r"t.parquet: row 1: no field 'gold'"):
        read_tasks(path, answer="gold")
    for name in ("bad.parquet", "bad.jsonl.gz"):
        (tmp_path / name).write_bytes(b"no such file")
        with pytest.raises(TaskError, match=name):
            read_tasks(tmp_path / name)
    with pytest.raises(TaskError, match="convert the file"):
        read_tasks(tmp_path / "t.csv")
    with pytest.raises(TaskError, match="No such file"):
        read_tasks(tmp_path / "absent.jsonl")


def test_gsm8k(math_sets):
    data = read_gsm8k(math_sets / "gsm8k-test.jsonl.gz")
    assert len(data) == 1319
    assert data[0]["answer"] == "18"
    assert data[0]["prompt"].startswith("Janet")
    assert data[0]["prompt"].endswith(BOXED_INSTRUCTION)
    with AnswerChecker(workers=1) as checker:
        assert all(checker.readable(data["answer"][:]))


def test_math500s_boxes_hold_its_answers(math_sets):
    boxed = read_math(math_sets / "math500-test.jsonl.gz")
    stated = read_tasks(math_sets / "math500-test.jsonl.gz", prompt="problem", problem_id="unique_id")
    pairs = list(zip(stated["answer"], boxed["answer"], strict=True))
    with AnswerChecker(workers=1) as checker:
        assert all(checker.readable(stated["answer"][:]))
        assert all(checker.right(pairs))
        shifted = checker.right([(gold, pairs[row - 1][1]) for row, (gold, _) in enumerate(pairs)])
    assert sum(shifted) < 10


def test_procedural_tasks_are_the_same_from_the_same_seed():
    pytest.importorskip("reasoning_gym", reason="evenhand[procedural] is not installed")
    data = procedural_tasks("chain_sum", size=3, seed=1, min_terms=2, max_terms=2)
    assert data.column_names == ["prompt", "answer", "problem_id", "procedural"]
    assert data["problem_id"][:] == ["chain_sum-1-0", "chain_sum-1-1", "chain_sum-1-2"]
    assert data.to_dict() == procedural_tasks("chain_sum", size=3, seed=1, min_terms=2, max_terms=2).to_dict()
    assert data["prompt"][:] != procedural_tasks("chain_sum", size=3, min_terms=2, max_terms=2)["prompt"][:]


def test_procedural_options_are_checked():
    pytest.importorskip("reasoning_gym", reason="evenhand[procedural] is not installed")
    with pytest.raises(TaskError, match="no task 'chainsum'; did you mean chain_sum"):
        procedural_tasks("chainsum", size=1)
    with pytest.raises(TaskError, match=r"'chain_sum' refuses its options .*min_terms"):
        procedural_tasks("chain_sum", size=1, min_terms=-1)
    with pytest.raises(TaskError, match="size must be a whole number"):
        procedural_tasks("chain_sum", size=0)


def test_without_reasoning_gym_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(TaskError, match=r"evenhand\[procedural\]"):
        procedural_tasks("chain_sum", size=1)
