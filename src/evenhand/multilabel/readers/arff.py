"""MULAN's multi-label ARFF: one file of rows, and an XML that says which columns are labels."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evenhand.multilabel.data import DataError, Features, MultilabelData, check_unique
from evenhand.multilabel.readers._files import PathLike, lines, without_gz

_QUOTED_OR_BARE = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s'"]\S*))\s*""")
_NUMERIC = ("numeric", "real", "integer")


@dataclass(frozen=True)
class _Attribute:
    name: str
    values: tuple[str, ...] | None  # of a nominal attribute


def read_arff(path: PathLike, xml: PathLike | None = None) -> MultilabelData:
    """Read a multi-label data set in MULAN's form.

    Parameters
    ----------
    path : path-like
        Dense or sparse ARFF, plain or gzipped (.gz).
    xml : path-like, optional
        Names the label columns. Without it: the file beside `path` with its name and the ending .xml,
        the name with or without a trailing -train or -test.

    Returns
    -------
    MultilabelData
        Dense ARFF gives dense X, sparse ARFF sparse X. Features in the order of their columns, labels in
        the order of the XML.

    Raises
    ------
    DataError
        If a file is not as described, or a value is missing; with file, line and attribute.

    Notes
    -----
    Attributes may be numeric, or nominal with values that are numbers (MULAN's {0,1}) and the only
    ones in the rows; labels are 0 or 1. Names may be quoted, with backslash escapes. Sparse rows are
    `{index value, ...}`, counted from 0 over all columns. Comment lines (%) and blank lines are no rows.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "toy.xml").write_text('<labels><label name="wet"/></labels>')
    >>> _ = (folder / "toy-train.arff").write_text(
    ...     "@relation toy\\n@attribute 'air pressure' numeric\\n"
    ...     "@attribute wet {0,1}\\n@data\\n0.5,1\\n2,0\\n")
    >>> data = read_arff(folder / "toy-train.arff")
    >>> data.X.tolist(), data.feature_names
    ([[0.5], [2.0]], ('air pressure',))
    >>> data.tags(0), data.tags(1)
    (['wet'], [])
    """
    xml = _xml_beside(path) if xml is None else xml
    label_names = _label_names(xml)
    content = lines(path)
    attributes = _read_header(path, content)
    place = {attribute.name: column for column, attribute in enumerate(attributes)}
    if missing := [name for name in label_names if name not in place]:
        raise DataError(f"{path}: no attribute {missing[0]!r}, which {xml} names as a label")
    label_columns = np.array([place[name] for name in label_names])
    is_feature = np.ones(len(attributes), dtype=np.bool_)
    is_feature[label_columns] = False
    table = _read_rows(path, content, attributes, label_columns.tolist())
    X: Features = table[:, np.flatnonzero(is_feature)]
    return MultilabelData(
        X=X,
        Y=sparse.csr_array(table[:, label_columns]),
        label_names=label_names,
        instance_ids=tuple(map(str, range(table.shape[0]))),
        source=str(path),
        feature_names=tuple(attributes[column].name for column in np.flatnonzero(is_feature)),
    )


def _xml_beside(path: PathLike) -> Path:
    stem = Path(without_gz(path)).stem
    names = dict.fromkeys([f"{stem}.xml", f"{stem.removesuffix('-train').removesuffix('-test')}.xml"])
    for name in names:
        if (xml := Path(path).with_name(name)).exists():
            return xml
    raise DataError(f"{path}: no {' or '.join(names)} beside it to name the labels; give xml=")


def _label_names(xml: PathLike) -> tuple[str, ...]:
    try:
        root = ElementTree.parse(os.fspath(xml)).getroot()
    except ElementTree.ParseError as error:
        raise DataError(f"{xml}:{error.position[0]}: not sound XML ({error})") from error
    except (LookupError, ValueError) as error:  # an encoding that there is not, or not for XML
        raise DataError(f"{xml}:1: not sound XML ({error})") from error
    except OSError as error:
        raise DataError(f"{xml}: {error.strerror or error}") from error
    # Any depth: MULAN nests the labels of a hierarchy.
    names = tuple(e.get("name", "") for e in root.iter() if e.tag.rpartition("}")[2] == "label")
    if not names or not all(names):
        raise DataError(f'{xml}: names no label; it has to hold <label name="..."/> elements')
    check_unique(names, xml)
    return names


def _read_header(path: PathLike, content: Iterator[tuple[int, str]]) -> list[_Attribute]:
    """Attributes; the iterator is left at the first line after @data."""
    attributes: list[_Attribute] = []
    names: set[str] = set()
    for number, line in content:
        keyword, _, rest = line.strip().replace("\t", " ").partition(" ")
        match keyword.lower():
            case "@attribute":
                attributes.append(_attribute(f"{path}:{number}: ", rest))
                if attributes[-1].name in names:
                    raise DataError(
                        f"{path}:{number}: attribute {attributes[-1].name!r:.80} stands twice; rename one"
                    )
                names.add(attributes[-1].name)
            case "@data":
                return attributes
            case word if word and word != "@relation" and not word.startswith("%"):
                raise DataError(f"{path}:{number}: {line[:60]!r} is neither @relation, @attribute nor @data")
    raise DataError(f"{path}: no @data line; is the file ARFF, and whole?")


