"""Debian's package index: fetched with the machine's apt into a private folder, parsed once, kept there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from evenhand.multilabel.datasets.deb822 import COLUMNS, package_table

_FORMAT = 1
_APT_HELPER = "/usr/lib/apt/apt-helper"
_FETCH_LIMIT_S = 600
# The machine's own hooks clean its caches and wake its services: not for a private fetch.
_HOOKS = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")
_APT_CONF = "".join(f"#clear APT::Update::{hook};\n" for hook in _HOOKS)
_TARGET_FIELDS = (
    "CREATED_BY",
    "BASE_URI",
    "CODENAME",
    "SUITE",
    "VERSION",
    "ARCHITECTURE",
    "LANGUAGE",
    "FILENAME",
)


class DatasetUnavailable(RuntimeError):  # noqa: N818  (not a fault of the caller)
    """A data set cannot be had on this machine; the message gives the reason and the mend."""


@dataclass(frozen=True)
class DebianIndex:
    """The packages of one Debian release.

    Parameters
    ----------
    table : polars.DataFrame
        See `deb822.package_table`.
    release : str
        Code name, for instance "bookworm".
    notes : dict of str to str
        `release` (code name, suite, version), `date` of the release file, `architecture`, and the SHA-256
        sums of the Packages and Translation-en files.
    """

    table: pl.DataFrame
    release: str
    notes: dict[str, str]


@dataclass(frozen=True)
class _Release:
    packages: Path
    translations: Path | None
    codename: str
    notes: dict[str, str]


def load_index(cache_dir: Path | None = None, *, offline: bool = False) -> DebianIndex:
    """The index in `cache_dir`; fetched (about 16 MB) and parsed where there is none yet.

    Parameters
    ----------
    cache_dir : Path, optional
        Default: evenhand/debian in $XDG_CACHE_HOME or ~/.cache. What is there is used as it is; delete the
        folder to fetch the newest index.
    offline : bool
        Do not use the network.

    Returns
    -------
    DebianIndex

    Raises
    ------
    DatasetUnavailable
        If there is no index and none can be fetched, or the folder cannot be used.
    """
    folder = _default_folder() if cache_dir is None else Path(cache_dir).absolute()
    try:
        index = _read_kept(folder)
        if index is None:
            index = _parse(folder, _fetch(folder, offline))
            _keep(folder, index)
    except OSError as error:
        reason = f"The folder {folder} cannot be used ({error}); pass another cache_dir"
        raise _unavailable(reason) from error
    return index


def _default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    # By the XDG rules a relative path there is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "evenhand" / "debian"


def _apt(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    options = {
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::pkgcache": "",  # binary caches of 50 MB that only an installer needs
        "Dir::Cache::srcpkgcache": "",
        "Acquire::Languages": "en",
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": 20,
        "Acquire::https::Timeout": 20,
    }
    command = [program, "-c", str(folder / "apt.conf")]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=_FETCH_LIMIT_S,
        env=environment,
    )


def _fetch(folder: Path, offline: bool) -> _Release:
    if shutil.which("apt-get") is None or not Path(_APT_HELPER).exists():
        raise _unavailable("This machine has no apt, through which Debian's package index is fetched")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _replace(folder / "apt.conf", lambda path: path.write_text(_APT_CONF))
    trouble = "offline=True and no index was fetched before" if offline else _update(folder)
    release = _find_release(folder)
    if release is None:
        raise _unavailable(f"No Debian package index could be had ({trouble})")
    return release


def _update(folder: Path) -> str:
    """Fetch the index; what apt complained of, for the message in case there is no index afterwards.

    apt's exit status is no help: it is 0 where nothing could be fetched.
    """
    try:
        done = _apt(folder, "apt-get", "-q", "update")
    except subprocess.TimeoutExpired:
        return f"apt-get update took more than {_FETCH_LIMIT_S} s"
    # Other warnings, about a sandbox for instance, come first and tell nothing.
    telling = re.search(
        r"^(?:E: |W: (?=Failed to fetch))(.+)$", done.stderr.decode(errors="replace"), re.MULTILINE
    )
    return f"apt says: {' '.join(telling[1].split())}" if telling else "apt's sources name none"


def _find_release(folder: Path) -> _Release | None:
    """Files of Debian's main component, native architecture; the release itself, not its updates."""
    native = (
        _apt(folder, "apt-config", "dump", "--format", "%v%n", "APT::Architecture").stdout.decode().strip()
    )
    layout = "\t".join(f"$({name})" for name in _TARGET_FIELDS)
    listing = _apt(folder, "apt-get", "indextargets", "--format", layout, "Origin: Debian", "Component: main")
    targets = [dict(zip(_TARGET_FIELDS, line.split("\t"))) for line in listing.stdout.decode().splitlines()]
    for target in targets:
        # "bookworm-updates" and "bookworm-security" hold only what changed since.
        of_release = target["ARCHITECTURE"] == native and "-" not in target["CODENAME"]
        if target["CREATED_BY"] == "Packages" and of_release:
            break
    else:
        return None
    translations = [
        Path(other["FILENAME"])
        for other in targets
        if (other["CREATED_BY"], other["LANGUAGE"]) == ("Translations", "en")
        and other["BASE_URI"] == target["BASE_URI"]
    ]
    notes = {
        "release": f"{target['CODENAME']} ({target['SUITE']}), version {target['VERSION']}",
        "architecture": native,
    }
    return _Release(
        Path(target["FILENAME"]), translations[0] if translations else None, target["CODENAME"], notes
    )


