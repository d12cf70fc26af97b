"""What an evaluation has judged so far, so that an interruption costs no more than the batch in hand."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evenhand.grpo.evaluation import Outcome, as_outcome
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
        If the file is there and is of another evaluation, or damaged.
    """

    def __init__(self, out: Path, what: Mapping[str, Any]) -> None:
        self.path = out.with_name(f"{out.name}.part")
        header = json.dumps(what, sort_keys=True)
        # A line that a kill has cut short has no end; it is left out, and so is written again.
        found = self._lines() if self.path.exists() else []
        if found and found[0] != header:
            raise ValueError(
                f"{self.path} is of an evaluation with another model, other tasks or options; delete it, or"
                " give another --out"
            )
        self.batches: list[list[Outcome]] = [
            self._batch(number, line) for number, line in enumerate(found[1:], 2)
        ]
        with replacing(self.path) as file:
            file.writelines(f"{line}\n" for line in found or [header])

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8").split("\n")[:-1]
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path}: not UTF-8 text ({error.reason}); delete the file") from error

    def _batch(self, number: int, line: str) -> list[Outcome]:
        place = f"{self.path}:{number}"
        try:
            rows = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place}: not a list of outcomes ({error}); delete the file") from error
        if not isinstance(rows, list):
            raise ValueError(f"{place}: not a list of outcomes; delete the file")
        return [as_outcome(row, place) for row in rows]

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
