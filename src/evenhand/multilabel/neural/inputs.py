"""What a neural player reads: matrices, texts or images, by view, checked at the door."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import interpolate

from evenhand.multilabel.options import check_real
from evenhand.multilabel.resuming import digest
from evenhand.multilabel.texts import as_texts
from evenhand.multilabel.views import Views

Kind = Literal["sparse", "dense", "texts", "images"]


@dataclass(frozen=True, eq=False)
class Column:
    """One view of the instances.

    Parameters
    ----------
    kind : {"sparse", "dense", "texts", "images"}
    rows : csr_array or ndarray, shape (n, D), list of str, or sequence of images
        An image is a path, the bytes of a file, a Pillow image, or an array (H, W, 3) or (H, W, 1): uint8, or
        floats in [0, 1].
    """

    kind: Kind
    rows: Any

    @property
    def width(self) -> int:
        """Number of features; 0 for texts and images, which have none."""
        return int(self.rows.shape[1]) if self.kind in ("sparse", "dense") else 0

    def __len__(self) -> int:
        return int(self.rows.shape[0]) if hasattr(self.rows, "shape") else len(self.rows)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Any:
        """Some of the instances, in the order asked for."""
        return [self.rows[row] for row in rows] if isinstance(self.rows, list) else self.rows[rows]

    def digest(self) -> str:
        """A SHA-256 of what it holds; of image files the path, size and time of change."""
        if not isinstance(self.rows, list):
            return digest(self.rows)
        found = hashlib.sha256()
        for row in self.rows:
            if isinstance(row, str):
                found.update(f"{len(row)} ".encode() + row.encode("utf-8", "surrogatepass"))
            elif isinstance(row, Path):
                known = row.stat()
                found.update(f"{row} {known.st_size} {known.st_mtime_ns} ".encode())
            elif isinstance(row, bytes):
                found.update(f"{len(row)} ".encode() + row)
            else:
                found.update(digest(np.asarray(row)).encode())
        return found.hexdigest()


class Inputs:
    """Named columns over the same instances.

    Parameters
    ----------
    columns : mapping of str to Column

    Raises
    ------
    ValueError
        If there is no column, a name is not a text or empty, or lengths differ.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        for name in columns:
            if not isinstance(name, str) or not name:
                raise ValueError(f"the name of a view must be a text that is not empty, not {name!r}")
        self.columns = dict(columns)
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1 or not all(lengths.values()):
            raise ValueError(f"all views must be of the same instances, at least one; X has {lengths}")

    @classmethod
    def of(cls, X: Any) -> Inputs:
        """Inputs from whatever a user may pass for X.

        Parameters
        ----------
        X : matrix, Views, list of matrices, texts, images, or mapping of str to any of these
            One without a name is called "all". Texts are a list or array of str, (n,) or (n, text columns);
            images a list of paths (`pathlib.Path`, since a str is a text), bytes of files, Pillow images or
            arrays (H, W, 3) or (H, W, 1), or one array (n, H, W, 3) or (n, H, W, 1).

        Returns
        -------
        Inputs

        Raises
        ------
        ValueError
            If a column is none of these or holds what it must not; the message names the place.

        Examples
        --------
        >>> inputs = Inputs.of({"title": ["a tree", "a leaf"], "size": [[1.0], [2.0]]})
        >>> {name: column.kind for name, column in inputs.columns.items()}
        {'title': 'texts', 'size': 'dense'}
        """
        if isinstance(X, Inputs):
            return X
        if isinstance(X, Mapping) and not sparse.issparse(X):  # a dok_array is a mapping
            return cls({name: _as_column(part, name) for name, part in X.items()})
        if isinstance(X, Views) or _is_matrices(X):
            return cls({name: _of_block(block) for name, block in Views.of(X).blocks.items()})
        return cls({"all": _as_column(X, "all")})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.columns)

    @property
    def widths(self) -> dict[str, int]:
        """Number of features of each column; 0 for texts and images."""
        return {name: column.width for name, column in self.columns.items()}

    @property
    def kinds(self) -> dict[str, Kind]:
        """What each column holds."""
        return {name: column.kind for name, column in self.columns.items()}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, rows: npt.NDArray[np.integer[Any]]) -> Inputs:
        """Some of the instances."""
        return Inputs({name: Column(c.kind, c.take(rows)) for name, c in self.columns.items()})


def _is_matrices(X: Any) -> bool:
    return isinstance(X, list | tuple) and any(len(getattr(block, "shape", ())) == 2 for block in X)


def _of_block(block: Any) -> Column:
    return Column("sparse" if sparse.issparse(block) else "dense", block)


