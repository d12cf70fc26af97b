"""`evenhand grpo evaluate`: which problems are asked, how often, by which back end, into which file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evenhand.grpo.backends import Backend, BackendName, Decoding, has_chat_template, open_backend
from evenhand.grpo.commands.results import check_counts, show_results, tell_timeouts
from evenhand.grpo.commands.shared import PROCEDURAL, TaskSource, check_tasks
from evenhand.grpo.generations import Generation, GenerationFile, Key, judged, prompt_hash, settings_path
from evenhand.grpo.math_sets import (
    GREEDY,
    MATH_SETS,
    SAMPLED,
    Form,
    find_math_set,
    missing_math_set,
    read_math_set,
)
from evenhand.terminal import progress_bar, say, tell

_PAPER = "paper"  # all of MATH_SETS
_FILE_SAMPLES = 8
_MADE_UP = 200  # problems
_FILE_DECODING = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=1024)
_BATCH_SIZES: dict[BackendName, int] = {"transformers": 64, "vllm": 512, "server": 256}
_SEED_STEP = 1_000_003  # far apart, so that samples of one seed are not those of the next


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; None is the default of a set, or of files.

    Parameters
    ----------
    samples : int, optional
        Of each problem.
    temperature, top_p : float, optional
        Temperature 0 takes the likeliest token.
    max_new_tokens, batch_size : int, optional
    seed : int
    """

    samples: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None
    batch_size: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuse what cannot be drawn."""
        for name in ("samples", "max_new_tokens", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; give at least 1")
        top_p = 1.0 if self.top_p is None else self.top_p
        if not 0 <= (self.temperature or 0) < math.inf or not 0 < top_p <= 1:
            raise ValueError("--temperature must be a number from 0, and --top-p above 0 and at most 1")
        if self.temperature == 0 and (self.samples or 1) > 1:
            raise ValueError("at --temperature 0 all samples of a problem are one; give --samples 1")

    def samples_of(self, default: int) -> int:
        """How often a problem is asked."""
        if self.samples is None:
            return 1 if self.temperature == 0 else default
        return self.samples

    def decoding_of(self, default: Decoding) -> Decoding:
        """The default, with what was given in place of its values."""
        given = {name: getattr(self, name) for name in asdict(default)}
        return Decoding(
            **asdict(default) | {name: value for name, value in given.items() if value is not None}
        )


@dataclass(frozen=True)
class Asking:
    """Who is asked, and in which words.

    Parameters
    ----------
    model : str
        Its folder or name; with a server, the name that it is served by.
    backend : {"transformers", "vllm", "server"}
    server : str, optional
        Its address.
    concurrency, timeout
        Of a server: requests at a time, seconds that one may take.
    chat : bool, optional
        Ask by messages; by default named sets do so where the model has a chat template.
    instruction : {"user", "system"}
        Where the instruction of named sets stands.
    """

    model: str
    backend: BackendName
    server: str | None
    concurrency: int
    timeout: float
    chat: bool | None
    instruction: Form

    def form(self) -> Form:
        """How named sets are asked."""
        chat = has_chat_template(self.backend, self.model) if self.chat is None else self.chat
        if self.instruction == "system" and not chat:
            raise ValueError(
                "--instruction system needs messages, and so --chat and a model with a chat template"
            )
        return self.instruction if chat else "plain"

    def check_messages(self) -> None:
        """Refuse a model that cannot be asked by messages."""
        if not has_chat_template(self.backend, self.model):
            raise ValueError(
                f"{self.model} has no chat template, and problems are asked by messages; leave out --chat and"
                " give them as text, or take a model that has one"
            )

    def described(self) -> dict[str, Any]:
        """All of it that generations depend on; the address of a server may change."""
        if self.backend == "server":
            return {"model": self.model, "backend": "server"}
        files = sorted(Path(self.model).iterdir()) if Path(self.model).is_dir() else []
        return {
            "model": [self.model, *([file.name, file.stat().st_mtime_ns] for file in files)],
            "backend": f"{self.backend} {_version(self.backend)}",
        }

    def open(self) -> Backend:
        """The back end, with the model loaded."""
        return open_backend(
            self.backend, self.model, server=self.server, concurrency=self.concurrency, timeout=self.timeout
        )


@dataclass(frozen=True)
class ProblemSet:
    """Problems, how often each is asked, and how.

    Parameters
    ----------
    name : str
    tasks : mapping of str to list
        Columns `prompt`, `answer`, `problem_id` and perhaps `procedural`.
    samples : int
    decoding : Decoding
    """

    name: str
    tasks: dict[str, list[Any]]
    samples: int
    decoding: Decoding

    def batches(self, size: int) -> Iterator[list[tuple[int, int]]]:
        """Row and sample of all completions to be, by problem."""
        work = [(row, sample) for row in range(len(self.tasks["prompt"])) for sample in range(self.samples)]
        for start in range(0, len(work), size):
            yield work[start : start + size]

    def key(self, row: int, sample: int) -> Key:
        """The key of a generation."""
        return self.name, self.tasks["problem_id"][row], sample

    def described(self) -> dict[str, Any]:
        """All that its generations depend on."""
        digest = sha256(json.dumps(self.tasks, sort_keys=True, default=str).encode()).hexdigest()
        return {"tasks": digest, "samples": self.samples, **asdict(self.decoding)}


def evaluate_model(
    asking: Asking,
    source: TaskSource,
    sampling: Sampling,
    *,
    data_dir: Path | None,
    out: Path,
    ks: str | None,
) -> None:
    """Sample, judge, keep each batch, and show what all come to.

    Parameters
    ----------
    asking : Asking
    source : TaskSource
        Its place may be names of `MATH_SETS`, parted by commas, or "paper" for all of them.
    sampling : Sampling
    data_dir : Path, optional
        Of named sets.
    out : Path
        For the generations.
    ks : str, optional
        Numbers parted by commas.

    Raises
    ------
    ValueError
        If an option, the model or the tasks cannot be used.
    """
    sampling.check()
    if not out.parent.is_dir():
        raise ValueError(f"--out is {out}, but there is no folder {out.parent}; make it first")
    names = _named_sets(source.place)
    missing: list[str] = []
    if names is None:
        _check_unheeded(source.place, data_dir, asking.instruction)
        sets = [_from_source(source, sampling)]
    else:
        if given := source.given():
            raise ValueError(f"--{given[0]} is not for public sets, which have their own; leave it out")
        sets, missing = _from_folder(names, data_dir, sampling, asking)
    check_counts(ks, max(one.samples for one in sets))
    size = sampling.batch_size or _BATCH_SIZES[asking.backend]
    settings = {
        **asking.described(),
        "sets": {one.name: one.described() for one in sets},
        "batch_size": size,
        "seed": sampling.seed,
    }
    batches = [(one, batch) for one in sets for batch in one.batches(size)]
    file = GenerationFile(out, settings, [[one.key(*at) for at in batch] for one, batch in batches])
    if file.generations:
        say(f"{out}: {len(file.generations):,} answers are there already.")
    if file.n_done < len(batches):
        if not all(isinstance(one.tasks["prompt"][0], str) for one in sets):
            asking.check_messages()
        generate(asking.open(), batches[file.n_done :], file, sampling.seed)
    tell_timeouts()
    show_results(file.generations, ks=ks, missing=missing)
    tell(f"Each answer: {out}; what they depend on: {settings_path(out)}")


def generate(
    backend: Backend,
    batches: Sequence[tuple[ProblemSet, Sequence[tuple[int, int]]]],
    file: GenerationFile,
    seed: int,
) -> None:
    """Sample and judge, batch by batch.

    Parameters
    ----------
    backend : Backend
    batches : sequence of (ProblemSet, rows and samples)
    file : GenerationFile
        Takes each batch when it is judged.
    seed : int
        A sample's own seed follows from it and its place in the set, whatever other sets are asked.
    """
    with progress_bar("answers", sum(len(batch) for _, batch in batches), "answers") as advance:
        for one, batch in batches:
            prompts = [one.tasks["prompt"][row] for row, _ in batch]
            places = [row * one.samples + sample for row, sample in batch]
            seeds = [(seed * _SEED_STEP + place) % 2**31 for place in places]
            completions = backend.complete(prompts, one.decoding, seeds)
            file.add(
                judged(
                    [
                        Generation(
                            set=one.name,
                            problem=one.tasks["problem_id"][row],
                            sample=sample,
                            prompt=prompt_hash(prompt),
                            gold=one.tasks["answer"][row],
                            text=completion.text,
                            answer=None,
                            correct=False,
                            tokens=completion.tokens,
                            finish=completion.finish,
                            procedural=one.tasks["procedural"][row] if "procedural" in one.tasks else None,
                        )
                        for (row, sample), prompt, completion in zip(batch, prompts, completions, strict=True)
                    ]
                )
            )
            advance(len(batch))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # its back end says so, with the mend
        return "not installed"


def _named_sets(place: str) -> list[str] | None:
    """The names, or None where the place is a file or reasoning-gym."""
    if place == _PAPER:
        return list(MATH_SETS)
    names = list(dict.fromkeys(place.split(",")))
    unknown = [name for name in names if name not in MATH_SETS]
    if not unknown:
        return names
    if len(unknown) == len(names):
        return None
    raise ValueError(
        f"no set is named {unknown[0]!r}; there are {', '.join(MATH_SETS)}, and {_PAPER} for all"
    )


def _check_unheeded(place: str, data_dir: Path | None, instruction: Form) -> None:
    """Refuse options that would do nothing."""
    for option, given in (("--data-dir", data_dir is not None), ("--instruction", instruction != "user")):
        if given:
            raise ValueError(
                f"{option} is for the public sets ({', '.join(MATH_SETS)}), and {place} is none of them;"
                " leave it out"
            )


def _from_source(source: TaskSource, sampling: Sampling) -> ProblemSet:
    tasks = source.read(_MADE_UP)
    if "procedural" not in tasks.column_names:
        check_tasks(tasks, source.place)
    name = source.place
    if not name.startswith(PROCEDURAL):
        name = Path(name).name.removesuffix(".gz").rsplit(".", 1)[0]
    samples = sampling.samples_of(_FILE_SAMPLES)
    return ProblemSet(name, tasks.to_dict(), samples, sampling.decoding_of(_FILE_DECODING))


def _from_folder(
    names: Sequence[str], folder: Path | None, sampling: Sampling, asking: Asking
) -> tuple[list[ProblemSet], list[str]]:
    """The sets that are there, and the names of those that are not."""
    if folder is None:
        raise ValueError(f"{', '.join(names)}: read from files; give their folder as --data-dir")
    missing = [name for name in names if find_math_set(name, folder) is None]
    if len(missing) == len(names):
        raise ValueError("; ".join(missing_math_set(name, folder) for name in missing))
    for name in missing:
        say(f"{MATH_SETS[name].title} is left out: {missing_math_set(name, folder)}.")
    form = asking.form()
    sets = []
    for name in names:
        if name in missing:
            continue
        tasks = read_math_set(name, folder, form=form)
        if len(tasks) != MATH_SETS[name].size:
            title, size = MATH_SETS[name].title, MATH_SETS[name].size
            say(f"{title} has {len(tasks):,} problems here; the published set has {size:,}.")
        samples = sampling.samples_of(MATH_SETS[name].samples)
        default = GREEDY if samples == 1 else SAMPLED
        sets.append(ProblemSet(name, tasks.to_dict(), samples, sampling.decoding_of(default)))
    return sets, missing
