import gzip
import json

import pytest

from evenhand.grpo.math_sets import MATH_SETS, find_math_set, read_math_set
from evenhand.grpo.tasks import BOXED_INSTRUCTION, TaskError

ROW = {"question": "1+1?", "answer": "one more\n#### 2"}


@pytest.fixture(scope="session")
def math_sets(public_data):
    return public_data("math")


def put(path, row=ROW):
    path.parent.mkdir(exist_ok=True)
    line = json.dumps(row).encode() + b"\n"
    path.write_bytes(gzip.compress(line) if path.suffix == ".gz" else line)


@pytest.mark.parametrize(
    "place", ["gsm8k.jsonl", "gsm8k.jsonl.gz", "gsm8k-test.jsonl", "gsm8k-test.jsonl.gz", "gsm8k/test.jsonl"]
)
def test_where_a_set_may_stand(tmp_path, place):
    put(tmp_path / place)
    assert find_math_set("gsm8k", tmp_path) == tmp_path / place
    assert find_math_set("math500", tmp_path) is None
    assert read_math_set("gsm8k", tmp_path)["answer"][:] == ["2"]


def test_how_a_problem_is_asked(tmp_path):
    put(tmp_path / "gsm8k.jsonl")
    asked = {
        form: read_math_set("gsm8k", tmp_path, form=form)[0]["prompt"] for form in ("plain", "user", "system")
    }
    text = "1+1?\nPlease reason step by step, and put your final answer within \\boxed{}."
    assert asked == {
        "plain": text,
        "user": [{"role": "user", "content": text}],
        "system": [{"role": "system", "content": BOXED_INSTRUCTION}, {"role": "user", "content": "1+1?"}],
    }


def test_an_absent_set_says_what_is_expected_where(tmp_path):
    with pytest.raises(TaskError) as caught:
        read_math_set("minerva_math", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no minerva_math.jsonl (or minerva_math-test.jsonl, minerva_math/test.jsonl; each also"
        " with .gz); Minerva is expected there, one JSON object a line, the problem in 'problem' and its"
        r" answer in the last \boxed{} of 'solution'"
    )


def test_a_file_with_other_fields_names_them(tmp_path):
    put(tmp_path / "aime24.jsonl", {"Problem": "?", "Answer": "1"})
    with pytest.raises(TaskError, match=r"aime24.jsonl:1: no field 'problem'; there are 'Problem', 'Answer'"):
        read_math_set("aime24", tmp_path)


@pytest.mark.parametrize("name", MATH_SETS)
def test_the_public_sets_are_read_whole(math_sets, name):
    data = read_math_set(name, math_sets)
    assert len(data) == MATH_SETS[name].size
    golds = data["answer"][:]
    assert golds.count("") == (2 if name == "gaokao2023en" else 0)
    numbers = {"gsm8k": golds, "aime24": golds, "amc23": golds}.get(name, [])
    assert all(gold.replace(",", "").lstrip("-").isdigit() for gold in numbers)
