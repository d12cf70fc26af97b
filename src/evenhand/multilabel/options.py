"""Checks of an estimator's options; each message names the option and what it may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Refuse what is none of the known names.

    Raises
    ------
    ValueError
    """
    if value not in known:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")


def check_number(name: str, value: Any, *, above_zero: bool) -> None:
    """Refuse what is no finite number of at least 0, or above it.

    Raises
    ------
    ValueError
    """
    try:
        sound = isinstance(value, Real) and 0 <= float(value) < math.inf
    except OverflowError:  # a whole number that no float holds
        sound = False
    if not sound or (above_zero and value == 0):
        bound = "above 0" if above_zero else "of at least 0"
        raise ValueError(f"{name} must be a finite number {bound}, not {value!r}")


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises
    ------
    ValueError
    """
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def check_seed(value: Any) -> None:
    """Refuse what is no ``random_state`` for all the generators that it seeds.

    Raises
    ------
    ValueError
    """
    if not isinstance(value, Integral) or not 0 <= int(value) < 1 << 32:
        raise ValueError(
            f"random_state must be a whole number of at least 0 and at most {(1 << 32) - 1}, not {value!r}"
        )


def check_real(what: str, value: Any) -> None:
    """Refuse numbers that are not real, or that NumPy does not hold.

    Parameters
    ----------
    what : str
        What the value is, with its verb.
    value : Any

    Raises
    ------
    ValueError
    """
    dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
    if dtype == "bfloat16":
        raise ValueError(
            f"{what} bfloat16, which NumPy does not hold; turn it into float32, in torch by .float()"
        )
    if dtype.startswith("complex"):
        raise ValueError(f"Complex data not supported: {what} {dtype}; give real numbers")


def check_n_jobs(value: Any) -> None:
    """Refuse what scikit-learn would not take as ``n_jobs``.

    Raises
    ------
    ValueError
    """
    if value is not None and (not isinstance(value, Integral) or value == 0):
        raise ValueError(f"n_jobs must be a whole number, -1 for all cores, or None, not {value!r}")


def check_n_players(value: Any) -> None:
    """Refuse what is no number of players.

    Raises
    ------
    ValueError
    """
    if value is not None and (not isinstance(value, Integral) or value < 1):
        raise ValueError(f"n_players must be a whole number of at least 1, or None, not {value!r}")


def check_folder_name(name: str, value: Any) -> None:
    """Refuse what cannot be the name of a folder.

    Raises
    ------
    ValueError
    """
    if value is not None and not (isinstance(value, str) and value):
        raise ValueError(f"{name} must be the name of a folder, or None, not {value!r}")


def check_device(value: Any) -> None:
    """Refuse a device that torch does not know, or that this machine does not have.

    Raises
    ------
    ValueError
    """
    import torch  # the other options are checked without it

    try:
        torch.empty(0, device=value)
    except Exception as error:  # each kind of device has errors of its own
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device is {value!r}, which torch cannot use here ({reason}); give 'cpu', or 'cuda', 'cuda:1' or"
            " 'mps' where the machine has one"
        ) from error
