"""`evenhand multilabel train`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs

from evenhand.multilabel.commands.shared import read_data, reading_note, show_rounds
from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.embedding import TextEmbedder, model_folder
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.model_io import Model, save_model
from evenhand.multilabel.neural.encoders import PretrainedText
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.neural.processes import processes
from evenhand.multilabel.options import check_n_jobs
from evenhand.multilabel.splitting import group_split
from evenhand.multilabel.text_views import TextViews
from evenhand.multilabel.views import Views
from evenhand.terminal import as_cell, say, show_table, tell, waiting

_MOST_BYTES = 1 << 30
_GAME_ONLY = ("players", "own_share", "payoff", "rounds", "n_folds")
_NOT_NEURAL = ("players", "C", "rounds", "n_folds")
_FINE_TUNING = 2e-5  # learning rate of a pretrained encoder

TEXT_PRUNE = 0.01
"""Smaller weights are dropped from models of texts, whose TF-IDF rows have length 1; see `prune`."""


_IN_THE_SHELL = {"n_folds": "--folds", "random_state": "--seed", "n_jobs": "--jobs"}
"""Options of the classifiers that the shell calls by another name."""


def _option(name: str) -> str:
    return _IN_THE_SHELL.get(name, f"--{name.replace('_', '-')}")


@contextmanager
def _telling_options() -> Iterator[None]:
    """What is wrong with an option is told by its name in the shell."""
    try:
        yield
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        if name in _IN_THE_SHELL:
            raise ValueError(f"{_option(name)} {rest}") from error
        raise


@_telling_options()
def train_model(
    path: Path,
    out: Path,
    reading: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    method: str,
    texts: Mapping[str, Any],
    neural: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Train on a file and save the model.

    Parameters
    ----------
    path, out : Path
        The data, and the model's folder.
    method : {"auto", "game", "trees", "neural"}
        "auto": label trees where the team's scores of all training instances would take more than a GiB.
    reading : mapping
        Options of the reader.
    options : mapping
        Options of the classifier; None where they were not given.
    texts : mapping
        Options of views of texts: ``views``, parted by commas, and ``embedding_model``, both None where they
        were not given, and ``min_df``.
    neural : mapping
        Options of neural players alone, None where they were not given: ``encoder`` and ``epochs``.
    overwrite : bool
        A model in `out` may be replaced.

    Raises
    ------
    ValueError
        If an option or the data are wrong, or `out` is taken.
    """
    partial = out.with_name(f"{out.name}.partial")
    given = {name: value for name, value in options.items() if value is not None}
    if method == "neural" and reading.get("group") is not None:
        raise ValueError("neural players know no groups; leave --group out, or give --method game")
    network = _neural_classifier(given, neural, partial) if method == "neural" else None
    if network is None:
        if strange := [name for name, value in neural.items() if value is not None]:
            raise ValueError(f"--{strange[0]} is for neural players; leave it out, or give --method neural")
        CuriosityGameClassifier(**given).check_options()
    check_place(out, overwrite)
    started = time.perf_counter()
    with waiting(f"Reading {path}"):
        data = read_data(path, reading)
    if method == "auto":
        method = "trees" if data.n_instances * data.n_labels * 4 > _MOST_BYTES else "game"
    notes = {"reading": reading_note({**reading, **_counting_of(data)})}
    try:
        if network is not None:
            model = fit_model(network, data, _neural_views(network, data, texts), notes)
        elif method == "trees":
            model = fit_trees(data, _text_views(data, texts, "words"), given, notes, partial)
        else:
            classifier = CuriosityGameClassifier(**given, checkpoint=str(partial), verbose=True)
            text_views = _text_views(data, texts, "words,word_pairs,characters")
            if text_views is not None:
                _check_players(given.get("players", ()), text_views)
                classifier.set_params(prune=TEXT_PRUNE)
            model = fit_model(classifier, data, text_views, notes)
    except KeyboardInterrupt:
        say(f"Stopped. The same command takes the training up again; what is done so far is in {partial}.")
        raise
    save_model(model, out)
    shutil.rmtree(partial, ignore_errors=True)
    _show(model, data, time.perf_counter() - started)
    tell(f"Saved in {out}. Next:\n  evenhand multilabel evaluate {out} TEST_DATA")


def _counting_of(data: MultilabelData) -> dict[str, bool]:
    """How svmlight's features were counted; a small test file may not tell."""
    found = data.notes.get("zero_based")
    return {} if found is None else {"zero_based": found == "yes"}


def fit_model(
    classifier: CuriosityGameClassifier | NeuralGameClassifier,
    data: MultilabelData,
    text_views: TextViews | None,
    notes: Mapping[str, str],
) -> Model:
    """A model of the data, with its labels by name.

    Parameters
    ----------
    classifier : CuriosityGameClassifier or NeuralGameClassifier
        Not fitted.
    data : MultilabelData
    text_views : TextViews, optional
        Not fitted; for texts.
    notes : mapping of str to str

    Returns
    -------
    Model
    """
    X = data.X if text_views is None else _viewed(data, text_views)
    if isinstance(classifier, CuriosityGameClassifier):
        classifier.fit(Views.of(X), data.Y, groups=data.groups)
    else:
        classifier.fit(X, data.Y)
    classifier.classes_ = np.array(data.label_names, dtype=object)
    return Model(classifier, text_views, {"data": data.source, **notes})


