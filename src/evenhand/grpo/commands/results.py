"""`evenhand grpo score` and `compare`, and the tables that `evaluate` shows too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evenhand.grpo.checking import TIME_LIMIT, shared_checker
from evenhand.grpo.evaluation import (
    Interval,
    Measure,
    average_interval,
    differences,
    score_problems,
)
from evenhand.grpo.generations import Generation, judged, read_generations, write_generations
from evenhand.grpo.math_sets import MATH_SETS
from evenhand.terminal import progress_bar, say, show_table, tell

_MEASURES: dict[str, Measure] = {"pass": "pass", "avg": "average", "maj": "majority"}
_JUDGED_AT_A_TIME = 1024


def score_file(path: Path, *, out: Path | None, ks: str | None) -> None:
    """Judge kept generations anew and show what they come to.

    Parameters
    ----------
    path : Path
    out : Path, optional
        For the generations with their new verdicts.
    ks : str, optional
        Numbers parted by commas.

    Raises
    ------
    ValueError
        If the file or an option cannot be used.
    """
    before = read_generations(path)
    check_counts(ks, max(map(_fewest, _by_set(before).values())))
    after: list[Generation] = []
    with progress_bar("verdicts", len(before), "verdicts") as advance:
        for start in range(0, len(before), _JUDGED_AT_A_TIME):
            part = judged(before[start : start + _JUDGED_AT_A_TIME])
            after += part
            advance(len(part))
    tell_timeouts()
    show_results(after, ks=ks)
    verdicts = [(old.correct, new.correct) for old, new in zip(before, after, strict=True)]
    right, wrong = verdicts.count((False, True)), verdicts.count((True, False))
    tell(f"Of {len(before):,} verdicts in {path}, {right:,} are now right and {wrong:,} now wrong.")
    if out is not None:
        write_generations(out, after)
        tell(f"Each answer: {out}")


def compare_files(first: Path, second: Path, *, ks: str | None) -> None:
    """Show how much better the second of two runs is on the problems of both, with intervals.

    Parameters
    ----------
    first, second : Path
        Generations.
    ks : str, optional
        Numbers parted by commas.

    Raises
    ------
    ValueError
        If a file cannot be used, the two share no set, or a set has other problems in one of them.
    """
    runs = _by_set(read_generations(first)), _by_set(read_generations(second))
    shared = [name for name in runs[0] if name in runs[1]]
    if not shared:
        raise ValueError(
            f"{first} has {', '.join(runs[0])}, and {second} has {', '.join(runs[1])}: no set that both have;"
            " evaluate both on the same problems"
        )
    for name in shared:
        _check_same(name, runs[0][name], runs[1][name], (first, second))
    fewest = {name: min(_fewest(run[name]) for run in runs) for name in shared}
    check_counts(ks, max(fewest.values()))
    _show_differences(shared, runs, (first, second))
    for name in shared:
        if fewest[name] > 1:
            _show_differences_at(name, runs[0][name], runs[1][name], _counts(ks, fewest[name]))
    for path, run in zip((first, second), runs, strict=True):
        if alone := [_title(name) for name in run if name not in shared]:
            tell(f"Only in {path}: {', '.join(alone)}.")
    if any(_prompts(runs[0][name]) != _prompts(runs[1][name]) for name in shared):
        tell("The two were asked in different words.")
    tell("An interval that holds 0 does not tell the two apart. It is about problems, not training seeds.")


def tell_timeouts() -> None:
    """Say how many answers were given up on: on a machine under load a right one may be among them."""
    if count := shared_checker().timeouts:
        say(f"{count:,} answers took longer than {TIME_LIMIT:g} s to check and count as wrong.")


def show_results(generations: Sequence[Generation], *, ks: str | None, missing: Sequence[str] = ()) -> None:
    """Tables: a row for each set, and for sets that were asked several times pass@k, avg@k and maj@k.

    Parameters
    ----------
    generations : sequence of Generation
    ks : str, optional
        Numbers parted by commas.
    missing : sequence of str
        Sets that were asked for and are not there.
    """
    sets = _by_set(generations)
    scores = {name: score_problems(part, "average", 1) for name, part in sets.items()}
    rows = [_set_row(name, part, scores[name]) for name, part in sets.items()]
    rows += [(_title(name), "left out", *["–"] * 5) for name in missing]
    if len(sets) > 1:
        interval = _interval(list(scores.values()))
        rows.append((f"Average of {len(sets)} sets", "", "", *_shown(interval), "", ""))
    columns = ("", "problems", "n", "avg@n, %", "95 % interval", "mean tokens", "cut off, %")
    show_table(f"{len(generations):,} answers", columns, rows)
    for name, part in sets.items():
        if _fewest(part) > 1:
            _show_set(name, part, _counts(ks, _fewest(part)))


def check_counts(ks: str | None, samples: int) -> None:
    """Refuse a --k that no set has the samples for."""
    _counts(ks, samples, strict=True)


def _counts(ks: str | None, samples: int, *, strict: bool = False) -> list[int]:
    if ks is None:
        return sorted({*(2**i for i in range(samples.bit_length())), samples})
    try:
        counts = [int(k) for k in ks.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1 or (strict and max(counts) > samples):
        raise ValueError(f"--k is {ks!r}; write numbers from 1 to the {samples} answers a problem, like 1,4")
    return [k for k in counts if k <= samples]


def _by_set(generations: Sequence[Generation]) -> dict[str, list[Generation]]:
    sets: dict[str, list[Generation]] = {}
    for one in generations:
        sets.setdefault(one.set, []).append(one)
    return sets


def _fewest(part: Sequence[Generation]) -> int:
    return min(Counter(one.problem for one in part).values())


def _title(name: str) -> str:
    return MATH_SETS[name].title if name in MATH_SETS else name


def _set_row(name: str, part: Sequence[Generation], scores: Mapping[str, float]) -> tuple[object, ...]:
    tokens = np.mean([one.tokens for one in part])
    cut = 100 * np.mean([one.finish == "length" for one in part])
    return (
        _title(name),
        len(scores),
        _fewest(part),
        *_shown(_interval([scores])),
        f"{tokens:.1f}",
        f"{cut:.1f}",
    )


def _show_set(name: str, part: Sequence[Generation], counts: Sequence[int]) -> None:
    rows = [
        (f"{measure}@{k}", *_shown(_interval([score_problems(part, _MEASURES[measure], k)])))
        for measure in _MEASURES
        for k in counts
    ]
    show_table(_title(name), ("", "%", "95 % interval"), rows)


def _show_differences(
    names: Sequence[str], runs: Sequence[Mapping[str, Sequence[Generation]]], paths: Sequence[Path]
) -> None:
    scores = [{name: score_problems(run[name], "average", 1) for name in names} for run in runs]
    apart = {name: differences(scores[0][name], scores[1][name]) for name in names}
    rows = []
    for name in names:
        means = [f"{100 * float(np.mean(list(run[name].values()))):.1f}" for run in scores]
        rows.append((_title(name), len(apart[name]), *means, *_shown(_interval([apart[name]]), "+")))
    if len(names) > 1:
        means = [_shown(_interval(list(run.values())))[0] for run in scores]
        interval = _interval(list(apart.values()))
        rows.append((f"Average of {len(names)} sets", "", *means, *_shown(interval, "+")))
    tell(f"A: {paths[0]}\nB: {paths[1]}")
    columns = ("avg@n, %", "problems", "A", "B", "B − A", "95 % interval")
    show_table("Both on the same problems", columns, rows)


def _show_differences_at(
    name: str, first: Sequence[Generation], second: Sequence[Generation], counts: Sequence[int]
) -> None:
    rows = []
    for measure in ("pass", "maj"):
        for k in counts:
            scores = [score_problems(run, _MEASURES[measure], k) for run in (first, second)]
            rows.append((f"{measure}@{k}", *_shown(_interval([differences(*scores)]), "+")))
    show_table(f"{_title(name)}, B − A in points", ("", "mean", "95 % interval"), rows)


def _check_same(
    name: str, first: Sequence[Generation], second: Sequence[Generation], paths: Sequence[Path]
) -> None:
    golds = [{one.problem: one.gold for one in run} for run in (first, second)]
    if golds[0].keys() != golds[1].keys():
        raise ValueError(
            f"{name}: {len(golds[0].keys() - golds[1].keys())} problems are in {paths[0]} only, and"
            f" {len(golds[1].keys() - golds[0].keys())} in {paths[1]} only; evaluate both on the same file"
        )
    for problem, gold in golds[0].items():
        if gold != golds[1][problem]:
            raise ValueError(
                f"{name}, problem {problem}: the right answer is {gold!r:.80} in {paths[0]}, but"
                f" {golds[1][problem]!r:.80} in {paths[1]}; evaluate both on the same file"
            )


def _prompts(part: Sequence[Generation]) -> set[tuple[str, str]]:
    return {(one.problem, one.prompt) for one in part}


def _interval(sets: Sequence[Mapping[str, float]]) -> Interval | float:
    """With its interval; the mean alone where a set has one problem, which says nothing of a spread."""
    if min(map(len, sets)) < 2:
        return float(np.mean([np.mean(list(values.values())) for values in sets]))
    return average_interval(sets)


def _shown(interval: Interval | float, sign: str = "") -> tuple[str, str]:
    if isinstance(interval, float):
        return f"{100 * interval:{sign}.1f}", "–"
    ends = f"{100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f}"
    return f"{100 * interval.estimate:{sign}.1f}", ends
