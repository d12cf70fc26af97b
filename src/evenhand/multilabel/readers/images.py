"""Images with tags: a folder with a table beside the files, or a Parquet file that holds them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PanicException, PolarsError
from scipy import sparse

from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers._files import PathLike, ending_of
from evenhand.multilabel.readers.table import pieces, read_table, read_tags

_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILES = 256  # read at first


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images and their labels, as `NeuralGameClassifier` takes them.

    Parameters
    ----------
    images : list of Path or bytes, length n
        Files, or what is in them.
    Y : csr_array of ones, shape (n, L)
    label_names : tuple of str, length L
    source : str
        Where they came from.
    """

    images: list[Any]
    Y: sparse.csr_array[Any]
    label_names: tuple[str, ...]
    source: str


def read_images(
    path: PathLike, *, image: str = "file_name", tags: str = "tags", separator: str = ","
) -> ImageData:
    """Read images with tags.

    Parameters
    ----------
    path : path-like
        A folder with a metadata.csv, metadata.jsonl or metadata.parquet, or such a table of another name.
    image : str
        The column of file names, from the table's folder on; or, in a Parquet file, of the files themselves:
        bytes, or structs with a field "bytes".
    tags : str
        The column of tags: lists, or strings that hold several.
    separator : str
        What stands between the tags of a string.

    Returns
    -------
    ImageData
        Files are not opened before they are used.

    Raises
    ------
    DataError
        If there is no table, a column is missing or of another kind, or a file is missing; with file and row.

    Notes
    -----
    The folder's form and the structs are those of Hugging Face's datasets ("ImageFolder").

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.png").write_bytes(b"...")
    >>> _ = (folder / "metadata.csv").write_text("file_name,tags\\na.png,cat sofa\\n")
    >>> data = read_images(folder, separator=" ")
    >>> [file.name for file in data.images], data.label_names
    (['a.png'], ('cat', 'sofa'))
    """
    table = _table_of(Path(path))
    if ending_of(table) == ".parquet" and (files := _embedded(table, image)) is not None:
        Y, names = read_tags(table, tags=tags, separator=separator)
        return ImageData(files, Y, names, str(path))
    data = read_table(table, text=image, tags=tags, separator=separator)
    files = [table.parent / name for (name,) in data.X]
    for row, file in enumerate(files, start=1):
        if not os.path.isfile(file):  # a name that no file can have is none, too
            raise DataError(f"{table}: row {row}: there is no image file {file!s:.300}")
    return ImageData(files, data.Y, data.label_names, str(path))


def _table_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in _TABLES if (path / name).is_file()]
    if len(found) != 1:
        raise DataError(
            f"{path}: there must be one of {', '.join(_TABLES)} beside the images; {len(found)} are"
        )
    return found[0]


def _embedded(table: Path, image: str) -> list[Any] | None:
    """The files that a Parquet file holds; None where the column is of another kind."""
    try:
        scan = pl.scan_parquet(table, glob=False)
        kind = scan.collect_schema().get(image)
        column = pl.col(image)
        if isinstance(kind, pl.Struct) and any(
            f.name == "bytes" and f.dtype == pl.Binary for f in kind.fields
        ):
            column, kind = column.struct.field("bytes"), pl.Binary()
        if kind != pl.Binary:
            return None
    except (PolarsError, PanicException, OSError) as error:
        raise DataError(f"{table}: not a sound Parquet file ({error})") from error
    files = pl.concat(pieces(table, scan.select(column), _FILES)).to_series()
    if (missing := files.is_null()).any():
        raise DataError(f"{table}: row {missing.arg_true()[0] + 1} has no image in the column {image!r}")
    return files.to_list()
