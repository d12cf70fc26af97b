"""A table that was fetched and parsed once, kept in a folder with what is known of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from evenhand.files import replace_file
from evenhand.multilabel.datasets.apt import unavailable

_FORMAT = 1


def read_kept(
    pointer: Path, columns: Iterable[str], fields: Iterable[str]
) -> tuple[pl.DataFrame, list[Any]] | None:
    """The table that a pointer names, and what else stands there.

    Parameters
    ----------
    pointer : Path
    columns, fields : iterable of str
        Of the table, and of the pointer.

    Returns
    -------
    (DataFrame, list) or None
        Columns and fields in that order. None where nothing is kept, or in another format.

    Raises
    ------
    DatasetUnavailable
        If what is kept is damaged.
    """
    if not pointer.exists():
        return None
    try:
        kept = json.loads(pointer.read_text())
        if kept["format"] != _FORMAT:
            return None
        table = pl.read_parquet(pointer.with_name(kept["table"])).select(*columns)
        return table, [kept[name] for name in fields]
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise unavailable(
            f"What is kept in {pointer.parent} is damaged ({error!r}); delete that folder"
        ) from error


def keep(pointer: Path, name: str, table: pl.DataFrame, fields: Mapping[str, Any]) -> None:
    """Keep a table under a name of its own first, the pointer last: a reader never sees half of it.

    Parameters
    ----------
    pointer : Path
    name : str
        Of the table's file, another for other content.
    table : DataFrame
    fields : mapping
        For JSON.
    """
    replace_file(pointer.with_name(name), lambda path: table.write_parquet(path))
    kept = {"format": _FORMAT, "table": name, **fields}
    replace_file(pointer, lambda path: path.write_text(json.dumps(kept, indent=1)))
