"""Tables with a tags column: CSV, TSV, Parquet and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PanicException, PolarsError
from scipy import sparse

from evenhand.gzipped import most_unpacked
from evenhand.multilabel.data import DataError, MultilabelData
from evenhand.multilabel.readers._files import PathLike, blocks, ending_of, lines, solid_lines, without_gz
from evenhand.strict_json import each_once

_ROWS = 1 << 13  # read at a time, at most
_SMALL_PIECE = 1 << 24  # bytes
_PLACE_BYTES = 64  # that a text takes up beside its letters
_MOST_NAMED = 20  # columns in a message
_FAULTS = (PolarsError, PanicException)  # polars panics at some files, which is no Exception
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_table(
    path: PathLike,
    *,
    text: str | Sequence[str],
    tags: str | None,
    separator: str = ",",
    id: str | None = None,
    group: str | None = None,
) -> MultilabelData:
    """Read a table with one or more text columns and a column of tags.

    Parameters
    ----------
    path : path-like
        A .csv, .tsv, .jsonl or .ndjson file, plain or gzipped (.gz), or a .parquet file. CSV and TSV have a
        header line.
    text : str or sequence of str
        The text column or columns. No value (null) is the empty text.
    tags : str or None
        The column of tags: lists, or strings that hold several. No value (null) means no tags. None: the
        tags are not read, and there is no label.
    separator : str
        What stands between the tags of a string.
    id : str, optional
        A column that names the instances; without it they are numbered from 0.
    group : str, optional
        A column that says which instances belong together, see `MultilabelData`.

    Returns
    -------
    MultilabelData
        kind "text"; the labels are the tags that occur, sorted.

    Raises
    ------
    DataError
        If the file is broken or a column is missing or of another kind; with file and line or row.

    Notes
    -----
    A Parquet file is read in pieces: memory holds the texts and tags, not the table besides. Other tables are
    read whole.

    Spaces around a tag and empty tags are taken off; a tag that stands twice in a row counts once. Rows
    without tags are kept.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "plants.csv"
    >>> _ = path.write_text('name,about,tags\\noak,"tall, old","tree, wood"\\nfern,,\\n')
    >>> data = read_table(path, text=["name", "about"], tags="tags", id="name")
    >>> data.X.tolist()
    [['oak', 'tall, old'], ['fern', '']]
    >>> data.label_names, data.tags(0), data.tags(1)
    (('tree', 'wood'), ['tree', 'wood'], [])
    """
    texts = [text] if isinstance(text, str) else list(text)
    if not texts or len(set(texts)) < len(texts):
        raise DataError(f"text has to name one column or more, none twice, not {texts}")
    if not separator:
        raise DataError("separator is empty; say what stands between the tags of a string")
    others = [name for name in dict.fromkeys([tags, id, group]) if name is not None]
    frame = _load(path, list(dict.fromkeys([*texts, *others])))
    n_rows = _n_rows(path, frame)
    for name in texts:
        _check_kind(path, name, frame.collect_schema()[name], "strings", _is_text)
    table = pl.concat(pieces(path, frame.select(others), _ROWS)) if others else pl.DataFrame()
    ids = range(n_rows) if id is None else _names(path, table[id])
    label_names: tuple[str, ...] = ()
    Y: sparse.csr_array[Any] = sparse.csr_array(np.empty((n_rows, 0), dtype=np.float32))
    if tags is not None:
        Y, label_names = _labels(path, table[tags], separator)
    return MultilabelData(
        X=_texts(path, frame, texts, n_rows),
        Y=Y,
        label_names=label_names,
        instance_ids=tuple(map(str, ids)),
        source=str(path),
        feature_names=tuple(texts),
        groups=None if group is None else np.array(_names(path, table[group])),
    )


def read_tags(
    path: PathLike, *, tags: str, separator: str = ","
) -> tuple[sparse.csr_array[Any], tuple[str, ...]]:
    """Read the column of tags alone, of a table whose other columns are no texts.

    Parameters
    ----------
    path, tags, separator
        As for `read_table`.

    Returns
    -------
    Y : csr_array of ones, shape (n, L)
    label_names : tuple of str
        The tags that occur, sorted.

    Raises
    ------
    DataError
        As `read_table` does.
    """
    table = pl.concat(pieces(path, _load(path, [tags]), _ROWS))
    return _labels(path, table[tags], separator)


def _texts(path: PathLike, frame: pl.LazyFrame, columns: list[str], n_rows: int) -> npt.NDArray[Any]:
    """The text columns as str, read piece by piece: a Parquet file's texts never stand in memory twice."""
    texts = np.empty((n_rows, len(columns)), dtype=object)
    start = 0
    for piece in pieces(path, frame.select(pl.col(columns).cast(pl.String).fill_null("")), _ROWS):
        texts[start : start + piece.height] = piece.rows()
        start += piece.height
    return texts


