"""The part of `results.py` on λ-GRPO: λ, learned and fixed, beside DAPO and GRPO on families of chain sums.

Everything is made up (`evenhand.grpo.chain_sums`): a small policy, trained from scratch on derivations of
which one form is right more often, then trained on by rewards. It says what the weights do where length
matters by construction; it says nothing about large models.
"""

from __future__ import annotations

import argparse
import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from evenhand.experiments.compare import Judged, judge
from evenhand.experiments.grid import Cell
from evenhand.experiments.page import Block, Points, Section, Text
from evenhand.experiments.plots import plot_intervals
from evenhand.experiments.report import (
    Results,
    curves_of,
    differences_table,
    facts,
    figures_table,
    verdicts,
)
from evenhand.experiments.runs import Run
from evenhand.grpo.chain_sums import ChainSums, PolicySettings, Relation
from evenhand.grpo.demo import SCHEMES, DemoSettings, Options, Record, run_scheme, set_up
from results_lambda_plots import (
    AT_EQUAL_TOKENS,
    QUARTERS,
    TokenResults,
    at_equal_tokens,
    over,
    over_quarters,
)

BASELINE = "dapo"
PAPER_R = Fraction(1, 9)


@dataclass(frozen=True)
class Peer:
    """A scheme whose curves are drawn.

    Parameters
    ----------
    about : str
    options : mapping
        Of the trainer.
    against : sequence of str
        Schemes that it is compared with.
    """

    about: str
    options: Options
    against: Sequence[str] = ()


PEERS = {
    BASELINE: Peer("TRL's own, f = 1", SCHEMES["dapo"]),
    "grpo": Peer("TRL's own, f = μ/|o|", SCHEMES["grpo"], (BASELINE,)),
    "lambda": Peer(
        f"the paper's form, r = {PAPER_R}, λ learned from 0", SCHEMES["lambda"], (BASELINE, "grpo")
    ),
    "power": Peer(
        "f in proportion to |o|^λ, λ learned from 0", SCHEMES["power"], (BASELINE, "grpo", "lambda")
    ),
    "lambda, look-ahead": Peer(
        "lambda, but λ follows the next batch's reward",
        {"loss_type": "lambda", "lambda_signal": "look_ahead", "lambda_learning_rate": 3.0},
        (BASELINE, "lambda"),
    ),
    "power, look-ahead": Peer(
        "power, but λ follows the next batch's reward",
        {"loss_type": "power", "lambda_signal": "look_ahead", "lambda_learning_rate": 3.0},
        (BASELINE, "power"),
    ),
}
FORMS = {"lambda": "the paper's form", "power": "the power form"}
LAMBDAS = (-4, -3, -2, -1, 1, 2, 3)  # at 0 both are DAPO
RS = (Fraction(1, 30), Fraction(1, 15), Fraction(1, 3))


def fixed(form: str, lam: int) -> str:
    """The name of a scheme with a fixed λ."""
    return f"{form}{lam:+d}"


def with_r(r: Fraction) -> str:
    """The name of the paper's form with another r."""
    return f"lambda, r = {r}"


ALL: dict[str, Options] = {
    **{name: peer.options for name, peer in PEERS.items()},
    **{
        fixed(form, lam): {"loss_type": form, "lambda_fixed": True, "lambda_start": float(lam)}
        for form in FORMS
        for lam in LAMBDAS
    },
    **{with_r(r): {**SCHEMES["lambda"], "lambda_r": float(r)} for r in RS},
}


@dataclass(frozen=True)
class Size:
    """How much is run.

    Parameters
    ----------
    families : sequence of str
    schemes : sequence of str
        Out of `ALL`.
    n_seeds : int
    settings : DemoSettings
        The family apart.
    """

    families: Sequence[Relation]
    schemes: Sequence[str]
    n_seeds: int
    settings: DemoSettings


SIZES = {
    "full": Size(("longer", "neither", "shorter"), tuple(ALL), 5, DemoSettings()),
    "quick": Size(
        ("longer", "shorter"),
        ("dapo", "grpo", "lambda", "power", fixed("power", -1), fixed("power", 1), with_r(RS[-1])),
        3,
        DemoSettings(steps=15, evaluated=512),
    ),
    "tiny": Size(
        ("longer",),
        ("dapo", "power", fixed("power", -1), with_r(RS[-1])),
        2,
        DemoSettings(
            ChainSums(n_terms=3),
            PolicySettings(hidden=16, layers=1, heads=2, intermediate=16, n_derivations=96),
            steps=3,
            prompts=2,
            group=4,
            evaluated=8,
        ),
    ),
}


