"""Splits that keep the long tail on both sides, and splits that keep groups together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import sparse

from evenhand.multilabel.data import as_label_matrix

Rows: TypeAlias = npt.NDArray[np.int64]

_SIDEWAYS = 100  # moves without gain for each label that is hard to mend


def stratified_split(Y: Any, test_size: float, *, seed: int) -> tuple[Rows, Rows]:
    """Split instances in two so that each label keeps its share on both sides.

    Parameters
    ----------
    Y : sparse array or array-like, shape (n, L)
        Labels; whatever is not zero is a label.
    test_size : float
        Share of the test side, between 0 and 1 (both excluded).
    seed : int
        The same seed gives the same split.

    Returns
    -------
    train_rows, test_rows : ndarray of int64
        Sorted row numbers; together all rows, each once. Every label with two or more positives has at least
        one among `train_rows`.

    Raises
    ------
    ValueError
        If `test_size` is out of range or a side would be empty.

    Notes
    -----
    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011): the rows of the label with the
    fewest unplaced positives are placed first, each on the side that still wants it most. Three changes.
    What a side wants of a row is summed over all its labels, each relative to the number wanted at the
    start, so that rare labels weigh most and frequent ones are not left to chance. The wanted number of
    test positives, n_c·test_size, is rounded up or down at random, so that its expectation is right for
    rare labels too (plain rounding would put both positives of a label with two on the training side)
    and the sum over labels is kept. A label with one positive has no proportion to keep and no say. Time
    is linear in the number of positives. Labels come before sizes: where most labels are rare, the test
    side may be off by some instances in a thousand.

    Examples
    --------
    >>> Y = [[1, 0], [1, 0], [1, 1], [1, 1]]
    >>> train, test = stratified_split(Y, 0.5, seed=0)
    >>> np.asarray(Y)[test].sum(axis=0)
    array([2, 1])
    """
    if not 0 < test_size < 1:
        raise ValueError(f"test_size must lie between 0 and 1 (both excluded), not {test_size}")
    matrix = as_label_matrix(Y)
    n = matrix.shape[0]
    rng = np.random.default_rng(seed)
    counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
    rounded = _rounded_at_random(counts * test_size, rng)
    wanted_test = np.minimum(rounded, np.maximum(counts - 1, 0))
    n_test = round(n * test_size)
    if not 0 < n_test < n:
        raise ValueError(f"test_size={test_size} leaves one side of {n} instances empty")
    part = _place_rows(
        matrix,
        wanted=np.stack([counts - wanted_test, wanted_test], axis=1),
        sizes=np.array([n - n_test, n_test], dtype=np.float64),
        may_hold_all=np.array([True, False]),
        spread=np.zeros(counts.size, dtype=np.bool_),
        rng=rng,
    )
    train, test = np.flatnonzero(part == 0), np.flatnonzero(part == 1)
    if test.size == 0:
        raise ValueError(f"the labels leave no row for the test side; take a test_size above {test_size}")
    return train, test


def stratified_folds(Y: Any, n_folds: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Deal instances into folds so that each label is spread evenly over them.

    Parameters
    ----------
    Y : sparse array or array-like, shape (n, L)
        Labels; whatever is not zero is a label.
    n_folds : int
        At least 2, at most n.
    seed : int
        The same seed gives the same folds.

    Returns
    -------
    ndarray of int64, shape (n,)
        Fold number of each instance, 0 to n_folds − 1.

    Raises
    ------
    ValueError
        If `n_folds` is out of range.

    Warns
    -----
    UserWarning
        If labels remain whose positives all lie in one fold (see Notes), with their number.

    Notes
    -----
    The method is that of `stratified_split`. A label with at least n_folds positives is to stand in every
    fold, one with fewer (but two or more) in more than one. Rows with several labels can make this
    impossible (three rows that share three labels pairwise cannot be dealt into two folds), and to decide
    whether it is possible is as hard as colouring a graph. So rows are moved from fold to fold in a local
    search of limited length, which puts labels with all positives in one fold first. These are rarely left
    over, and warned of; a label with about n_folds positives may miss a fold. The search adds little to the
    linear time of placing: 50,000 rows with 35,000 labels and five folds take a second or two.

    Examples
    --------
    >>> Y = [[1, 0], [1, 0], [0, 1], [0, 1]]
    >>> folds = stratified_folds(Y, 2, seed=0)
    >>> bool(folds[0] != folds[1]), bool(folds[2] != folds[3])
    (True, True)
    """
    matrix = as_label_matrix(Y)
    n, n_labels = matrix.shape
    if not isinstance(n_folds, Integral) or not 2 <= n_folds <= n:
        raise ValueError(
            f"n_folds must be a whole number between 2 and the number of instances ({n}), not {n_folds!r}"
        )
    counts = np.bincount(matrix.indices, minlength=n_labels)
    part = _place_rows(
        matrix,
        wanted=np.repeat(counts[:, None] / n_folds, n_folds, axis=1),
        sizes=np.full(n_folds, n / n_folds),
        may_hold_all=np.zeros(n_folds, dtype=np.bool_),
        spread=counts >= n_folds,
        rng=np.random.default_rng(seed),
    )
    lonely = _labels_in_one_fold(matrix, part, n_folds)
    if lonely:
        warnings.warn(
            f"{lonely} labels with two or more positives have all of them in one fold, and none outside it:"
            " their rows share too many labels",
            stacklevel=2,
        )
    return part