def pieces(path: PathLike, frame: pl.LazyFrame, step: int) -> Iterator[pl.DataFrame]:
    """Some rows of a table at a time, for as long as they are within the bound for a file of its size.

    So a Parquet file in which little stands for much is refused before all of it is in memory; other tables
    hold no more than their size. `step` rows come first, and more at a time where they hold little: polars
    walks over all that stands before a piece.
    """
    start, held, n_rows = 0, 0, _n_rows(path, frame)
    while start < n_rows:
        piece = _collect(path, frame.slice(start, step))
        size = _held_bytes(piece)
        held += size
        _check_unpacked(path, held)
        yield piece
        start += step
        if size < _SMALL_PIECE:
            step = max(step, min(2 * step, _ROWS))


def _n_rows(path: PathLike, frame: pl.LazyFrame) -> int:
    n_rows = int(_collect(path, frame.select(pl.len())).item())
    if n_rows == 0:
        raise DataError(f"{path}: the table has no rows")
    _check_unpacked(path, n_rows * _PLACE_BYTES)
    return n_rows


def _held_bytes(frame: pl.DataFrame) -> int:
    """Bytes of all texts and files, and of the places that they are held in."""
    total = 0
    for column in frame:
        flat = column.explode() if isinstance(column.dtype, pl.List) else column
        total += _PLACE_BYTES * flat.len()
        if _is_text(flat.dtype):
            total += int(flat.cast(pl.String).str.len_bytes().sum())
        elif flat.dtype == pl.Binary:
            total += int(flat.bin.size().sum())
    return total


def _check_unpacked(path: PathLike, n_bytes: int) -> None:
    if ending_of(path) == ".parquet" and n_bytes > (most := most_unpacked(path)):
        raise DataError(
            f"{path}: unpacks to more than {most:,} bytes, the bound for a file of its size; if you trust it,"
            " write it as .jsonl"
        )


def _load(path: PathLike, columns: list[str]) -> pl.LazyFrame:
    ending = ending_of(path)
    if ending in _DELIMITERS:
        return _load_csv(path, columns, _DELIMITERS[ending]).lazy()
    if ending in (".jsonl", ".ndjson"):
        return _load_json_lines(path, columns).lazy()
    if ending == ".parquet" and without_gz(path) == os.fspath(path):
        return _load_parquet(path, columns)
    raise DataError(f"{path}: not a table; its name has to end in .csv, .tsv, .jsonl, .ndjson or .parquet")


def _load_csv(path: PathLike, columns: list[str], delimiter: str) -> pl.DataFrame:
    content = b"".join(blocks(path))
    try:
        scan = pl.scan_csv(io.BytesIO(content), separator=delimiter, infer_schema=False)
        names = scan.collect_schema().names()
        _check_columns(path, columns, names)
        for name in columns:
            if f"{name}_duplicated_0" in names:  # how polars renames the second of two
                raise DataError(f"{path}:1: column {name!r} stands twice; rename one")
        # One after the other: polars 2.1's collect_all hangs at some bad files, one time in thousands.
        table = scan.select(columns).collect()
        ragged = scan.select(pl.col(names[-1]).is_null().any()).collect()
    except _FAULTS as error:
        _csv_rows(path, delimiter)
        hint = "a field with a double quote in it has to stand in double quotes, with its own ones doubled"
        raise DataError(f"{path}: the table cannot be read ({error!s:.300}); {hint}") from error
    # polars fills a row that is short, or blank, with empty fields: look again where the last field is empty.
    return table.head(_csv_rows(path, delimiter)) if ragged.item() else table


def _csv_rows(path: PathLike, delimiter: str) -> int:
    """Number of rows below the header; DataError with the line if one is not as long as the header."""
    rows = csv.reader((line + "\n" for _, line in lines(path)), delimiter=delimiter, strict=True)
    n_rows, blank, header = 0, 0, None
    # A text may be long; the module's own limit is 131,072 characters.
    limit = csv.field_size_limit(2**31 - 1)
    try:
        for row in rows:
            if header is None:
                header = row
            elif not row:
                blank = blank or rows.line_num
            elif blank:
                raise DataError(f"{path}:{blank}: blank line; take it out")
            elif len(row) != len(header):
                raise DataError(
                    f"{path}:{rows.line_num}: {len(row)} fields, the header has {len(header)};"
                    f" put a field that holds {delimiter!r} in double quotes"
                )
            else:
                n_rows += 1
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}; a double quote may be left open") from error
    finally:
        csv.field_size_limit(limit)
    return n_rows


def _load_parquet(path: PathLike, columns: list[str]) -> pl.LazyFrame:
    scan = pl.scan_parquet(os.fspath(path), glob=False)
    _check_columns(path, columns, _collect(path, scan.head(0)).columns)
    return scan.select(columns)


def _collect(path: PathLike, frame: pl.LazyFrame) -> pl.DataFrame:
    """Run what reads a Parquet file; nothing can go wrong with what is in memory."""
    try:
        return frame.collect()
    except _FAULTS as error:
        raise DataError(f"{path}: not a sound Parquet file ({error!s:.300})") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def _load_json_lines(path: PathLike, columns: list[str]) -> pl.DataFrame:
    """JSON lines by the standard library: it tells a fault's line and never turns one type into another."""
    values: dict[str, list[Any]] = {name: [] for name in columns}
    kinds: dict[str, str] = {}
    seen: dict[str, None] = {}
    for number, line in solid_lines(path):
        row = _json_object(f"{path}:{number}: ", line)
        seen |= dict.fromkeys(row)
        for name in columns:
            value = row.get(name)
            if value is not None:
                kind = _json_kind(value)
                if kind is None or kinds.setdefault(name, kind) != kind:
                    wanted = kinds.get(name, "text, whole number or list of these")
                    raise DataError(
                        f"{path}:{number}: field {name!r} is {json.dumps(value)[:60]}, not a {wanted}"
                    )
                if kind == "list":
                    value = [str(tag) for tag in value if tag is not None]
            values[name].append(value)
    if seen:
        _check_columns(path, columns, list(seen))
    return pl.DataFrame({name: pl.Series(column, strict=True) for name, column in values.items()})


def _json_object(place: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=each_once)
        if "\\u" in line:  # half a surrogate pair is JSON, but no text
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}not sound JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}not a JSON object; write one {{...}} a line")
    return row


def _json_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "text"
    if type(value) is int:
        return "whole number"
    if isinstance(value, list) and all(
        tag is None or isinstance(tag, str) or type(tag) is int for tag in value
    ):
        return "list"
    return None


def _names(path: PathLike, column: pl.Series) -> list[str]:
    """Values of a column that names instances or groups."""
    _check_kind(path, column.name, column.dtype, "strings or whole numbers", _is_name)
    if (missing := column.is_null()).any():
        raise DataError(f"{path}: row {missing.arg_true()[0] + 1} has no value in the column {column.name!r}")
    return column.cast(pl.String).to_list()


def _check_columns(path: PathLike, wanted: list[str], found: list[str]) -> None:
    for name in wanted:
        if name not in found:
            shown = ", ".join(f"{column!r:.60}" for column in found[:_MOST_NAMED])
            more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
            raise DataError(f"{path}: no column {name!r}; the columns are {shown}{more}")


def _check_kind(
    path: PathLike, name: str, kind: pl.DataType, wanted: str, fits: Callable[[pl.DataType], bool]
) -> None:
    if not fits(kind):
        raise DataError(f"{path}: column {name!r} holds {kind}, not {wanted}; convert it")


def _is_text(kind: pl.DataType) -> bool:
    return isinstance(kind, pl.String | pl.Categorical | pl.Enum | pl.Null)


def _is_name(kind: pl.DataType) -> bool:
    return _is_text(kind) or kind.is_integer()


def _is_tags(kind: pl.DataType) -> bool:
    return _is_text(kind) or (isinstance(kind, pl.List) and _is_name(cast(pl.DataType, kind.inner)))


def _labels(path: PathLike, tags: pl.Series, separator: str) -> tuple[sparse.csr_array[Any], tuple[str, ...]]:
    _check_kind(path, tags.name, tags.dtype, "strings or lists of them", _is_tags)
    listed = tags if isinstance(tags.dtype, pl.List) else tags.cast(pl.String).str.split(separator)
    each = (
        pl.DataFrame({"row": np.arange(tags.len()), "tag": listed})
        .explode("tag")
        .with_columns(pl.col("tag").cast(pl.String).str.strip_chars())
        .filter(pl.col("tag").is_not_null() & (pl.col("tag") != ""))
    )
    names = each["tag"].unique().sort()
    if not names.len():
        raise DataError(f"{path}: no row has a tag in column {tags.name!r}")
    codes = each["tag"].cast(pl.Enum(names)).to_physical().to_numpy()
    ones = np.ones(each.height, dtype=np.float32)
    Y = sparse.csr_array((ones, (each["row"].to_numpy(), codes)), shape=(tags.len(), names.len()))
    return Y, tuple(names)
