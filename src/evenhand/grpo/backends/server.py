"""Completions by a server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, Ollama, or a paid one."""

from __future__ import annotations

import http.client
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from evenhand.grpo.backends import Completion, Decoding
from evenhand.grpo.generations import Prompt

KEY_VARIABLE = "OPENAI_API_KEY"
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}  # states that may be better at the next try
_TRIES = 7
_FIRST_WAIT = 1.0  # seconds; doubled at each further try
_LONGEST_WAIT = 60.0
_SHOWN = 300  # characters of a server's message


class ServerBackend:
    """A model behind an address.

    Parameters
    ----------
    address : str
        As OpenAI's clients take it: http://HOST:PORT/v1; the /v1 may be left out.
    model : str
        The name that the model is served by.
    concurrency : int
        Requests at a time.
    timeout : float
        Seconds that one request may take.
    first_wait : float, default=1.0
        Seconds before the second try; doubled at each further one, unless the server names a time.

    Raises
    ------
    ValueError
        If the address is none, or holds a user's name, a password or a query; or another option is out of
        its range.

    Notes
    -----
    A key is taken from the environment variable OPENAI_API_KEY and goes nowhere but into the request's
    header; redirects are not followed, so that no other host gets it. A request is tried seven times where
    the connection fails, time runs out, or the server answers 408, 409, 425, 429, 500, 502, 503 or 504. Each
    completion is asked for by itself with a seed of its own, which servers may or may not heed.
    """

    def __init__(
        self,
        address: str,
        model: str,
        *,
        concurrency: int,
        timeout: float,
        first_wait: float = _FIRST_WAIT,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"--concurrency is {concurrency}; give at least 1")
        if not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"--timeout is {timeout}; give a number of seconds above 0, like 600")
        self._base = _base_of(address)
        self._model = model
        self._concurrency = concurrency
        self._timeout = timeout
        self._first_wait = first_wait
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        self._opener = urllib.request.build_opener(_NoRedirects)

    def complete(
        self, prompts: Sequence[Prompt], decoding: Decoding, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion a prompt, as `Backend.complete` says.

        Raises
        ------
        ValueError
            If the server refuses a request, or still fails at the last try.
        """
        stopping = threading.Event()
        threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="evenhand-server")
        try:
            jobs = [
                threads.submit(self._ask, prompt, decoding, seed, stopping)
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]
            for job in as_completed(jobs):
                job.result()  # the first that fails ends them all
            return [job.result() for job in jobs]
        finally:
            stopping.set()
            threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, prompt: Prompt, decoding: Decoding, seed: int, stopping: threading.Event) -> Completion:
        chat = not isinstance(prompt, str)
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "seed": seed,
        }
        body["messages" if chat else "prompt"] = prompt
        url = f"{self._base}/{'chat/completions' if chat else 'completions'}"
        return _completion(self._post(url, body, stopping), url)

    def _post(self, url: str, body: Mapping[str, Any], stopping: threading.Event) -> Any:
        wait = self._first_wait
        for left in reversed(range(_TRIES)):
            try:
                return self._once(url, body)
            except _PassingError as error:
                if left == 0:
                    raise ValueError(f"{url}: no answer in {_TRIES} tries, the last time: {error}") from error
                if stopping.wait(min(_LONGEST_WAIT, wait if error.wait is None else error.wait)):
                    raise
            wait *= 2
        raise AssertionError("unreachable")

    def _once(self, url: str, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            said = self._hidden(_body_of(error))
            if error.code in _PASSING:
                raise _PassingError(f"{error.code} {said}", _asked_wait(error.headers)) from None
            raise ValueError(f"{url}: the server refuses the request: {error.code} {said}") from None
        except urllib.error.URLError as error:
            raise _PassingError(self._hidden(str(error.reason))) from None
        except (OSError, http.client.HTTPException, ValueError) as error:  # it broke off, or is no JSON
            raise _PassingError(self._hidden(f"{type(error).__name__}: {error}")) from None

    def _hidden(self, text: str) -> str:
        text = text.replace(self._key, "[key]") if self._key else text
        return " ".join(text.split())[:_SHOWN]


def _body_of(error: urllib.error.HTTPError) -> str:
    try:
        with error:
            return error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):  # it broke off within its own complaint
        return error.reason


class _PassingError(Exception):
    """Worth another try, after `wait` seconds where the server has named them."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _base_of(address: str) -> str:
    try:
        parts = urlsplit(address)
        _ = parts.port  # which is read when it is asked for
    except ValueError as error:
        raise ValueError(
            f"--server is {address!r}: {error}; give it like http://localhost:8000/v1"
        ) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--server is {address!r}; give its address, like http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query:
        raise ValueError(
            f"--server holds a user's name, a password or a query; give a key in {KEY_VARIABLE} instead"
        )
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _asked_wait(headers: Message) -> float | None:
    try:
        return max(0.0, float(headers["Retry-After"]))
    except (KeyError, TypeError, ValueError):  # a date is left to our own times
        return None


def _completion(reply: Any, url: str) -> Completion:
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        if not isinstance(text, str | None):
            raise TypeError(f"{type(text).__name__} in place of text")
        return Completion(text or "", int(reply["usage"]["completion_tokens"]), str(choice["finish_reason"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{url}: the reply is not in the form of OpenAI's API ({type(error).__name__}: {error}):"
            f" {json.dumps(reply)[:_SHOWN]}"
        ) from error