def _parse(folder: Path, release: _Release) -> DebianIndex:
    packages = _cat(folder, release.packages)
    translations = _cat(folder, release.translations) if release.translations else b""
    table = package_table(packages.decode(), translations.decode(), place=release.packages.name)
    notes = {
        **release.notes,
        "date": _release_date(release.packages),
        "packages_sha256": hashlib.sha256(packages).hexdigest(),
        "translation_sha256": hashlib.sha256(translations).hexdigest() if translations else "none",
    }
    return DebianIndex(table, release.codename, notes)


def _cat(folder: Path, path: Path) -> bytes:
    done = _apt(folder, _APT_HELPER, "cat-file", str(path))
    if done.returncode:
        raise _unavailable(
            f"{path} cannot be read (apt-helper: {done.stderr.decode(errors='replace').strip()})"
        )
    return done.stdout


def _release_date(packages: Path) -> str:
    """Date of the release file beside a Packages file (InRelease, or Release where it is not signed)."""
    stem = packages.name.split("_main_binary-")[0]
    for path in (packages.with_name(f"{stem}_InRelease"), packages.with_name(f"{stem}_Release")):
        if path.exists() and (date := re.search(r"^Date: (.+)$", path.read_text(), re.MULTILINE)):
            return date[1]
    return "unknown"


def _read_kept(folder: Path) -> DebianIndex | None:
    pointer = folder / "index.json"
    if not pointer.exists():
        return None
    try:
        kept = json.loads(pointer.read_text())
        if kept["format"] != _FORMAT:
            return None
        table = pl.read_parquet(folder / kept["table"]).select(*COLUMNS)
        return DebianIndex(table, kept["release"], kept["notes"])
    except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
        raise _unavailable(
            f"The index kept in {folder} is damaged ({error!r}); delete that folder"
        ) from error


def _keep(folder: Path, index: DebianIndex) -> None:
    """The table under a name of its own first, the pointer last: a reader never sees half of it."""
    table = f"packages-{index.notes['packages_sha256'][:16]}.parquet"
    _replace(folder / table, lambda path: index.table.write_parquet(path))
    kept = {"format": _FORMAT, "table": table, "release": index.release, "notes": index.notes}
    _replace(folder / "index.json", lambda path: path.write_text(json.dumps(kept, indent=1)))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _unavailable(reason: str) -> DatasetUnavailable:
    return DatasetUnavailable(f"{reason}. Where no real data can be had, use datasets.make_long_tail()")
