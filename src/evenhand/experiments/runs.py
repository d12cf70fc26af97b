"""Run folders: what was run with what, what came out step by step, and the figures at the end.

A folder holds ``config.json``, ``metrics.jsonl`` and, when the run is over, ``figures.json``. Whatever stands
there under its name is whole, but for the last line of the records, which a kill may have cut: it is passed
over.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Self

from evenhand import __version__
from evenhand.files import replacing

_UNFINISHED = re.compile(r"\.config\.json\.\d+\.tmp")  # what a kill in `start` leaves
_CONFIG, _METRICS, _FIGURES = "config.json", "metrics.jsonl", "figures.json"
_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "numba", "transformers", "trl", "accelerate", "peft")


class RunError(ValueError):
    """A folder that is no sound run, or one of another configuration."""


@dataclass(frozen=True)
class Run:
    """One method on one data set with one seed.

    Parameters
    ----------
    folder : Path
    method, data : str
    seed : int
    config : dict
        Every option as it was resolved, as JSON knows it.
    made_by : dict of str to str
        The release and commit of evenhand, Python, the packages it computed with, the machine and the date.

    Examples
    --------
    >>> import tempfile
    >>> run = Run.start(Path(tempfile.mkdtemp()) / "run", "game", "tags", 0, {"C": 0.3})
    >>> run.log({"epoch": 0, "map": 0.4})
    >>> run.finish({"mAP": 41.5})
    >>> again = Run.read(run.folder)
    >>> again.figures, list(again.records())
    ({'mAP': 41.5}, [{'epoch': 0, 'map': 0.4}])
    """

    folder: Path
    method: str
    data: str
    seed: int
    config: dict[str, Any]
    made_by: dict[str, str]

    @classmethod
    def start(
        cls, folder: Path, method: str, data: str, seed: int, config: Mapping[str, Any] | None = None
    ) -> Self:
        """A new run, or the one that was begun there with the same configuration.

        Parameters
        ----------
        folder : Path
        method, data : str
        seed : int
        config : mapping, optional
            Of what JSON knows, and arrays.

        Returns
        -------
        Run

        Raises
        ------
        RunError
            If the folder holds something else, or a run of another configuration.
        """
        told = {
            "method": method,
            "data": data,
            "seed": seed,
            "config": json.loads(_json(_plain(config or {}))),
        }
        if (folder / _CONFIG).exists():
            found = cls.read(folder)
            if differing := [name for name, value in told.items() if getattr(found, name) != value]:
                name = differing[0]
                raise RunError(
                    f"{folder} is a run with {name} {getattr(found, name)!r}, not {told[name]!r};"
                    " delete it, or write to another folder"
                )
            return found
        if folder.exists() and any(not _UNFINISHED.fullmatch(path.name) for path in folder.iterdir()):
            raise RunError(f"{folder} holds other files; give a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / _CONFIG) as file:
            file.write(_json({**told, "made_by": _made_by()}, indent=1))
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The run in a folder.

        Parameters
        ----------
        folder : Path

        Returns
        -------
        Run

        Raises
        ------
        RunError
            If it is none, or is damaged; the message names the file.
        """
        told = _read(folder / _CONFIG)
        kinds = {"method": str, "data": str, "seed": int, "config": dict, "made_by": dict}
        for name, kind in kinds.items():
            if not isinstance(told.get(name), kind):
                raise RunError(f"{folder / _CONFIG}: the field {name!r} should be of type {kind.__name__}")
        return cls(folder, **{name: told[name] for name in kinds})

    @property
    def figures(self) -> dict[str, float] | None:
        """What the run came to; None while it is not over."""
        place = self.folder / _FIGURES
        if not place.exists():
            return None
        found = _read(place)
        for name, value in found.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise RunError(f"{place}: {name!r} is {value!r}, not a number")
        return {name: math.nan if value is None else float(value) for name, value in found.items()}

    def records(self) -> Iterator[dict[str, Any]]:
        """What was logged, in order.

        Yields
        ------
        dict

        Raises
        ------
        RunError
            If a line is no record. A last line without an end is what a kill left: it is passed over.
        """
        place = self.folder / _METRICS
        if not place.exists():
            return
        with place.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith("\n"):
                    return
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise RunError(f"{place}:{number}: not sound JSON ({error})") from error
                if not isinstance(record, dict):
                    raise RunError(f"{place}:{number}: not a JSON object")
                yield record

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record; what is not finite is kept as null.

        Parameters
        ----------
        record : mapping
        """
        place = self.folder / _METRICS
        with place.open("ab+") as file:
            _drop_torn_line(file)
            file.write((_json(_plain(record)) + "\n").encode())

    def keep(self, n: int) -> None:
        """Drop all records but the first ones: those after the checkpoint that a training goes on from.

        Parameters
        ----------
        n : int

        Raises
        ------
        RunError
            If there are fewer.
        """
        kept = list(islice(self.records(), n))
        if len(kept) < n:
            raise RunError(f"{self.folder / _METRICS} has {len(kept)} records, not {n}")
        with replacing(self.folder / _METRICS) as file:
            file.writelines(_json(record) + "\n" for record in kept)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process is at this run; a kill ends a process's turn too.

        A grid that is killed leaves processes that go on until their cell is finished.
        """
        with (self.folder / _CONFIG).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def finish(self, figures: Mapping[str, float]) -> None:
        """Note what the run came to.

        Parameters
        ----------
        figures : mapping of str to float
            What is not finite is kept as null.
        """
        with replacing(self.folder / _FIGURES) as file:
            file.write(_json(_plain(figures), indent=1))


def find_runs(*places: Path) -> list[Run]:
    """All runs in some folders and below them, in the order of their paths.

    Parameters
    ----------
    *places : Path

    Returns
    -------
    list of Run

    Raises
    ------
    RunError
        If a folder does not exist, holds no run, or one that is damaged.
    """
    found: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            raise RunError(f"{place} is no folder; give the folder of a run, or one that has some below it")
        configs = sorted(place.rglob(_CONFIG))
        if not configs:
            raise RunError(f"there is no run in {place} or below it (no {_CONFIG})")
        found |= dict.fromkeys(config.parent for config in configs)
    return [Run.read(folder) for folder in found]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing; this is no run folder") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not sound JSON ({error})") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}: not a JSON object")
    return found


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    """As JSON knows it: arrays as lists, null for numbers that are not finite."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _drop_torn_line(file: Any) -> None:
    """Cut off what a kill left of a line at the end of a file that is open for reading and appending."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)


def _made_by() -> dict[str, str]:
    found = {"evenhand": __version__, "python": platform.python_version()}
    if commit := _commit():
        found["commit"] = commit
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    return {**found, "machine": machine, "date": datetime.now(UTC).date().isoformat()}


def _commit() -> str | None:
    """The commit of evenhand's source, with a mark where files have changed since; None outside of git."""
    place = Path(__file__)
    git = ["git", "-C", str(place.parent)]
    try:
        # An installed copy may lie inside another project's repository.
        subprocess.run([*git, "ls-files", "--error-unmatch", place.name], check=True, capture_output=True)
        told = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=12"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()