def grouped_folds(Y: Any, n_folds: int, *, groups: npt.ArrayLike, seed: int) -> npt.NDArray[np.int64]:
    """Deal groups of instances into folds so that each label is spread evenly over them.

    Parameters
    ----------
    Y : sparse array or array-like, shape (n, L)
        Labels; whatever is not zero is a label.
    n_folds : int
        At least 2, at most the number of groups.
    groups : array-like of str or int, shape (n,)
        Group of each instance; a group has the labels of all its instances and lies in one fold.
    seed : int
        The same seed gives the same folds.

    Returns
    -------
    ndarray of int64, shape (n,)
        Fold number of each instance, 0 to n_folds − 1.

    Raises
    ------
    ValueError
        If `n_folds` is out of range, or `groups` are no groups or has another length than Y.

    Warns
    -----
    UserWarning
        As `stratified_folds` does.

    Examples
    --------
    >>> folds = grouped_folds([[1], [1], [1], [1]], 2, groups=["a", "a", "b", "b"], seed=0)
    >>> bool(folds[0] == folds[1] != folds[2] == folds[3])
    True
    """
    matrix = as_label_matrix(Y)
    member = group_numbers(groups)
    if len(member) != matrix.shape[0]:
        raise ValueError(f"groups has {len(member)} entries, but there are {matrix.shape[0]} instances")
    n_groups = int(member.max(initial=-1)) + 1
    if isinstance(n_folds, Integral) and n_folds > n_groups:
        raise ValueError(f"n_folds is {n_folds}, but there are only {n_groups} groups of instances")
    places = (np.ones(len(member), np.float32), (member, np.arange(len(member))))
    of_group = sparse.csr_array(places, shape=(n_groups, len(member))) @ matrix
    return stratified_folds(of_group, n_folds, seed=seed)[member]


def group_numbers(groups: npt.ArrayLike) -> Rows:
    """Groups counted from 0, in the order of their names.

    Parameters
    ----------
    groups : array-like of str or int, shape (n,)

    Returns
    -------
    ndarray of int64, shape (n,)

    Raises
    ------
    ValueError
        If they are not one name for each instance, or one is missing.

    Examples
    --------
    >>> group_numbers(["b", "a", "b"])
    array([1, 0, 1])
    """
    try:
        given = np.asarray(groups)
        numbers: Rows = np.unique(given, return_inverse=True)[1]
    except (TypeError, ValueError) as error:  # of rows of unequal length, or of None among texts
        raise ValueError(f"groups must be texts or whole numbers, not both, nor missing ({error})") from error
    if given.ndim != 1:
        raise ValueError(f"groups must be of shape (n,), one name for each instance, not {given.shape}")
    if given.dtype.kind == "f" and (missing := np.isnan(given)).any():
        raise ValueError(f"groups is nan for instance {np.flatnonzero(missing)[0]}; name its group")
    return numbers


