"""What an evaluation has judged so far, so that an interruption costs no more than the batch in hand."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evenhand.grpo.evaluation import Outcome
from evenhand.terminal import replacing


class PartialOutcomes:
    """The file FILE.part beside the outcomes: a line that says of what, then a line for each batch.

    Parameters
    ----------
    out : Path
        Where the outcomes will be.
    what : mapping
        All that the outcomes depend on, as JSON holds it.

    Raises
    ------
    ValueError
        If the file is there and is of another evaluation.
    """

    def __init__(self, out: Path, what: Mapping[str, Any]) -> None:
        self.path = out.with_name(f"{out.name}.part")
        header = json.dumps(what, sort_keys=True)
        # A line that a kill has cut short has no end; it is left out, and so is written again.
        found = self.path.read_text(encoding="utf-8").split("\n")[:-1] if self.path.exists() else []
        if found and found[0] != header:
            raise ValueError(
                f"{self.path} is of an evaluation with another model, other tasks or options; delete it, or"
                " give another --out"
            )
        self.batches: list[list[Outcome]] = [
            [Outcome(**one) for one in json.loads(line)] for line in found[1:]
        ]
        with replacing(self.path) as file:
            file.writelines(f"{line}\n" for line in found or [header])

    def add(self, batch: Sequence[Outcome]) -> None:
        """Keep a batch, for good when this returns."""
        self.batches.append(list(batch))
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([asdict(one) for one in batch]) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def outcomes(self) -> list[Outcome]:
        """All of them, in order."""
        return [one for batch in self.batches for one in batch]

    def remove(self) -> None:
        """Take the file away, the outcomes being complete elsewhere."""
        self.path.unlink()
