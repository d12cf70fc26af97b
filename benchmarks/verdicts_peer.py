"""Verdicts of a public harness on generations; runs by itself, in the environment that has the harness.

    python benchmarks/verdicts_peer.py lighteval < requests.json > verdicts.json

In: a list of objects with gold, text, answer. Out: for each way of the harness to judge, a list of booleans.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

Requests = list[dict[str, Any]]


def lighteval(requests: Requests) -> dict[str, list[bool]]:
    """What its tasks math_500 and aime24 judge by, on the whole text."""
    from lighteval.metrics.metrics import Metrics
    from lighteval.models.model_output import ModelResponse
    from lighteval.tasks.requests import Doc

    metric = Metrics.pass_at_k_math(sample_params={"k": 1, "n": 1}).sample_level_fn

    def judge(request: dict[str, Any]) -> bool:
        doc = Doc(query="", choices=[f"ANSWER: ${request['gold']}$"], gold_index=0)
        return bool(metric.compute(doc, ModelResponse(text=[request["text"]])) == 1)

    return {"lighteval": [judge(request) for request in requests]}


def lm_eval(requests: Requests) -> dict[str, list[bool]]:
    """What its tasks minerva_math and hendrycks_math judge by.

    math_verify has the whole text. The other two look for answers in shapes that only a few-shot prompt
    brings about, so they judge the answer that evenhand has found.
    """
    from lm_eval.tasks.hendrycks_math.utils import is_equiv as same_text
    from lm_eval.tasks.minerva_math.utils import is_equiv, normalize_final_answer
    from math_verify import parse, verify

    def minerva(gold: str, answer: str) -> bool:
        return bool(is_equiv(normalize_final_answer(answer), normalize_final_answer(gold)))

    golds = {gold: parse(f"${gold}$") for gold in {request["gold"] for request in requests}}
    pairs = [(request["gold"], request["answer"] or "") for request in requests]
    return {
        "lm-eval math_verify": [bool(verify(golds[one["gold"]], parse(one["text"]))) for one in requests],
        "lm-eval minerva": [minerva(*pair) for pair in pairs],
        "lm-eval hendrycks": [bool(same_text(*pair)) for pair in pairs],
    }


PEERS: dict[str, Callable[[Requests], dict[str, list[bool]]]] = {"lighteval": lighteval, "lm_eval": lm_eval}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a harness prints must not stand in the answer
    json.dump(PEERS[sys.argv[1]](json.load(sys.stdin)), channel)
    channel.close()