def _neural_classifier(
    options: Mapping[str, Any], neural: Mapping[str, Any], partial: Path
) -> NeuralGameClassifier:
    """Neural players by the options of the shell, checked; torch is given its threads."""
    if strange := [name for name in _NOT_NEURAL if name in options]:
        raise ValueError(f"neural players have no {_option(strange[0])}; leave it out, or give --method game")
    given = dict(options)
    n_jobs = given.pop("n_jobs", -1)
    check_n_jobs(n_jobs)
    if neural["epochs"] is not None:
        given["epochs"] = neural["epochs"]
    if neural["encoder"] is not None:
        given["encoders"] = PretrainedText(str(model_folder(neural["encoder"])))
        given["encoder_learning_rate"] = _FINE_TUNING
    classifier = NeuralGameClassifier(**given, checkpoint=str(partial), verbose=True)
    classifier.check_options()
    processes()  # says what is missing before the data are read
    if n_jobs != -1:  # else torch takes as many threads as it sees fit
        torch.set_num_threads(effective_n_jobs(n_jobs))
    return classifier


def fit_trees(
    data: MultilabelData,
    text_views: TextViews | None,
    options: Mapping[str, Any],
    notes: Mapping[str, str],
    partial: Path,
) -> Model:
    """Label trees for the data: thresholds from trees that a tenth was kept from, then trees of all.

    Parameters
    ----------
    data : MultilabelData
    text_views : TextViews, optional
        Not fitted; for texts.
    options : mapping
        Of the classifier.
    notes : mapping of str to str
    partial : Path
        Folder for the checkpoints of both trainings.

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        If an option belongs to the game without trees.
    """
    if strange := [name for name in _GAME_ONLY if name in options]:
        raise ValueError(f"label trees have no {_option(strange[0])}; leave it out, or give --method game")
    classifier = ExtremeGameClassifier(**options, verbose=True)
    classifier.check_options()
    if text_views is None:
        classifier.set_params(prune=0.0)  # whose size suits rows of length 1, as those of texts are
    views = Views.of(data.X) if text_views is None else _viewed(data, text_views)
    groups = np.arange(data.n_instances) if data.groups is None else data.groups
    parts = group_split(groups, {"train": 0.9, "held out": 0.1}, seed=classifier.random_state)
    rows, unseen = parts["train"], parts["held out"]
    say("Learning thresholds: label trees of nine tenths of the instances, measured on the last.")
    classifier.set_params(checkpoint=str(partial / "nine-tenths"))
    classifier.fit(views[rows], data.Y[rows]).fit_decoders(views[unseen], data.Y[unseen])
    decoders = classifier.decoders_
    say("Learning label trees of all instances.")
    classifier.set_params(checkpoint=str(partial / "all")).fit(views, data.Y)
    classifier.decoders_ = decoders
    classifier.classes_ = np.array(data.label_names, dtype=object)
    return Model(classifier, text_views, {"data": data.source, **notes})


def parse_players(given: str | None) -> list[tuple[str, str]] | None:
    """Players as the shell names them: views, each with its kind behind a colon where that is not linear.

    Parameters
    ----------
    given : str, optional

    Returns
    -------
    list of (view, kind), or None

    Examples
    --------
    >>> parse_players("words,embedding:neighbours")
    [('words', 'linear'), ('embedding', 'neighbours')]
    """
    if given is None:
        return None
    parts = [one.partition(":") for one in given.split(",")]
    return [(view.strip(), kind.strip() or "linear") for view, _, kind in parts]


def _check_players(players: Sequence[tuple[str, str]], text_views: TextViews) -> None:
    """Refuse players of views that there will not be, before the views are made."""
    if strange := [view for view, _ in players if view not in text_views.views]:
        raise ValueError(
            f"--players names the view {strange[0]!r}, but the views are {', '.join(text_views.views)};"
            " name it in --views too"
        )


def _text_views(data: MultilabelData, options: Mapping[str, Any], usual: str) -> TextViews | None:
    chosen, model = options["views"], options["embedding_model"]
    if data.kind != "text":
        for name in ("views", "embedding_model"):
            if options[name] is not None:
                raise ValueError(f"{data.source} holds features, not texts; leave {_option(name)} out")
        return None
    names = tuple(name.strip() for name in (chosen or usual).split(","))
    embedder = None
    if "embedding" in names:
        embedder = TextEmbedder(verbose=True) if model is None else TextEmbedder(model, verbose=True)
    elif model is not None:
        raise ValueError("--embedding-model is for the view embedding; add that to --views")
    return TextViews(names, min_df=options["min_df"], embedder=embedder)


def _neural_views(
    network: NeuralGameClassifier, data: MultilabelData, options: Mapping[str, Any]
) -> TextViews | None:
    """Views of texts, unless an encoder reads the texts themselves."""
    if network.encoders is None:
        return _text_views(data, options, "words")
    for name in ("views", "embedding_model"):
        if options[name] is not None:
            raise ValueError(f"--encoder reads the texts as they are; leave {_option(name)} out")
    return None


def _viewed(data: MultilabelData, text_views: TextViews) -> Views:
    """The views of the texts that are learned from."""
    if text_views.embedder is not None:  # shows a bar of its own
        return text_views.fit_transform(data.X)
    with waiting("Making views of the texts"):
        return text_views.fit_transform(data.X)


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
