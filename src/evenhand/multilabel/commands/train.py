"""`evenhand multilabel train`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evenhand.multilabel.commands.shared import read_data, reading_note, show_rounds
from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.model_io import Model, save_model
from evenhand.multilabel.views import TextViews, Views
from evenhand.terminal import as_cell, say, show_table, tell, waiting

TEXT_PRUNE = 0.01
"""Smaller weights are dropped from models of texts, whose TF-IDF rows have length 1; see `prune`."""


def train_model(
    path: Path,
    out: Path,
    reading: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    views: str | None,
    min_df: int,
    overwrite: bool,
) -> None:
    """Train on a file and save the model.

    Parameters
    ----------
    path, out : Path
        The data, and the model's folder.
    reading, options : mapping
        Options of the reader and of the classifier.
    views : str, optional
        Views of texts, parted by commas.
    min_df : int
        As in `TextViews`.
    overwrite : bool
        A model in `out` may be replaced.

    Raises
    ------
    ValueError
        If an option or the data are wrong, or `out` is taken.
    """
    partial = out.with_name(f"{out.name}.partial")
    classifier = CuriosityGameClassifier(**options, checkpoint=str(partial), verbose=True)
    classifier.check_options()
    check_place(out, overwrite)
    started = time.perf_counter()
    with waiting(f"Reading {path}"):
        data = read_data(path, reading)
    text_views = _text_views(data, views, min_df)
    if text_views is not None:
        classifier.set_params(prune=TEXT_PRUNE)
    try:
        model = fit_model(classifier, data, text_views, {"reading": reading_note(reading)})
    except KeyboardInterrupt:
        say(f"Stopped. The same command takes the training up again; what is done so far is in {partial}.")
        raise
    save_model(model, out)
    shutil.rmtree(partial, ignore_errors=True)
    _show(model, data, time.perf_counter() - started)
    tell(f"Saved in {out}. Next:\n  evenhand multilabel evaluate {out} TEST_DATA")


def fit_model(
    classifier: CuriosityGameClassifier,
    data: MultilabelData,
    text_views: TextViews | None,
    notes: Mapping[str, str],
) -> Model:
    """A model of the data, with its labels by name.

    Parameters
    ----------
    classifier : CuriosityGameClassifier
        Not fitted.
    data : MultilabelData
    text_views : TextViews, optional
        Not fitted; for texts.
    notes : mapping of str to str

    Returns
    -------
    Model
    """
    X: Any = data.X
    if text_views is not None:
        with waiting("Making views of the texts"):
            X = text_views.fit_transform(data.X)
    classifier.fit(Views.of(X), data.Y, groups=data.groups)
    classifier.classes_ = np.array(data.label_names, dtype=object)
    return Model(classifier, text_views, {"data": data.source, **notes})


def _text_views(data: MultilabelData, views: str | None, min_df: int) -> TextViews | None:
    if data.kind == "text":
        names = ("words", "word_pairs", "characters") if views is None else tuple(views.split(","))
        return TextViews(names, min_df=min_df)
    if views is not None:
        raise ValueError(f"{data.source} holds features, not texts; leave --views out")
    return None


def check_place(out: Path, overwrite: bool) -> None:
    """Say before the training what would stop the saving after it.

    Parameters
    ----------
    out : Path
        The model's folder.
    overwrite : bool
        A model that is there may be replaced.

    Raises
    ------
    ValueError
        If the place is taken.
    """
    if not out.exists():
        return
    if not (out / "model.json").exists():
        raise ValueError(f"{out} exists and is no model; give another --out")
    if not overwrite:
        raise ValueError(f"{out} exists; give another --out, or --overwrite to replace that model")


def _show(model: Model, data: MultilabelData, seconds: float) -> None:
    classifier = model.classifier
    counts = classifier.label_counts_
    sizes = ", ".join(f"{name} ({as_cell(n)} features)" for name, n in classifier.views_.items())
    rows = [
        ("instances", as_cell(data.n_instances)),
        ("labels", as_cell(data.n_labels)),
        ("positives of a label", f"{counts.min():,} to {counts.max():,}, median {int(np.median(counts)):,}"),
        ("views", sizes),
        ("seconds", f"{seconds:.1f}"),
    ]
    show_table("Model", ("", ""), rows)
    show_rounds(model)
