"""Compiled loops over scores that call each other.

They stand in one file because numba's cache does not notice a change in a function of another file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_LEAST_GAIN = 1e-12  # below it a change is rounding, and rounds might never end


@njit(cache=True)
def insert_best(row_ids: Any, row_values: Any, label: int, value: float) -> None:
    """Insert into a list sorted by falling value, in place of its last; -1 in `row_ids` is a free place.

    Labels must come in rising order: a label stays behind those of equal value.
    """
    at = row_ids.size - 1
    while at > 0 and (row_ids[at - 1] < 0 or value > row_values[at - 1]):
        row_ids[at], row_values[at] = row_ids[at - 1], row_values[at - 1]
        at -= 1
    row_ids[at], row_values[at] = label, value


@njit(cache=True)
def rank_dense(scores: Any, ids: Any) -> None:
    """Fill ids (n, k) with the best labels of each row, best first."""
    k = ids.shape[1]
    best = np.empty(k, dtype=scores.dtype)
    for row in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            if ids[row, k - 1] < 0 or scores[row, label] > best[k - 1]:
                insert_best(ids[row], best, label, scores[row, label])


@njit(cache=True)
def rank_sparse(indptr: Any, indices: Any, data: Any, ids: Any) -> None:
    """As `rank_dense`, from a csr array with sorted indices; places without a candidate stay as they are."""
    k = ids.shape[1]
    best = np.empty(k, dtype=data.dtype)
    for row in range(indptr.size - 1):
        for at in range(indptr[row], indptr[row + 1]):
            if ids[row, k - 1] < 0 or data[at] > best[k - 1]:
                insert_best(ids[row], best, indices[at], data[at])


@njit(cache=True)
def look_up(indptr: Any, indices: Any, data: Any, kept_indptr: Any, kept: Any) -> Any:
    """Scores of the kept labels, which are a sorted subset of each row's stored labels."""
    values = np.empty(kept.size, dtype=data.dtype)
    for row in range(indptr.size - 1):
        at = indptr[row]
        for place in range(kept_indptr[row], kept_indptr[row + 1]):
            while indices[at] != kept[place]:
                at += 1
            values[place] = data[at]
    return values


@njit(cache=True)
def stored_in(indptr: Any, indices: Any, other_indptr: Any, other_indices: Any) -> Any:
    """For each entry of a csr array with sorted indices, whether the other one stores that place too."""
    found = np.zeros(indices.size, dtype=np.bool_)
    for row in range(indptr.size - 1):
        other, end = other_indptr[row], other_indptr[row + 1]
        for at in range(indptr[row], indptr[row + 1]):
            while other < end and other_indices[other] < indices[at]:
                other += 1
            found[at] = other < end and other_indices[other] == indices[at]
    return found


@njit(cache=True)
def sort_parts(starts: Any, values: Any) -> None:
    """Sort values[starts[i]:starts[i + 1]], for every i, in place."""
    for part in range(starts.size - 1):
        values[starts[part] : starts[part + 1]].sort()


@njit(cache=True)
def add_precisions(columns: Any, hits: Any, sums: Any) -> None:
    """Add up the precisions at the hits of each label; columns and hits as `scores` makes them."""
    labels, starts, values = columns
    for i in range(labels.size):
        column, found = values[starts[i] : starts[i + 1]], _part(hits, labels[i])
        at = column.size - 1
        hit = found.size - 1
        while hit >= 0:
            after = hit
            hit, at = _below(found, hit, found[after]), _below(column, at, found[after])
            sums[labels[i]] += (after - hit) * ((found.size - 1 - hit) / (column.size - 1 - at))


