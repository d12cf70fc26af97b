import json
from dataclasses import replace

import pytest

from evenhand.grpo.checking import AnswerChecker
from evenhand.grpo.generations import (
    Generation,
    GenerationFile,
    GenerationsError,
    judged,
    prompt_hash,
    read_generations,
    settings_path,
    write_generations,
)


def generation(problem="a", sample=0, text="#### 1", **fields):
    defaults = {
        "set": "s",
        "prompt": "0" * 16,
        "gold": "1",
        "answer": None,
        "correct": False,
        "tokens": 3,
        "finish": "stop",
    }
    return Generation(problem=problem, sample=sample, text=text, **defaults | fields)


@pytest.fixture(scope="module")
def checker():
    with AnswerChecker(workers=1) as checker:
        yield checker


def test_a_prompt_hash_is_that_of_all_its_messages():
    text, one = "1+1?", [{"role": "user", "content": "1+1?"}]
    assert len({prompt_hash(text), prompt_hash(one), prompt_hash([*one, *one])}) == 3
    assert prompt_hash(one) == prompt_hash([{"content": "1+1?", "role": "user"}])


@pytest.mark.parametrize(
    ("gold", "text", "answer", "correct"),
    [
        (r"\frac{1}{2}", r"so \boxed{0.5}", "0.5", True),
        ("7", "The answer is $7$.", "7", True),
        ("7", "3 and 4 make 7", "7", True),
        ("7", "3 and 4 make 8", "8", False),
        ("x+1", "$x+1$", "x+1", True),  # nothing but the answer, as the rewards take it
        ("x+1", "it is x+1", "1", False),
        ("Monday", "on a day", None, False),
        ("7", r"7, so \boxed{}", "", False),
    ],
)
def test_verdicts(checker, gold, text, answer, correct):
    before = generation(gold=gold, text=text, answer="old", correct=not correct)
    (after,) = judged([before], checker=checker)
    assert (after.answer, after.correct) == (answer, correct)
    assert replace(after, answer="old", correct=not correct) == before


def test_what_is_right_by_the_reward_is_right_here(checker):
    from evenhand.grpo.rewards import accuracy

    texts = [r"\boxed{2}", "<answer>2</answer>", "#### 2", "2", "the answer is $2$.", "Answer: 2", "2.0"]
    assert accuracy([None] * len(texts), texts, ["2"] * len(texts)) == [1.0] * len(texts)
    after = judged(
        [generation(sample=i, gold="2", text=text) for i, text in enumerate(texts)], checker=checker
    )
    assert all(one.correct for one in after)


def test_made_up_problems_are_judged_by_their_maker(checker):
    pytest.importorskip("reasoning_gym", reason="evenhand[procedural] is not installed")
    from evenhand.grpo.tasks import procedural_tasks

    tasks = procedural_tasks("chain_sum", size=1)
    gold, task = tasks[0]["answer"], tasks[0]["procedural"]
    texts = [f"<answer>{gold}</answer>", gold, "<answer>none</answer>", ""]
    mixed = [generation(sample=i, gold=gold, text=t, procedural=task) for i, t in enumerate(texts)]
    after = judged([generation(sample=9), *mixed], checker=checker)
    assert [one.correct for one in after] == [True, True, True, False, False]


