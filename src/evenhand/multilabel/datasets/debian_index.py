"""Debian's package index: fetched with the machine's apt into a private folder, parsed once, kept there."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from evenhand.multilabel.datasets.apt import (
    APT_HELPER,
    cache_folder,
    prepare_apt,
    run_apt,
    unavailable,
    update_lists,
)
from evenhand.multilabel.datasets.deb822 import COLUMNS, package_table
from evenhand.multilabel.datasets.kept import keep, read_kept

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
    folder = cache_folder(cache_dir, "debian")
    try:
        pointer = folder / "index.json"
        if kept := read_kept(pointer, COLUMNS, ("release", "notes")):
            return DebianIndex(kept[0], *kept[1])
        index = _parse(folder, _fetch(folder, offline))
        name = f"packages-{index.notes['packages_sha256'][:16]}.parquet"
        keep(pointer, name, index.table, {"release": index.release, "notes": index.notes})
    except OSError as error:
        reason = f"The folder {folder} cannot be used ({error}); pass another cache_dir"
        raise unavailable(reason) from error
    return index


def _fetch(folder: Path, offline: bool) -> _Release:
    prepare_apt(folder, "Debian's package index")
    if offline:
        trouble = "offline=True and no index was fetched before"
    else:
        trouble = update_lists(folder) or "apt's sources name none"
    release = _find_release(folder)
    if release is None:
        raise unavailable(f"No Debian package index could be had ({trouble})")
    return release


def _find_release(folder: Path) -> _Release | None:
    """Files of Debian's main component, native architecture; the release itself, not its updates."""
    native = (
        run_apt(folder, "apt-config", "dump", "--format", "%v%n", "APT::Architecture").stdout.decode().strip()
    )
    layout = "\t".join(f"$({name})" for name in _TARGET_FIELDS)
    listing = run_apt(
        folder, "apt-get", "indextargets", "--format", layout, "Origin: Debian", "Component: main"
    )
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
    done = run_apt(folder, APT_HELPER, "cat-file", str(path))
    if done.returncode:
        raise unavailable(
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
