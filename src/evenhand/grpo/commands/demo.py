"""`evenhand grpo demo`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from evenhand.grpo.chain_sums import ChainSums, PolicySettings, Relation
from evenhand.grpo.demo import SCHEMES, Demo, DemoSettings, Workers
from evenhand.grpo.report import COLUMNS, NAMES, findings, summarise, write_report
from evenhand.terminal import progress_bar, say, show_table, tell

_FULL_STEPS = 120  # of the project's first measurements
_RELATION = {
    "longer": "long responses of the starting policy are right more often than short ones",
    "neither": "long and short responses of the starting policy are right equally often",
    "shorter": "short responses of the starting policy are right more often than long ones",
}


def run_demo(
    out: Path, right_more_often: Relation, *, n_seeds: int, steps: int, jobs: int, quick: bool
) -> None:
    """Do the runs that are missing, then show all.

    Parameters
    ----------
    out : Path
        Folder of the runs and of the page.
    right_more_often : {"longer", "neither", "shorter"}
    n_seeds, steps : int
        Of each scheme; seeds count from 0.
    jobs : int
        Runs at a time; -1 for one a core.
    quick : bool
        Tiny settings; `n_seeds` and `steps` are at most 2.

    Raises
    ------
    ValueError
        If an option is wrong.
    """
    for name, value in (("seeds", n_seeds), ("steps", steps)):
        if value < 1:
            raise ValueError(f"--{name} is {value}; give at least 1")
    if jobs == 0 or jobs < -1:
        raise ValueError(f"--jobs is {jobs}; give at least 1, or -1 for one a core")
    jobs = _own_cores() if jobs == -1 else jobs
    settings = _settings(right_more_often, steps, quick)
    demo = Demo(settings, out, range(min(n_seeds, 2) if quick else n_seeds))
    began = time.perf_counter()
    facts = _facts(settings, len(demo.planned), quick)
    tell("\n".join(facts))
    _work(demo, jobs)
    records = demo.records()
    show_table(
        f"After the runs, on held-out problems: mean ± sd over {len(demo.planned) // len(SCHEMES)} seeds",
        COLUMNS,
        [one.cells() for one in summarise(records)],
    )
    tell("\n".join(findings(records)))
    page = out / "report.html"
    write_report(page, "GRPO, DAPO and λ-GRPO on chain sums", facts, records)
    tell(f"\n{time.perf_counter() - began:.0f} s. λ, weights, lengths and accuracy by step: {page}")


def _own_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def _settings(right_more_often: Relation, steps: int, quick: bool) -> DemoSettings:
    if not quick:
        return DemoSettings(ChainSums(right_more_often), steps=steps)
    policy = PolicySettings(hidden=32, layers=2, intermediate=64, n_derivations=640)
    family = ChainSums(right_more_often, n_terms=3)
    return DemoSettings(family, policy, steps=min(steps, 2), prompts=4, group=4, evaluated=32)


def _work(demo: Demo, jobs: int) -> None:
    """What is missing; a finished demo starts no process."""
    missing, planned = len(demo.missing()), len(demo.planned)
    if missing < planned:
        say(f"{planned - missing} of {planned} runs are there already.")
    if not missing:
        return
    policy, steps = demo.settings.policy, demo.settings.steps
    try:
        with Workers(min(jobs, missing)) as workers:
            if not demo.start.exists():
                n_batches = policy.n_derivations // policy.batch_size
                with progress_bar("starting policy", n_batches, "steps") as advance:
                    demo.make_start(workers, advance)
            with progress_bar(f"{missing} runs, {jobs} at a time", missing * steps, "steps") as advance:
                demo.run(workers, advance)
    except KeyboardInterrupt:
        say("Stopped. The same command takes it up again; runs that have finished are kept.")
        raise


def _facts(settings: DemoSettings, n_runs: int, quick: bool) -> list[str]:
    family = settings.family
    example = family.problems(1, seed=0)[0]
    short, long = (family.write(example, form) for form in ("short", "long"))
    named = ", ".join(NAMES[one] for one in SCHEMES)
    facts = [
        f"Chain sums: {example} is answered by {short} or by {long}; {_RELATION[family.right_more_often]}.",
        f"{len(SCHEMES)} schemes ({named}), {n_runs} runs of {settings.steps} steps, {settings.prompts}"
        f" problems a step, G = {settings.group}, learning rate {settings.learning_rate:g}; evaluated on"
        f" {settings.evaluated:,} held-out problems, one sample each.",
    ]
    if quick:
        facts.append("Tiny settings (--quick): these figures mean nothing.")
    elif settings.steps < _FULL_STEPS:
        facts.append(
            f"Cut to fit five minutes on two cores: {settings.steps} steps in place of {_FULL_STEPS}, one"
            " starting policy for all seeds, terms from 1 to 5."
        )
    return facts