@njit(cache=True)
def add_f1(columns: Any, hits: Any, n_c: Any, candidates: Any, f1_sums: Any, below: Any) -> None:
    """Add each label's F1 at every candidate threshold; labels of which n_c is 0 are passed over.

    Between two of its scores a label's F1 stays the same, so it is worked out once for each score, not for
    each candidate. below[i] becomes the highest score that lies between candidates i − 1 and i, if any.
    """
    labels, starts, values = columns
    for i in range(labels.size):
        label = labels[i]
        if n_c[label] == 0:
            continue
        column, found = values[starts[i] : starts[i + 1]], _part(hits, label)
        at, hit = column.size - 1, found.size - 1
        stop = np.searchsorted(candidates, column[at], side="right") if column.size else 0
        while at >= 0:
            if stop < candidates.size:
                below[stop] = max(below[stop], column[at])
            if stop == 0:
                break
            lowest = candidates[stop - 1]
            at, hit = _below(column, at, lowest), _below(found, hit, lowest)
            f1 = 2 * (found.size - 1 - hit) / (column.size - 1 - at + n_c[label])
            start = np.searchsorted(candidates, column[at], side="right") if at >= 0 else 0
            f1_sums[start:stop] += f1
            stop = start


@njit(cache=True)
def best_thresholds(columns: Any, hits: Any, n_c: Any, most: Any, best: Any, least: Any) -> None:
    """For each label the threshold with the best F1, and the lowest that takes at most most[label] instances.

    The best is sought among those that are not below the lowest; it is NaN for a label without a hit.
    """
    labels, starts, values = columns
    for i in range(labels.size):
        label, column = labels[i], values[starts[i] : starts[i + 1]]
        least[label] = _least_threshold(column, most[label])
        found = _part(hits, label)
        if found.size:
            best[label] = _best_threshold(column, found, n_c[label], least[label])


@njit(cache=True)
def _best_threshold(column: Any, found: Any, n_positives: int, least: float) -> float:
    at, hit = column.size - 1, found.size - 1
    best, threshold = 0.0, least
    while hit >= 0 and found[hit] >= least:
        candidate = found[hit]
        hit, at = _below(found, hit, candidate), _below(column, at, candidate)
        f1 = 2 * (found.size - 1 - hit) / (column.size - 1 - at + n_positives)
        if f1 > best:
            lower = np.float64(column[at]) if at >= 0 else -np.inf
            best, threshold = f1, between(lower, np.float64(candidate))
    return threshold


@njit(cache=True)
def _least_threshold(column: Any, most: int) -> float:
    at = column.size - 1 - most
    if at < 0:
        return -np.inf
    above = at
    while above < column.size and column[above] == column[at]:
        above += 1
    higher = column[above] if above < column.size else np.nextafter(column[at], column.dtype.type(np.inf))
    return between(np.float64(column[at]), np.float64(higher))


@njit(cache=True)
def between(lower: float, lowest_taken: float) -> float:
    """Halfway down to the next lower score: a threshold must not hang on one score's last digit."""
    middle = lowest_taken + (lower - lowest_taken) / 2
    return middle if lower < middle else lowest_taken


@njit(cache=True)
def best_expected_f1(columns: Any, thresholds: Any, f1: Any, size: Any, total: Any) -> None:
    """For each label alone: the lowest probability taken, the F1, the size of the set, and Σ p."""
    labels, starts, values = columns
    for i in range(labels.size):
        label, falling = labels[i], values[starts[i] : starts[i + 1]][::-1]
        for p in falling:
            total[label] += p
        hits = 0.0
        for taken in range(1, falling.size + 1):
            hits += falling[taken - 1]
            term = 2 * hits / (taken + total[label]) if hits > 0 else 0.0
            if term > f1[label]:
                thresholds[label], f1[label], size[label] = falling[taken - 1], term, taken


@njit(cache=True)
def _part(parts: Any, number: int) -> Any:
    starts, values = parts
    return values[starts[number] : starts[number + 1]]


@njit(cache=True)
def _below(rising: Any, at: int, limit: float) -> int:
    """The last place up to `at` whose value is below the limit, or -1."""
    while at >= 0 and rising[at] >= limit:
        at -= 1
    return at


@njit(cache=True)
def macro_f1_round_dense(p: Any, ids: Any, total: Any) -> int:
    """Better the label set of each instance once, ids (n, k) in place; how many changed."""
    hits, size = np.zeros(total.size), np.zeros(total.size)
    for row in range(ids.shape[0]):
        for label in ids[row]:
            if label >= 0:
                hits[label] += p[row, label]
                size[label] += 1
    labels = np.arange(total.size)
    changed = 0
    for row in range(ids.shape[0]):
        changed += _improve(labels, p[row], ids[row], hits, size, total)
    return changed


