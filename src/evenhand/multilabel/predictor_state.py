"""What every `LabelSetPredictor` keeps, as a state of numbers and arrays, and back; every part is checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar, get_args

import numpy as np

from evenhand.multilabel.decoding import PooledCalibration, decoders_from_states
from evenhand.multilabel.predictions import DecoderName, LabelSetPredictor
from evenhand.multilabel.storage import (
    FolderError,
    array_entry,
    check_size,
    entry,
    names_entry,
    names_state,
)

_Predictor = TypeVar("_Predictor", bound=LabelSetPredictor)


def predictor_state(model: LabelSetPredictor, left_out: Collection[str]) -> dict[str, Any]:
    """Options, labels, calibration and decoders of a fitted estimator.

    Parameters
    ----------
    model : LabelSetPredictor
        With ``views_`` and, where X was a DataFrame, ``feature_names_in_``.
    left_out : collection of str
        Options that say nothing about the model.

    Returns
    -------
    dict
    """
    params: dict[str, Any] = model.get_params(deep=False)
    names = getattr(model, "feature_names_in_", None)
    calibration = model.calibration_
    return {
        "params": {name: value for name, value in params.items() if name not in left_out},
        "classes": names_state(model.classes_),
        "label_counts": model.label_counts_.astype(np.int64),
        "held_out_f1": model.held_out_f1_,
        "n_train": int(model.n_train_),
        "sparse_labels": bool(model.sparse_labels_),
        "views": model.views_,
        "feature_names_in": None if names is None else names_state(names),
        "calibration": None if calibration is None else calibration.get_state(),
        "decoders": {name: decoder.get_state() for name, decoder in model.decoders_.items()},
    }


def new_predictor(kind: type[_Predictor], params: Mapping[str, Any], left_out: Collection[str]) -> _Predictor:
    """An estimator that is not fitted, its options checked.

    Parameters
    ----------
    kind : type
    params : mapping
        Those that a state has; the others have their defaults.
    left_out : collection of str
        As for `predictor_state`.

    Returns
    -------
    LabelSetPredictor

    Raises
    ------
    FolderError
        If there is no such option.
    ValueError
        If one is wrong.
    """
    known = set(kind().get_params()) - set(left_out)
    if unknown := sorted(params.keys() - known):
        raise FolderError(f"this release of evenhand knows no estimator parameter {', '.join(unknown)}")
    model = kind(**params)
    model.check_options()
    return model


def take_labels(model: LabelSetPredictor, state: Mapping[str, Any]) -> int:
    """Give an estimator what its state says of labels and training instances.

    Parameters
    ----------
    model : LabelSetPredictor
        Changed in place.
    state : mapping

    Returns
    -------
    int
        L.

    Raises
    ------
    FolderError
        If a part is missing or damaged.
    """
    counts = array_entry(state, "label_counts", ["int64"], (None,))
    if not len(counts) or (counts < 0).any():
        raise FolderError("the label counts must be numbers of at least 0; the file is damaged")
    model.label_counts_ = counts
    model.classes_ = names_entry(state, "classes", len(counts))
    model.held_out_f1_ = None
    if state.get("held_out_f1") is not None:
        model.held_out_f1_ = array_entry(state, "held_out_f1", ["float64"], (len(counts),))
    model.n_train_ = entry(state, "n_train", int)
    if model.n_train_ < max(1, int(counts.max())):
        raise FolderError("n_train is below 1 or a label's count; the file is damaged")
    model.sparse_labels_ = entry(state, "sparse_labels", bool)
    return len(counts)


def take_decisions(model: LabelSetPredictor, state: Mapping[str, Any]) -> None:
    """Give an estimator what its state says of calibration and decoders.

    Parameters
    ----------
    model : LabelSetPredictor
        With its labels; changed in place.
    state : mapping

    Raises
    ------
    FolderError
        If a part is missing, damaged, or for other labels.
    """
    n_labels = len(model.label_counts_)
    calibration = entry(state, "calibration", dict, type(None))
    model.calibration_ = None
    if calibration is not None:
        model.calibration_ = PooledCalibration.from_state(calibration)
        check_size("the calibration", len(model.calibration_.buckets_), n_labels)
    model.decoders_ = decoders_from_states(entry(state, "decoders", dict), get_args(DecoderName), n_labels)
