"""Rows of the form `label,label feature:value feature:value`, which XMC text and svmlight share.

Whole blocks of bytes are parsed by compiled code that only knows good from bad. A bad line is read a second
time, slowly, by `_fault`, which finds the words for what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import sparse

from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers._files import PathLike

MAX_ID = np.iinfo(np.int32).max - 1
"""Highest label or feature id: 32-bit column indices."""

_GOOD, _BAD, _BLANK = 0, 1, 2
# Whatever rounds to a finite float32: up to half a step (2^103) above the largest.
_MAX_FLOAT32 = float(np.nextafter(float(np.finfo(np.float32).max) + 2.0**103, 0))
_POWERS: Any = 10.0 ** np.arange(23)  # all exact in float64

_PLAIN_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,5})?")

_NEWLINE, _RETURN, _SPACE, _TAB, _HASH = 10, 13, 32, 9, 35
_PLUS, _COMMA, _MINUS, _DOT, _ZERO, _NINE, _COLON, _E, _LOWER_E = 43, 44, 45, 46, 48, 57, 58, 69, 101


@dataclass(frozen=True)
class Rows:
    """Labels and features of n rows, in CSR form: row r has labels[label_start[r]:label_start[r + 1]].

    Starts are int32, or int64 where there are 2^31 labels or features and more.
    """

    label_start: npt.NDArray[Any]
    labels: npt.NDArray[np.int32]
    feature_start: npt.NDArray[Any]
    features: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.label_start.size - 1

    def label_matrix(self, n_labels: int) -> sparse.csr_array[Any]:
        """Labels as a matrix, (n, n_labels); a label that stands twice is stored twice."""
        ones = np.ones(self.labels.size, dtype=np.float32)
        return sparse.csr_array((ones, self.labels, self.label_start), shape=(self.n_rows, n_labels))

    def feature_matrix(self, n_features: int) -> sparse.csr_array[Any]:
        """Features as a matrix, (n, n_features), in these arrays; one that stands twice is summed."""
        parts = self.values, self.features, self.feature_start
        matrix: sparse.csr_array[Any] = sparse.csr_array(parts, shape=(self.n_rows, n_features))
        matrix.sum_duplicates()
        return matrix


def parse(
    blocks: Iterable[bytes],
    path: PathLike,
    *,
    first_line: int = 1,
    n_labels: int = MAX_ID + 1,
    n_features: int = MAX_ID + 1,
    comments: bool = False,
    max_rows: int | None = None,
) -> Rows:
    """Parse blocks of whole lines.

    Parameters
    ----------
    blocks : iterable of bytes
    path : path-like
        For messages.
    first_line : int
        Number of the first line of the first block.
    n_labels, n_features : int
        Ids have to be below.
    comments : bool
        Whether "#" starts a comment. A line that is all comment is no row.
    max_rows : int, optional
        How many rows there may be.

    Raises
    ------
    DataError
        With file and line.
    """
    line = first_line
    n_rows = 0
    parsed = []
    for block in (waiting := iter(blocks)):
        buffer = np.frombuffer(block, dtype=np.uint8)
        status, at, *arrays = _parse_block(buffer, comments, n_labels, n_features)
        parsed.append(arrays)
        n_rows += arrays[0].size
        if max_rows is not None and n_rows > max_rows:
            place = f"{path}:{first_line + max_rows}"
            raise DataError(
                f"{place}: more rows than the header says ({max_rows}); mend the header or the rows"
            )
        if status == _BLANK and not block[at:].strip() and not any(later.strip() for later in waiting):
            break
        if status != _GOOD:
            text = block[at:].split(b"\n", 1)[0].decode("utf-8", "backslashreplace").removesuffix("\r")
            fault = _fault(text, comments, n_labels, n_features)
            bad_line = line + block.count(b"\n", 0, at)
            raise DataError(f"{path}:{bad_line}: {fault}")
        line += block.count(b"\n")
    of_kind = list(zip(*parsed, strict=True))
    parsed.clear()
    joined = []
    while of_kind:  # so that a kind's blocks are gone before the next kind is joined
        joined.append(np.concatenate(of_kind.pop(0)))
    label_counts, labels, feature_counts, features, values = joined
    return Rows(_starts(label_counts), labels, _starts(feature_counts), features, values)


def _starts(counts: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Where each row starts; 64-bit only where needed, since SciPy then stores the column indices so too."""
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    return starts.astype(sparse.get_index_dtype(maxval=int(starts[-1])), copy=False)


