"""Which player owns which label."""

from __future__ import annotations

from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
from scipy import sparse

Partition = Literal["all", "frequency", "random", "cooccurrence"]

BoolArray = npt.NDArray[np.bool_]

_SMALL_LABEL_SET = 101  # labels: up to here every player owns every label


def chosen_partition(name: str, n_labels: int, *, alike: bool) -> Partition:
    """The partition that an estimator's option names.

    Parameters
    ----------
    name : str
        A partition, or "auto": "frequency" where the players are alike and labels many, else "all".
    n_labels : int
    alike : bool
        Whether all players are of one view and kind.

    Returns
    -------
    {"all", "frequency", "random", "cooccurrence"}

    Examples
    --------
    >>> chosen_partition("auto", 1000, alike=True), chosen_partition("auto", 1000, alike=False)
    ('frequency', 'all')
    """
    if name != "auto":
        return cast("Partition", name)
    return "frequency" if alike and n_labels > _SMALL_LABEL_SET else "all"


def partition_labels(
    label_matrix: sparse.csr_array,
    n_players: int,
    *,
    method: Partition,
    tail_owners: int = 2,
    seed: int = 0,
) -> BoolArray:
    """Deal the labels to the players; every label gets at least one owner.

    Parameters
    ----------
    label_matrix : csr_array, shape (n, K)
        Training labels.
    n_players : int
        N.
    method : {"all", "frequency", "random", "cooccurrence"}
        "all": every player owns every label. "frequency": labels sorted by n_c are dealt round-robin, those
        below the median frequency to ``tail_owners`` players. "random": the same in a random order.
        "cooccurrence": labels that occur together share a player (k-means on the labels' normalised
        co-occurrence profiles); a tail label's second owner is the next nearest cluster.
    tail_owners : int
        Owners of a label below the median frequency: a label needs two before players can disagree on it.
    seed : int

    Returns
    -------
    ndarray of bool, shape (N, K)
        True where player i owns label c.

    Raises
    ------
    ValueError
        If there is no player, or an option is unknown or out of range.

    Notes
    -----
    [D] Our reading: the paper says only that the label space is split and that subsets may overlap.

    Examples
    --------
    >>> Y = sparse.csr_array(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1]]))
    >>> partition_labels(Y, 2, method="frequency").astype(int)
    array([[1, 0, 1, 1],
           [0, 1, 1, 1]])
    """
    if method not in get_args(Partition):
        raise ValueError(f"partition is {method!r}; choose one of {', '.join(get_args(Partition))}")
    if n_players < 1:
        raise ValueError(f"n_players is {n_players}; a game needs at least one player")
    if tail_owners < 1:
        raise ValueError(f"tail_owners is {tail_owners}; every label needs at least one owner")
    n_labels = label_matrix.shape[1]
    if method == "all" or n_players == 1:
        return np.ones((n_players, n_labels), dtype=np.bool_)
    counts = np.bincount(label_matrix.indices, minlength=n_labels)
    wanted = np.where(counts < np.median(counts), min(tail_owners, n_players), 1)
    if method == "cooccurrence":
        ranking = _nearest_clusters(label_matrix, n_players, seed)
    else:
        ranking = _round_robin(counts, n_players, shuffle=method == "random", seed=seed)
    owners = np.zeros((n_players, n_labels), dtype=np.bool_)
    for turn in range(int(wanted.max(initial=1))):
        labels = np.flatnonzero(wanted > turn)
        owners[ranking[labels, turn], labels] = True
    return owners


def _round_robin(
    counts: npt.NDArray[np.int64], n_players: int, *, shuffle: bool, seed: int
) -> npt.NDArray[np.intp]:
    """First, second, … choice of owner for each label, shape (K, N)."""
    n_labels = len(counts)
    if shuffle:
        order = np.random.default_rng(seed).permutation(n_labels)
    else:
        order = np.argsort(-counts, kind="stable")
    place = np.empty(n_labels, dtype=np.intp)
    place[order] = np.arange(n_labels)
    return (place[:, None] + np.arange(n_players)) % n_players


def _nearest_clusters(label_matrix: sparse.csr_array, n_players: int, seed: int) -> npt.NDArray[np.intp]:
    """Clusters by distance from each label's co-occurrence profile, nearest first, shape (K, N)."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.preprocessing import normalize

    binary = label_matrix.astype(np.float64)
    together = sparse.csr_array(binary.T @ binary)
    # Labels whose numbers are stored in 64 bits hand that on, and the clustering takes 32 bits only.
    index = sparse.get_index_dtype(maxval=max(together.nnz, together.shape[1]))
    parts = (together.data, together.indices.astype(index), together.indptr.astype(index))
    profiles = normalize(sparse.csr_array(parts, together.shape))
    n_clusters = min(n_players, label_matrix.shape[1])
    model = MiniBatchKMeans(n_clusters, random_state=seed, n_init=3).fit(profiles)
    distance = model.transform(profiles)
    if n_clusters < n_players:
        distance = np.hstack([distance, np.full((len(distance), n_players - n_clusters), np.inf)])
    return np.argsort(distance, axis=1, kind="stable")
