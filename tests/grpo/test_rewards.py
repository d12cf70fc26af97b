import asyncio
import math
import threading

import numpy as np
import pytest

from evenhand.grpo import rewards
from evenhand.grpo.checking import AnswerChecker
from evenhand.grpo.rewards import (
    REWARDS,
    accuracy,
    boxed_format,
    check_answers,
    checked,
    overlong_punishment,
    procedural_accuracy,
    signed_accuracy,
)


def said(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_accuracy_looks_at_the_stated_answer():
    texts = [r"\boxed{12}", "so\n#### 12", "<answer>12</answer>", "12", "The answer is 12.", "12 or 13", "13"]
    assert accuracy(["?"] * 7, texts, answer=["12"] * 7) == [1, 1, 1, 1, 1, 0, 0]


def test_the_last_answer_counts():
    assert accuracy(["?"] * 2, [r"\boxed{12} \boxed{13}", r"\boxed{13} \boxed{12}"], answer=["12"] * 2) == [
        0,
        1,
    ]


def test_conversations_are_read_at_their_last_message():
    completions = [
        *said(r"\boxed{2}"),
        [*said(r"\boxed{3}")[0], {"role": "tool", "content": "4"}, *said(r"\boxed{2}")[0]],
        [{"role": "assistant", "content": None, "tool_calls": []}],
    ]
    assert accuracy(["?"] * 3, completions, answer=["2"] * 3) == [1, 1, 0]


def test_signed_accuracy_has_the_papers_values():
    texts = [r"\boxed{2}", r"\boxed{3}", "2", r"\boxed{}", r"\boxed{2", "#### 2"]
    assert signed_accuracy(["?"] * 6, texts, answer=["2"] * 6) == [1, -0.5, -1, -1, -1, -1]


def test_boxed_format():
    assert boxed_format(["?"] * 4, [r"\boxed{?}", r"\boxed{ }", r"\boxed{1", "1"]) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    "empty", ["", " ", r"\boxed{}", r"\boxed{ }", r"\boxed{$$}", "####", "<answer></answer>"]
)
def test_an_empty_answer_is_never_right(empty):
    for gold in ("0", r"\emptyset", r"\text{none}"):
        assert accuracy(["?"], [empty], answer=[gold]) == [0]
        assert signed_accuracy(["?"], [empty], answer=[gold])[0] < 0


@pytest.mark.parametrize("function", [accuracy, signed_accuracy])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"answer": None}, "needs the data set's column 'answer'"),
        ({"answer": ["1"]}, "has 1 rows for 2 completions"),
        ({"answer": ["1", None]}, "row 1: None is not text"),
        ({"answer": ["1", 2.0]}, "row 1: 2.0 is not text"),
        ({"answer": ["1", ""]}, "no usable gold answer in row 1"),
        ({"answer": ["1", r"\frac{"]}, r"no usable gold answer in row 1 \('\\\\frac\{'\)"),
        ({"answer": ["1", "1"], "completions": ["1", None]}, "completion in row 1"),
        ({"answer": ["1", "1"], "completions": ["1", math.nan]}, "completion in row 1"),
        ({"answer": ["1", "1"], "completions": ["1", []]}, "completion in row 1"),
        ({"answer": ["1", "1"], "completions": ["1", [{"content": [1]}]]}, "completion in row 1"),
        ({"answer": ["1", "1"], "prompts": ["?"]}, "2 completions for 1 prompts"),
    ],
)
def test_bad_input_names_the_function_and_the_row(function, arguments, message):
    arguments = {"prompts": ["?", "?"], "completions": ["1", "2"], **arguments}
    with pytest.raises(ValueError, match=f"^{function.__name__}.*{message}"):
        function(**arguments)


def test_check_answers_lists_the_rows():
    with pytest.raises(ValueError, match=r"column 'gold': .*row 1 \(None\), row 2 \(''\), row 4 \(3\); mend"):
        check_answers(["1", None, "", "x+1", 3], column="gold")
    with pytest.raises(ValueError, match=r"row 4 .* and 4 more"):
        check_answers([""] * 9)


def test_timeouts_go_to_the_log_and_score_nothing_from_a_thread(monkeypatch):
    logged, scores = {}, []
    with AnswerChecker(workers=1, time_limit=1.0) as hasty:
        monkeypatch.setattr(rewards, "shared_checker", lambda: hasty)

        def score():
            texts = [r"\boxed{9^{9^{9^9}}}", r"\boxed{\sqrt{25}}", r"\boxed{$10^{10^{10}}$}"]
            scores.extend(accuracy(["?"] * 3, texts, answer=["5"] * 3, log_metric=logged.__setitem__))

        thread = threading.Thread(target=score)
        thread.start()
        thread.join()
    assert scores == [0, 1, 0]
    assert logged == {"accuracy/timeouts": 1.0}