def cross_fitting_folds(
    Y: Any, n_folds: int, *, groups: npt.ArrayLike | None, seed: int
) -> npt.NDArray[np.int64]:
    """The folds on which out-of-fold outputs are made: by group where there are groups.

    Parameters
    ----------
    Y : sparse array or array-like, shape (n, L)
    n_folds : int
    groups : array-like, shape (n,), or None
    seed : int

    Returns
    -------
    ndarray of int64, shape (n,)
        As of `grouped_folds` or `stratified_folds`, without their warning: a label whose positives all lie in
        one fold has no useful outputs there, and whoever cross-fits leaves these out.

    Raises
    ------
    ValueError
        As these do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if groups is None:
            return stratified_folds(Y, n_folds, seed=seed)
        return grouped_folds(Y, n_folds, groups=groups, seed=seed)


def group_split(groups: npt.ArrayLike, fractions: Mapping[str, float], *, seed: int) -> dict[str, Rows]:
    """Split instances so that no group stands in two parts.

    Parameters
    ----------
    groups : array-like of str or int, shape (n,)
        Group of each instance.
    fractions : mapping of str to float
        Share of the instances for each part; above 0, together 1.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    dict of str to ndarray of int64
        Sorted row numbers of each part.

    Raises
    ------
    ValueError
        If the fractions are not shares of one, a part stays without a group, or `groups` are none.

    Notes
    -----
    The groups are shuffled and laid end to end; a group belongs to the part in which its middle falls. So a
    group's chance of a part is (nearly) the part's fraction whatever its size, and sizes are right up to a
    group.

    Examples
    --------
    >>> rows = group_split(["a", "a", "b", "b"], {"train": 0.5, "test": 0.5}, seed=0)
    >>> {name: part.tolist() for name, part in rows.items()}
    {'train': [0, 1], 'test': [2, 3]}
    """
    shares = np.array(list(fractions.values()), dtype=np.float64)
    if shares.size == 0 or not (shares > 0).all() or not math.isclose(shares.sum(), 1, abs_tol=1e-9):
        raise ValueError(f"fractions must be above 0 and add up to 1, not {dict(fractions)}")
    group_of_row = group_numbers(groups)
    sizes = np.bincount(group_of_row)
    order = np.random.default_rng(seed).permutation(sizes.size)
    middles = np.empty(sizes.size)
    middles[order] = np.cumsum(sizes[order]) - sizes[order] / 2
    edges = np.cumsum(shares)[:-1] * group_of_row.size
    part = np.searchsorted(edges, middles, side="right")[group_of_row]
    rows = {name: np.flatnonzero(part == number) for number, name in enumerate(fractions)}
    empty = [name for name, chosen in rows.items() if chosen.size == 0]
    if empty:
        raise ValueError(
            f"part {empty[0]!r} stays empty: {sizes.size} groups are too few or uneven for {dict(fractions)}"
        )
    return rows


def _rounded_at_random(shares: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Each share rounded up or down so that its expectation is right; the sum is off by less than one.

    Systematic rounding: the shares are laid end to end in random order, and marks one apart counted in each.
    """
    order = rng.permutation(shares.size)
    marks = np.floor(np.cumsum(shares[order]) + rng.random())
    rounded = np.empty_like(shares)
    rounded[order] = np.diff(marks, prepend=0.0)
    return rounded


