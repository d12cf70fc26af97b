"""One option of the game at a time: what is varied, and from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DEFAULT = "as it is"
"""The value of an option's row that changes nothing; it is played once for all options."""


@dataclass(frozen=True)
class Ablation:
    """An option of an estimator and the values it takes.

    Parameters
    ----------
    name : str
        As the page calls it.
    option : str
    values : sequence
        The base's own value among them.
    beside : mapping
        Other options, without which the values could not be compared; the base is then played with them too.
    """

    name: str
    option: str
    values: Sequence[Any]
    beside: Mapping[str, Any] = field(default_factory=dict)


# Every label below the median frequency has two owners, so that overlap and partition have something to say.
NEURAL_BASE: Mapping[str, Any] = {
    "n_players": 3,
    "tail_owners": 2,
    "partition": "frequency",
    "rarity_reward": 1.0,
    "disagreement_reward": 1.0,
    "negative_share": 0.0,
    "curiosity": "success",
    "payoff": "log_likelihood",
    "space": "probability",
    "update": "joint",
}
NEURAL = (
    Ablation("N", "n_players", (1, 2, 3, 4, 6, 8)),
    Ablation("owners of a tail label", "tail_owners", (1, 2, 3)),
    Ablation("partition", "partition", ("frequency", "random", "cooccurrence", "all")),
    Ablation("α", "rarity_reward", (0.0, 0.3, 1.0, 3.0, 10.0)),
    Ablation("β", "disagreement_reward", (0.0, 0.3, 1.0, 3.0, 10.0)),
    Ablation("κ", "negative_share", (0.0, 0.1, 0.3, 1.0)),
    Ablation("curiosity", "curiosity", ("success", "divergence")),
    Ablation("payoff", "payoff", ("log_likelihood", "squared_hinge", "soft_macro_f1")),
    Ablation("fusion", "space", ("probability", "logit")),
    Ablation("update", "update", ("joint", "best_response")),
)

LINEAR_BASE: Mapping[str, Any] = {
    "partition": "all",
    "tail_owners": 2,
    "rarity_reward": 3.0,
    "disagreement_reward": 1.0,
    "negative_share": 0.0,
    "curiosity": "success",
    "payoff": "squared_hinge",
    "space": "logit",
    "rounds": 0,
    "own_share": 1.0,
}
_ANSWERING = {"rounds": 3, "own_share": 0.5}  # β acts in rounds of best response only
_LIKELIHOOD = {"payoff": "log_likelihood", **_ANSWERING}
LINEAR = (
    Ablation("partition", "partition", ("all", "frequency", "random", "cooccurrence")),
    Ablation("owners of a tail label", "tail_owners", (1, 2, 3), {"partition": "frequency"}),
    Ablation("α", "rarity_reward", (0.0, 1.0, 3.0, 10.0, 30.0)),
    Ablation("β", "disagreement_reward", (0.0, 1.0, 3.0, 10.0), _ANSWERING),
    Ablation("κ", "negative_share", (0.0, 0.1, 0.3, 1.0)),
    Ablation("curiosity", "curiosity", ("success", "divergence"), _LIKELIHOOD),
    Ablation("payoff", "payoff", ("squared_hinge", "log_likelihood")),
    Ablation("fusion", "space", ("logit", "probability"), _LIKELIHOOD),
)
BASES = {"neural": NEURAL_BASE, "linear": LINEAR_BASE}
ABLATIONS = {"neural": NEURAL, "linear": LINEAR}


@dataclass(frozen=True)
class Variant:
    """A game with one option changed.

    Parameters
    ----------
    method : str
        The name of its runs. Variants with the same options have the same name, and are played once.
    options : mapping
    """

    method: str
    options: Mapping[str, Any]


def variant(family: str, ablation: Ablation, value: Any) -> Variant:
    """The game with an ablation's value, named by all that differs from the base."""
    base = BASES[family]
    options = {**base, **ablation.beside, ablation.option: value}
    changed = [f"{name} {one}" for name, one in options.items() if one != base[name]]
    return Variant(f"{family}: {', '.join(changed) or DEFAULT}", options)


def base_of(family: str, ablation: Ablation) -> Variant:
    """What the values of an ablation are compared with."""
    option = ablation.option
    return variant(family, ablation, ablation.beside.get(option, BASES[family][option]))
