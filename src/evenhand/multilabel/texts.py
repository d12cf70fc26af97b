"""Texts as they are given: checked, and as an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def as_texts(X: Any) -> npt.NDArray[Any]:
    """Texts as a new array; None becomes the empty text.

    Parameters
    ----------
    X : sequence of str, or array of str, shape (n,) or (n, text columns)

    Returns
    -------
    ndarray of str, dtype object, shape (n, text columns)

    Raises
    ------
    ValueError
        If something is not a text; the message names row and column.
    """
    texts = np.array(X, dtype=object)
    if texts.ndim == 1:
        texts = texts[:, None]
    if texts.ndim != 2 or not texts.size:
        raise ValueError(
            "X must be a list of texts, or an array of texts (instances by text columns), and not empty"
        )
    for at, text in enumerate(texts.flat):
        if text is None:
            texts.flat[at] = ""
        elif not isinstance(text, str):
            row, column = divmod(at, texts.shape[1])
            raise ValueError(
                f"row {row}, text column {column} is {text!r}, not a text; turn it into one "
                "(no text: '' or None)"
            )
    return texts
