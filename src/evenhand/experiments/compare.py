"""Comparisons over seeds: differences that are paired by seed, with their intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats


def paired_interval(
    differences: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[float, float, float] | None:
    """Mean of paired differences and the ends of its interval by Student's t.

    Parameters
    ----------
    differences : array-like, shape (n,)
        One a seed.
    confidence : float
        In (0, 1).

    Returns
    -------
    tuple of float, or None
        Mean, low, high. None for fewer than two differences, which say nothing of their spread.

    Raises
    ------
    ValueError
        If a difference is not finite or there is more than one dimension.

    Examples
    --------
    >>> [round(x, 2) for x in paired_interval([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    given = np.asarray(differences, dtype=np.float64)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError(f"differences must be finite numbers in one dimension, not {differences!r}")
    if len(given) < 2:
        return None
    mean = float(given.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(given) - 1) * stats.sem(given))
    return mean, mean - half, mean + half


def show_interval(differences: npt.ArrayLike) -> str:
    """Mean and 95 % interval as text, with signs; the mean alone for one difference.

    Examples
    --------
    >>> show_interval([1.0, 2.0, 3.0]), show_interval([0.5])
    ('+2.0 [-0.5, +4.5]', '+0.5')
    """
    found = paired_interval(differences)
    if found is None:
        return f"{float(np.asarray(differences, np.float64).mean()):+.1f}"
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*found)