@njit(cache=True)
def _parse_block(buffer: Any, comments: bool, n_labels: int, n_features: int) -> Any:
    """Status, start of the line that stopped the parse, and the arrays of the rows before it."""
    n_lines, n_commas, n_colons = 1, 0, 0
    for byte in buffer:
        n_lines += byte == _NEWLINE
        n_commas += byte == _COMMA
        n_colons += byte == _COLON
    label_counts = np.empty(n_lines, dtype=np.int64)
    labels = np.empty(n_lines + n_commas, dtype=np.int32)
    feature_counts = np.empty(n_lines, dtype=np.int64)
    features = np.empty(n_colons, dtype=np.int32)
    values = np.empty(n_colons, dtype=np.float32)
    row, label_at, feature_at, at = 0, 0, 0, 0
    status = _GOOD
    while at < buffer.size:
        start = at
        end, stop, after = _line(buffer, at, comments)
        at = after
        if _skip_blanks(buffer, start, end) == end:
            if stop > end:  # nothing but a comment
                continue
            status, at = _BLANK, start
            break
        position, n_new_labels = _parse_labels(buffer, start, end, labels, label_at, n_labels)
        n_new_features = 0
        if position >= 0:
            position, n_new_features = _parse_features(
                buffer, position, end, features, values, feature_at, n_features
            )
        if position < 0:
            status, at = _BAD, start
            break
        label_counts[row], feature_counts[row] = n_new_labels, n_new_features
        label_at += n_new_labels
        feature_at += n_new_features
        row += 1
    return (
        status,
        at,
        label_counts[:row].copy(),
        labels[:label_at].copy(),
        feature_counts[:row].copy(),
        features[:feature_at].copy(),
        values[:feature_at].copy(),
    )


@njit(cache=True)
def _line(buffer: Any, at: int, comments: bool) -> Any:
    """End of a line's content, end of the line with its comment, and start of the next line."""
    stop = at
    hash_at = -1
    while stop < buffer.size and buffer[stop] != _NEWLINE:
        if comments and hash_at < 0 and buffer[stop] == _HASH:
            hash_at = stop
        stop += 1
    after = stop + 1
    if stop > at and buffer[stop - 1] == _RETURN:
        stop -= 1
    end = hash_at if hash_at >= 0 else stop
    return end, stop, after


@njit(cache=True)
def _skip_blanks(buffer: Any, at: int, end: int) -> int:
    while at < end and (buffer[at] == _SPACE or buffer[at] == _TAB):
        at += 1
    return at


@njit(cache=True)
def _parse_id(buffer: Any, at: int, end: int, limit: int) -> Any:
    """Position after a whole number below `limit`, or -1; and the number."""
    start, number = at, 0
    while at < end and _ZERO <= buffer[at] <= _NINE:
        number = number * 10 + (buffer[at] - _ZERO)
        if number >= limit:
            return -1, 0
        at += 1
    return (at if at > start else -1), number


@njit(cache=True)
def _parse_labels(buffer: Any, at: int, end: int, labels: Any, into: int, limit: int) -> Any:
    """Position after the labels, or -1; and how many there are. A first field with a colon is a feature."""
    count = 0
    if _skip_blanks(buffer, at, end) > at:
        return at, count
    start = at
    while at >= 0:
        at, number = _parse_id(buffer, at, end, limit)
        if at < 0:
            # A feature id may exceed the label limit: the colon decides.
            return (start if _is_feature(buffer, start, end) else -1), 0
        if at < end and buffer[at] == _COLON and count == 0:
            return start, 0
        labels[into + count] = number
        count += 1
        if at == end or buffer[at] == _SPACE or buffer[at] == _TAB:
            return at, count
        if buffer[at] != _COMMA:
            return -1, 0
        at += 1
    return -1, 0


@njit(cache=True)
def _is_feature(buffer: Any, at: int, end: int) -> bool:
    while at < end and _ZERO <= buffer[at] <= _NINE:
        at += 1
    return at < end and buffer[at] == _COLON


@njit(cache=True)
def _parse_features(buffer: Any, at: int, end: int, features: Any, values: Any, into: int, limit: int) -> Any:
    """Position after the features, or -1; and how many there are."""
    count = 0
    at = _skip_blanks(buffer, at, end)
    while at < end:
        at, number = _parse_id(buffer, at, end, limit)
        if at < 0 or at >= end or buffer[at] != _COLON:
            return -1, 0
        at, value = _parse_value(buffer, at + 1, end)
        if at < 0 or not abs(value) <= _MAX_FLOAT32:
            return -1, 0
        features[into + count] = number
        values[into + count] = value
        count += 1
        after = _skip_blanks(buffer, at, end)
        if after == at and at < end:
            return -1, 0
        at = after
    return at, count


