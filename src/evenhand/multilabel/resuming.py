"""Folders of a training that can be interrupted: whose training it is, and what is left over of a kill."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evenhand import __version__
from evenhand.multilabel.storage import FolderError, Kind, entry, read_folder, write_folder
from evenhand.multilabel.views import Views

_FOLDER = Kind("evenhand checkpoint", 1, "checkpoint.json")
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


class ResumableFolder:
    """A folder for the finished pieces of one training, which only one process writes at a time.

    Parameters
    ----------
    folder : path-like
        New, empty, or of an earlier run of the same training.
    fingerprint : dict
        See `fingerprint`.

    Raises
    ------
    FolderError
        If the folder holds another training or something else; the message says what differs.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: dict[str, Any]) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not (self.folder.is_dir() and not any(self.folder.iterdir())):
            found = self._found()
            if differences := _differences(found, fingerprint):
                raise FolderError(
                    f"{self.folder} is the checkpoint of another training: {'; '.join(differences)}. Delete"
                    " the folder to start anew, or give another name"
                )
        else:
            write_folder(self.folder, _FOLDER, {"fingerprint": fingerprint})
        for left in self.folder.iterdir():
            if _UNFINISHED.fullmatch(left.name):  # of a run that was killed
                shutil.rmtree(left)

    def _found(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = entry(read_folder(self.folder, _FOLDER), "fingerprint", dict)
        except FolderError as error:
            raise FolderError(f"{error}; give a new folder or that of an earlier run") from error
        return found


def fingerprint(
    settings: Mapping[str, Any],
    views: Views,
    player_views: tuple[str, ...],
    arrays: Mapping[str, Any],
) -> dict[str, Any]:
    """All that the result of a training depends on.

    Parameters
    ----------
    settings : mapping
        Numbers and texts, or mappings of them; the number of threads is left out.
    views : Views
    player_views : tuple of str
        The view of each player.
    arrays : mapping of str to csr_array or ndarray
        The other data.

    Returns
    -------
    dict
        For JSON: ``settings`` as they are, ``data`` as SHA-256 by name, and the ``release``.
    """
    data = {f"view {name!r}": digest(block) for name, block in views.blocks.items()}
    return {
        "release": __version__,
        "settings": {
            **{name: settings[name] for name in settings if name != "n_jobs"},
            "players": list(player_views),
        },
        "data": data | {name: digest(part) for name, part in arrays.items()},
    }


def digest(part: Any) -> str:
    """The SHA-256 of an array's values, type and shape.

    Parameters
    ----------
    part : csr_array or ndarray

    Returns
    -------
    str
    """
    found = hashlib.sha256()
    pieces = (part,) if isinstance(part, np.ndarray) else (part.indptr, part.indices, part.data)
    for piece in pieces:
        found.update(f"{piece.dtype} {piece.shape} of {part.shape}".encode())
        found.update(np.ascontiguousarray(piece).data)
    return found.hexdigest()


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, in words."""
    said = []
    if found.get("release") != wanted["release"]:
        said.append(f"it was begun with evenhand {found.get('release')}, this is {wanted['release']}")
    old, new = _flat(found.get("settings")), _flat(wanted["settings"])
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    if changed:
        pairs = [f"{name} was {old.get(name)!r} and is {new.get(name)!r}" for name in changed]
        said.append(f"other settings ({', '.join(pairs)})")
    before, now = _flat(found.get("data")), wanted["data"]
    if names := [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]:
        said.append(f"other data ({', '.join(names)})")
    return said


def _flat(settings: Any) -> dict[str, Any]:
    """Settings in settings, as one mapping."""
    flat: dict[str, Any] = {}
    for name, value in settings.items() if isinstance(settings, dict) else ():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat
