"""`evenhand multilabel predict`."""

from __future__ import annotations

import csv
import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from evenhand.files import replacing
from evenhand.multilabel.commands.shared import check_decoder, label_names, read_data, reading_of
from evenhand.multilabel.data import DataError
from evenhand.multilabel.decoding import MacroF1
from evenhand.multilabel.extreme.players import NAMED
from evenhand.multilabel.model_io import Model, load_model
from evenhand.multilabel.progress import progress_bar
from evenhand.strict_json import each_once

_ROWS = 1024
_CHUNK_VALUES = 1 << 26  # probabilities at a time
_STDIN = "standard input"


class Batch(NamedTuple):
    """Some instances: their names, and their features or texts."""

    ids: list[str]
    X: Any


class Prediction(NamedTuple):
    """One instance with its labels, most probable first."""

    id: str
    labels: list[str]
    probabilities: list[float]


def predict_labels(
    folder: Path,
    data: str,
    reading: Mapping[str, Any],
    *,
    top_k: int | None,
    decoder: str | None,
    form: str,
    separator: str | None,
    out: Path | None,
) -> None:
    """Predict the labels of a file's instances, or of texts from the standard input.

    Parameters
    ----------
    folder : Path
        The model.
    data : str
        A file, or "-".
    reading : mapping
        Options of the reader.
    top_k : int, optional
        Labels of each instance.
    decoder : str, optional
        Label sets instead.
    form : {"jsonl", "csv"}
    separator : str, optional
        Between labels in CSV; a comma by default.
    out : Path, optional
        Instead of the standard output; appears when it is complete.

    Raises
    ------
    ValueError
        If the data do not fit the model or an option is wrong.
    """
    if top_k is not None and decoder is not None:
        raise ValueError("--top-k and --decoder are two ways to choose labels; give one")
    if top_k is not None and top_k < 1:
        raise ValueError(f"--top-k is {top_k}; it must be at least 1")
    if separator is not None and form != "csv":
        raise ValueError("--separator stands between labels in CSV; leave it out, or give --format csv")
    separator = "," if separator is None else separator
    model = load_model(folder)
    check_decoder(model, decoder)
    labels = label_names(model)
    # macro-F1 weighs all instances against each other, so they stay together.
    together = decoder is not None and isinstance(model.classifier.decoders_[decoder], MacroF1)
    size = sys.maxsize if together else max(1, min(_ROWS, _CHUNK_VALUES // len(labels)))
    batches, total = _batches(model, data, reading, size)
    if form == "csv":
        _check_separator(separator, labels)
    # On one screen, a bar and the answers would run into each other.
    show = out is not None or not sys.stdout.isatty()
    with (
        replacing(out) if out is not None else nullcontext(sys.stdout) as file,
        progress_bar(show, "instances") as report,
    ):
        done = 0
        if form == "csv":
            file.write(_csv_line(Prediction._fields))
        for batch in batches:
            chosen = _top_k(model, batch, top_k or 5) if decoder is None else _sets(model, batch, decoder)
            for one in _predictions(batch.ids, chosen, labels):
                file.write(_json_line(one) if form == "jsonl" else _csv_row(one, separator))
            file.flush()
            done += len(batch.ids)
            if report is not None:
                report("predicting", done, total or done)


def _batches(
    model: Model, data: str, reading: Mapping[str, Any], size: int
) -> tuple[Iterator[Batch], int | None]:
    """Instances in batches, and how many there are where that is known."""
    if data == "-":
        return _from_lines(sys.stdin, model, reading, size), None
    found = read_data(Path(data), reading, model, labelled=False)
    n = found.n_instances
    ends = [(start, min(start + size, n)) for start in range(0, n, size)]
    return (Batch(list(found.instance_ids[start:stop]), found.X[start:stop]) for start, stop in ends), n


def _from_lines(lines: Iterable[str], model: Model, reading: Mapping[str, Any], size: int) -> Iterator[Batch]:
    """Texts from the standard input as they come."""
    if not model.reads_texts:
        raise ValueError("the model was trained on features, not on texts; give a file instead of -")
    columns = reading.get("text") or reading_of(model).get("text") or ["text"]
    if model.text_views is not None and len(columns) != model.text_views.n_columns_:
        raise ValueError(
            f"the model reads {model.text_views.n_columns_} text columns, not {len(columns)};"
            " name them by --text"
        )
    numbered = _numbered(lines)
    first = next(numbered, None)
    if first is None:
        raise ValueError(f"{_STDIN} is empty; send one text a line, or JSON lines")
    is_json = first[1].lstrip().startswith("{")
    if not is_json and len(columns) > 1:
        raise DataError(
            f"{_STDIN}:1: not a JSON object; the model reads the columns {', '.join(columns)}:"
            " send JSON lines"
        )
    numbered = itertools.chain([first], numbered)
    while rows := list(itertools.islice(numbered, size)):
        if is_json:
            parsed = [_from_json(number, line, columns, reading.get("id")) for number, line in rows]
        else:
            parsed = [(str(number), [line.rstrip("\r\n")]) for number, line in rows]
        yield Batch([name for name, _ in parsed], np.array([texts for _, texts in parsed], dtype=object))


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    number = -1
    try:
        for number, line in enumerate(lines):
            yield number, line
    except UnicodeDecodeError as error:  # lines are decoded some at a time
        raise DataError(
            f"{_STDIN}: not UTF-8 text ({error.reason}) after line {number + 1}; convert it"
        ) from error


def _from_json(number: int, line: str, columns: list[str], id_field: str | None) -> tuple[str, list[str]]:
    place = f"{_STDIN}:{number + 1}: "
    try:
        row = json.loads(line, object_pairs_hook=each_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}not sound JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}not a JSON object; write one {{...}} a line")
    for name in [*columns, *([] if id_field is None else [id_field])]:
        if name not in row:
            raise DataError(f"{place}no field {name!r}; the fields are {', '.join(map(repr, row))}")
    texts = ["" if row[name] is None else row[name] for name in columns]
    for name, text in zip(columns, texts):
        if not isinstance(text, str):
            raise DataError(f"{place}field {name!r} is {json.dumps(text)[:60]}, not a text")
    if id_field is None:
        return str(number), texts
    name = row[id_field]
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise DataError(f"{place}field {id_field!r} is {json.dumps(name)[:60]}, not a text or a whole number")
    return str(name), texts


def _top_k(model: Model, batch: Batch, k: int) -> sparse.csr_array[Any]:
    return model.classifier.predict_topk(model.views(batch.X), k)


def _sets(model: Model, batch: Batch, decoder: str) -> sparse.csr_array[Any]:
    """Label sets that hold their probabilities; one of 0 stays stored."""
    if model.kind == "trees":
        scores = model.classifier.predict_topk(model.views(batch.X), NAMED)
        return sparse.csr_array(model.classifier.decoders_[decoder].decode(scores).multiply(scores))
    classifier, n = model.classifier, len(batch.ids)
    if 4 * n * len(classifier.classes_) > classifier.max_dense_bytes:
        raise ValueError(
            f"--decoder {decoder} looks at {n:,} instances together, whose probabilities would take more than"
            f" {classifier.max_dense_bytes:,} bytes; give another --decoder, or fewer instances"
        )
    probabilities = classifier.predict_proba(model.views(batch.X))
    chosen = classifier.decoders_[decoder].decode(probabilities)
    rows = np.repeat(np.arange(chosen.shape[0]), np.diff(chosen.indptr))
    parts = (probabilities[rows, chosen.indices], chosen.indices, chosen.indptr)
    return sparse.csr_array(parts, shape=chosen.shape)


def _predictions(ids: list[str], chosen: sparse.csr_array[Any], labels: list[str]) -> Iterator[Prediction]:
    for row, name in enumerate(ids):
        at = slice(chosen.indptr[row], chosen.indptr[row + 1])
        order = np.argsort(-chosen.data[at], kind="stable")
        probabilities = [round(float(p), 6) for p in chosen.data[at][order]]
        yield Prediction(name, [labels[label] for label in chosen.indices[at][order]], probabilities)


def _json_line(prediction: Prediction) -> str:
    return json.dumps(prediction._asdict(), ensure_ascii=False) + "\n"


def _csv_line(fields: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()


def _csv_row(one: Prediction, separator: str) -> str:
    return _csv_line([one.id, separator.join(one.labels), " ".join(map(str, one.probabilities))])


def _check_separator(separator: str, labels: list[str]) -> None:
    for label in labels:
        if not separator or separator in label or label != label.strip():
            raise ValueError(
                f"the label {label!r} cannot be told apart with --separator {separator!r} between labels;"
                " choose another one, or --format jsonl"
            )
