"""What vLLM is asked; vLLM itself is replaced, since it needs a GPU."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from evenhand.grpo.backends import Completion, Decoding, open_backend

START, GENERATE = 1, 9


class Tokenizer:
    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        assert not tokenize
        assert add_generation_prompt
        return "<s>" + messages[0]["content"]

    def __call__(self, text, add_special_tokens):
        ids = [START] if text.startswith("<s>") else []
        return {"input_ids": ([START] if add_special_tokens else []) + ids + [GENERATE]}


class LLM:
    calls: list

    def __init__(self, model, tensor_parallel_size):
        assert model == "m"
        assert tensor_parallel_size >= 1
        LLM.calls = []

    def get_tokenizer(self):
        return Tokenizer()

    def generate(self, prompts, sampling_params, use_tqdm):
        LLM.calls.append((prompts, sampling_params))
        return [
            SimpleNamespace(outputs=[SimpleNamespace(text="7", token_ids=(5, 2), finish_reason=reason)])
            for reason in ("stop", "length")[: len(prompts)]
        ]


def open_vllm():
    return open_backend("vllm", "m", server=None, concurrency=1, timeout=1)


@pytest.fixture
def engine(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, dict
    monkeypatch.setitem(sys.modules, "vllm", module)
    return open_vllm()


def test_each_prompt_goes_as_ids_with_its_own_seed(engine):
    decoding = Decoding(temperature=0.5, top_p=0.9, max_new_tokens=7)
    found = engine.complete(["ab", "cd"], decoding, [3, 4])
    assert found == [Completion("7", 2, "stop"), Completion("7", 2, "length")]
    prompts, settings = LLM.calls[0]
    assert prompts == [{"prompt_token_ids": [START, GENERATE]}] * 2
    assert settings == [{"temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "seed": seed} for seed in (3, 4)]


def test_a_chat_template_s_start_token_is_not_doubled(engine):
    engine.complete([[{"role": "user", "content": "ab"}]], Decoding(0.0, 1.0, 7), [0])
    assert LLM.calls[0][0] == [{"prompt_token_ids": [START, GENERATE]}]


def test_without_vllm_its_name_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ValueError, match="--backend vllm needs vLLM"):
        open_vllm()
