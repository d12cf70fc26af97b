"""Against a small server on this machine that speaks OpenAI's API and can be told to misbehave."""

import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from openai_server import breaks_off, fails

from evenhand.grpo.backends import Completion, Decoding
from evenhand.grpo.backends.server import ServerBackend

GREEDY = Decoding(temperature=0.0, top_p=1.0, max_new_tokens=7)


def backend(server, **options):
    defaults = {"concurrency": 2, "timeout": 5.0, "first_wait": 0.01}
    return ServerBackend(server.address, "m", **defaults | options)


def test_texts_go_to_completions_and_messages_to_chat(server):
    decoding = Decoding(temperature=0.5, top_p=0.9, max_new_tokens=7)
    assert backend(server).complete(["ab", "cd"], decoding, [3, 4]) == [
        Completion("ba", 2, "stop"),
        Completion("dc", 2, "stop"),
    ]
    messages = [{"role": "user", "content": "ef"}]
    assert backend(server).complete([messages], GREEDY, [5])[0].text == "fe"
    paths = [path for _, path, _, _ in server.requests]
    assert paths == ["/v1/completions", "/v1/completions", "/v1/chat/completions"]
    bodies = sorted((body for _, _, body, _ in server.requests), key=lambda body: body["seed"])
    assert bodies[0] == {
        "model": "m",
        "prompt": "ab",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
    }
    assert bodies[2]["messages"] == messages


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_an_address_may_leave_out_its_v1(server, ending):
    server.address += ending
    backend(server).complete(["a"], GREEDY, [0])
    assert server.requests[0][1] == "/v1/completions"


def test_answers_come_in_the_prompts_order_and_so_many_at_a_time_only(server):
    server.pause = 0.05
    prompts = [f"{i:02}" for i in range(12)]
    texts = [one.text for one in backend(server, concurrency=3).complete(prompts, GREEDY, [0] * 12)]
    assert texts == [prompt[::-1] for prompt in prompts]
    assert server.most == 3


@pytest.mark.parametrize(
    "passing",
    [
        fails(429),
        fails(500),
        fails(503, Retry_After="0"),
        fails(502, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        fails(200, "<html>"),
        breaks_off,
    ],
)
def test_what_passes_is_tried_again(server, passing):
    server.plan = [passing, passing]
    assert backend(server).complete(["ab"], GREEDY, [0]) == [Completion("ba", 2, "stop")]
    assert len(server.requests) == 3


def test_a_server_that_names_a_time_is_given_it(server):
    server.plan = [fails(429, Retry_After="0.3")]
    start = time.monotonic()
    backend(server, first_wait=30.0).complete(["ab"], GREEDY, [0])
    assert 0.3 < time.monotonic() - start < 5


def test_a_request_that_takes_too_long_is_tried_again(server):
    def late(handler, body):
        time.sleep(0.6)

    server.plan = [late]
    assert backend(server, timeout=0.3).complete(["ab"], GREEDY, [0])[0].text == "ba"


def test_tries_come_to_an_end(server):
    server.plan = [fails(503, "too busy")] * 99
    with pytest.raises(ValueError, match="no answer in 7 tries, the last time: 503 too busy"):
        backend(server, first_wait=0.001).complete(["ab"], GREEDY, [0])
    assert len(server.requests) == 7


def test_nobody_there(server):
    gone = backend(server, first_wait=0.001)
    gone._base = "http://127.0.0.1:9/v1"
    with pytest.raises(ValueError, match=r"127.0.0.1:9/v1/completions: no answer in 7 tries.*refused"):
        gone.complete(["ab"], GREEDY, [0])


def test_what_is_refused_is_not_tried_again_and_ends_the_batch(server):
    server.plan = [fails(404, '{"error": "no model m"}')]
    with pytest.raises(ValueError, match=r"refuses the request: 404 .*no model m"):
        backend(server, concurrency=1).complete(["ab"] * 50, GREEDY, [0] * 50)
    assert len(server.requests) < 5


def test_a_refusal_ends_the_waiting_of_others(server):
    def late_refusal(handler, body):
        time.sleep(0.2)
        handler.send(400, b"bad")

    server.plan = [fails(429, Retry_After="30"), late_refusal]
    start = time.monotonic()
    with pytest.raises(ValueError, match="400 bad"):
        backend(server, concurrency=2).complete(["ab", "cd"], GREEDY, [0, 1])
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"error": "x"}, "'choices'"),
        ({"choices": []}, "out of range"),
        ({"choices": [{"text": "a", "finish_reason": "stop"}]}, "'usage'"),
        ({"choices": [{"text": "a"}], "usage": {"completion_tokens": None}}, "NoneType"),
        ({"choices": [{"message": {"content": [{"text": "a"}]}}]}, "list in place of text"),
        ([], "list"),
    ],
)
def test_replies_in_another_form(server, reply, message):
    server.plan = [fails(200, json.dumps(reply))]
    with pytest.raises(ValueError, match=message):
        backend(server).complete(["ab"], GREEDY, [0])


def test_a_message_without_content_is_an_empty_answer(server):
    reply = {
        "choices": [{"message": {"content": None}, "finish_reason": "length"}],
        "usage": {"completion_tokens": 7},
    }
    server.plan = [fails(200, json.dumps(reply))]
    assert backend(server).complete([[{"role": "user", "content": "a"}]], GREEDY, [0]) == [
        Completion("", 7, "length")
    ]


def test_the_key_goes_into_the_header_and_nowhere_else(server, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret\n")
    server.plan = [fails(401, "wrong key: sk-very-secret")]
    with pytest.raises(ValueError, match=r"401 wrong key: \[key\]") as caught:
        backend(server).complete(["ab"], GREEDY, [0])
    assert "secret" not in str(caught.value)
    assert server.requests[0][3]["Authorization"] == "Bearer sk-very-secret"
    assert "secret" not in json.dumps(server.requests[0][2])


def test_a_redirect_does_not_carry_the_key_away(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    server.plan = [fails(302, "elsewhere", Location=f"{server.address}/elsewhere")]
    with pytest.raises(ValueError, match="302 elsewhere"):
        backend(server).complete(["ab"], GREEDY, [0])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost:8000", "give its address, like http://localhost:8000/v1"),
        ("http://localhost:port/v1", "give it like http://localhost:8000/v1"),
        ("http://[::1/v1", "give it like http://localhost:8000/v1"),
        ("ftp://host", "give its address"),
        ("http://", "give its address"),
        ("http://me:secret@host/v1", "give a key in OPENAI_API_KEY instead"),
        ("http://host/v1?key=secret", "give a key in OPENAI_API_KEY instead"),
    ],
)
def test_addresses_that_are_none(address, message):
    with pytest.raises(ValueError, match=message) as caught:
        ServerBackend(address, "m", concurrency=1, timeout=1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"timeout": 0}, {"timeout": float("nan")}, {"timeout": float("inf")}]
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=f"--{next(iter(options))} is"):
        ServerBackend("http://host", "m", **{"concurrency": 1, "timeout": 1.0} | options)
