"""What the commands share: reading by options, and how figures are shown."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.model_io import Model
from evenhand.multilabel.readers import read, reader_of
from evenhand.multilabel.storage import FolderError
from evenhand.terminal import show_table

_COLUMNS: dict[str, Any] = {"text": ["text"], "tags": "tags"}
# What test files share with the training file.
_OF_THE_MODEL = {"text": list, "tags": str, "separator": str, "zero_based": bool}

_ROUND = {
    "round": "round",
    "potential": "potential Φ",
    "payoff": "payoff R",
    "rare_f1_bound": "Rare-F1 at least",
    "disagreement_rare": "d, rarest 10 %",
    "disagreement_head": "d, commonest 10 %",
    "seconds": "seconds",
}
_EPOCH = {
    "epoch": "epoch",
    "potential": "potential Φ",
    "payoff": "payoff R",
    "map": "mAP",
    "rare_f1_bound": "Rare-F1 at least",
    "disagreement_rare": "d, rarest 10 %",
    "disagreement_head": "d, commonest 10 %",
    "seconds": "seconds",
}


def read_data(
    path: Path, given: Mapping[str, Any], model: Model | None = None, *, labelled: bool = True
) -> MultilabelData:
    """Read a file with the options that the user gave, then those of the model's training, then the usual.

    Parameters
    ----------
    path : Path
    given : mapping
        Options of readers by name; None or an empty list is not given.
    model : Model, optional
        A model that the data are for.
    labelled : bool
        False: labels need not be there.

    Returns
    -------
    MultilabelData

    Raises
    ------
    DataError
        As `readers.read` does.
    """
    known = inspect.signature(reader_of(path)).parameters
    usual = dict(_COLUMNS)
    if model is not None:
        usual |= reading_of(model) | {"n_features": model.classifier.n_features_in_}
    if not labelled:
        usual |= {"tags": None, "y_path": None}
    options = {name: value for name, value in usual.items() if name in known}
    return read(path, **(options | {name: value for name, value in given.items() if value not in (None, [])}))


def reading_note(given: Mapping[str, Any]) -> str:
    """The options that `reading_of` finds again, as a note of a model."""
    return json.dumps({name: given[name] for name in _OF_THE_MODEL if given.get(name) not in (None, [])})


def reading_of(model: Model) -> dict[str, Any]:
    """How the training file of a model was read; nothing for a model that the shell did not train.

    Raises
    ------
    FolderError
        If the note is damaged.
    """
    try:
        found = json.loads(model.notes.get("reading", "{}"))
    except (ValueError, RecursionError) as error:
        raise FolderError(f"the model's note 'reading' is no sound JSON ({error}); train it again") from error
    if not isinstance(found, dict) or not all(
        name in _OF_THE_MODEL and _is_like(value, _OF_THE_MODEL[name]) for name, value in found.items()
    ):
        raise FolderError(f"the model's note 'reading' is damaged: {found!r:.80}; train it again")
    return found


def _is_like(value: Any, kind: type) -> bool:
    if isinstance(value, list):
        return kind is list and all(isinstance(one, str) for one in value)
    return isinstance(value, kind)


def check_decoder(model: Model, decoder: str | None) -> None:
    """Refuse a decoder that the model does not have.

    Raises
    ------
    ValueError
    """
    known = getattr(model.classifier, "decoders_", {})
    if decoder is not None and decoder not in known:
        mend = f"choose one of {', '.join(known)}" if known else "call fit_decoders before it is saved"
        raise ValueError(f"the model has no decoder {decoder!r}; {mend}")


def label_names(model: Model) -> list[str]:
    """The labels of a model as texts, which is what readers call them."""
    return [str(name) for name in model.classifier.classes_]


def show_rounds(model: Model) -> None:
    """Print the record of the game's rounds, or of the epochs of neural players."""
    if model.kind == "neural":
        rows = [[one.get(key) for key in _EPOCH] for one in model.classifier.history_]
        show_table("Epochs, on held-out instances", tuple(_EPOCH.values()), rows)
    elif model.kind == "game":
        seen = "out-of-fold" if model.classifier.n_folds else "on the training instances"
        rows = [[one.get(key) for key in _ROUND] for one in model.classifier.team_.history]
        show_table(f"Rounds, {seen}", tuple(_ROUND.values()), rows)


def per_cent(share: float) -> str:
    """A share as per cent; a dash for NaN."""
    return "–" if share != share else f"{100 * share:.1f}"
