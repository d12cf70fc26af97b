"""The scikit-learn face of the game on label trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from evenhand.multilabel.extreme.label_tree import LabelTree, build_label_tree
from evenhand.multilabel.extreme.levels import MOST_CHILDREN, Level
from evenhand.multilabel.extreme.training import ROWS_PER_SEARCH, TreeSettings, search, train_tree
from evenhand.multilabel.game import rarity
from evenhand.multilabel.options import check_choice, check_n_jobs, check_number, check_whole
from evenhand.multilabel.partition import Partition, partition_labels
from evenhand.multilabel.progress import progress_bar
from evenhand.multilabel.scores import as_positive_int, top_k
from evenhand.multilabel.targets import as_targets
from evenhand.multilabel.views import Views

_LEAST_NAMED = 50  # labels that each player names for an instance, so that players' lists overlap


@dataclass(frozen=True)
class TreePlayer:
    """A player of the extreme game: a label tree and the weights of its levels.

    Parameters
    ----------
    tree : LabelTree
        Over the labels that the player owns.
    levels : list of Level
    """

    tree: LabelTree
    levels: list[Level]

    def probabilities(
        self, features: sparse.csr_array[Any], *, beam: int, n_labels: int, n_jobs: int | None
    ) -> sparse.csr_array[Any]:
        """The likelihood of the way to each of the best labels, e to the power of −Σ max(0, 1 − s)².

        Parameters
        ----------
        features : csr_array of float32, shape (n, D)
        beam : int
            Nodes kept at each level of the tree.
        n_labels : int
            Labels named for each instance.
        n_jobs : int, optional

        Returns
        -------
        csr_array of float32, shape (n, L)
        """
        nodes, scores = search(self.levels, features, beam=beam, last=n_labels, n_jobs=n_jobs)
        rows, places = np.nonzero(nodes >= 0)
        labels = self.tree.labels[nodes[rows, places]]
        shape = (features.shape[0], self.tree.n_labels)
        return sparse.csr_array((np.exp(scores[rows, places]), (rows, labels)), shape=shape)


class ExtremeGameClassifier(BaseEstimator):  # type: ignore[misc]
    """The curiosity game for tens to hundreds of thousands of labels: players that own label trees.

    Each player has a tree over its labels, trained by one-vs-rest among siblings, every node to its optimum,
    and is paid more for being right on rare labels. Trees of different players are cut differently. A label's
    score is the mean over its owners. Nothing of the size instances x labels is ever formed.

    Parameters
    ----------
    n_players : int
        N, the number of trees. Time, memory and size of the model grow with it.
    partition : {"all", "frequency", "random", "cooccurrence"}
        Which player owns which label, see `partition_labels`.
    tail_owners : int
        Owners of a label below the median frequency, where labels are split.
    rarity_reward : float
        α ≥ 0: a positive of label c weighs 1 + αρ_c.
    C : float
        Strength of the losses against the L2 prior.
    branching : int
        The most children of a node above the last; a power of two.
    leaf_size : int
        The most labels below one node.
    matcher_beam : int
        Further negatives: a node's children are also judged on the instances that the trained levels above
        lead there with a beam of this width. 0: none. More of them raise P@1 and lower P@5.
    beam : int
        Nodes kept at each level when labels are searched for.
    tolerance : float
        The largest accepted distance ‖w − w*‖₂ of weights to their optimum.
    prune : float
        Weights up to this size are dropped, biases are kept; it suits rows of length 1.
    n_jobs : int, optional
        Threads; -1 for all cores, None for one. The result does not depend on it, to the bit.
    random_state : int
        Seeds trees, partition and the solver's order of rows. The same seed gives the same model.
    verbose : bool
        Show a progress bar.

    Attributes
    ----------
    classes_ : ndarray, shape (L,)
        Label names: the tags or column names that y came with, else 0 to L − 1.
    players_ : list of TreePlayer
    owners_ : ndarray of bool, shape (N, L)
    label_counts_ : ndarray of int64, shape (L,)
        n_c, training positives of each label.
    n_train_ : int
        M, training instances.
    n_features_in_ : int

    Notes
    -----
    [D] The papers do not say how the game is played on extreme label sets. With ``rarity_reward=0`` and one
    player this is a plain label tree as in PECOS (Yu et al. 2022) or Parabel (Prabhu et al. 2018). The
    disagreement reward is not played here.

    Examples
    --------
    >>> from evenhand.multilabel.datasets import make_long_tail
    >>> data = make_long_tail(400, 100, 300, seed=0)
    >>> model = ExtremeGameClassifier(leaf_size=16).fit(data.X[:300], data.Y[:300])
    >>> best = model.predict_topk(data.X[300:], 5)
    >>> best.shape, best.nnz
    ((100, 100), 500)
    """

    def __init__(
        self,
        *,
        n_players: int = 1,
        partition: str = "all",
        tail_owners: int = 2,
        rarity_reward: float = 3.0,
        C: float = 0.3,
        branching: int = 16,
        leaf_size: int = 400,
        matcher_beam: int = 0,
        beam: int = 10,
        tolerance: float = 0.3,
        prune: float = 0.1,
        n_jobs: int | None = None,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.n_players = n_players
        self.partition = partition
        self.tail_owners = tail_owners
        self.rarity_reward = rarity_reward
        self.C = C
        self.branching = branching
        self.leaf_size = leaf_size
        self.matcher_beam = matcher_beam
        self.beam = beam
        self.tolerance = tolerance
        self.prune = prune
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Grow and train every player's tree.

        Parameters
        ----------
        X : sparse or dense matrix, shape (n, D)
        y : sparse or dense matrix, shape (n, L), or sequence of collections of str
            Labels: whatever is not zero is a label; or the tags of each instance.

        Returns
        -------
        ExtremeGameClassifier
            Itself.

        Raises
        ------
        ValueError
            If an option or the data are wrong; the message names the place.
        """
        self.check_options()
        features = self._as_features(X, reset=True)
        targets = as_targets(y, features.shape[0])
        self.classes_, self.label_counts_ = targets.names, targets.counts
        self.n_train_ = features.shape[0]
        self.owners_ = partition_labels(
            targets.labels,
            self.n_players,
            method=cast("Partition", self.partition),
            tail_owners=self.tail_owners,
            seed=self.random_state,
        )
        counts = torch.from_numpy(self.label_counts_)
        rewards = 1 + self.rarity_reward * rarity(counts, self.n_train_).numpy()
        self.players_ = [
            self._train(features, targets.labels, rewards, player) for player in range(self.n_players)
        ]
        return self

    def check_options(self) -> None:
        """Refuse options that are wrong; `fit` does so first.

        Raises
        ------
        ValueError
            The message names the option and what it may be.
        """
        check_choice("partition", self.partition, get_args(Partition))
        check_number("rarity_reward", self.rarity_reward, above_zero=False)
        check_number("prune", self.prune, above_zero=False)
        for name in ("C", "tolerance"):
            check_number(name, getattr(self, name), above_zero=True)
        for name, least in (
            ("n_players", 1),
            ("tail_owners", 1),
            ("branching", 2),
            ("leaf_size", 2),
            ("matcher_beam", 0),
            ("beam", 1),
            ("random_state", 0),
        ):
            check_whole(name, getattr(self, name), least)
        for name in ("branching", "leaf_size"):
            if getattr(self, name) > MOST_CHILDREN:
                raise ValueError(f"{name} must be at most {MOST_CHILDREN}, not {getattr(self, name)}")
        check_n_jobs(self.n_jobs)

    def _as_features(self, X: Any, *, reset: bool) -> sparse.csr_array[Any]:
        """X as CSR of float32 with sorted indices and no NaN."""
        checked = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float32, np.float64],
            ensure_all_finite=False,
        )
        views = Views.of(checked)  # which finds and names what is not finite
        block: Any = views.blocks[views.names[0]]
        features: sparse.csr_array[Any] = sparse.csr_array(block).astype(np.float32)
        if not features.has_canonical_format:
            features = features.copy()
            features.sum_duplicates()
        return features

    def _train(
        self,
        features: sparse.csr_array[Any],
        labels: sparse.csr_array[Any],
        rewards: npt.NDArray[np.float64],
        player: int,
    ) -> TreePlayer:
        owned = _only(labels, self.owners_[player])
        seed = self.random_state + player
        settings = TreeSettings(self.C, self.matcher_beam, self.tolerance, self.prune, seed)
        with progress_bar(self.verbose, "nodes") as report:
            tree = build_label_tree(
                features,
                owned,
                branching=self.branching,
                leaf_size=self.leaf_size,
                seed=seed,
                n_jobs=self.n_jobs,
            )
            what = f"player {player + 1} of {self.n_players}"
            told = None if report is None else lambda done, total: report(what, done, total)
            levels = train_tree(
                features, owned, tree, rewards, settings, n_jobs=self.n_jobs, on_progress=told
            )
        return TreePlayer(tree, levels)

    def predict_topk(self, X: Any, k: int) -> sparse.csr_array[Any]:
        """The k best labels of each instance that the search finds.

        Parameters
        ----------
        X : sparse or dense matrix, shape (n, D)
        k : int

        Returns
        -------
        csr_array of float32, shape (n, L)
            Their scores in (0, 1], in the order of label ids; at most k a row. A score is a likelihood under
            the squared hinge, not a calibrated probability; `PooledCalibration` and the decoders learn from
            scores of instances that training did not see.

        Raises
        ------
        ValueError
            If k is no positive whole number, or X does not fit the training data.
        """
        check_is_fitted(self)
        k = as_positive_int(k, "k")
        features = self._as_features(X, reset=False)
        best = [top_k(scores, k) for scores in self._fused(features, max(k, _LEAST_NAMED))]
        return sparse.csr_array(sparse.vstack(best, format="csr"))

    def _fused(self, features: sparse.csr_array[Any], n_named: int) -> Iterator[sparse.csr_array[Any]]:
        """The mean over each label's owners, some instances at a time; a label that is not named counts 0."""
        share = (1 / self.owners_.sum(axis=0)).astype(np.float32)
        step = ROWS_PER_SEARCH * 8
        for start in range(0, features.shape[0], step):
            part = features[start : start + step]
            found = [
                player.probabilities(part, beam=self.beam, n_labels=n_named, n_jobs=self.n_jobs)
                for player in self.players_
            ]
            fused: sparse.csr_array[Any] = sparse.csr_array(sum(found[1:], start=found[0]))
            fused.data *= share[fused.indices]
            yield fused

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.target_tags.two_d_labels = True
        return tags


def _only(labels: sparse.csr_array[Any], owned: npt.NDArray[np.bool_]) -> sparse.csr_array[Any]:
    """The labels that are owned; the columns of the others stay, and are empty."""
    if owned.all():
        return labels
    kept = owned[labels.indices]
    indptr = np.concatenate([[0], np.cumsum(kept)])[labels.indptr]
    return sparse.csr_array((labels.data[kept], labels.indices[kept], indptr), shape=labels.shape)
