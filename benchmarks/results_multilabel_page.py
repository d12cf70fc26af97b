"""The multi-label part of the results page: what the runs come to, in tables, plots and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from operator import itemgetter

import numpy as np

from evenhand.experiments.compare import Judged, judge, show_difference, verdict
from evenhand.experiments.page import Block, Grid, Plot, Points, Section, Text
from evenhand.experiments.plots import Floats, plot_intervals, plot_lines
from evenhand.experiments.report import (
    ALONG_TENTHS,
    TENTHS,
    Results,
    by_tenths,
    curves_of,
    facts,
    figures_table,
)
from evenhand.experiments.runs import Run
from results_ablations import ABLATIONS, BASES, Ablation, base_of, variant
from results_methods import ENSEMBLE, GAME, NEURAL_ENSEMBLE, NEURAL_GAME

RANKED = ("P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5", "nDCG@5", "mAP")
BOTTOM_HALF = "bottom half's F1"
SHOWN = (
    *RANKED,
    *(f"{f1} (micro)" for f1 in ("micro-F1", "macro-F1", "Rare-F1")),
    *(f"{f1} (macro_f1)" for f1 in ("micro-F1", "macro-F1", "Rare-F1", BOTTOM_HALF)),
    *("mAP of tail", "mAP of head", "F1 of head (macro_f1)"),
)
TAIL = ("Rare-F1 (macro_f1)", f"{BOTTOM_HALF} (macro_f1)")
HEAD = ("P@1", "F1 of head (macro_f1)")
BY_TENTHS = ("Average precision", "F1 (macro_f1)")
COMPARED = (*TAIL, "mAP", *HEAD)


@dataclass(frozen=True)
class Question:
    """What the page is asked, and the pairs of methods that answer.

    Parameters
    ----------
    asked : str
    figures : sequence of str
    pairs : sequence of (str, str, str)
        What the pair is about, a method, and what it is compared with.
    """

    asked: str
    figures: Sequence[str]
    pairs: Sequence[tuple[str, str, str]]


_WHOLE = (
    ("linear", GAME, ENSEMBLE),
    ("linear, all of the game", "game, rounds", ENSEMBLE),
    ("linear, beside scikit-learn", GAME, "OvR LinearSVC"),
    ("neural", NEURAL_GAME, NEURAL_ENSEMBLE),
)
QUESTIONS = (
    Question("Does the game help the tail?", TAIL, _WHOLE),
    Question(
        "By which part?",
        TAIL,
        (
            ("the reward for rarity", GAME, ENSEMBLE),
            ("its shape ρ, beside the same reward for all labels", GAME, "game, ρ ≡ 1"),
            ("best responses to the team", "game, rounds, β = 0", GAME),
            ("the reward for disagreement", "game, rounds", "game, rounds, β = 0"),
            ("several players", GAME, "one player"),
            ("overlap", GAME, "game, disjoint players"),
            ("neural, the reward for rarity", "neural, β = 0", NEURAL_ENSEMBLE),
            ("neural, its shape ρ", NEURAL_GAME, "neural, ρ ≡ 1"),
            ("neural, the reward for disagreement", NEURAL_GAME, "neural, β = 0"),
            ("neural, several players", NEURAL_ENSEMBLE, "neural, one player"),
            ("neural, beside re-weighting alone", NEURAL_GAME, "neural, positive weight"),
        ),
    ),
    Question("At what price to the head?", HEAD, _WHOLE),
)
_DRAWN = (GAME, ENSEMBLE, "one player", "OvR LinearSVC", NEURAL_GAME, NEURAL_ENSEMBLE)
_ROUNDS = ("game, rounds", "game, rounds, β = 0")
_EPOCHS = (NEURAL_GAME, "neural, β = 0", NEURAL_ENSEMBLE)
_TEAMS = (GAME, ENSEMBLE, NEURAL_GAME, NEURAL_ENSEMBLE)
_CURVES = ("potential", "rare_f1_bound", "disagreement_rare", "disagreement_head")
_CONSENSUS = 0.1  # of the highest disagreement

Judgements = dict[tuple[str, str, str, str], Judged]  # by what it is compared with, data set, method, figure


def page(runs: Sequence[Run]) -> list[Section]:
    """All sections.

    Parameters
    ----------
    runs : sequence of Run
        Finished.

    Returns
    -------
    list of Section
    """
    results = Results([run for run in runs if run.config["kind"] == "compared"])
    if not results.runs:
        return [Section("Multi-label", [Text(["No run is finished."])])]
    judged = _judge(results)
    n_ablated = len(runs) - len(results.runs)
    beside = [f"Beside these {n_ablated} runs with one option changed."] if n_ablated else []
    found = [Section("Multi-label: what was run", [Text([*facts(results), *beside, *_RULES])])]
    found += [_answers(results, judged)]
    found += [_of_data(results, data, judged) for data in results.data]
    found += [_division(results), _consensus(results)]
    return found + _ablations(Results(runs))


_RULES = (
    "Linear methods and peers learn calibration and thresholds from three folds, neural ones from a"
    " held-out fifth of the training part. All have the same decoders: micro, one threshold that is best"
    " for micro-F1, and macro_f1, the label sets of the highest expected macro-F1. Every method was tried"
    " with equally many configurations on a split of its own (two on delicious and Debian's tags), chosen"
    " by mAP plus the bottom half's F1 (macro_f1).",
    "Rare labels: up to 101 labels, the 30 % with the fewest training positives, else those with 1 to 10."
    " The head: the 30 % with the most, else those with more than 100. All figures are of the test part, in"
    " per cent. A seed draws folds, held-out rows, weights, and the views of linear players: of texts"
    " words, word pairs and characters, else all features and two random halves of them; who plays alone,"
    " and one-vs-rest and peers, read the first of these. MULAN's test parts are the published ones for"
    " every seed, so that there the intervals say nothing of other test instances; made-up data and the"
    " split of Debian's tags are drawn anew.",
    "“game” is the default game of linear players: each solves alone and is paid for rarity (α); the reward"
    " for disagreement (β) does not act. “game, rounds”: up to three rounds of best response to the team as"
    " well, with β > 0 or 0. “ensemble”: the same players and fusion, α = β = 0. “one player,"
    " log-likelihood” is BCE with positives weighed 1 + αρ. “neural” methods share encoder and batches.",
)


def _judge(results: Results) -> Judgements:
    """Every comparison of methods on the page, judged together."""
    wanted = dict.fromkeys(
        (theirs, ours, figure)
        for question in QUESTIONS
        for _, ours, theirs in question.pairs
        for figure in question.figures
    )
    others = [method for method in results.methods if method != _game_of(method)]
    wanted |= dict.fromkeys((method, _game_of(method), figure) for method in others for figure in COMPARED)
    found = {
        (baseline, data, method, figure): one
        for data in results.data
        for baseline, method, figure in wanted
        if (one := results.compare(data, method, baseline, figure)) is not None
    }
    return judge(found)


def _game_of(method: str) -> str:
    """The default game with players of the same kind."""
    return NEURAL_GAME if method.startswith("neural") else GAME


def _answers(results: Results, judged: Judgements) -> Section:
    blocks: list[Block] = []
    for question in QUESTIONS:
        told = []
        for part, ours, theirs in question.pairs:
            for figure in question.figures:
                ones = [
                    judged[key] for data in results.data if (key := (theirs, data, ours, figure)) in judged
                ]
                if ones:
                    told.append(f"{part} ({ours} less {theirs}), {figure}: {verdict(ones)}")
        blocks += [Text([question.asked]), Points(told or ["The methods that would tell were not run."])]
    least = min((one.found.n for one in judged.values()), default=0)
    if least < 5:
        blocks.append(Text([f"Some intervals come from {least} seeds, which decide little: take five."]))
    return Section(
        "Multi-label: does the game help the tail, by which part, at what price to the head?", blocks
    )


def _of_data(results: Results, data: str, judged: Judgements) -> Section:
    """Tables of a data set, figures by tenths of its labels, and curves."""
    here = Results([run for run in results.runs if run.data == data])
    blocks: list[Block] = [figures_table(here, data, [name for name in SHOWN if name in here.figure_names()])]
    blocks += [grid for game in (GAME, NEURAL_GAME) if (grid := _less_others(here, data, game, judged)).rows]
    blocks.append(_chosen(here))
    drawn = [method for method in _DRAWN if here.of(data, method)]
    for name in BY_TENTHS:
        lines = {method: by_tenths(here.of(data, method), name) for method in drawn}
        caption = (
            f"{name} by tenths of the labels, from the rarest (1) to the commonest (10): who wins where?"
        )
        blocks += _over_tenths(caption, lines)
    for methods in (_ROUNDS, _EPOCHS):
        blocks += curves_of(_only(here, methods), data, _CURVES)
    return Section(f"Multi-label: {data}", blocks)


def _less_others(results: Results, data: str, game: str, judged: Judgements) -> Grid:
    """A default game less each method with players of the same kind."""
    shown = [name for name in COMPARED if name in results.figure_names()]
    rows = [
        [method, *(show_difference(judged.get((method, data, game, figure))) for figure in shown)]
        for method in results.methods
        if method != game and _game_of(method) == game
    ]
    caption = (
        f"{game} less the other, paired by seed: mean [95 % interval by Student's t]. * where the interval"
        f" lies on one side of 0, ** where it does so after Holm's correction over all {len(judged)}"
        " comparisons of methods."
    )
    return Grid(caption, ["less", *shown], rows)


def _over_tenths(caption: str, lines: Mapping[str, Floats]) -> list[Plot]:
    """A line a name over the tenths of the labels; no plot where no run has the figure."""
    known = any(np.isfinite(values).any() for values in lines.values())
    return [plot_lines(caption, ALONG_TENTHS, TENTHS, lines)] if known else []


def _only(results: Results, methods: Sequence[str]) -> Results:
    return Results([run for run in results.runs if run.method in methods])


def _chosen(results: Results) -> Grid:
    """The configuration of each method, which is that of all its seeds."""
    rows = []
    for method in results.methods:
        run = next(run for run in results.runs if run.method == method)
        (configuration,) = (line["configuration"] for line in run.records() if "configuration" in line)
        rows.append([method, ", ".join(f"{name} {value}" for name, value in configuration.items())])
    return Grid("What the tuning chose.", ["method", "configuration"], rows)


def _division(results: Results) -> Section:
    """Who is right where, and how evenly the fusion listens to the players."""
    blocks: list[Block] = [Text([_DIVISION])]
    for data in results.data:
        teams = _only(results, _TEAMS)
        lines = {method: by_tenths(teams.of(data, method), "Entropy of ω") for method in teams.methods}
        caption = (
            f"{data}: entropy of the fusion weights by tenths of the labels, nats. 0: one player decides."
        )
        blocks += _over_tenths(caption, lines)
        for method in (GAME, NEURAL_GAME):
            if runs := results.of(data, method):
                caption = (
                    f"{data}, {method}: average precision of each player and the team: who is right where?"
                )
                team = {"team": by_tenths(runs, "Average precision")}
                lines = team | _players(runs, "Average precision of player")
                blocks += _over_tenths(caption, lines)
                caption = (
                    f"{data}, {method}: each player's share of ω, per cent: whom does the team hear where?"
                )
                blocks += _over_tenths(caption, _players(runs, "Share of ω of player"))
    return Section("Multi-label: division of labour", blocks)


_DIVISION = (
    "If the game divides the labour, its players are right on different labels, and the entropy of its ω"
    " lies below that of the ensemble, whose players earn no rewards and differ by views or first weights"
    " alone. Players 1, 2 and 3 of the linear teams read the views in the order named above."
)


def _players(runs: Sequence[Run], name: str) -> dict[str, Floats]:
    """A figure that each player has, by player."""
    found: dict[str, Floats] = {}
    while np.isfinite(values := by_tenths(runs, f"{name} {len(found) + 1}")).any():
        found[f"player {len(found) + 1}"] = values
    return found


def _consensus(results: Results) -> Section:
    """How fast the players come to agree."""
    rows = []
    for data in results.data:
        for method in (*_ROUNDS, *_EPOCHS):
            for labels in ("rare", "head"):
                found = [_course(run, f"disagreement_{labels}") for run in results.of(data, method)]
                courses = [course for course in found if len(course) > 1 and any(course)]
                if courses:
                    rows.append([data, method, labels, *_as_cells(courses)])
    caption = (
        "Disagreement of the players on positives of the rarest and the commonest tenth of the labels, mean"
        " over seeds, after the first round or epoch, at its highest, and after the last; in how many seeds"
        " it fell to a tenth of the highest, and when: does it fall faster on rare labels with the reward"
        " for disagreement (β) than without?"
    )
    columns = ["data", "method", "labels", "first", "highest", "last", "fell to a tenth", "at (median)"]
    return Section("Multi-label: consensus", [Grid(caption, columns, rows)])


def _course(run: Run, name: str) -> list[float]:
    """A record from round to round, or epoch to epoch."""
    return [value for line in run.records() if (value := line.get(name)) is not None]


def _as_cells(courses: Sequence[Sequence[float]]) -> list[str]:
    firsts, highest, lasts = ([of(one) for one in courses] for of in (itemgetter(0), max, itemgetter(-1)))
    fell = []
    for course, top in zip(courses, highest):
        after = range(course.index(top), len(course))
        fell += [next((at for at in after if course[at] <= _CONSENSUS * top), None)]
    known = [at for at in fell if at is not None]
    return [
        *(f"{np.mean(values):.4f}" for values in (firsts, highest, lasts)),
        f"{len(known)} of {len(courses)}",
        f"{np.median(known):g}" if known else "–",
    ]


def _ablations(results: Results) -> list[Section]:
    """A section a family, with a pair of plots for each option."""
    found = []
    for family, ablations in ABLATIONS.items():
        here = Results([run for run in results.runs if run.config["kind"] == family])
        judged = _judge_ablations(here, family)
        blocks = [block for ablation in ablations for block in _ablation(here, judged, family, ablation)]
        if blocks:
            base = ", ".join(f"{name} {value}" for name, value in BASES[family].items())
            told = (
                f"One option at a time, the others as they are: {base}. Nothing is tuned. Marks are by all"
                f" {len(judged)} comparisons of this section."
            )
            heading = f"Multi-label: one option at a time, {family} players"
            found.append(Section(heading, [Text([told]), *blocks]))
    return found


_SWEPT = {"tail": f"{BOTTOM_HALF} (macro_f1)", "head": "F1 of head (macro_f1)"}


def _judge_ablations(results: Results, family: str) -> Judgements:
    """Every variant that is not the base itself, judged together."""
    found = {}
    for ablation in ABLATIONS[family]:
        base = base_of(family, ablation).method
        methods = {variant(family, ablation, value).method for value in ablation.values} - {base}
        for data, method, figure in product(results.data, sorted(methods), _SWEPT.values()):
            if (one := results.compare(data, method, base, figure)) is not None:
                found[base, data, method, figure] = one
    return judge(found)


def _ablation(results: Results, judged: Judgements, family: str, ablation: Ablation) -> list[Plot]:
    base = base_of(family, ablation).method
    beside = ", ".join(f"{name} {value}" for name, value in ablation.beside.items())
    name = f"{ablation.name} (with {beside})" if beside else ablation.name
    plots = []
    for part, figure in _SWEPT.items():
        lines: dict[str, dict[str, Judged]] = {}
        for data, value in product(results.data, ablation.values):
            key = (base, data, variant(family, ablation, value).method, figure)
            if key in judged:
                lines.setdefault(data, {})[str(value)] = judged[key]
        if lines:
            usual = ablation.beside.get(ablation.option, BASES[family][ablation.option])
            caption = f"{name}, the {part}: {figure} less that with {usual}, points. Is a value above 0?"
            values = [str(value) for value in ablation.values]
            plots.append(plot_intervals(caption, ablation.name, values, lines))
    return plots