@njit(cache=True)
def macro_f1_round_sparse(indptr: Any, indices: Any, p: Any, ids: Any, total: Any) -> int:
    """As `macro_f1_round_dense`, from a csr array."""
    hits, size = np.zeros(total.size), np.zeros(total.size)
    for row in range(ids.shape[0]):
        for at in range(indptr[row], indptr[row + 1]):
            if _holds(ids[row], indices[at]):
                hits[indices[at]] += p[at]
                size[indices[at]] += 1
    changed = 0
    for row in range(ids.shape[0]):
        here = slice(indptr[row], indptr[row + 1])
        changed += _improve(indices[here], p[here], ids[row], hits, size, total)
    return changed


@njit(cache=True)
def _improve(labels: Any, p: Any, chosen: Any, hits: Any, size: Any, total: Any) -> int:
    """Take the best set of one instance given all others; hits and size follow. 1 if the set changed."""
    k = chosen.size
    best = np.full(k, -1, dtype=np.int64)
    gains = np.zeros(k)
    before = 0.0
    for at in range(labels.size):
        label, chance = labels[at], np.float64(p[at])
        if chance <= 0:
            continue
        if _holds(chosen, label):
            hits[label] -= chance
            size[label] -= 1
            before += _gain(chance, hits[label], size[label], total[label])
        gain = _gain(chance, hits[label], size[label], total[label])
        if gain > 0 and (best[k - 1] < 0 or gain > gains[k - 1]):
            insert_best(best, gains, label, gain)
    changed = gains[best >= 0].sum() > before + _LEAST_GAIN
    if changed:
        chosen[:] = best
    for at in range(labels.size):
        if _holds(chosen, labels[at]):
            hits[labels[at]] += np.float64(p[at])
            size[labels[at]] += 1
    return int(changed)


@njit(cache=True)
def _holds(chosen: Any, label: int) -> bool:
    for one in chosen:  # noqa: SIM110 - any() of a generator does not compile
        if one == label:
            return True
    return False


@njit(cache=True)
def _gain(chance: float, hits: float, size: float, total: float) -> float:
    """What one more instance with this chance adds to 2·hits / (size + total)."""
    return 2 * (hits + chance) / (size + 1 + total) - 2 * hits / (size + total)


@njit(nogil=True, cache=True)
def descend_level(csr: Any, level: Any, beam: Any, next_beam: Any, widest: int) -> None:
    """One level down a label tree for each instance: the best children of the nodes in its beam."""
    indptr, indices, data = csr
    children, bias, feature_ptr, features, row_ptr, child, value = level
    nodes, scores = beam
    next_nodes, next_scores = next_beam
    width = next_nodes.shape[1]
    margin = np.empty(widest, np.float32)
    for i in range(nodes.shape[0]):
        best, best_scores = next_nodes[i], next_scores[i]
        for place in range(nodes.shape[1]):
            node = nodes[i, place]
            if node < 0:
                break
            first, count = children[node], children[node + 1] - children[node]
            for b in range(count):
                margin[b] = bias[first + b]
            low, high = feature_ptr[node], feature_ptr[node + 1]
            for q in range(indptr[i], indptr[i + 1]):
                low = _find(features, low, high, indices[q])
                if low == high:
                    break
                if features[low] == indices[q]:
                    for r in range(row_ptr[low], row_ptr[low + 1]):
                        margin[child[r]] += data[q] * value[r]
            for b in range(count):
                short = max(np.float32(0), np.float32(1) - margin[b])
                total = scores[i, place] - short * short
                if best[width - 1] < 0 or total > best_scores[width - 1]:
                    insert_best(best, best_scores, first + b, total)


@njit(nogil=True, cache=True)
def _find(features: Any, low: int, high: int, wanted: int) -> int:
    """The first place in features[low:high] that is not below `wanted`."""
    while low < high:
        middle = (low + high) // 2
        if features[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low