@njit(cache=True)
def _parse_value(buffer: Any, at: int, end: int) -> Any:
    """Position after a decimal number, or -1; and the number, to float32's precision and better."""
    sign = 1.0
    if at < end and (buffer[at] == _MINUS or buffer[at] == _PLUS):
        sign = -1.0 if buffer[at] == _MINUS else 1.0
        at += 1
    mantissa, exponent, n_digits, after_dot = 0, 0, 0, False
    while at < end:
        if _ZERO <= buffer[at] <= _NINE:
            n_digits += 1
            if mantissa < 100_000_000_000_000_000:  # a further digit fits into 64 bits
                mantissa = mantissa * 10 + (buffer[at] - _ZERO)
                exponent -= after_dot
            else:
                exponent += not after_dot
        elif buffer[at] == _DOT and not after_dot:
            after_dot = True
        else:
            break
        at += 1
    if n_digits == 0:
        return -1, 0.0
    if at < end and (buffer[at] == _E or buffer[at] == _LOWER_E):
        at += 1
        negative = at < end and buffer[at] == _MINUS
        if at < end and (buffer[at] == _MINUS or buffer[at] == _PLUS):
            at += 1
        at, power = _parse_id(buffer, at, end, 100_000)
        if at < 0:
            return -1, 0.0
        exponent += -power if negative else power
    return at, sign * _scale(float(mantissa), exponent)


@njit(cache=True)
def _scale(mantissa: float, exponent: int) -> float:
    """mantissa · 10^exponent; exact where both the mantissa and the power are exact in float64."""
    while exponent > 22 and mantissa != 0 and mantissa < 1e300:
        mantissa *= _POWERS[22]
        exponent -= 22
    while exponent < -22 and mantissa != 0:
        mantissa /= _POWERS[22]
        exponent += 22
    if mantissa == 0:
        return 0.0
    if exponent >= 0:
        return float(mantissa * _POWERS[min(exponent, 22)])
    return float(mantissa / _POWERS[-exponent])


def _fault(line: str, comments: bool, n_labels: int, n_features: int) -> str:
    """What is wrong with a line that the compiled parser refused."""
    if comments:
        line = line.split("#", 1)[0]
    fields = [field for field in re.split("[ \t]", line) if field]
    if not fields:
        return (
            "blank line; it may be a slip or a row without labels and features: take it out"
            " (also from the number of rows where a header has one)"
        )
    has_labels = line[0] not in " \t" and ":" not in fields[0]
    if has_labels and (fault := _label_fault(fields[0], n_labels)):
        return fault
    for field in fields[has_labels:]:
        if fault := _feature_fault(field, n_features):
            return fault
    return f"the row cannot be read; it starts with {line[:60]!r}"


def _label_fault(field: str, n_labels: int) -> str | None:
    if field.startswith(",") or field.endswith(","):
        return f"labels {field!r:.80} start or end with a comma; write them without spaces, like 1,2 3:0.5"
    for text in field.split(","):
        if fault := _id_fault("label", text, n_labels):
            return fault
    return None


def _feature_fault(field: str, n_features: int) -> str | None:
    if field.startswith(",") or (field.endswith(",") and ":" not in field):
        return f"a space before or after a comma at {field!r:.80}; write labels without any, like 1,2 3:0.5"
    number, colon, value = field.partition(":")
    if fault := _id_fault("feature", number, n_features):
        return fault
    if not colon or not value:
        return f"feature {number} has no value; write {number}:VALUE"
    try:
        parsed = float(value)
    except ValueError:
        return f"the value of feature {number} is {value!r:.80}, not a number"
    if not abs(parsed) <= _MAX_FLOAT32:
        return f"the value of feature {number} is {value:.80}; it has to be a finite number that fits float32"
    if not _PLAIN_NUMBER.fullmatch(value):
        return f"the value of feature {number} is {value!r:.80}; write it as a plain decimal number"
    return None


def _id_fault(what: str, text: str, limit: int) -> str | None:
    if text.startswith("-") and text[1:].isdecimal():
        return f"{what} id {text:.20} is negative; ids start at 0"
    if not (text.isascii() and text.isdecimal()):
        return f"{what} id {text!r:.80} is not a whole number"
    digits = text.lstrip("0")
    if len(digits) > 10 or int(digits or 0) >= limit:
        return f"{what} id {text[:20]} is too large; the highest allowed is {limit - 1}"
    return None
