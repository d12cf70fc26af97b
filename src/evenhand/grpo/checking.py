r"""Answers judged in processes of their own, within a time limit and a memory limit each.

An answer is a model's output, and comparing it may take for ever (`10^{10^{10}}`), fill the memory or end the
interpreter. math-verify's own time limits work in the main thread only and cannot stop a computation in C.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from evenhand.grpo.answers import as_latex, as_rational, exact_verdict, final_answer, is_words, normalised

_logger = logging.getLogger(__name__)

TIME_LIMIT = 5.0
"""Seconds that one answer may take."""
NO_REASONING_GYM = (
    "made-up problems need reasoning-gym, which is not part of evenhand[grpo] since it wants a C compiler:"
    " pip install 'evenhand[procedural]'"
)

_SCRIPT = Path(__file__).with_name("_answer_worker.py")
_REMEMBERED = 1 << 16  # verdicts
_TAIL = 2000  # characters at the end of a text in which "the answer is" is looked for

_Request: TypeAlias = tuple[str, ...]
"""The judge's name, then the names and values of its arguments in turn; verdicts are kept by it."""


class AnswerChecker:
    r"""Judges answers, the easy ones at once and the others in a pool of processes that are killed in time.

    May be used from any thread. A process starts when it is first needed and takes about a second for that;
    one that was killed is replaced. Verdicts are remembered: the same answer to the same problem costs once.

    Parameters
    ----------
    time_limit : float, default=5.0
        Seconds that one answer may take; after that its process is killed and the answer is not right. On a
        machine under such load that an honest check takes longer, honest answers fail, and a warning says so.
    workers : int, optional
        Processes; by default one for each core that this process has for itself, at most 8.

    Attributes
    ----------
    timeouts : int
        Answers so far that ran into the limit.

    Raises
    ------
    ValueError
        If an option is out of its range.
    RuntimeError
        From the methods: if a process does not start.

    Examples
    --------
    >>> with AnswerChecker(workers=1) as checker:
    ...     checker.right([("1/2", r"\frac{\sqrt{4}}{4}"), ("1/2", r"\frac{1}{3}")])
    [True, False]
    """

    def __init__(self, *, time_limit: float = TIME_LIMIT, workers: int | None = None) -> None:
        if not 0 < time_limit <= threading.TIMEOUT_MAX:
            raise ValueError(
                f"time_limit must be a number of seconds above 0, like {TIME_LIMIT}, not {time_limit!r}"
            )
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers!r}")
        self.time_limit = float(time_limit)
        self.workers = _own_cores() if workers is None else workers
        self.timeouts = 0
        self._verdicts: dict[_Request, bool] = {}
        self._lock = threading.Lock()
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="evenhand-answers")

    def __enter__(self) -> AnswerChecker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def right(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        r"""Whether each answer equals its gold answer.

        Parameters
        ----------
        pairs : sequence of (gold, answer)
            Texts, as `answers.final_answer` gives them.

        Returns
        -------
        list of bool

        Notes
        -----
        math-verify's verdict, with three exceptions: an empty answer is never right; words are compared as
        words; numbers further apart than 1e-12 of their size (5e-6 where one is a decimal) are different,
        however small they are (1/2004! and 1/2006!). Kept from math-verify: `50\%` equals both 50 and 0.5,
        since data sets write a percentage either way, and units that it knows are passed over.
        """
        verdicts = [exact_verdict(gold, answer) for gold, answer in pairs]
        return self._settled(verdicts, lambda row: _equal(*pairs[row]))

    def right_in_text(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether each completion states its gold answer.

        Parameters
        ----------
        pairs : sequence of (gold, completion)
            Where a completion has no place for its answer (`answers.final_answer`), it is right if it is the
            answer and nothing else, or says at its end "the answer is …" or "answer: …".

        Returns
        -------
        list of bool
        """
        stated = [final_answer(text) for _, text in pairs]
        verdicts = [
            _verdict_on_text(gold, text) if answer is None else exact_verdict(gold, answer)
            for (gold, text), answer in zip(pairs, stated, strict=True)
        ]

        def request(row: int) -> _Request:
            (gold, text), answer = pairs[row], stated[row]
            if answer is not None:
                return _equal(gold, answer)
            return ("equal_in_text", "gold", as_latex(gold), "text", text[-_TAIL:])

        return self._settled(verdicts, request)

    def readable(self, golds: Sequence[str]) -> list[bool]:
        """Whether each gold answer can be compared at all: a number, words or what math-verify reads."""
        verdicts = [_readable_at_once(gold) for gold in golds]
        return self._settled(verdicts, lambda row: ("readable", "answer", as_latex(golds[row])))

    def right_procedural(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether reasoning-gym scores each answer exactly 1; the first of a pair describes the task.

        Raises
        ------
        ValueError
            If reasoning-gym is not installed, or does not make the problem of that description again.
        """
        if pairs and find_spec("reasoning_gym") is None:
            raise ValueError(NO_REASONING_GYM)
        return self._judge([("right_procedural", "task", task, "answer", answer) for task, answer in pairs])

    def close(self) -> None:
        """End the processes; the checker cannot be used after that."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().close()

    def _settled(self, verdicts: Sequence[bool | None], request: Callable[[int], _Request]) -> list[bool]:
        """The verdicts, with the open ones judged."""
        judged = iter(self._judge([request(row) for row, known in enumerate(verdicts) if known is None]))
        return [next(judged) if known is None else known for known in verdicts]

    def _judge(self, requests: Sequence[_Request]) -> list[bool]:
        with self._lock:
            if len(self._verdicts) > _REMEMBERED:
                self._verdicts.clear()
            known = {request: self._verdicts.get(request) for request in requests}
        jobs = {
            request: self._threads.submit(self._ask, request)
            for request, verdict in known.items()
            if verdict is None
        }
        try:
            fresh = {request: job.result() for request, job in jobs.items()}
        finally:
            for job in jobs.values():
                job.cancel()  # what still waits after an interruption would hold up the end of the program
        with self._lock:
            self._verdicts.update(fresh)
        return [bool(fresh[request] if request in fresh else known[request]) for request in requests]

    def _ask(self, request: _Request) -> bool:
        message = {"judge": request[0], **dict(zip(request[1::2], request[2::2], strict=True))}
        for _ in range(2):  # a process that was killed from outside says nothing about the answer
            worker = self._take()
            reply = worker.ask(message)
            if reply is not None:
                self._idle.put(worker)
                if "error" in reply:
                    raise ValueError(
                        f"reasoning-gym does not make this problem again: {message['task']:.200}"
                        f" ({reply['error']:.200}); judge with the release that made it"
                    )
                return bool(reply["result"])
            if worker.ended_by_alarm():
                self._count_timeout(message)
                return False
        _logger.warning("an answer ended the checker's process twice and counts as wrong: %.200r", message)
        return False

    def _take(self) -> _Worker:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return _Worker(self.time_limit)

    def _count_timeout(self, message: dict[str, str]) -> None:
        with self._lock:
            self.timeouts += 1
            first = self.timeouts == 1
        if first:
            _logger.warning(
                "an answer took longer than %g s to check and counts as wrong (said once): %.200r",
                self.time_limit,
                message,
            )


class _Worker:
    """One process that judges, with a pipe to it."""

    def __init__(self, time_limit: float) -> None:
        # A script, not multiprocessing: nothing of the caller's program is run again or shared. A session of
        # its own: Ctrl-C is for the trainer.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT), repr(time_limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        hello = self._read()
        if hello is None or "error" in hello:
            self.close()
            reason = f"it ended with code {self._process.returncode}" if hello is None else hello["error"]
            raise RuntimeError(f"the answer checker does not start ({reason}); install evenhand[grpo]")

    def ask(self, message: dict[str, str]) -> dict[str, Any] | None:
        """The reply, or None where the process ended over it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        return self._read()

    def ended_by_alarm(self) -> bool:
        """Whether the process, which has ended, ran into its time limit; it is cleared away."""
        self.close()
        return self._process.returncode == -signal.SIGALRM

    def close(self) -> None:
        """Kill the process if it runs, and clear it away."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None


def _equal(gold: str, answer: str) -> _Request:
    return ("equal", "gold", as_latex(gold), "answer", as_latex(answer))


def _verdict_on_text(gold: str, text: str) -> bool | None:
    if exact_verdict(gold, text) is True:
        return True
    return None if "answer" in text[-_TAIL:].lower() else False


def _readable_at_once(gold: str) -> bool | None:
    if not normalised(gold):
        return False
    return True if as_rational(gold) is not None or is_words(gold) else None


def _own_cores() -> int:
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # the launchers' name for processes on this machine
    return max(1, min(8, len(os.sched_getaffinity(0)) // beside))


_shared: AnswerChecker | None = None
_shared_lock = threading.Lock()


def shared_checker() -> AnswerChecker:
    """The checker that all reward functions of this process share; ended with the program."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = AnswerChecker()
            atexit.register(_shared.close)
        return _shared


def _forget() -> None:
    global _shared, _shared_lock
    _shared = None  # its pipes and threads are the parent's
    _shared_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
