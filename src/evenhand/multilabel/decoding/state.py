"""What decoders and calibrations share: their saved state, and checked input."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.exceptions import NotFittedError

from evenhand.multilabel.scores import Scores, as_scores

_FAR = float(np.finfo(np.float32).max)  # a score from here on is certain, and its square overflows

State: TypeAlias = "dict[str, npt.NDArray[Any] | float | int | str]"
"""Numbers and strings that JSON holds, arrays that safetensors holds; "kind" names the class."""


class Decoder(Protocol):
    """Scores to label sets."""

    def decode(self, scores: Any) -> sparse.csr_array[Any]:
        """Label sets of the instances: csr_array (n, L), all stored values 1."""

    def get_state(self) -> State:
        """What `from_state` needs to build an equal decoder."""

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A decoder equal to the one whose state this is."""


class Calibration(Protocol):
    """Decision scores to probabilities."""

    def fit(self, scores: Any, Y: Any) -> Self:
        """Learn from scores of instances that the model was not trained on."""

    def transform(self, scores: Any) -> Scores:
        """Probabilities, float32, in the form of the scores."""

    def get_state(self) -> State:
        """What `from_state` needs to build an equal calibration."""

    @classmethod
    def from_state(cls, state: State) -> Self:
        """A calibration equal to the one whose state this is."""


def array_of(state: State, name: str, *, size: int | None = None) -> npt.NDArray[np.float64]:
    """A one-dimensional array of finite numbers from a saved state.

    Parameters
    ----------
    state : dict
    name : str
        Its field.
    size : int, optional
        The length that it must have.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    ValueError
        If the field is missing or holds something else.
    """
    value = np.asarray(_field(state, name))
    right_size = value.ndim == 1 and size in (None, value.size)
    if value.dtype.kind not in "fiu" or not right_size or not np.isfinite(value).all():
        length = "" if size is None else f" {size}"
        raise ValueError(
            f"state field {name!r} must be a row of{length} finite numbers; the model is damaged"
        )
    return value.astype(np.float64)


def number_of(state: State, name: str) -> float:
    """A finite number from a saved state.

    Parameters
    ----------
    state : dict
    name : str
        Its field.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the field is missing or holds something else.
    """
    value = np.asarray(_field(state, name))
    if value.dtype.kind not in "fiu" or value.ndim != 0 or not np.isfinite(value):
        raise ValueError(f"state field {name!r} must be a finite number; the model is damaged")
    return float(value)


def _field(state: State, name: str) -> Any:
    if name not in state:
        raise ValueError(f"state has no field {name!r}, only {sorted(state)}; the model is damaged")
    return state[name]


def as_probabilities(probabilities: Any, *, n_labels: int | None = None) -> Scores:
    """Scores that are probabilities, checked.

    Parameters
    ----------
    probabilities : ndarray or sparse array, shape (n, L)
    n_labels : int, optional
        The number of labels that there must be.

    Returns
    -------
    ndarray or csr_array

    Raises
    ------
    ValueError
        If a value lies outside [0, 1], or `as_scores` refuses them.

    Examples
    --------
    >>> as_probabilities([[0.5, 2.0]])
    Traceback (most recent call last):
    ...
    ValueError: probabilities must lie in [0, 1], but reach from 0.5 to 2; calibrate the scores first
    """
    scores = as_scores(probabilities, n_labels=n_labels)
    values = scores.data if sparse.issparse(scores) else scores
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if low < 0 or high > 1:
        raise ValueError(
            f"probabilities must lie in [0, 1], but reach from {low:.6g} to {high:.6g}; "
            "calibrate the scores first"
        )
    return scores


def as_dense_scores(scores: Any, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Scores of all labels, checked: a calibration cannot be learnt from the best candidates only.

    Parameters
    ----------
    scores : ndarray, shape (n, L)
    shape : (int, int)
        The shape of the labels.

    Returns
    -------
    ndarray, float32 or float64
        Within the range of float32.

    Raises
    ------
    ValueError
        If the scores are sparse, or `as_scores` refuses them.
    """
    if sparse.issparse(scores):
        raise ValueError(
            "calibration is learnt from the scores of all labels; give a dense array (n, L), not a sparse one"
        )
    dense: npt.NDArray[Any] = np.asarray(as_scores(scores, shape=shape))
    if dense.dtype == np.float64 and max(dense.max(), -dense.min()) > _FAR:
        dense = np.clip(dense, -_FAR, _FAR)
    return dense


def require_fitted(owner: object, value: Any) -> None:
    """Refuse an object whose fitted value is still None.

    Parameters
    ----------
    owner : object
    value : Any
        One of its fitted attributes.

    Raises
    ------
    sklearn.exceptions.NotFittedError
    """
    if value is None:
        raise NotFittedError(f"{type(owner).__name__} is not fitted; call fit(scores, Y) first")


def as_strength(value: float, name: str) -> float:
    """A shrinkage or pull: a finite number of at least 0.

    Parameters
    ----------
    value : float
    name : str
        The argument's name, for the message.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If it is negative or not finite.

    Examples
    --------
    >>> as_strength(-1, "pull")
    Traceback (most recent call last):
    ...
    ValueError: pull must be a finite number of at least 0, not -1
    """
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, not {value}")
    return float(value)
