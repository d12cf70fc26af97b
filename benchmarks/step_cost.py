"""What a step of `LambdaGRPOTrainer` costs beside stock TRL DAPO, paired, on chain sums.

    python benchmarks/step_cost.py --rounds 7

Prints the median seconds of a step and their ratios to DAPO's of the same round. In a round each scheme
trains once, in one process; the order turns from round to round.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from evenhand.grpo.demo import SCHEMES, DemoSettings, run_scheme, set_up
from evenhand.terminal import progress_bar, show_table, waiting

_SCHEMES = ("dapo", "lambda", "power")
_STEPS = 15


def step_times(start: Path, rounds: int) -> dict[str, list[float]]:
    """Median seconds of a step of stock DAPO and of both learned forms, by round."""
    settings = replace(DemoSettings(), steps=_STEPS, evaluated=1)
    found: dict[str, list[float]] = {name: [] for name in _SCHEMES}
    with progress_bar("steps", rounds * len(_SCHEMES) * _STEPS, "steps") as advance:
        for number in range(rounds):
            for name in _SCHEMES if number % 2 else reversed(_SCHEMES):
                at: list[float] = []

                def note(steps: int, at: list[float] = at) -> None:
                    at.append(time.perf_counter())
                    advance(steps)

                run_scheme(settings, start, name, SCHEMES[name], number, report=note)
                found[name].append(float(np.median(np.diff(at))))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="(default 7)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/step-cost"),
        help="folder of the policy (default runs/step-cost)",
    )
    given = parser.parse_args()
    set_up()
    from evenhand.grpo.chain_policy import starting_policy

    settings = DemoSettings()
    start = given.out / f"start-{settings.start_key}"
    given.out.mkdir(parents=True, exist_ok=True)
    with waiting("training the starting policy"):
        starting_policy(settings.family, settings.policy, start)
    found = step_times(start, given.rounds)
    rows = []
    for name in _SCHEMES:
        ratios = np.divide(found[name], found["dapo"])
        spread = f"{ratios.min():.3f} to {ratios.max():.3f}"
        rows.append((name, f"{np.median(found[name]):.3f}", f"{np.median(ratios):.3f}", spread))
    title = f"Seconds of a step: median of {_STEPS - 1}, in {given.rounds} rounds"
    show_table(title, ("", "median", "ratio to dapo, median", "least and greatest"), rows)


if __name__ == "__main__":
    main()
