"""Scores to label sets: thresholds, top-k, re-ranking, macro-F1; and scores to probabilities."""

from collections.abc import Sequence
from typing import TypeVar

from evenhand.multilabel.decoding.calibration import IsotonicCalibration, PlattCalibration
from evenhand.multilabel.decoding.macro_f1 import MacroF1, expected_macro_f1
from evenhand.multilabel.decoding.pooled import PooledCalibration
from evenhand.multilabel.decoding.reranking import PropensityReranking, TopK, rerank
from evenhand.multilabel.decoding.state import Calibration, Decoder, State
from evenhand.multilabel.decoding.thresholds import GlobalThreshold, LabelThresholds

__all__ = [
    "Calibration",
    "Decoder",
    "GlobalThreshold",
    "IsotonicCalibration",
    "LabelThresholds",
    "MacroF1",
    "PlattCalibration",
    "PooledCalibration",
    "PropensityReranking",
    "State",
    "TopK",
    "calibration_from_state",
    "decoder_from_state",
    "decoders_from_states",
    "expected_macro_f1",
    "rerank",
]

_Kind = TypeVar("_Kind")
_DECODERS: dict[str, type[Decoder]] = {
    kind.__name__: kind for kind in (GlobalThreshold, LabelThresholds, TopK, PropensityReranking, MacroF1)
}
_CALIBRATIONS: dict[str, type[Calibration]] = {
    kind.__name__: kind for kind in (PlattCalibration, IsotonicCalibration, PooledCalibration)
}


def decoder_from_state(state: State) -> Decoder:
    """The decoder whose state this is.

    Parameters
    ----------
    state : dict
        As returned by a decoder's `get_state`.

    Returns
    -------
    Decoder

    Raises
    ------
    ValueError
        If the kind is unknown or a field is missing or damaged.

    Examples
    --------
    >>> decoder_from_state(TopK(3).get_state())
    TopK(k=3)
    """
    return _class_of(state, _DECODERS).from_state(state)


def decoders_from_states(states: dict[str, State], names: Sequence[str], n_labels: int) -> dict[str, Decoder]:
    """The decoders of a model by name.

    Parameters
    ----------
    states : dict
        As returned by the decoders' `get_state`.
    names : sequence of str
        The decoders that there must be.
    n_labels : int
        Labels of the model.

    Returns
    -------
    dict of str to Decoder

    Raises
    ------
    ValueError
        If there are others, or one is damaged or for another number of labels.
    """
    if set(states) != set(names):
        raise ValueError(f"the decoders are {', '.join(states)}; {', '.join(names)} belong")
    decoders = {name: decoder_from_state(states[name]) for name in names}
    for name, decoder in decoders.items():
        thresholds = decoder.thresholds_ if isinstance(decoder, LabelThresholds) else None
        if thresholds is not None and len(thresholds) != n_labels:
            raise ValueError(
                f"decoder {name!r} is for {len(thresholds)} labels, but there are {n_labels};"
                " the file is damaged"
            )
    return decoders


def calibration_from_state(state: State) -> Calibration:
    """The calibration whose state this is.

    Parameters
    ----------
    state : dict
        As returned by a calibration's `get_state`.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        If the kind is unknown or a field is missing or damaged.
    """
    return _class_of(state, _CALIBRATIONS).from_state(state)


def _class_of(state: State, known: dict[str, type[_Kind]]) -> type[_Kind]:
    kind = state.get("kind")
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"state is of kind {kind!r}; known are {', '.join(known)}")
    return known[kind]