def test_generations_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "g.jsonl"
    generations = [
        generation("ä", 0, "\ud800 \n"),
        generation("ä", 1, answer="1", correct=True),
        generation("b"),
    ]
    write_generations(path, iter(generations))
    assert read_generations(path) == generations
    assert json.loads(path.read_text().splitlines()[2]) == {
        "set": "s",
        "problem": "b",
        "sample": 0,
        "prompt": "0" * 16,
        "gold": "1",
        "text": "#### 1",
        "answer": None,
        "correct": False,
        "tokens": 3,
        "finish": "stop",
        "procedural": None,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"set": None}, ":2, field 'set': None is not text"),
        ({"sample": True}, ":2, field 'sample': True is not a whole number from 0"),
        ({"answer": 1}, ":2, field 'answer': 1 is not text or null"),
        ({"correct": 1}, ":2, field 'correct': 1 is not true or false"),
        ({"tokens": -1}, ":2, field 'tokens': -1 is not"),
        ({}, ":2: sample 0 of problem 'a' of s stands at line 1 already"),
    ],
)
def test_bad_files_name_the_place(tmp_path, change, message):
    path = tmp_path / "g.jsonl"
    write_generations(path, [generation()])
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | change))
    with pytest.raises(GenerationsError) as caught:
        read_generations(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "no generation"), ("{", ":1: not a JSON object"), ("[]", ":1: list"), ("{}", "no field 'set'")],
)
def test_files_that_are_no_generations(tmp_path, content, message):
    path = tmp_path / "g.jsonl"
    path.write_text(content)
    with pytest.raises(GenerationsError, match=message):
        read_generations(path)
    with pytest.raises(GenerationsError, match="No such file"):
        read_generations(tmp_path / "absent.jsonl")


BATCHES = [
    [generation("a", 0), generation("a", 1)],
    [generation("b", 0), generation("b", 1)],
    [generation("c")],
]
KEYS = [[one.key for one in batch] for batch in BATCHES]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "g.jsonl"


def opened(path, settings=None, keys=KEYS):
    return GenerationFile(path, {"model": "m", "seed": 0} if settings is None else settings, keys)


def test_a_file_takes_its_name_when_it_is_complete(path):
    file = opened(path)
    for done, batch in enumerate(BATCHES):
        assert file.n_done == done
        assert not path.exists()
        file.add(batch)
    assert read_generations(path) == [one for batch in BATCHES for one in batch] == file.generations
    assert sorted(other.name for other in path.parent.iterdir()) == ["g.jsonl", "g.settings.json"]
    again = opened(path)
    assert again.n_done == 3
    assert again.generations == file.generations


@pytest.mark.parametrize("lines", [0, 0.5, 1, 1.5])
def test_a_kill_costs_the_batch_in_hand_only(path, lines):
    """Wherever the writing of a batch was cut off: before its first line, within one, or between two."""
    opened(path).add(BATCHES[0])
    part = path.with_name("g.jsonl.part")
    first = part.read_bytes()
    opened(path).add(BATCHES[1])
    both = part.read_bytes()
    line = (len(both) - len(first)) // 2
    assert both[len(first) + line - 1 : len(first) + line] == b"\n"
    part.write_bytes(both[: len(first) + int(lines * line)])
    file = opened(path)
    assert file.n_done == 1
    assert file.generations == BATCHES[0]
    file.add(BATCHES[1])
    assert part.read_bytes() == both
    file.add(BATCHES[2])
    assert read_generations(path) == [one for batch in BATCHES for one in batch]


@pytest.mark.parametrize("there", [b"", b'{"set": "s", "pro'])
def test_a_kill_within_the_first_line_leaves_something_to_go_on_from(path, there):
    opened(path).add(BATCHES[0])
    path.with_name("g.jsonl.part").write_bytes(there)
    file = opened(path)
    assert file.n_done == 0
    for batch in BATCHES:
        file.add(batch)
    assert read_generations(path) == [one for batch in BATCHES for one in batch]


def test_nothing_is_written_before_the_first_batch(path):
    opened(path)
    assert not list(path.parent.iterdir())


def test_what_is_of_another_evaluation_is_left_alone(path):
    opened(path).add(BATCHES[0])
    part = path.with_name("g.jsonl.part")
    before = part.read_bytes()
    with pytest.raises(
        GenerationsError, match=r"g.jsonl.part is of an evaluation with other settings \(seed\)"
    ):
        opened(path, {"model": "m", "seed": 1})
    with pytest.raises(GenerationsError, match=r"part:1: sample 0 of problem 'a' of s is not what"):
        opened(path, keys=KEYS[1:])
    settings_path(path).unlink()
    with pytest.raises(GenerationsError, match=r"cannot be read from g.settings.json; delete the file"):
        opened(path)
    assert part.read_bytes() == before
