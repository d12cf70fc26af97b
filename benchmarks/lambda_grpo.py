"""λ-GRPO beside TRL's own schemes on chain sums, and what a step of it costs.

Prints the time of a step of `LambdaGRPOTrainer` against stock TRL DAPO, paired; accuracy after training under
each scheme over several seeds; and the same for fixed λ from −4 to 3 in both forms, beside the learned λ.
Differences are paired by seed, with 95 % intervals (Student's t).

    python benchmarks/lambda_grpo.py --seeds 5 --out runs/lambda-grpo

A finished run leaves a JSON file in --out and is not done again, so that an interrupted benchmark can go on.
Everything is made up (`evenhand.grpo.chain_sums`): a policy of 0.65 million parameters, trained from scratch
on derivations of which one form is right more often, then trained on by rewards. It says what the weights do
where length matters by construction; it says nothing about large models.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from evenhand.experiments.compare import show_interval
from evenhand.grpo.chain_sums import ChainSums
from evenhand.grpo.demo import SCHEMES, Demo, DemoSettings, Options, Record, Workers, run_scheme, set_up
from evenhand.terminal import progress_bar, replacing

LAMBDAS = (-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0)
TIMED = ("dapo", "lambda", "power")
_TIMED_STEPS = 15


def sweep() -> dict[str, Options]:
    """The demo's schemes, and both forms at fixed λ; λ = 0 is DAPO."""
    fixed: dict[str, Options] = {
        f"{form}{lam:+g}": {"loss_type": form, "lambda_fixed": True, "lambda_start": lam}
        for form in ("lambda", "power")
        for lam in LAMBDAS
    }
    return {**SCHEMES, **fixed}


def step_times(demo: Demo, pairs: int) -> dict[str, list[float]]:
    """Median seconds of a step of stock DAPO and of both learned forms, in turn in one process."""
    set_up()
    settings = replace(demo.settings, steps=_TIMED_STEPS, evaluated=1)
    found: dict[str, list[float]] = {name: [] for name in TIMED}
    for pair in range(pairs):
        for name in TIMED if pair % 2 else reversed(TIMED):
            at: list[float] = []
            run_scheme(
                settings,
                demo.start,
                name,
                SCHEMES[name],
                pair,
                report=lambda _: at.append(time.perf_counter()),  # noqa: B023
            )
            found[name].append(float(np.median(np.diff(at))))
    return found


def show_times(found: dict[str, list[float]], console: Console) -> None:
    """Print the step times and their ratios, pair by pair."""
    table = Table(title=f"Seconds of a step: median of {_TIMED_STEPS}, in {len(found['dapo'])} rounds")
    for column in ("", "median", "ratio to stock DAPO (median)", "least and greatest ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name in TIMED:
        ratios = np.divide(found[name], found["dapo"])
        spread = f"{ratios.min():.3f} to {ratios.max():.3f}"
        table.add_row(name, f"{np.median(found[name]):.3f}", f"{np.median(ratios):.3f}", spread)
    console.print(table)


def show_runs(records: Sequence[Record], title: str, console: Console) -> None:
    """Print accuracy, length and λ after the runs, and the paired difference to DAPO."""
    base = {one["seed"]: one["after"]["accuracy"] for one in records if one["scheme"] == "dapo"}
    start = np.mean([one["before"]["accuracy"] for one in records])
    table = Table(title=f"{title}; {len(base)} seeds; starting policy {100 * start:.1f} %")
    for column in ("", "accuracy, %", "minus DAPO", "length", "long form, %", "λ at the end", "f at the end"):
        table.add_column(column, justify="right" if column else "left")
    for scheme in dict.fromkeys(one["scheme"] for one in records):
        mine = [one for one in records if one["scheme"] == scheme]
        accuracy = np.array([100 * one["after"]["accuracy"] for one in mine])
        difference = accuracy - np.array([100 * base[one["seed"]] for one in mine])
        last = [one["steps"][-1] for one in mine]
        lam = [step["lambda"] for step in last if "lambda" in step]
        least, greatest = min(step["weight_min"] for step in last), max(step["weight_max"] for step in last)
        table.add_row(
            scheme,
            f"{accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f}" if len(mine) > 1 else f"{accuracy[0]:.1f}",
            "–" if scheme == "dapo" else show_interval(difference),
            f"{np.mean([one['after']['length'] for one in mine]):.1f}",
            f"{100 * np.mean([one['after']['long_share'] for one in mine]):.0f}",
            f"{np.mean(lam):+.3f}" if lam else "–",
            f"{least:.2f} to {greatest:.2f}",
        )
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="runs of each scheme (default 5)")
    parser.add_argument("--steps", type=int, default=40, help="steps of a run (default 40)")
    parser.add_argument(
        "--families",
        nargs="+",
        default=["longer", "neither", "shorter"],
        help="which responses are right more often (default: all three)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/lambda-grpo"), help="folder of the results")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: all cores)"
    )
    parser.add_argument("--pairs", type=int, default=7, help="rounds of the timing (default 7)")
    options = parser.parse_args()
    console = Console(width=130)
    times = options.out / "step-times.json"
    for family in options.families:
        settings = DemoSettings(ChainSums(family), steps=options.steps)
        demo = Demo(settings, options.out, range(options.seeds), sweep())
        with Workers(options.jobs) as workers:
            steps = settings.policy.n_derivations // settings.policy.batch_size
            with progress_bar(f"starting policy, {family}", steps, "steps") as advance:
                demo.make_start(workers, advance)
            if not times.exists():
                found = step_times(demo, options.pairs)
                with replacing(times) as file:
                    json.dump(found, file)
            with progress_bar(f"runs, {family}", len(demo.missing()) * options.steps, "steps") as advance:
                demo.run(workers, advance)
        show_runs(demo.records(), f"Chain sums, right more often: {family}", console)
    show_times(json.loads(times.read_text()), console)


if __name__ == "__main__":
    main()