def cells(size: str, given: argparse.Namespace) -> list[Cell]:
    """Schemes × families × seeds.

    Parameters
    ----------
    size : {"full", "quick", "tiny"}
    given : argparse.Namespace
        Not looked at: no file is needed.

    Returns
    -------
    list of Cell
    """
    chosen = SIZES[size]
    settings = {
        family: asdict(
            replace(chosen.settings, family=replace(chosen.settings.family, right_more_often=family))
        )
        for family in chosen.families
    }
    # Families go round first, so that processes begin with different ones, and each makes a starting policy.
    return [
        Cell(scheme, f"chain sums, {family}", seed, {"options": ALL[scheme], "demo": settings[family]})
        for seed in range(chosen.n_seeds)
        for scheme in chosen.schemes
        for family in chosen.families
    ]


def work(run: Run) -> Mapping[str, float]:
    """Train by rewards from the starting policy, which the first run of its family makes.

    Starting policies lie beside the folder of all runs: they are no runs.

    Parameters
    ----------
    run : Run

    Returns
    -------
    dict of str to float
    """
    set_up()
    demo = run.config["demo"]
    settings = DemoSettings(
        **{**demo, "family": ChainSums(**demo["family"]), "policy": PolicySettings(**demo["policy"])}
    )
    start = starting_policy(settings, run.folder.parents[3] / "starting-policies")
    record = run_scheme(settings, start, run.method, run.config["options"], run.seed)
    run.keep(0)  # of a try that was killed
    for number, step in enumerate(record["steps"], start=1):
        run.log({"step": number, **step})
    return figures_of(record)


def starting_policy(settings: DemoSettings, folder: Path) -> Path:
    """The policy that all runs of a family start from; made by one process while the others wait."""
    from evenhand.grpo import chain_policy

    place = folder / settings.start_key
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, by a kill too
        chain_policy.starting_policy(settings.family, settings.policy, place)
    return place


def figures_of(record: Record) -> dict[str, float]:
    """What a run came to, in % where it is a share; by quarters, the mean over all steps."""
    steps, after = record["steps"], record["after"]
    last = steps[-1]
    found = {
        "accuracy": 100 * after["accuracy"],
        "accuracy before": 100 * record["before"]["accuracy"],
        "length": after["length"],
        "long form": 100 * after["long_share"],
        "entropy": last["entropy"],
        "least f": last["weight_min"],
        "greatest f": last["weight_max"],
        "thousand tokens": last["tokens"] / 1000,
        "seconds": last["seconds"],
    }
    if "lambda" in last:
        found["λ"] = last["lambda"]
    return found | {
        name: float(np.mean([step[name] for step in steps])) for names in QUARTERS.values() for name in names
    }


_SHOWN = (
    "accuracy", "accuracy before", AT_EQUAL_TOKENS, "length", "long form", "λ", "least f", "greatest f",
    "entropy", "thousand tokens", "seconds",
)  # fmt: skip
_JUDGED = ("accuracy", AT_EQUAL_TOKENS)

Question = tuple[str, str, str, str]
"""Data set, method, what it is compared with, figure."""


def sections(runs: Sequence[Run]) -> list[Section]:
    """The part of the page on λ-GRPO.

    Parameters
    ----------
    runs : sequence of Run
        Finished.

    Returns
    -------
    list of Section
    """
    results = TokenResults(runs, at_equal_tokens([run for run in runs if run.method in PEERS]))
    judged = judge_all(results)
    return [
        Section("λ-GRPO: what was run", [Text([*_about(results), *facts(results)])]),
        Section("λ-GRPO: what it says", [Points(_verdicts(results, judged))]),
        *(Section(f"λ-GRPO: {data}", _family(results, data, judged)) for data in results.data),
    ]


def judge_all(results: Results) -> dict[Question, Judged]:
    """All comparisons of this part of the page, with Holm's correction over them."""
    asked = [
        (data, method, baseline, figure)
        for data in results.data
        for method in results.methods
        for baseline in (PEERS[method].against if method in PEERS else (BASELINE,))
        for figure in (_JUDGED if method in PEERS else _JUDGED[:1])
    ]
    found = {question: results.compare(*question) for question in asked}
    return judge({question: one for question, one in found.items() if one is not None})


def _against(judged: Mapping[Question, Judged], baseline: str) -> dict[tuple[str, str, str], Judged]:
    """Comparisons with one method, as `evenhand.experiments.report` names them."""
    return {
        (data, method, figure): one
        for (data, method, other, figure), one in judged.items()
        if other == baseline
    }


