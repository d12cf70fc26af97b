"""The scikit-learn face of the game on label trees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, Self, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from evenhand.multilabel.decoding import Decoder, GlobalThreshold, LabelThresholds
from evenhand.multilabel.extreme.curiosity import doubts
from evenhand.multilabel.extreme.forest import Forest, as_rows
from evenhand.multilabel.extreme.levels import MOST_CHILDREN
from evenhand.multilabel.extreme.node import TreeSettings
from evenhand.multilabel.extreme.payoffs import owned_only, paid, shifted
from evenhand.multilabel.extreme.players import NAMED, TreePlayer
from evenhand.multilabel.extreme.training import ROWS_PER_SEARCH
from evenhand.multilabel.features import as_views
from evenhand.multilabel.game import rarity
from evenhand.multilabel.options import (
    check_choice,
    check_folder_name,
    check_n_jobs,
    check_n_players,
    check_number,
    check_seed,
    check_whole,
)
from evenhand.multilabel.partition import Partition, partition_labels
from evenhand.multilabel.resuming import ResumableFolder, fingerprint
from evenhand.multilabel.scores import as_positive_int, top_k
from evenhand.multilabel.targets import Targets, as_known_targets, as_targets, named_sets
from evenhand.multilabel.views import Views, player_views

DecoderName = Literal["micro", "macro", "per_label"]


class ExtremeGameClassifier(BaseEstimator):  # type: ignore[misc]
    """The curiosity game for tens to hundreds of thousands of labels: players that own label trees.

    Each player has a tree over its labels, trained by one-vs-rest among siblings, every node to its optimum,
    and is paid more for being right on rare labels. Trees of different players are cut differently. A label's
    score is the mean over its owners. Nothing of the size instances x labels is ever formed.

    Parameters
    ----------
    n_players : int, optional
        N, the number of trees; with several views each view has one player. None: one player a view. Time,
        memory and size of the model grow with it.
    partition : {"all", "frequency", "random", "cooccurrence"}
        Which player owns which label, see `partition_labels`.
    tail_owners : int
        Owners of a label below the median frequency, where labels are split.
    rarity_reward, disagreement_reward : float
        α, β ≥ 0: a positive weighs 1 + ρ_c (α + βd), with the rarity ρ_c of its label and the disagreement d
        of the label's owners on the instance. β > 0 trains three times, since d comes from instances that
        the players have not seen (two folds).
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
    decoder : {"micro", "macro", "per_label"}
        How `predict` decides: one threshold that is best for micro-F1 or for macro-F1, or thresholds per
        label; they are learnt by `fit_decoders`.
    checkpoint : str, optional
        A folder where training keeps each solved node. A `fit` that was interrupted takes up from there with
        the same results to the bit; one with other data or options is refused. Delete it when the model is
        saved.
    n_jobs : int, optional
        Threads; -1 for all cores, None for one. The result does not depend on it, to the bit.
        `joblib.parallel_config` chooses another engine, see Notes.
    random_state : int
        Seeds trees, partition and the solver's order of rows. The same seed gives the same model.
    verbose : bool
        Show a progress bar.

    Attributes
    ----------
    classes_ : ndarray, shape (L,)
        Label names: the tags or column names that y came with, else 0 to L − 1.
    players_ : list of TreePlayer
    decoders_ : dict of str to Decoder
        After `fit_decoders`.
    owners_ : ndarray of bool, shape (N, L)
    label_counts_ : ndarray of int64, shape (L,)
        n_c, training positives of each label.
    n_train_ : int
        M, training instances.
    views_ : dict of str to int
        Features of each view; "all" where X was one matrix.
    n_features_in_ : int
        Of all views together.

    Notes
    -----
    [D] The papers do not say how the game is played on extreme label sets. With ``rarity_reward=0``,
    ``disagreement_reward=0`` and one player this is a plain label tree as in PECOS (Yu et al. 2022) or
    Parabel (Prabhu et al. 2018).

    Every node of a tree is a problem by itself, and a worker is sent no more than its instances. Over the
    hosts of a Dask cluster::

        client = dask.distributed.Client("tcp://scheduler:8786")
        with joblib.parallel_config(backend="dask"):
            model.fit(X, y)

    Processes of this machine: ``joblib.parallel_config(backend="loky")``. What a worker that died had in hand
    is solved again.

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
        n_players: int | None = None,
        partition: str = "all",
        tail_owners: int = 2,
        rarity_reward: float = 3.0,
        disagreement_reward: float = 0.0,
        C: float = 0.3,
        branching: int = 16,
        leaf_size: int = 400,
        matcher_beam: int = 0,
        beam: int = 10,
        tolerance: float = 0.3,
        prune: float = 0.1,
        decoder: str = "micro",
        checkpoint: str | None = None,
        n_jobs: int | None = None,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.n_players = n_players
        self.partition = partition
        self.tail_owners = tail_owners
        self.rarity_reward = rarity_reward
        self.disagreement_reward = disagreement_reward
        self.C = C
        self.branching = branching
        self.leaf_size = leaf_size
        self.matcher_beam = matcher_beam
        self.beam = beam
        self.tolerance = tolerance
        self.prune = prune
        self.decoder = decoder
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Grow and train every player's tree.

        Parameters
        ----------
        X : sparse or dense matrix, shape (n, D), or Views, or mapping or list of matrices
            Features; several matrices are several views of the same instances.
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

        Warns
        -----
        ConvergenceWarning
            If weights of a tree are farther from their optimum than ``tolerance``.
        """
        self.check_options()
        views = as_views(self, X, reset=True)
        targets = as_targets(y, len(views))
        self.classes_, self.label_counts_ = targets.names, targets.counts
        self.n_train_ = len(views)
        names = player_views(views, self.n_players)
        self.owners_ = partition_labels(
            targets.labels,
            len(names),
            method=cast("Partition", self.partition),
            tail_owners=self.tail_owners,
            seed=self.random_state,
        )
        if (without := np.flatnonzero(~self.owners_.any(axis=1))).size:
            raise ValueError(f"player {without[0]} owns no label; take fewer players or another partition")
        self.__dict__.pop("decoders_", None)  # of an earlier fit
        folder = None
        if self.checkpoint is not None:
            folder = ResumableFolder(self.checkpoint, self._fingerprint(views, names, targets.labels))
        forest = self._forest(folder)
        rare = _rarity(targets.counts, len(views))
        payoffs = self._owned_payoffs(targets.labels, rare)
        if self.disagreement_reward and (self.owners_.sum(axis=0) > 1).any():
            said = forest.cross_fitted(views, names, payoffs, beam=self.beam)
            payoffs = self._owned_payoffs(targets.labels, rare, said)
        self.players_ = forest.grown(views, names, payoffs)
        return self

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Learn from further instances: trees stay, and every node moves from its weights to a new optimum.

        The L2 prior then pulls to the weights so far instead of 0, as if they were all that is known of the
        earlier instances. The more instances come at a time, the better; `fit` on all of them is better
        still, see docs/experiments.md.

        Parameters
        ----------
        X : as in `fit`
        y : sparse or dense matrix, shape (n, L), or sequence of collections of str
            Of the labels that training knows.

        Returns
        -------
        ExtremeGameClassifier
            Itself; fitted as by `fit` where it was not yet.

        Raises
        ------
        ValueError
            If the data are wrong, or a label had no positive so far (see `add_labels`).
        """
        if not hasattr(self, "players_"):
            return self.fit(X, y)
        self.check_options()
        views = as_views(self, X, reset=False)
        labels = as_known_targets(y, len(views), self.classes_)
        counts = np.bincount(labels.indices, minlength=len(self.classes_))
        if len(new := np.flatnonzero((counts > 0) & (self.label_counts_ == 0))):
            raise ValueError(
                f"label {str(self.classes_[new[0]])!r} had no positive so far, so no tree has a place for it;"
                " train anew with fit"
            )
        said = None
        if self.disagreement_reward:  # the players have not seen these instances yet
            said = [
                sparse.csr_array(sparse.vstack(list(self._said(player, views)), format="csr"))
                for player in self.players_
            ]
        rare = _rarity(self.label_counts_ + counts, self.n_train_ + len(views))
        payoffs = self._owned_payoffs(labels, rare, said)
        self.players_ = self._forest(None).moved(views, self.players_, payoffs)
        self.label_counts_ = self.label_counts_ + counts
        self.n_train_ += len(views)
        return self

    def add_labels(self, X: Any, y: Any) -> Self:
        """Learn further labels, as a player of their own; scores of the labels so far stay to the bit.

        Parameters
        ----------
        X : as in `fit`
            Instances with the new labels and without; earlier ones may be among them.
        y : sparse or dense matrix, DataFrame, or sequence of collections of str
            Only the new labels, at least one. A matrix without names continues the numbers of the labels.

        Returns
        -------
        ExtremeGameClassifier
            Itself.

        Raises
        ------
        ValueError
            If the data are wrong, a label is known already, or names are missing.
        """
        check_is_fitted(self)
        self.check_options()
        views = as_views(self, X, reset=False)
        targets = as_targets(y, len(views))
        names = self._new_names(targets)
        n_old, n_players = len(self.classes_), len(self.players_)
        rare = np.append(np.zeros(n_old), _rarity(targets.counts, len(views)))
        payoffs = paid(shifted(targets.labels, n_old), self.rarity_reward * rare)
        new = self._forest(None).grown(views, views.names[:1], [payoffs], first=n_players)
        old = [replace(player, tree=replace(player.tree, n_labels=len(rare))) for player in self.players_]
        owners = np.zeros((n_players + 1, len(rare)), np.bool_)
        owners[:-1, :n_old], owners[-1, n_old:] = self.owners_, True
        self.players_, self.owners_ = old + new, owners
        self.classes_ = np.concatenate([self.classes_, names])
        self.label_counts_ = np.concatenate([self.label_counts_, targets.counts])
        self.__dict__.pop("decoders_", None)  # they hold no threshold for them
        return self

    def check_options(self) -> None:
        """Refuse options that are wrong; `fit` does so first.

        Raises
        ------
        ValueError
            The message names the option and what it may be.
        """
        check_choice("partition", self.partition, get_args(Partition))
        check_choice("decoder", self.decoder, get_args(DecoderName))
        for name in ("rarity_reward", "disagreement_reward", "prune"):
            check_number(name, getattr(self, name), above_zero=False)
        for name in ("C", "tolerance"):
            check_number(name, getattr(self, name), above_zero=True)
        for name, least in (
            ("tail_owners", 1),
            ("branching", 2),
            ("leaf_size", 2),
            ("matcher_beam", 0),
            ("beam", 1),
        ):
            check_whole(name, getattr(self, name), least)
        check_seed(self.random_state)
        check_n_players(self.n_players)
        for name in ("branching", "leaf_size"):
            if getattr(self, name) > MOST_CHILDREN:
                raise ValueError(f"{name} must be at most {MOST_CHILDREN}, not {getattr(self, name)}")
        if self.branching & (self.branching - 1):
            raise ValueError(f"branching must be a power of two of at least 2, not {self.branching}")
        check_folder_name("checkpoint", self.checkpoint)
        check_n_jobs(self.n_jobs)

    def _forest(self, folder: ResumableFolder | None) -> Forest:
        settings = TreeSettings(self.C, self.matcher_beam, self.tolerance, self.prune, self.random_state)
        return Forest(settings, self.branching, self.leaf_size, folder, self.n_jobs, self.verbose)

    def _fingerprint(
        self, views: Views, names: tuple[str, ...], labels: sparse.csr_array[Any]
    ) -> dict[str, Any]:
        options = self.get_params(deep=False)
        for name in ("checkpoint", "verbose", "beam", "decoder"):
            del options[name]
        return fingerprint(options, views, names, {"labels": labels})

    def _owned_payoffs(
        self,
        labels: sparse.csr_array[Any],
        rare: npt.NDArray[np.float64],
        said: Sequence[sparse.csr_array[Any]] | None = None,
    ) -> list[sparse.csr_array[Any]]:
        """For each player what its positives weigh, 1 + ρ_c (α + β d)."""
        whole = paid(labels, self.rarity_reward * rare)
        payoffs = [whole] * len(self.owners_)
        if said is not None:
            extra = [
                self.disagreement_reward * rare[labels.indices] * d
                for d in doubts(said, labels, self.owners_)
            ]
            payoffs = [
                sparse.csr_array((whole.data + more, labels.indices, labels.indptr), shape=labels.shape)
                for more in extra
            ]
        return [owned_only(part, owned) for part, owned in zip(payoffs, self.owners_)]

    def _new_names(self, targets: Targets) -> npt.NDArray[Any]:
        """The names of labels that are to be added."""
        n_old, numbered = len(self.classes_), np.arange(targets.labels.shape[1])
        if not targets.named:
            if not np.array_equal(self.classes_, np.arange(n_old)):
                raise ValueError(
                    "the labels have names; give y as tags, or as a DataFrame, to name the new ones"
                )
            return n_old + numbered
        if known := sorted(set(targets.names) & set(self.classes_)):
            raise ValueError(
                f"label {str(known[0])!r} is known already; use partial_fit for further instances"
            )
        return targets.names

    def fit_decoders(self, X: Any, y: Any) -> Self:
        """Choose the thresholds of `predict` on instances that training has not seen.

        Parameters
        ----------
        X : as in `fit`
            On training instances scores are too good, and thresholds would be too high.
        y : as in `partial_fit`

        Returns
        -------
        ExtremeGameClassifier
            Itself.

        Raises
        ------
        ValueError
            If the data are wrong.
        """
        check_is_fitted(self)
        scores = self.predict_topk(X, NAMED)
        labels = as_known_targets(y, scores.shape[0], self.classes_)
        self.decoders_: dict[str, Decoder] = {
            "micro": GlobalThreshold("micro").fit(scores, labels),
            "macro": GlobalThreshold("macro").fit(scores, labels),
            "per_label": LabelThresholds().fit(scores, labels),
        }
        return self

    def predict(self, X: Any, decoder: str | None = None) -> sparse.csr_array[Any]:
        """Label sets: labels whose scores reach the thresholds of `fit_decoders`.

        Parameters
        ----------
        X : as in `fit`
        decoder : {"micro", "macro", "per_label"}, optional
            Instead of the estimator's own.

        Returns
        -------
        csr_array, shape (n, L)

        Raises
        ------
        ValueError
            If X does not fit the training data.
        NotFittedError
            If there are no thresholds yet.
        """
        message = "There are no thresholds yet: call fit_decoders with unseen instances, or use predict_topk."
        check_is_fitted(self, "decoders_", msg=message)
        name = self.decoder if decoder is None else decoder
        check_choice("decoder", name, get_args(DecoderName))
        return self.decoders_[name].decode(self.predict_topk(X, NAMED))

    def label_sets(self, Y: Any) -> list[tuple[Any, ...]]:
        """The names of the labels of each row of what `predict` or `predict_topk` returned.

        Parameters
        ----------
        Y : sparse or dense matrix, shape (n, L)

        Returns
        -------
        list of tuple
        """
        check_is_fitted(self)
        return named_sets(Y, self.classes_)

    def predict_topk(self, X: Any, k: int) -> sparse.csr_array[Any]:
        """The k best labels of each instance that the search finds.

        Parameters
        ----------
        X : as in `fit`
        k : int

        Returns
        -------
        csr_array of float32, shape (n, L)
            Their scores in (0, 1], in the order of label ids; at most k a row. A score is a likelihood under
            the squared hinge, not a calibrated probability; the decoders learn from scores of instances that
            training did not see.

        Raises
        ------
        ValueError
            If k is no positive whole number, or X does not fit the training data.
        """
        check_is_fitted(self)
        k = min(as_positive_int(k, "k"), len(self.classes_))
        views = as_views(self, X, reset=False)
        found = zip(*(self._said(player, views, max(k, NAMED)) for player in self.players_))
        share = (1 / self.owners_.sum(axis=0)).astype(np.float32)
        best = [top_k(_mean(parts, share), k) for parts in found]
        return sparse.csr_array(sparse.vstack(best, format="csr"))

    def _said(
        self, player: TreePlayer, views: Views, n_named: int = NAMED
    ) -> Iterator[sparse.csr_array[Any]]:
        """What a player says, some instances at a time."""
        features = as_rows(views.blocks[player.view])
        step = ROWS_PER_SEARCH * 8
        for start in range(0, len(views), step):
            yield player.probabilities(
                features[start : start + step], beam=self.beam, n_labels=n_named, n_jobs=self.n_jobs
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.target_tags.two_d_labels = True
        return tags


def _rarity(counts: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = rarity(torch.from_numpy(counts), n).numpy()
    return found


def _mean(parts: Sequence[sparse.csr_array[Any]], share: npt.NDArray[np.float32]) -> sparse.csr_array[Any]:
    """The mean over each label's owners; a label that a player does not name counts 0."""
    fused: sparse.csr_array[Any] = sparse.csr_array(sum(parts[1:], start=parts[0]))
    fused.data *= share[fused.indices]
    return fused