def _place_rows(
    Y: Any,
    *,
    wanted: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
    may_hold_all: npt.NDArray[np.bool_],
    spread: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Part of each row, given how many positives of each label (L, parts) and rows (parts,) each part wants.

    A part that may not hold all has to leave one positive of every label with two or more to the other parts;
    a label in `spread` is to stand in every part.
    """
    n, n_labels = Y.shape
    n_parts = sizes.size
    # Ties fall to the row that comes first and the part that is tried first: both in random order.
    order = rng.permutation(n)
    first_part = rng.integers(n_parts, size=n)
    shuffled = Y[order]
    indptr, labels = shuffled.indptr.astype(np.int64), shuffled.indices.astype(np.int64)
    by_label = shuffled.tocsc()
    column_start, rows = by_label.indptr.astype(np.int64), by_label.indices.astype(np.int64)
    wanted = np.where(np.diff(column_start)[:, None] < 2, 0, wanted)
    step = 1 / np.where(wanted > 0, wanted, 1)
    row_step = 1 / np.where(sizes > 0, sizes, 1)
    placed = _stratify(
        indptr, labels, column_start, rows, wanted * step, step, sizes * row_step, row_step, first_part
    )
    held = np.zeros((n_labels, n_parts), dtype=np.int64)
    np.add.at(held, (labels, np.repeat(placed, np.diff(indptr))), 1)
    _mend(indptr, labels, column_start, rows, placed, held, may_hold_all, spread, rng)
    part = np.empty(n, dtype=np.int64)
    part[order] = placed
    return part


@njit(cache=True)
def _stratify(
    indptr: Any,
    labels: Any,
    column_start: Any,
    rows: Any,
    need: Any,
    step: Any,
    row_need: Any,
    row_step: Any,
    first_part: Any,
) -> Any:
    """Place the rows of the label with the fewest unplaced positives, until all rows are placed.

    Each part's need of a label, and of rows, starts at 1 (0 where it wants none) and falls by one step with
    each positive placed; `need` and `row_need` are changed.
    """
    n, n_labels = indptr.size - 1, column_start.size - 1
    placed = np.full(n, -1, dtype=np.int64)
    # left[c]: unplaced positives of label c. Labels with equal left form a doubly linked list, so that
    # finding the rarest and moving it on takes constant time; a label with one positive is in no list.
    left = np.diff(column_start)
    single = left < 2
    head = np.full(n + 1, -1, dtype=np.int64)
    after = np.full(n_labels, -1, dtype=np.int64)
    before = np.full(n_labels, -1, dtype=np.int64)
    for label in range(n_labels):
        if not single[label]:
            _push(head, after, before, left[label], label)
    level = 1
    while level <= n:
        rarest = head[level]
        if rarest < 0:
            level += 1
            continue
        for at in range(column_start[rarest], column_start[rarest + 1]):
            row = rows[at]
            if placed[row] >= 0:
                continue
            of_row = labels[indptr[row] : indptr[row + 1]]
            part = _neediest(need, of_row, row_need, first_part[row])
            placed[row] = part
            row_need[part] -= row_step[part]
            for other in of_row:
                if single[other]:
                    continue
                need[other, part] -= step[other, part]
                _remove(head, after, before, left[other], other)
                left[other] -= 1
                if left[other] > 0:
                    _push(head, after, before, left[other], other)
                    level = min(level, left[other])
    for row in range(n):
        if placed[row] < 0:
            part = _neediest(need, labels[:0], row_need, first_part[row])
            placed[row] = part
            row_need[part] -= row_step[part]
    return placed


@njit(cache=True)
def _push(head: Any, after: Any, before: Any, level: int, label: int) -> None:
    after[label] = head[level]
    before[label] = -1
    if head[level] >= 0:
        before[head[level]] = label
    head[level] = label


@njit(cache=True)
def _remove(head: Any, after: Any, before: Any, level: int, label: int) -> None:
    if before[label] >= 0:
        after[before[label]] = after[label]
    else:
        head[level] = after[label]
    if after[label] >= 0:
        before[after[label]] = before[label]


@njit(cache=True)
def _neediest(need: Any, of_row: Any, row_need: Any, first_part: int) -> int:
    """Part with the greatest need of the row's labels and of rows, summed; the first tried of equals."""
    n_parts = row_need.size
    best, best_total = -1, 0.0
    for step in range(n_parts):
        part = (first_part + step) % n_parts
        total = row_need[part]
        for label in of_row:
            total += need[label, part]
        if best < 0 or total > best_total:
            best, best_total = part, total
    return best


@njit(cache=True)
def _mend(
    indptr: Any,
    labels: Any,
    column_start: Any,
    rows: Any,
    placed: Any,
    held: Any,
    may_hold_all: Any,
    spread: Any,
    rng: Any,
) -> None:
    """Move rows (changes `placed` and `held`), for one faulty label after the other the move that mends most.

    A move that mends as much as it breaks is made too, a limited number of times: it may open a way out.
    """
    count = np.diff(column_start)
    sideways = -1  # until the first pass has shown how many labels are hard
    moved = True
    while moved:
        moved = False
        n_faulty = 0
        for label in range(count.size):
            if _faults(held[label], count[label], may_hold_all, spread[label]) == 0:
                continue
            n_faulty += 1
            candidates = rows[column_start[label] : column_start[label + 1]]
            row, part, gain = _best_move(
                candidates, indptr, labels, placed, held, count, may_hold_all, spread, rng
            )
            if gain > 0 or (gain == 0 and sideways > 0):
                of_row = labels[indptr[row] : indptr[row + 1]]
                _move(of_row, placed[row], part, held, count, may_hold_all, spread)
                placed[row] = part
                sideways -= gain == 0
                moved = True
        if sideways < 0:
            sideways = _SIDEWAYS * n_faulty
            moved = n_faulty > 0


@njit(cache=True)
def _best_move(
    candidates: Any,
    indptr: Any,
    labels: Any,
    placed: Any,
    held: Any,
    count: Any,
    may_hold_all: Any,
    spread: Any,
    rng: Any,
) -> Any:
    """Row, part to move it to, and faults mended, of the best move; a random one of the best."""
    best_row, best_part, best_gain, n_best = -1, -1, -1, 0
    for row in candidates:
        of_row = labels[indptr[row] : indptr[row + 1]]
        for part in range(held.shape[1]):
            if part == placed[row]:
                continue
            gain = _move(of_row, placed[row], part, held, count, may_hold_all, spread)
            _move(of_row, part, placed[row], held, count, may_hold_all, spread)
            n_best = 1 if gain > best_gain else n_best + (gain == best_gain)
            if gain > best_gain or (gain == best_gain and rng.random() * n_best < 1):
                best_row, best_part, best_gain = row, part, gain
    return best_row, best_part, best_gain


@njit(cache=True)
def _move(of_row: Any, start: int, end: int, held: Any, count: Any, may_hold_all: Any, spread: Any) -> int:
    """Move the labels of a row from one part to another in `held`; how many faults that mends."""
    gain = 0
    for label in of_row:
        gain += _faults(held[label], count[label], may_hold_all, spread[label])
        held[label, start] -= 1
        held[label, end] += 1
        gain -= _faults(held[label], count[label], may_hold_all, spread[label])
    return gain


@njit(cache=True)
def _faults(held: Any, count: int, may_hold_all: Any, spread: bool) -> int:
    """How far a label is from what it should be: all positives in one part weighs more than empty parts."""
    if count < 2:
        return 0
    faults = 0
    for part in range(held.size):
        if held[part] == count and not may_hold_all[part]:
            faults += held.size
        if spread and held[part] == 0:
            faults += 1
    return faults


def _labels_in_one_fold(Y: Any, part: npt.NDArray[np.int64], n_folds: int) -> int:
    held = np.zeros((Y.shape[1], n_folds), dtype=np.int64)
    np.add.at(held, (Y.indices, np.repeat(part, np.diff(Y.indptr))), 1)
    count = held.sum(axis=1)
    return int(((count >= 2) & (held.max(axis=1, initial=0) == count)).sum())