def _about(results: Results) -> list[str]:
    demo = results.runs[0].config["demo"]
    peers = [name for name in PEERS if name in results.methods]
    family = ChainSums(n_terms=demo["family"]["n_terms"])
    problem = family.problems(1, seed=0)[0]
    short, long = (family.write(problem, form) for form in ("short", "long"))
    return [
        f"Chain sums: {problem} is answered by {short} or by {long}. In the family “longer” long responses of"
        " the starting policy are right more often than short ones, in “neither” equally often, in “shorter”"
        " less often. All runs of a family start from one policy, a small Llama trained from scratch.",
        f"{demo['steps']} steps of {demo['prompts']} problems, G = {demo['group']}, learning rate"
        f" {demo['learning_rate']:g}; reward 1 for a right answer, else 0. “accuracy” (%) is on"
        f" {demo['evaluated']:,} held-out problems after the run, one sample each at temperature 1."
        f" “{AT_EQUAL_TOKENS}” (%) is that of the responses trained on, in the last five steps within the"
        f" tokens that {', '.join(peers)} of the same seed have all written. f, the weights of responses,"
        " and entropy are of the last step.",
        "; ".join(f"{name}: {PEERS[name].about}" for name in peers)
        + "; lambda+1, power-2 and the like: λ fixed at that value.",
    ]


def _verdicts(results: Results, judged: Mapping[Question, Judged]) -> list[str]:
    """What the intervals allow to say: of each peer, and of the sweeps as a whole."""
    told = [
        line
        for baseline in PEERS
        if (mine := _of_peers(_against(judged, baseline)))
        for line in verdicts(results, baseline, _JUDGED, mine)
    ]
    sweeps = {
        **{f"λ fixed in {name}": [fixed(form, lam) for lam in LAMBDAS] for form, name in FORMS.items()},
        "the paper's form with another r": [with_r(r) for r in RS],
    }
    for name, methods in sweeps.items():
        if found := [one for question, one in judged.items() if question[1] in methods]:
            told.append(f"{name}, against {BASELINE}, accuracy: {_count(found)}")
    return list(dict.fromkeys(told))  # a word on few seeds would come once a baseline


def _of_peers(found: Mapping[tuple[str, str, str], Judged]) -> dict[tuple[str, str, str], Judged]:
    return {key: one for key, one in found.items() if key[1] in PEERS}


def _count(judged: Sequence[Judged]) -> str:
    signs = [one.sign for one in judged]
    sure = [one.sign for one in judged if one.sure]
    return (
        f"{len(judged)} comparisons; above in {signs.count(1)} and below in {signs.count(-1)} by the 95 %"
        f" interval, in {sure.count(1)} and {sure.count(-1)} after Holm's correction over all"
        f" {judged[0].n_all} comparisons."
    )


def _family(results: TokenResults, data: str, judged: Mapping[Question, Judged]) -> list[Block]:
    """Tables and curves of the peers, then the sweeps."""
    peers = results.only(PEERS)
    blocks: list[Block] = [figures_table(peers, data, _SHOWN)]
    for baseline in PEERS:
        if mine := {key: one for key, one in _of_peers(_against(judged, baseline)).items() if key[0] == data}:
            compared = peers.only([baseline, *(method for _, method, _ in mine)])
            blocks.append(differences_table(compared, data, baseline, _JUDGED, mine))
    blocks += [
        *over(peers, data),
        *curves_of(peers, data, ("lambda", "weight_std", "entropy", "length")),
        *over_quarters(peers, data),
    ]
    found = {
        method: one
        for (where, method, figure), one in _against(judged, BASELINE).items()
        if (where, figure) == (data, "accuracy")
    }
    return [*blocks, *_lambda_sweep(found), *_r_sweep(results, data, found)]


def _lambda_sweep(found: Mapping[str, Judged]) -> list[Block]:
    lines = {
        about: {f"{lam:+d}": found[name] for lam in LAMBDAS if (name := fixed(form, lam)) in found}
        for form, about in FORMS.items()
    }
    lines = {about: line for about, line in lines.items() if line}
    caption = (
        f"Accuracy less {BASELINE}'s with λ fixed, points: is there a λ whose interval lies above 0? In the"
        " power form λ = -1 is grpo up to a scale for each group."
    )
    return [plot_intervals(caption, "λ", [f"{lam:+d}" for lam in LAMBDAS], lines)] if lines else []


def _r_sweep(results: TokenResults, data: str, found: Mapping[str, Judged]) -> list[Block]:
    names = {r: "lambda" if r == PAPER_R else with_r(r) for r in sorted((*RS, PAPER_R))}
    line = {str(r): found[name] for r, name in names.items() if name in found}
    if not line:
        return []
    caption = (
        f"Accuracy less {BASELINE}'s in the paper's form with λ learned, points, over r: does a larger r, and"
        " so weights that are farther from 1, gain anything?"
    )
    return [
        plot_intervals(caption, "r", [str(r) for r in names], {FORMS["lambda"]: line}),
        figures_table(results.only(set(names.values())), data, ("accuracy", "λ", "least f", "greatest f")),
    ]