def holds_features(X: Any) -> bool:
    """Whether X is numbers throughout, one matrix or several, and neither texts nor images.

    Examples
    --------
    >>> holds_features([[1.0, 2.0]]), holds_features(["a text"])
    (True, False)
    """
    if isinstance(X, Mapping) and not sparse.issparse(X):
        return all(holds_features(part) for part in X.values())
    return isinstance(X, Views) or (not isinstance(X, Inputs) and _kind(X) is None)


def _kind(X: Any) -> Literal["texts", "images"] | None:
    """What X is if it is no matrix."""
    if sparse.issparse(X) or isinstance(X, str | bytes | Path):
        return None
    check_real("X is", X)
    rows = X if isinstance(X, list | tuple | np.ndarray) else np.asarray(X)
    if getattr(rows, "ndim", 1) == 0 or not len(rows) or _is_matrices(rows):
        return None
    first = rows[0]
    if isinstance(first, Path | bytes) or _is_pillow(first):
        return "images"
    if isinstance(first, np.ndarray) and first.ndim == 3:
        return "images"
    if isinstance(first, list | tuple | np.ndarray) and len(first):
        first = first[0]
    return "texts" if _is_text(first) else None


def _as_column(X: Any, name: str) -> Column:
    if isinstance(X, str | bytes | Path):
        raise ValueError(f"view {name!r} is one text or file, not a list of them; put it in a list")
    kind = _kind(X)
    if kind == "images":
        _check_images(X, name)
        return Column("images", X if getattr(X, "ndim", 1) == 4 else list(X))
    if kind == "texts":
        try:
            return Column("texts", [" ".join(row) for row in as_texts(X)])
        except ValueError as error:
            raise ValueError(f"view {name!r}: {error}") from error
    return _of_block(Views({name: X}).blocks[name])


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_pillow(image: Any) -> bool:
    return hasattr(image, "convert") and hasattr(image, "getbands")


def _check_images(X: Any, name: str) -> None:
    for row, image in enumerate(X):
        place = f"view {name!r}, row {row}"
        if isinstance(image, np.ndarray):
            _check_picture(image, place)
        elif isinstance(image, Path):
            if not image.is_file():
                raise ValueError(f"{place}: there is no image file {image}")
        elif not isinstance(image, bytes) and not _is_pillow(image):
            raise ValueError(f"{place} is {type(image).__name__}, not an image: give a Path or an array")


def _check_picture(image: npt.NDArray[Any], place: str) -> None:
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise ValueError(f"{place} has shape {image.shape}; an image is an array (H, W, 3) or (H, W, 1)")
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise ValueError(f"{place} is {image.dtype}; an image holds uint8 from 0 to 255 or floats in [0, 1]")
    if image.dtype.kind == "f" and not (image.min() >= 0 and image.max() <= 1):  # NaN fails too
        if np.isnan(image).any():
            raise ValueError(f"{place} holds NaN; mend it or leave the row out")
        raise ValueError(f"{place} holds floats outside [0, 1]; scale them")


def as_pixels(image: Any, size: tuple[int, int] | None) -> Tensor:
    """An image as floats.

    Parameters
    ----------
    image : Path, bytes, Pillow image, or ndarray (H, W, 3) or (H, W, 1)
    size : (int, int), optional
        Height and width to scale it to (bilinear, antialiased), whatever its sides' proportion.

    Returns
    -------
    Tensor of float32, shape (3, H, W)
        In [0, 1].

    Raises
    ------
    ValueError
        If a file is no image, or Pillow is not installed where it is needed.

    Examples
    --------
    >>> as_pixels(np.full((4, 6, 1), 255, np.uint8), (2, 2)).shape
    torch.Size([3, 2, 2])
    """
    if isinstance(image, Path | bytes):
        image = _opened(image)
    if _is_pillow(image):
        image = np.asarray(image.convert("RGB"))
    _check_picture(image, "an image")
    pixels = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1).float()
    if image.dtype == np.uint8:
        pixels = pixels / 255
    pixels = pixels.expand(3, -1, -1)
    if size is None or pixels.shape[1:] == size:
        return pixels
    scaled = interpolate(pixels[None], size=size, mode="bilinear", antialias=True, align_corners=False)
    return scaled[0].clamp(0, 1)


def _opened(file: Path | bytes) -> Any:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ValueError("image files need Pillow; install evenhand[images]") from error
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        place = file if isinstance(file, Path) else f"a file of {len(file)} bytes"
        raise ValueError(f"{place} is no image that Pillow can read ({error})") from error
