"""λ as a file in a checkpoint's folder, the same for every trainer."""

from __future__ import annotations

import json
import os
from pathlib import Path

from evenhand.grpo.preference import LearnablePreference

STATE_FILE = "lambda_state.json"


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
    temporary = Path(folder, f".{STATE_FILE}.{os.getpid()}")
    temporary.write_text(json.dumps(preference.state_dict()), encoding="utf-8")
    temporary.replace(Path(folder, STATE_FILE))


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
        The file is missing, no JSON, or of another form or other bounds; names it.
    """
    path = Path(folder, STATE_FILE)
    if not path.is_file():
        raise ValueError(f"{path} is missing: {mend}")
    try:
        preference.load_state_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:  # a field of another type is damage too
        raise ValueError(f"{path}: {error}") from error
