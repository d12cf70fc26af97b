"""λ-GRPO: GRPO, DAPO and Dr. GRPO in one formula, with a learnable preference for long or short responses."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenhand.grpo.aggregation import response_weights
    from evenhand.grpo.config import LambdaGRPOConfig
    from evenhand.grpo.preference import LearnablePreference
    from evenhand.grpo.trainer import LambdaGRPOTrainer

__all__ = ["LambdaGRPOConfig", "LambdaGRPOTrainer", "LearnablePreference", "response_weights"]

# Fetched when asked for: the trainer imports TRL, which takes seconds; the mathematics needs none of it.
_HOMES = {
    "LambdaGRPOConfig": "evenhand.grpo.config",
    "LambdaGRPOTrainer": "evenhand.grpo.trainer",
    "LearnablePreference": "evenhand.grpo.preference",
    "response_weights": "evenhand.grpo.aggregation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
