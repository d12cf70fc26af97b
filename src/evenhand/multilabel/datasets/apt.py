"""The machine's own apt, run without root in a folder of ours: its sources, its keys, its checks of sums."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from evenhand.files import replace_file

APT_HELPER = "/usr/lib/apt/apt-helper"

_UPDATE_LIMIT_S = 600
_DOWNLOAD_LIMIT_S = 3600
# The machine's own hooks clean its caches and wake its services: not for a private fetch.
_HOOKS = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")
_APT_CONF = "".join(f"#clear APT::Update::{hook};\n" for hook in _HOOKS)


class DatasetUnavailable(RuntimeError):  # noqa: N818  (not a fault of the caller)
    """A data set cannot be had on this machine; the message gives the reason and the mend."""


def unavailable(reason: str) -> DatasetUnavailable:
    """The error with this reason, and where to turn without real data."""
    return DatasetUnavailable(f"{reason}. Where no real data can be had, use datasets.make_long_tail()")


def cache_folder(cache_dir: Path | None, name: str) -> Path:
    """`cache_dir`, or evenhand/`name` in the user's cache."""
    if cache_dir is not None:
        return Path(cache_dir).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # By the XDG rules a relative path there is to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "evenhand" / name


def prepare_apt(folder: Path, purpose: str) -> None:
    """Make the places that apt writes to; `purpose` is what cannot be had without apt, for the message."""
    if shutil.which("apt-get") is None or not Path(APT_HELPER).exists():
        raise unavailable(f"This machine has no apt, through which {purpose} is fetched")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    replace_file(folder / "apt.conf", lambda path: path.write_text(_APT_CONF))


def run_apt(
    folder: Path, program: str, *arguments: str, limit_s: float = _UPDATE_LIMIT_S
) -> subprocess.CompletedProcess[bytes]:
    """Run a program of apt's in a prepared folder, which is its working folder too."""
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
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        timeout=limit_s,
        env={**os.environ, "LC_ALL": "C"},
    )


def update_lists(folder: Path) -> str | None:
    """Fetch the lists of packages; what apt complained of, for the message in case something is missing then.

    apt's exit status is no help: it is 0 where nothing could be fetched.
    """
    try:
        done = run_apt(folder, "apt-get", "-q", "update")
    except subprocess.TimeoutExpired:
        return f"apt-get update took more than {_UPDATE_LIMIT_S} s"
    return _complaint(done)


def download_package(folder: Path, package: str) -> Path:
    """Fetch the newest version of a package that apt's sources name into a prepared folder.

    apt compares the file with the SHA-256 of the signed index.
    """
    complaint = update_lists(folder)
    try:
        done = run_apt(folder, "apt-get", "-q", "download", package, limit_s=_DOWNLOAD_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise unavailable(
            f"The package {package} was not there after {_DOWNLOAD_LIMIT_S} s; use a faster line"
        ) from None
    found = sorted(folder.glob(f"{package}_*.deb"))
    if done.returncode or not found:
        told = "; ".join(text for text in (complaint, _complaint(done)) if text) or "apt gives no reason"
        raise unavailable(
            f"The package {package} could not be had ({told}); it needs a network and apt sources with"
            " Debian's component main"
        )
    return found[0]


def _complaint(done: subprocess.CompletedProcess[bytes]) -> str | None:
    # Other warnings, about a sandbox for instance, come first and tell nothing.
    telling = re.search(
        r"^(?:E: |W: (?=Failed to fetch))(.+)$", done.stderr.decode(errors="replace"), re.MULTILINE
    )
    return f"apt says: {' '.join(telling[1].split())}" if telling else None