def test_the_registry_holds_each_function_under_its_name():
    assert {name: function.__name__ for name, function in REWARDS.items()} == {
        name: name for name in ("accuracy", "signed_accuracy", "boxed_format", "procedural_accuracy")
    }


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0, None], "returned None in row 1"),
        ([math.nan, 1.0], "returned nan in row 0"),
        ([0, math.inf], "returned inf in row 1"),
        ([0, "1"], "returned '1' in row 1"),
        ([1.0], "returned 1 rewards for 2 completions"),
        (None, "returned NoneType"),
        (1.0, "returned float"),
    ],
)
def test_checked_names_the_function_and_the_row(returned, message):
    def mine(prompts, completions, **columns):
        return returned

    with pytest.raises(ValueError, match=f"reward function 'mine' {message}"):
        checked(mine)(prompts=["?", "?"], completions=["a", "b"])


def test_checked_passes_sound_rewards_on_as_floats():
    def mine(prompts, completions, answer, **columns):
        assert answer == ["x", "y", "z"]
        return (True, np.float32(0.5), 2)

    wrapped = checked(mine)
    result = wrapped(prompts=[""] * 3, completions=[""] * 3, answer=["x", "y", "z"])
    assert result == [1.0, 0.5, 2.0]
    assert {type(value) for value in result} == {float}
    assert wrapped.__name__ == "mine"


def test_checked_keeps_async_functions_async_and_names_objects():
    class Judge:
        async def __call__(self, prompts, completions, **columns):
            return [None]

    wrapped = checked(Judge())
    assert asyncio.iscoroutinefunction(wrapped)
    with pytest.raises(ValueError, match="'Judge' returned None in row 0"):
        asyncio.run(wrapped(prompts=["?"], completions=["a"]))


def test_only_a_full_score_of_reasoning_gym_counts():
    pytest.importorskip("reasoning_gym", reason="evenhand[procedural] is not installed")
    from evenhand.grpo.tasks import procedural_tasks

    data = procedural_tasks("chain_sum", size=3, seed=5)
    right = [f"<answer>{answer}</answer>" for answer in data["answer"]]
    columns = {"procedural": data["procedural"][:]}
    assert procedural_accuracy(data["prompt"][:], right, **columns) == [1, 1, 1]
    # reasoning-gym gives a part of the score where the answer only occurs in the text
    partly = [f"<answer>{answer} or so</answer>" for answer in data["answer"]]
    assert procedural_accuracy(data["prompt"][:], partly, **columns) == [0, 0, 0]
    assert procedural_accuracy(data["prompt"][:], ["", "<answer></answer>", "?"], **columns) == [0, 0, 0]
    with pytest.raises(ValueError, match="procedural_accuracy needs the data set's column 'procedural'"):
        procedural_accuracy(data["prompt"][:], right)


def test_an_item_that_comes_out_differently_is_refused():
    pytest.importorskip("reasoning_gym", reason="evenhand[procedural] is not installed")
    from evenhand.grpo.tasks import procedural_tasks

    data = procedural_tasks("chain_sum", size=1, seed=5)
    other = data["procedural"][0].replace('"seed": 5', '"seed": 6')
    with pytest.raises(ValueError, match="chain_sum: item 0 is not the one"):
        procedural_accuracy(["?"], ["1"], procedural=[other])


def test_overlong_completions_are_punished_in_proportion():
    lengths = np.arange(0, 26)
    punish = overlong_punishment(max_length=20, cache=8)
    expected = np.where(lengths <= 12, 0.0, np.where(lengths <= 20, (12 - lengths) / 8, -1.0))
    assert punish(completion_ids=[[1] * n for n in lengths]) == pytest.approx(expected.tolist())
    assert checked(punish)(prompts=["?"], completions=["x"], completion_ids=[[1] * 16]) == [-0.5]
    assert punish.__name__ == "overlong_punishment"


@pytest.mark.parametrize(
    ("max_length", "cache", "message"),
    [
        (0, 1, "max_length is 0"),
        (10, 0, "cache is 0; give a whole number of tokens"),
        (10, 2.5, "cache is 2.5"),
        (10, 11, r"cache \(11\) is more than max_length \(10\)"),
    ],
)
def test_lengths_that_cannot_be_right_are_refused(max_length, cache, message):
    with pytest.raises(ValueError, match=f"overlong_punishment: {message}"):
        overlong_punishment(max_length, cache)


def test_a_punishment_without_tokens_is_refused():
    with pytest.raises(ValueError, match="overlong_punishment needs `completion_ids`"):
        overlong_punishment(10, 2)(prompts=["?"], completions=["x"])
