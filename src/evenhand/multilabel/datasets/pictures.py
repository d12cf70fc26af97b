"""A seeded generator of small pictures with several objects and a long tail of kinds."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

_COLOURS = np.array([[220, 60, 50], [60, 180, 75], [60, 90, 220], [230, 190, 40], [190, 70, 200]])
_SHAPES = 4  # disc, square, cross, ring
_OBJECTS = 3  # at most
_STEEPEST = 10  # exponent: beyond, the rarest kinds' chances vanish beside the others'


def make_pictures(
    n_instances: int = 1000, *, size: int = 32, exponent: float = 1.0, seed: int = 0
) -> tuple[npt.NDArray[np.uint8], sparse.csr_array[Any]]:
    """Pictures of one to three coloured shapes; a label is a shape in a colour.

    Parameters
    ----------
    n_instances : int
    size : int
        Height and width in pixels; at least 16.
    exponent : float
        s, 0 to 10, in the kinds' chances ∝ rank(c)^(−s); 0 makes all equally frequent.
    seed : int
        The same arguments give the same pictures.

    Returns
    -------
    pictures : ndarray of uint8, shape (n, size, size, 3)
    labels : csr_array of float32 ones, shape (n, 20)
        Labels in the order of frequency.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> pictures, labels = make_pictures(100)
    >>> pictures.shape, labels.shape
    ((100, 32, 32, 3), (100, 20))
    """
    for name, value, least in (("n_instances", n_instances, 1), ("size", size, 16)):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    if not isinstance(exponent, Real) or not 0 <= exponent <= _STEEPEST:
        raise ValueError(f"exponent must lie between 0 and {_STEEPEST}, not {exponent!r}")
    rng = np.random.default_rng(seed)
    n_kinds = _SHAPES * len(_COLOURS)
    shape_of, colour_of = np.divmod(rng.permutation(n_kinds), len(_COLOURS))
    chances = np.arange(1, n_kinds + 1) ** -float(exponent)
    chances /= chances.sum()
    pictures = np.empty((n_instances, size, size, 3), np.uint8)
    labels = np.zeros((n_instances, n_kinds), np.float32)
    for row in range(n_instances):
        canvas = rng.normal(110, 25, (size, size, 3)) + rng.uniform(-40, 40, 3)
        kinds = rng.choice(n_kinds, rng.integers(1, _OBJECTS + 1), replace=False, p=chances)
        for kind in kinds:
            mask = _mask(shape_of[kind], size, rng)
            canvas[mask] = _COLOURS[colour_of[kind]] + rng.normal(0, 20, (mask.sum(), 3))
        pictures[row] = canvas.clip(0, 255)
        labels[row, kinds] = 1
    return pictures, sparse.csr_array(labels)


def _mask(shape: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Where a shape of random size and place covers the picture."""
    radius = rng.uniform(0.13, 0.22) * size
    y, x = np.indices((size, size)) - rng.uniform(radius, size - radius, 2)[:, None, None]
    if shape == 0:
        inside = x**2 + y**2 <= radius**2
    elif shape == 1:
        inside = np.maximum(abs(x), abs(y)) <= 0.85 * radius
    elif shape == 2:
        inside = (np.minimum(abs(x), abs(y)) <= 0.3 * radius) & (np.maximum(abs(x), abs(y)) <= radius)
    else:
        inside = (x**2 + y**2 <= radius**2) & (x**2 + y**2 >= (0.55 * radius) ** 2)
    mask: npt.NDArray[np.bool_] = inside
    return mask
