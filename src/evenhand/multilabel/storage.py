"""Folders of plain state: one JSON file and one safetensors file, checked when written and when read.

A state is what JSON holds (dicts with text keys, lists, texts, finite numbers, None) with arrays anywhere in
it. The arrays go to a file that is named by its SHA-256; the JSON file, put in place last and at one stroke,
says which one belongs to it. So a folder is either the old state or the new one, whenever the process ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open
from scipy import sparse

from evenhand import __version__
from evenhand.multilabel.data import check_pointers
from evenhand.strict_json import each_once

_Sparse = TypeVar("_Sparse", "sparse.csr_array[Any]", "sparse.csc_array[Any]")

_MAX_JSON_BYTES = 1 << 28
_PIECE = 1 << 22  # values that are checked at a time
_DTYPES = ("bool", "uint16", "int32", "int64", "float32", "float64")
_PLACE = {"$array", "dtype", "shape"}  # what stands in the JSON where an array was
_ARRAYS = "arrays-{}.safetensors"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OWN_NAME = re.compile(r"arrays-[0-9a-f]{16}\.safetensors|\.[0-9a-f]{16}\.tmp")


class FolderError(ValueError):
    """A folder cannot be written, or what is in it is not what it should be; the message names the place."""


@dataclass(frozen=True)
class Kind:
    """What a folder holds.

    Parameters
    ----------
    name : str
        Of the format, for people.
    version : int
        The one that this release reads and writes.
    file : str
        The name of the JSON file.
    """

    name: str
    version: int
    file: str


def write_folder(folder: str | os.PathLike[str], kind: Kind, state: Mapping[str, Any]) -> None:
    """Write a state to a folder, new or of the same kind.

    Parameters
    ----------
    folder : path-like
        A new folder appears when it is complete; in an existing one the new state takes the place of the old
        at one stroke, and files of other names stay.
    kind : Kind
    state : mapping

    Raises
    ------
    FolderError
        If the folder holds something else, or the state holds what JSON and safetensors cannot keep.
    """
    path = Path(folder)
    arrays: dict[str, npt.NDArray[Any]] = {}
    plain = _split(state, "", arrays)
    if _is_taken(path, kind):
        with _locked(path):  # each of two writers would take the other's arrays for left over
            _write_into(path, kind, plain, arrays)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
    with _telling_of(path):
        beside.mkdir()
    try:
        _write_into(beside, kind, plain, arrays)
        os.rename(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _sync(path.parent)


def read_folder(folder: str | os.PathLike[str], kind: Kind, *, mapped: bool = False) -> dict[str, Any]:
    """Read a state that `write_folder` wrote.

    Parameters
    ----------
    folder : path-like
    kind : Kind
    mapped : bool
        Leave the arrays on disk, to be paged in where they are used. The checks read the file once all the
        same, piece by piece.

    Returns
    -------
    dict
        The state; what were tuples are lists.

    Raises
    ------
    FolderError
        If the folder is of another kind or of a newer version, a file is missing, damaged, too large or a
        link, or an array is not there with the type and shape that were written, or is not finite.
    """
    path = Path(folder)
    document = _read_document(path, kind)
    state, digest = document.get("state"), document.get("arrays_sha256")
    if not isinstance(state, dict) or not (digest is None or _SHA256.fullmatch(str(digest))):
        raise FolderError(f"{path / kind.file} lacks its state or its SHA-256; the file is damaged")
    arrays = {} if digest is None else _read_arrays(path / _ARRAYS.format(digest[:16]), digest, mapped)
    try:
        joined: dict[str, Any] = _join(state, arrays)
    except (FolderError, RecursionError) as error:
        raise FolderError(f"{path / kind.file}: {error}") from error
    if arrays:
        raise FolderError(f"{path}: the array {min(arrays)!r} belongs nowhere; the folder is damaged")
    return joined


def kind_of(folder: str | os.PathLike[str], kinds: Sequence[Kind]) -> Kind:
    """Which of these kinds of state a folder holds; the first where it holds none of them.

    Parameters
    ----------
    folder : path-like
    kinds : sequence of Kind

    Returns
    -------
    Kind
        `read_folder` says what is wrong, if anything is.
    """
    for kind in kinds:
        try:
            _read_document(Path(folder), kind, any_version=True)
        except FolderError:
            continue
        return kind
    return kinds[0]


def entry(state: Any, name: str, *types: type) -> Any:
    """A field of a state that was read, of one of these types.

    Parameters
    ----------
    state : Any
        Should be a dict.
    name : str
    *types : type
        A bool is no int here.

    Returns
    -------
    Any

    Raises
    ------
    FolderError
        If it is missing or of another type.

    Examples
    --------
    >>> entry({"n_features": 3}, "n_features", int)
    3
    """
    if not isinstance(state, dict) or name not in state:
        raise FolderError(f"the field {name!r} is missing; the file is damaged")
    if type(state[name]) not in types:
        raise FolderError(
            f"the field {name!r} should be of type {' or '.join(t.__name__ for t in types)}, but is"
            f" {str(state[name])[:80]!r}; the file is damaged"
        )
    return state[name]


def array_entry(
    state: Any, name: str, dtypes: Sequence[str], shape: tuple[int | None, ...]
) -> npt.NDArray[Any]:
    """An array of a state that was read.

    Parameters
    ----------
    state : Any
        Should be a dict.
    name : str
    dtypes : sequence of str
        The types that it may have.
    shape : tuple
        The shape that it must have; None: any length.

    Returns
    -------
    ndarray

    Raises
    ------
    FolderError
        If it is missing, of another type or of another shape.
    """
    array = entry(state, name, np.ndarray)
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape))
    if not fits or str(array.dtype) not in dtypes:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise FolderError(
            f"the array {name!r} should be {' or '.join(dtypes)} of shape ({wanted}), but is {array.dtype} of"
            f" shape {array.shape}; the file is damaged"
        )
    return np.asarray(array)


def sparse_state(matrix: sparse.csr_array[Any] | sparse.csc_array[Any]) -> dict[str, Any]:
    """A sparse array as a state.

    Parameters
    ----------
    matrix : csr_array or csc_array

    Returns
    -------
    dict
    """
    return {
        "shape": [int(length) for length in matrix.shape],
        "values": matrix.data,
        "indices": matrix.indices,
        "indptr": matrix.indptr,
    }


def sparse_entry(state: Any, name: str, kind: type[_Sparse]) -> _Sparse:
    """A sparse array of a state that was read, made by `sparse_state`.

    Parameters
    ----------
    state : Any
        Should be a dict.
    name : str
    kind : type
        csr_array or csc_array.

    Returns
    -------
    csr_array or csc_array

    Raises
    ------
    FolderError
        If a part is missing or does not fit the others, or an index points out of the array.
    """
    part = entry(state, name, dict)
    values = array_entry(part, "values", ["float32", "float64"], (None,))
    indices = array_entry(part, "indices", ["int32", "int64"], values.shape)
    indptr = array_entry(part, "indptr", ["int32", "int64"], (None,))
    try:
        matrix = kind((values, indices, indptr), shape=tuple(entry(part, "shape", list)))
        check_pointers(indptr, len(indices))
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise FolderError(f"the sparse array {name!r} is damaged: {error}") from error
    return matrix


def sizes_entry(state: Any, name: str) -> dict[str, int]:
    """A mapping of names to sizes, of a state that was read.

    Parameters
    ----------
    state : Any
        Should be a dict.
    name : str
        Of the field.

    Returns
    -------
    dict of str to int

    Raises
    ------
    FolderError
        If it is missing, or a size is no whole number of at least 1.
    """
    sizes: dict[str, int] = entry(state, name, dict)
    for one in sizes:
        if entry(sizes, one, int) < 1:
            raise FolderError(f"{name}: {one!r} has {sizes[one]}; the file is damaged")
    return sizes


def names_state(names: npt.NDArray[Any]) -> dict[str, Any]:
    """Labels or features by name, as texts and whole numbers.

    Parameters
    ----------
    names : ndarray

    Returns
    -------
    dict

    Raises
    ------
    FolderError
        If a name is neither a text nor a whole number.
    """
    values = [value.item() if isinstance(value, np.generic) else value for value in names]
    for value in values:
        if type(value) not in (str, int):
            raise FolderError(f"the name {value!r} cannot be saved; names must be texts or whole numbers")
    dtype = {"i": names.dtype.name, "u": names.dtype.name, "U": "str"}.get(names.dtype.kind, "object")
    return {"dtype": dtype, "values": values}


def names_entry(state: Any, name: str, n: int) -> npt.NDArray[Any]:
    """Names of a state that was read, made by `names_state`.

    Parameters
    ----------
    state : Any
        Should be a dict.
    name : str
        Of the field.
    n : int
        How many there must be.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    FolderError
        If there are others than that many texts and whole numbers.
    """
    part = entry(state, name, dict)
    dtype, values = entry(part, "dtype", str), entry(part, "values", list)
    if len(values) != n or not all(type(value) in (str, int) for value in values):
        raise FolderError(f"{name} must be {n} texts or whole numbers; the file is damaged")
    if dtype not in ("object", "str") and not re.fullmatch("u?int(8|16|32|64)", dtype):
        raise FolderError(f"{name} must not be of type {dtype}; the file is damaged")
    return np.array(values, dtype=dtype)


def _split(value: Any, at: str, arrays: dict[str, npt.NDArray[Any]]) -> Any:
    """A state as JSON holds it; its arrays are added to ``arrays`` under the place where they stood."""
    if isinstance(value, np.ndarray):
        if str(value.dtype) not in _DTYPES or not _is_finite(value):
            raise FolderError(f"{at} must be finite and of type {', '.join(_DTYPES)} to be saved")
        # safetensors writes the memory as it lies, whatever the order of the axes.
        arrays[at] = np.asarray(value, order="C")
        return {"$array": at, "dtype": str(value.dtype), "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return _split(value.item(), at, arrays)
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str) or key == "$array"]:
            raise FolderError(f"{at or 'the state'} has the key {bad[0]!r}, which cannot be saved")
        return {key: _split(part, f"{at}/{key}".lstrip("/"), arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_split(part, f"{at}/{number}", arrays) for number, part in enumerate(value)]
    if value is None or type(value) in (bool, int, str) or (type(value) is float and np.isfinite(value)):
        return value
    raise FolderError(f"{at} is {value!r}; only texts, finite numbers, None and arrays can be saved")


def _join(value: Any, arrays: dict[str, npt.NDArray[Any]]) -> Any:
    """The state again; arrays that found their place are taken out of ``arrays``."""
    if isinstance(value, list):
        return [_join(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != _PLACE:
        return {key: _join(part, arrays) for key, part in value.items()}
    array = arrays.pop(value["$array"], None) if isinstance(value["$array"], str) else None
    if array is None:
        raise FolderError(f"the array {value['$array']!r} is missing; the folder is damaged")
    if [str(array.dtype), list(array.shape)] != [value["dtype"], value["shape"]]:
        raise FolderError(
            f"the array {value['$array']!r} should be {value['dtype']} of shape {value['shape']}, but is"
            f" {array.dtype} of shape {list(array.shape)}; the folder is damaged"
        )
    if not _is_finite(array):
        raise FolderError(f"the array {value['$array']!r} holds NaN or inf; the folder is damaged")
    return array


def _is_finite(array: npt.NDArray[Any]) -> bool:
    """Whether no value is NaN or infinite, without an array of the same length."""
    flat = array.reshape(-1)
    return all(np.isfinite(flat[at : at + _PIECE]).all() for at in range(0, flat.size, _PIECE))


def _is_taken(path: Path, kind: Kind) -> bool:
    """Whether the folder holds a state of this kind; refuses whatever must not be written over."""
    if path.is_symlink():
        raise FolderError(f"{path} is a symbolic link; give the folder itself")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return False
    try:
        _read_document(path, kind, any_version=True)
    except FolderError as error:
        raise FolderError(
            f"{path} exists and is no {kind.name}, so it is not written over; delete it or give another name"
            f" ({error})"
        ) from error
    return True


def _write_into(path: Path, kind: Kind, plain: Any, arrays: dict[str, npt.NDArray[Any]]) -> None:
    content = safetensors.numpy.save(arrays) if arrays else b""
    digest = hashlib.sha256(content).hexdigest() if arrays else None
    document = {"format": kind.name, "version": kind.version, "written_by": f"evenhand {__version__}"}
    document |= {"arrays_sha256": digest, "state": plain}
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    # "surrogatepass": a text that is no valid Unicode comes back as it was.
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > _MAX_JSON_BYTES:
        raise FolderError(f"{path / kind.file} would be larger than {_MAX_JSON_BYTES >> 20} MiB")
    keep = ""
    if digest is not None:
        keep = _ARRAYS.format(digest[:16])
        _write_file(path / keep, content)
    _write_file(path / kind.file, encoded)
    for old in path.iterdir():
        if _OWN_NAME.fullmatch(old.name) and old.name != keep:
            old.unlink()


def _write_file(path: Path, content: bytes) -> None:
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    with _telling_of(path):
        opened = temporary.open("xb")
    try:
        with opened as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


@contextmanager
def _telling_of(path: Path) -> Iterator[None]:
    """Errors of a temporary name are told of the name that it stands for."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other writer is at work in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    """Have the names in a folder written to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_document(path: Path, kind: Kind, *, any_version: bool = False) -> dict[str, Any]:
    file = path / kind.file
    if not path.is_dir():
        raise FolderError(f"{path} is no folder; an {kind.name} is a folder with {kind.file}")
    if _size_of(file) > _MAX_JSON_BYTES:
        raise FolderError(f"{file} is larger than {_MAX_JSON_BYTES >> 20} MiB; the file is damaged")
    try:
        text = file.read_bytes().decode("utf-8", "surrogatepass")
        document = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=each_once
        )
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{file} is no sound JSON ({error}); the file is damaged") from error
    if not isinstance(document, dict) or document.get("format") != kind.name:
        raise FolderError(f"{file} is not of the format {kind.name!r}")
    version = document.get("version")
    if type(version) is not int:
        raise FolderError(
            f"{file} has the format version {version!r:.80}, not a whole number; the file is damaged"
        )
    if not any_version and version != kind.version:
        mend = "update evenhand" if version > kind.version else "write it again with this release"
        raise FolderError(
            f"{file} has format version {version}, but this release of evenhand reads version {kind.version};"
            f" {mend}"
        )
    return document


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse_constant(text)
    return number


def _size_of(file: Path) -> int:
    """The size of a regular file; links lead out of the folder and are not followed."""
    try:
        found = os.lstat(file)
    except FileNotFoundError:
        raise FolderError(f"{file} is missing") from None
    if not stat.S_ISREG(found.st_mode):
        raise FolderError(f"{file} is no regular file; symbolic links are not followed")
    return found.st_size


def _read_arrays(file: Path, digest: str, mapped: bool) -> dict[str, npt.NDArray[Any]]:
    _size_of(file)
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != digest:
        raise FolderError(f"{file} was changed or damaged: its SHA-256 is {found}, not {digest}")
    try:
        # Through torch, tensors are views of a private mapping of the file; through numpy, copies.
        with safe_open(file, framework="pt" if mapped else "numpy") as opened:
            return {name: np.asarray(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, ValueError, KeyError) as error:
        raise FolderError(f"{file} is no sound safetensors file ({error})") from error


def check_size(what: str, found: int, n_labels: int) -> None:
    """Refuse what is for another number of labels.

    Raises
    ------
    FolderError
    """
    if found != n_labels:
        raise FolderError(f"{what} is for {found} labels, but there are {n_labels}; the file is damaged")
