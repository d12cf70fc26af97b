"""Chain sums: a made-up task with derivations of two lengths, and a known relation of length and correctness.

A problem is a chain of small numbers, ``3+4+5=``. It has two derivations: the short form writes the running
totals, ``7,12``; the long form writes each step out, ``3+4=7,7+5=12``. The last number is the answer. A
starting policy is trained on derivations with wrong steps in them; how often a step is wrong depends on the
form, so the family of tasks says beforehand whether long responses of that policy are right more often,
equally often or less often than its short ones.

This half knows neither torch nor transformers; `evenhand.grpo.chain_policy` makes the policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

Relation = Literal["longer", "neither", "shorter"]
"""Which responses are right more often."""

Form = Literal["short", "long"]

LARGEST_TERM = 5
"""Terms are 1 to 5: adding 0 would be no step, and larger ones take a small model longer to learn."""

# Every 7th problem is for evaluation; 7 and 5 have no common factor, so no digit is singled out.
_HELD_OUT = 7
_WRONG_BY = (-3, -2, -1, 1, 2, 3)
_STEP_ERRORS: dict[Relation, dict[Form, float]] = {
    "longer": {"short": 0.28, "long": 0.10},
    "neither": {"short": 0.18, "long": 0.18},
    "shorter": {"short": 0.10, "long": 0.28},
}
_LAST_NUMBER = re.compile(r"(?:^|[,=])(\d+)$")


@dataclass(frozen=True)
class Derivation:
    """One response to one problem.

    Parameters
    ----------
    prompt, completion : str
    form : {"short", "long"}
    answer : int
        The right one, whatever the completion says.
    """

    prompt: str
    completion: str
    form: Form
    answer: int


@dataclass(frozen=True)
class ChainSums:
    """A family of chain sums.

    Parameters
    ----------
    right_more_often : {"longer", "neither", "shorter"}
        Which derivations in the corpus, and so which responses of a policy trained on it, are right more
        often.
    n_terms : int
        Digits of a problem; it takes one step fewer.
    long_share : float
        Share of long derivations in the corpus.

    Raises
    ------
    ValueError
        If one is out of its range.

    Examples
    --------
    >>> family = ChainSums("longer")
    >>> family.problems(2, seed=0)
    ['3+2+2+2+5=', '1+4+5+1+4=']
    >>> family.write("3+4+5=", "short"), family.write("3+4+5=", "long")
    ('7,12', '3+4=7,7+5=12')
    >>> round(family.share_right("short"), 2), round(family.share_right("long"), 2)
    (0.27, 0.66)
    """

    right_more_often: Relation = "longer"
    n_terms: int = 5
    long_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is no family."""
        if self.right_more_often not in _STEP_ERRORS:
            raise ValueError(
                f"right_more_often is {self.right_more_often!r}; choose from {', '.join(_STEP_ERRORS)}"
            )
        if not 2 <= self.n_terms <= 12:
            raise ValueError(f"n_terms is {self.n_terms}; choose 2 to 12")
        if not 0 <= self.long_share <= 1:
            raise ValueError(f"long_share is {self.long_share}; choose a share from 0 to 1")

    @property
    def longest(self) -> int:
        """Characters of the longest derivation that could be right."""
        return len(self.write("+".join(str(LARGEST_TERM) * self.n_terms) + "=", "long"))

    def step_error(self, form: Form) -> float:
        """How often a step of the corpus is wrong."""
        return _STEP_ERRORS[self.right_more_often][form]

    def share_right(self, form: Form) -> float:
        """Expected share of the corpus whose every step is right; errors that cancel out come on top."""
        return float((1 - self.step_error(form)) ** (self.n_terms - 1))

    def problems(self, n: int, *, seed: int, held_out: bool = False) -> list[str]:
        """Prompts drawn at random, with replacement.

        Parameters
        ----------
        n : int
        seed : int
        held_out : bool
            Draw from the seventh of all problems that is kept for evaluation instead of from the rest.

        Returns
        -------
        list of str
        """
        rng = np.random.default_rng([seed, held_out])
        size = LARGEST_TERM**self.n_terms
        number = rng.integers(size // _HELD_OUT, size=n) * _HELD_OUT
        if not held_out:
            number += rng.integers(1, _HELD_OUT, size=n)
        digits = number[:, None] // LARGEST_TERM ** np.arange(self.n_terms) % LARGEST_TERM + 1
        return ["+".join(map(str, row)) + "=" for row in digits]

    def write(self, prompt: str, form: Form, rng: np.random.Generator | None = None) -> str:
        """A derivation.

        Parameters
        ----------
        prompt : str
        form : {"short", "long"}
        rng : Generator, optional
            Where given, each step is wrong with probability `step_error(form)`, and later steps go on from
            the wrong total. Without it every step is right.

        Returns
        -------
        str
        """
        total, *rest = terms(prompt)
        steps = []
        for term in rest:
            result = total + term
            if rng is not None and rng.random() < self.step_error(form):
                result = max(1, result + int(rng.choice(_WRONG_BY)))
            steps.append(str(result) if form == "short" else f"{total}+{term}={result}")
            total = result
        return ",".join(steps)

    def corpus(self, n: int, *, seed: int) -> Iterator[Derivation]:
        """Derivations to train the starting policy on: forms and wrong steps at random.

        Parameters
        ----------
        n, seed : int

        Yields
        ------
        Derivation
        """
        rng = np.random.default_rng([seed, 2])
        for prompt in self.problems(n, seed=seed):
            form: Form = "long" if rng.random() < self.long_share else "short"
            yield Derivation(prompt, self.write(prompt, form, rng), form, sum(terms(prompt)))


@dataclass(frozen=True)
class PolicySettings:
    """How the starting policy is made.

    Parameters
    ----------
    hidden, layers, heads, intermediate : int
        Of the Llama; the default has about 0.65 million parameters.
    n_derivations, batch_size, learning_rate
        The corpus is seen once, in batches, by AdamW: a tenth of the steps warms up, the last two fifths
        decay.
    seed : int
    """

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 256
    n_derivations: int = 10_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0


def terms(prompt: str) -> list[int]:
    """The digits of a problem.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> terms("3+4+5=")
    [3, 4, 5]
    """
    if not re.fullmatch(r"\d(\+\d)+=", prompt):
        raise ValueError(f"{prompt!r} is no chain sum; write digits like 3+4+5=")
    return [int(term) for term in prompt[:-1].split("+")]


def is_right(completion: str, answer: int | str) -> bool:
    """Whether the last number of a response is the answer; the steps before it are not looked at.

    Examples
    --------
    >>> is_right("7,12", 12), is_right("3+4=8,8+5=12", "12"), is_right("7,12,", 12), is_right("", 12)
    (True, True, False, False)
    """
    found = _LAST_NUMBER.search(completion)
    return found is not None and found[1] == str(answer)


def form_of(completion: str) -> Form:
    """The form that a response takes: steps written out are long."""
    return "long" if "+" in completion else "short"