def _attribute(place: str, declaration: str) -> _Attribute:
    found = _QUOTED_OR_BARE.match(declaration)
    if not found:
        raise DataError(f"{place}no attribute name in {declaration[:60]!r}; put odd names in quotes")
    name, kind = _unquoted(found), declaration[found.end() :].strip()
    if kind.lower().split(" ")[0] in _NUMERIC:
        return _Attribute(name, None)
    if not (kind.startswith("{") and kind.endswith("}")):
        raise DataError(
            f"{place}attribute {name!r:.80} is of type {kind!r:.80}; only numbers and nominal numbers are"
            " read"
        )
    values = tuple(value.strip().strip("'\"") for value in kind[1:-1].split(","))
    for value in values:
        if not _is_number(value):
            raise DataError(
                f"{place}attribute {name!r:.80} has the nominal value {value!r:.80}; turn it into 0/1"
                " attributes"
            )
    return _Attribute(name, values)


def _unquoted(found: re.Match[str]) -> str:
    single, double, bare = found.groups()
    quoted = single if single is not None else double
    return bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _read_rows(
    path: PathLike, content: Iterator[tuple[int, str]], attributes: list[_Attribute], labels: list[int]
) -> Any:
    """All columns, features and labels: csr_array for sparse rows, ndarray for dense ones."""
    is_binary = np.array(
        [a.values is not None and {float(v) for v in a.values} <= {0, 1} for a in attributes]
    )
    is_binary[labels] = True
    declared = {
        column: {float(value) for value in attribute.values}
        for column, attribute in enumerate(attributes)
        if attribute.values is not None
    }
    declared = {column: values for column, values in declared.items() if values != {0, 1}}
    sparse_rows: bool | None = None
    columns: list[npt.NDArray[np.int64]] = []
    values: list[npt.NDArray[np.float32]] = []
    for number, line in content:
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        place = f"{path}:{number}: "
        if sparse_rows is None:
            sparse_rows = line.startswith("{")
            if sparse_rows:
                _check_defaults(place, attributes)
        if line.startswith("{") != sparse_rows:
            raise DataError(f"{place}dense and sparse rows in one file; write all of one kind")
        at, texts = _split_row(place, line, len(attributes))
        columns.append(at)
        values.append(_values(place, texts, at, attributes, is_binary, declared))
    if not values:
        raise DataError(f"{path}: no rows after @data")
    if not sparse_rows:
        return np.stack(values)
    starts = np.cumsum([0, *map(len, values)])
    parts = (np.concatenate(values), np.concatenate(columns), starts)
    return sparse.csr_array(parts, shape=(len(values), len(attributes)))


def _check_defaults(place: str, attributes: list[_Attribute]) -> None:
    for attribute in attributes:
        if attribute.values and float(attribute.values[0]) != 0:
            raise DataError(
                f"{place}sparse row, but what it leaves out of {attribute.name!r:.80} would be"
                f" {attribute.values[0]} (its first value); list 0 first"
            )


def _split_row(place: str, line: str, width: int) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Columns of a row and the texts of their values."""
    if not line.startswith("{"):
        texts = line.split(",")
        if len(texts) != width:
            raise DataError(f"{place}{len(texts)} values for {width} attributes")
        return np.arange(width), texts
    if not line.endswith("}"):
        raise DataError(f"{place}sparse row without a closing brace")
    body = line[1:-1].strip()
    pairs = [entry.split() for entry in body.split(",")] if body else []
    for pair in pairs:
        if len(pair) != 2 or not (pair[0].isascii() and pair[0].isdecimal()):
            raise DataError(
                f"{place}{' '.join(pair)!r:.80} is not an index and a value; write {{index value, ...}}"
            )
        if len(pair[0]) > 18 or int(pair[0]) >= width:
            raise DataError(
                f"{place}index {pair[0][:20]} is too large for {width} attributes, counted from 0"
            )
    return np.array([int(index) for index, _ in pairs], dtype=np.int64), [text for _, text in pairs]


def _values(
    place: str,
    texts: list[str],
    columns: npt.NDArray[np.int64],
    attributes: list[_Attribute],
    is_binary: npt.NDArray[np.bool_],
    declared: dict[int, set[float]],
) -> npt.NDArray[np.float32]:
    """Numbers; `declared` holds the values of nominal attributes other than {0,1}."""
    try:
        numbers = np.array(texts, dtype=np.float64)
    except ValueError:
        texts = [text.strip().strip("'\"") for text in texts]
        numbers = np.array([float(text) if _is_number(text) else np.nan for text in texts])
    bad = ~(np.abs(numbers) <= np.finfo(np.float32).max)
    bad |= is_binary[columns] & (numbers != 0) & (numbers != 1)
    outside = np.zeros_like(bad)
    for at, column in enumerate(columns.tolist() if declared else ()):
        outside[at] = column in declared and numbers[at] not in declared[column]
    bad |= outside
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        name, text = attributes[columns[at]].name, texts[at].strip()
        if text == "?":
            raise DataError(f"{place}the value of attribute {name!r:.80} is missing (?); fill it in")
        wanted = "0 or 1" if is_binary[columns[at]] else "a finite number"
        if outside[at]:
            wanted = f"one of the declared {{{','.join(attributes[columns[at]].values or ()):.150}}}"
        raise DataError(f"{place}the value of attribute {name!r:.80} is {text!r:.80}, not {wanted}")
    return numbers.astype(np.float32)
