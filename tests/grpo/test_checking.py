import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from evenhand.grpo import checking
from evenhand.grpo.checking import AnswerChecker, shared_checker

NEVER_DONE = "9^{9^{9^9}}"  # math-verify does not come back from this in hours


@pytest.fixture(scope="module")
def checker():
    with AnswerChecker(workers=1) as checker:
        yield checker


@pytest.fixture
def hasty():
    with AnswerChecker(workers=1, time_limit=1.0) as checker:
        yield checker


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("(x-1)(x+1)", "x^2-1"),
        (r"\frac{\pi}{4}", r"\arctan(1)"),
        ("1/3", "0.333333"),
        (r"\pi", "3.14159265"),
        (r"\left( 3, \frac{\pi}{2} \right)", "(3,\\pi/2)"),
        ("1,2", r"\{2,1\}"),
        ("40, 200", "200, 40"),
        ("40, 200", r"\{200, 40\}"),
        ("5", "x=5"),
        ("$(45,2),(-10,-9)$", "$(-10,-9),(45,2)$"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2.0\end{pmatrix}"),
        (r"3\frac{1}{2}", r"\sqrt{49}/2"),
        ("4.5e33", r"45 \cdot 10^{32}"),
        ("2+3i", "3i+2"),
        ("0", r"\sqrt2\sqrt3-\sqrt6"),
        ("0", r"\sin^2x+\cos^2x-1"),
        ("18", r"18 \text{ dollars}"),
    ],
)
def test_equal_answers(checker, gold, answer):
    assert checker.right([(gold, answer)]) == [True]


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("72", "73"),
        ("1/3", "0.33"),
        ("40, 200", "40200"),
        ("(1,2)", "[1,2]"),
        ("(1,2)", "(2,1)"),
        ("3", r"\{3,4\}"),
        ("10^{20}", "10^{20}+1"),
        ("5", "1/0"),
        ("5", "("),
        ("5", ""),
        ("5", r"\boxed{}"),
    ],
)
def test_different_answers(checker, gold, answer):
    assert checker.right([(gold, answer)]) == [False]


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1/2004!", "1/2006!"),
        ("2^{-99}", "2^{-98}"),
        ("0.0000001", "0.0000002"),
        ("(1/2004!, 1)", "(1/2006!, 1)"),
        (r"\{1/2004!, 1\}", r"\{1/2006!, 1\}"),
        ("x=1/2004!", "x=1/2006!"),
    ],
)
def test_small_numbers_that_math_verify_takes_for_equal_are_told_apart(checker, gold, answer):
    import math_verify

    read = [math_verify.parse(rf"\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)]
    assert math_verify.verify(*read, timeout_seconds=None)  # else this test has nothing to show any more
    assert checker.right([(gold, answer)]) == [False]
    assert checker.right([(gold, f"1 \\cdot {answer}"), (gold, gold)])[1] is True


def test_a_percentage_equals_its_number_and_its_fraction():
    """Kept from math-verify, documented in `AnswerChecker.right`: data sets write percentages either way."""
    with AnswerChecker(workers=1) as checker:
        assert checker.right([("50", r"50\%"), (r"50\%", "50"), (r"50\%", "0.5")]) == [True, True, True]
        assert checker.right([("50", r"51\%"), ("50", r"0.5\%")]) == [False, False]


def test_an_answer_that_is_never_done_costs_the_limit_once_and_is_wrong(hasty):
    hasty.right([("1", r"\sqrt{4}")])  # starts the process
    start = time.monotonic()
    assert hasty.right([("5", NEVER_DONE), ("5", NEVER_DONE)]) == [False, False]
    assert 0.9 < time.monotonic() - start < 3
    assert hasty.timeouts == 1
    assert hasty.right([("5", NEVER_DONE), ("2", r"\sqrt{4}")]) == [False, True]
    assert hasty.timeouts == 1


@pytest.mark.parametrize("answer", ["$10^{10^{10}}$", "(10^9)!", r"\sqrt{10^{10^{10}}}", "(" * 3000])
def test_costly_answers_stay_within_the_limit(hasty, answer):
    hasty.right([("1", r"\sqrt{4}")])
    start = time.monotonic()
    assert hasty.right([("5", answer)]) == [False]
    assert time.monotonic() - start < 3


def test_it_works_from_threads_and_in_parallel():
    verdicts = {}
    with AnswerChecker(workers=2) as checker:

        def judge(i):
            verdicts[i] = checker.right([(str(i), rf"\sqrt{{{i * i}}}"), (str(i), rf"\sqrt{{{i * i + 1}}}")])

        threads = [threading.Thread(target=judge, args=(i,)) for i in range(2, 8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert verdicts == {i: [True, False] for i in range(2, 8)}


def test_a_process_that_something_else_kills_is_replaced_and_asked_again(checker):
    assert checker.right([("3", r"\sqrt{9}")]) == [True]
    worker = checker._idle.get()
    checker._idle.put(worker)
    os.kill(worker._process.pid, signal.SIGKILL)
    assert checker.right([("4", r"\sqrt{16}")]) == [True]
    assert checker.timeouts == 0


def test_closing_ends_the_processes():
    checker = AnswerChecker(workers=1)
    checker.right([("3", r"\sqrt{9}")])
    worker = checker._idle.get()
    checker._idle.put(worker)
    checker.close()
    assert worker._process.poll() is not None


def test_a_checker_that_cannot_start_says_why(monkeypatch, tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit(3)")
    monkeypatch.setattr(checking, "_SCRIPT", script)
    with AnswerChecker(workers=1) as checker, pytest.raises(RuntimeError, match=r"does not start.*code 3"):
        checker.right([("3", r"\sqrt{9}")])


def test_a_program_without_a_main_guard_ends_and_leaves_no_process(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "from evenhand.grpo.checking import shared_checker\n"
        "checker = shared_checker()\n"
        "print(checker.right([('3', r'\\sqrt{9}')]))\n"
        "print(checker._idle.get()._process.pid)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    verdict, pid = done.stdout.split("\n")[:2]
    assert verdict == "[True]"
    for _ in range(50):
        if not os.path.exists(f"/proc/{pid}"):
            break
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_fork_gets_a_checker_of_its_own():
    mine = shared_checker()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if checking._shared is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert shared_checker() is mine


def test_a_made_up_problem_that_cannot_be_made_again_is_named(checker, monkeypatch):
    monkeypatch.setattr(checking, "find_spec", lambda name: name)  # whether reasoning-gym is installed or not
    with pytest.raises(
        ValueError, match=r"this problem again: no task \(JSONDecodeError.*judge with the release"
    ):
        checker.right_procedural([("no task", "1")])
    assert checker.right([("3", r"\sqrt{9}")]) == [True]


def test_readable(checker):
    golds = ["72", r"\frac{1}{2}", "Monday", "x+1", r"\frac{", "", "???"]
    assert checker.readable(golds) == [True, True, True, True, False, False, False]


@pytest.mark.parametrize(
    "options", [{"time_limit": 0}, {"time_limit": float("nan")}, {"time_limit": float("inf")}, {"workers": 0}]
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AnswerChecker(**options)
