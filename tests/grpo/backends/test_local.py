import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evenhand.grpo.backends import Decoding, has_chat_template, open_backend
from evenhand.grpo.chain_policy import starting_policy
from evenhand.grpo.chain_sums import ChainSums, PolicySettings

SAMPLED = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=6)
GREEDY = Decoding(temperature=0.0, top_p=1.0, max_new_tokens=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("local") / "model"
    policy = PolicySettings(hidden=16, layers=1, heads=2, intermediate=16, n_derivations=96)
    starting_policy(ChainSums(n_terms=3), policy, path)
    loaded = AutoModelForCausalLM.from_pretrained(path)
    loaded.generation_config.repetition_penalty = 50.0  # as some models have it; nobody asked for it
    loaded.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def backend(model):
    return open_backend("transformers", str(model), server=None, concurrency=1, timeout=1)


PROMPTS = list(dict.fromkeys(ChainSums(n_terms=3).problems(5, seed=0)))


def test_greedy_takes_the_likeliest_token_each_time(model, backend):
    tokenizer, loaded = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    for prompt, found in zip(PROMPTS, backend.complete(PROMPTS, GREEDY, [0] * len(PROMPTS)), strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        n_prompt = ids.shape[1]
        while ids.shape[1] < n_prompt + 6 and (
            ids.shape[1] == n_prompt or ids[0, -1] != tokenizer.eos_token_id
        ):
            with torch.no_grad():
                ids = torch.cat([ids, loaded(ids).logits[:, -1:].argmax(-1)], 1)
        assert found.text == tokenizer.decode(ids[0, n_prompt:], skip_special_tokens=True)
        assert found.tokens == ids.shape[1] - n_prompt
        assert found.finish == ("stop" if ids[0, -1] == tokenizer.eos_token_id else "length")


def test_the_same_seed_gives_the_same_answers(backend):
    first, again, other = (backend.complete(PROMPTS, SAMPLED, [seed] * len(PROMPTS)) for seed in (1, 1, 2))
    assert first == again != other


def test_a_chat_template_is_found_and_writes_the_special_tokens(model, tmp_path):
    assert not has_chat_template("transformers", str(model))
    assert has_chat_template("server", "any")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    for name in ("chat", "text"):
        AutoModelForCausalLM.from_pretrained(model).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    assert has_chat_template("transformers", str(tmp_path / "chat"))
    loaded = open_backend("transformers", str(tmp_path / "chat"), server=None, concurrency=1, timeout=1)
    seen = []
    generate = loaded._model.generate
    loaded._model.generate = lambda **given: (seen.append(given["input_ids"]), generate(**given))[1]
    loaded.complete([[{"role": "user", "content": PROMPTS[0]}]], GREEDY, [0])
    bare = tokenizer(PROMPTS[0], add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert torch.equal(seen[0], bare)
