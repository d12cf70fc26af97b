"""λ, and what look-ahead keeps of the last update, as files in a checkpoint's folder."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from evenhand.files import replace_file
from evenhand.grpo.look_ahead import LookAhead
from evenhand.grpo.preference import LearnablePreference

STATE_FILE = "lambda_state.json"
UPDATE_FILE = "look_ahead.safetensors"


def write_state(preference: LearnablePreference, folder: str | Path) -> None:
    """Write λ as `lambda_state.json` into a checkpoint's folder, whole or not at all.

    Parameters
    ----------
    preference : LearnablePreference
        Between steps.
    folder : str or Path
        Must exist.

    Raises
    ------
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_state(LearnablePreference(start=0.5), folder)
    ...     resumed = LearnablePreference()
    ...     read_state(resumed, folder, mend="")
    >>> resumed.value
    tensor(0.5000)
    """
    text = json.dumps(preference.state_dict())
    replace_file(Path(folder, STATE_FILE), lambda path: path.write_text(text, encoding="utf-8"))


def read_state(preference: LearnablePreference, folder: str | Path, *, mend: str) -> None:
    """Give λ the value that `write_state` left in a checkpoint's folder.

    Parameters
    ----------
    preference : LearnablePreference
        Of the form and bounds that were saved.
    folder : str or Path
    mend : str
        What to do where there is no such file; the end of the message.

    Raises
    ------
    ValueError
        The file is missing, no JSON, or no state of λ of this form and bounds; names it.
    OSError
        It cannot be read.
    """
    path = Path(folder, STATE_FILE)
    if not path.is_file():
        raise ValueError(f"{path} is missing: {mend}")
    try:
        preference.load_state_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def write_last_update(look_ahead: LookAhead, folder: str | Path) -> None:
    """Write look-ahead's ∂Δθ/∂λ as `look_ahead.safetensors` into a checkpoint's folder, whole or not at all.

    Parameters
    ----------
    look_ahead : LookAhead
        Between steps.
    folder : str or Path
        Must exist.

    Raises
    ------
    OSError, SafetensorError
        The file cannot be written.
    """
    slopes = {name: slope.contiguous() for name, slope in look_ahead.state_dict().items()}
    replace_file(Path(folder, UPDATE_FILE), lambda path: save_file(slopes, path))


def read_last_update(look_ahead: LookAhead, folder: str | Path, *, mend: str) -> None:
    """Give look-ahead what `write_last_update` left in a checkpoint's folder.

    Parameters
    ----------
    look_ahead : LookAhead
        Of the parameters that were saved.
    folder : str or Path
    mend : str
        What to do where there is no such file; the end of the message.

    Raises
    ------
    ValueError
        The file is missing, damaged, or of other parameters; names it.
    OSError
        It cannot be read.
    """
    path = Path(folder, UPDATE_FILE)
    if not path.is_file():
        raise ValueError(f"{path} is missing: {mend}")
    try:
        look_ahead.load_state_dict(load_file(path))
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from error
