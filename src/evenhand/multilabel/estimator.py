"""The scikit-learn face of the game."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast, get_args

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs
from scipy import sparse
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from evenhand.multilabel.features import as_views
from evenhand.multilabel.game import Curiosity, Rules, Space
from evenhand.multilabel.neighbours import NeighbourRule
from evenhand.multilabel.neural.alone import NeuralRule
from evenhand.multilabel.options import (
    check_choice,
    check_folder_name,
    check_n_jobs,
    check_n_players,
    check_number,
    check_seed,
    check_whole,
)
from evenhand.multilabel.partition import Partition, chosen_partition, partition_labels
from evenhand.multilabel.players import as_pairs, chosen_players
from evenhand.multilabel.predictions import DecoderName, LabelSetPredictor
from evenhand.multilabel.progress import progress_bar
from evenhand.multilabel.solver import Loss
from evenhand.multilabel.splitting import group_numbers
from evenhand.multilabel.targets import as_targets
from evenhand.multilabel.training import Settings, train
from evenhand.multilabel.views import Views

_CHUNK_BYTES = 1 << 28  # of players' scores at a time in predict and predict_topk


class CuriosityGameClassifier(LabelSetPredictor):
    """CD-GTMLL with convex players: a multi-label classifier that does not forget the rare labels.

    Players, each a linear model on its own view of the features unless ``players`` says otherwise, are paid
    for being right and earn a curiosity reward for rare labels; in further rounds (``rounds``) also the
    payoff of the team's fused score (``own_share`` below 1) and a reward for disagreement. Each best response
    is solved to its optimum. What players learn of each other, the fusion weights, the calibration and the
    thresholds come from out-of-fold outputs.

    Parameters
    ----------
    n_players : int, optional
        N. None: one player a view.
    players : sequence of (view, kind), or mapping of view to kind or list of kinds, optional
        Who plays, instead of one linear player a view. Kinds: "linear"; "neighbours", which gives a label its
        share among the nearest training instances, see `NeighbourPlayer`, and keeps those of its view in the
        model; "neural", a small network, see `NeuralPlayer` (training one needs the extra ``neural``). The
        last two have no best response: they say the same in every round, and take part in fusion,
        disagreement and potential.
    n_neighbors : int
        k of the players of kind "neighbours".
    n_hidden : int
        Units of the hidden layer of the players of kind "neural", and length of the embeddings of a sparse
        view's features.
    max_epochs : int
        Epochs of the players of kind "neural", at most: of the instances they are given they hold out a
        seventh, and stop when the mean average precision there has not risen for 5 epochs.
    partition : {"auto", "all", "frequency", "random", "cooccurrence"}
        Which player owns which label, see `partition_labels`. "auto": every player owns every label where not
        all have the same view and kind, or there are at most 101 labels; else "frequency".
    tail_owners : int
        Owners of a label below the median frequency, where labels are split.
    payoff : {"squared_hinge", "log_likelihood"}
        R.
    curiosity : {"success", "divergence"}
        The form of C_i. "divergence" needs ``payoff="log_likelihood"``.
    space : {"logit", "probability"}
        Where players are fused. "probability" needs ``payoff="log_likelihood"``.
    rarity_reward, disagreement_reward, negative_share : float
        α, β, κ ≥ 0. β acts from the first round of best response on.
    own_share : float
        η in [0, 1]: the share of the payoff that a player gets for its own score in a best response, instead
        of the team's. 0 is the paper's game; docs/experiments.md says why the default is another.
    C : float
        Strength of the losses against the L2 prior, as in scikit-learn's linear models.
    rounds : int
        Rounds of best response after the round in which every player solves alone. A round that lowers the
        out-of-fold potential is taken back and ends the game.
    n_folds : int
        Folds of the cross-fitting; at least 2, or 0 for none: players then see each other's training outputs,
        nothing is calibrated and every decoder is a threshold at 0.5.
    fusion_pull : float
        How strongly a label's fusion weights are pulled to those of equally frequent labels.
    decoder : {"micro", "macro", "per_label", "macro_f1"}
        How `predict` decides: one threshold that is best for micro-F1 or for macro-F1, thresholds per label,
        or the label sets that maximise the expected macro-F1 of the instances given.
    tolerance : float
        The largest accepted distance ‖w − w*‖₂ of a label's weights to their optimum.
    prune : float
        Weights below this size are dropped from the model, biases are kept; 0 keeps all. The size of a weight
        depends on that of its feature: on Debian's tags with TF-IDF rows of length 1, 0.01 drops nine of ten
        weights and moves P@1 by 0.05 points.
    max_dense_bytes : int
        The largest (n, L) array that `decision_function` and `predict_proba` may return.
    checkpoint : str, optional
        A folder where training keeps each finished turn of a player, about n x L x 4 bytes and the weights. A
        `fit` that was interrupted takes up from there with the same results to the bit; one with other data
        or options is refused. Delete it when the model is saved.
    n_jobs : int, optional
        Threads; -1 for all cores, None for one. The result does not depend on it.
    random_state : int
        Seeds folds, partition, the solver's order of rows, and weights and batches of neural players. The
        same seed gives the same model.
    verbose : bool
        Show a progress bar.

    Attributes
    ----------
    classes_ : ndarray, shape (L,)
        Label names: the tags or column names that y came with, else 0 to L − 1.
    team_ : TrainedTeam
        Players, fusion weights and the record of each round in ``team_.history``.
    calibration_ : PooledCalibration or None
    decoders_ : dict of str to Decoder
    label_counts_ : ndarray of int64, shape (L,)
        n_c, training positives of each label.
    held_out_f1_ : ndarray of float64, shape (L,), or None
        F1 of each label on the training instances by decoder "micro", out-of-fold; None with ``n_folds`` 0.
    sparse_labels_ : bool
        Whether y was sparse or tags; `predict` then returns sparse label sets.
    views_ : dict of str to int
        Features of each view; "all" where X was one matrix.
    n_train_ : int
        M, training instances.
    n_features_in_ : int
        Of all views together.
    feature_names_in_ : ndarray of str
        Where X was a DataFrame.

    Notes
    -----
    Method: arXiv:2510.17520, 2602.15330, as docs/game.md reads them. With ``rarity_reward=0``,
    ``disagreement_reward=0`` and one player the weights are those of one-vs-rest `LinearSVC`
    ("squared_hinge") or of liblinear's `LogisticRegression` ("log_likelihood").

    Examples
    --------
    >>> from evenhand.multilabel.datasets import make_long_tail
    >>> data = make_long_tail(400, 20, 300, seed=0)
    >>> model = CuriosityGameClassifier().fit(data.X[:300], data.Y[:300])
    >>> model.predict(data.X[300:]).shape, model.predict_topk(data.X[300:], 3).nnz
    ((100, 20), 300)
    """

    def __init__(
        self,
        *,
        n_players: int | None = None,
        players: Sequence[tuple[str, str]] | Mapping[str, str | Sequence[str]] | None = None,
        n_neighbors: int = 50,
        n_hidden: int = 256,
        max_epochs: int = 50,
        partition: str = "auto",
        tail_owners: int = 2,
        payoff: str = "squared_hinge",
        curiosity: str = "success",
        space: str = "logit",
        rarity_reward: float = 3.0,
        disagreement_reward: float = 1.0,
        negative_share: float = 0.0,
        own_share: float = 1.0,
        C: float = 0.3,
        rounds: int = 0,
        n_folds: int = 3,
        fusion_pull: float = 100.0,
        decoder: str = "micro",
        tolerance: float = 0.05,
        prune: float = 0.0,
        max_dense_bytes: int = 1 << 32,
        checkpoint: str | None = None,
        n_jobs: int | None = None,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.n_players = n_players
        self.players = players
        self.n_neighbors = n_neighbors
        self.n_hidden = n_hidden
        self.max_epochs = max_epochs
        self.partition = partition
        self.tail_owners = tail_owners
        self.payoff = payoff
        self.curiosity = curiosity
        self.space = space
        self.rarity_reward = rarity_reward
        self.disagreement_reward = disagreement_reward
        self.negative_share = negative_share
        self.own_share = own_share
        self.C = C
        self.rounds = rounds
        self.n_folds = n_folds
        self.fusion_pull = fusion_pull
        self.decoder = decoder
        self.tolerance = tolerance
        self.prune = prune
        self.max_dense_bytes = max_dense_bytes
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Play the game on training data.

        Parameters
        ----------
        X : matrix, shape (n, D), or Views, or mapping or list of matrices
            Features; several matrices are several views of the same instances.
        y : sparse or dense matrix, shape (n, L), or sequence of collections of str
            Labels: whatever is not zero is a label; or the tags of each instance.
        sample_weight : array-like, shape (n,), optional
            In the players' losses, the fusion and the potential; rarity, calibration and thresholds take no
            notice of them.
        groups : array-like, shape (n,), optional
            Instances of one group (versions of one document, say) share a fold, so that what the players
            learn of each other holds for new groups.

        Returns
        -------
        CuriosityGameClassifier
            Itself.

        Raises
        ------
        ValueError
            If an option or the data are wrong; the message names the place.
        FloatingPointError
            If a neural player's training diverges.

        Warns
        -----
        ConvergenceWarning
            If a linear player's weights are farther from their optimum than ``tolerance``.
        """
        self.check_options()
        views = as_views(self, X, reset=True)
        if len(views) < 2:
            raise ValueError("X has one instance; at least two are needed")
        labels = self._as_labels(y, len(views))
        weights = _check_sample_weight(
            sample_weight, views.blocks[views.names[0]], dtype=np.float64, ensure_non_negative=True
        )
        if groups is not None:
            groups = group_numbers(groups)
            if len(groups) != len(views):
                raise ValueError(f"groups has {len(groups)} entries, but there are {len(views)} instances")
        settings = self._settings(len(views))
        players = chosen_players(views, self.n_players, self.players)
        owners = partition_labels(
            labels,
            len(players),
            method=chosen_partition(self.partition, labels.shape[1], alike=len(set(players)) == 1),
            tail_owners=self.tail_owners,
            seed=self.random_state,
        )
        with progress_bar(self.verbose, "label blocks") as report:
            game = train(
                views,
                labels,
                owners,
                tuple(view for view, _ in players),
                settings,
                player_kinds=tuple(kind for _, kind in players),
                row_weights=None if sample_weight is None else weights,
                groups=groups,
                on_progress=report,
                checkpoint=None if self.checkpoint is None else Path(self.checkpoint),
            )
        self.team_ = game.team
        self._learn_decisions((game.fused, labels) if self.n_folds else None)
        return self

    def check_options(self) -> None:
        """Refuse options that are wrong; `fit` does so first.

        Raises
        ------
        ValueError
            The message names the option and what it may be.
        """
        choices: dict[str, Sequence[str]] = {
            "partition": ("auto", *get_args(Partition)),
            "payoff": get_args(Loss),
            "curiosity": get_args(Curiosity),
            "space": get_args(Space),
            "decoder": get_args(DecoderName),
        }
        for name, known in choices.items():
            check_choice(name, getattr(self, name), known)
        for name in (
            "rarity_reward",
            "disagreement_reward",
            "negative_share",
            "own_share",
            "fusion_pull",
            "prune",
        ):
            check_number(name, getattr(self, name), above_zero=False)
        if self.own_share > 1:
            raise ValueError(f"own_share must lie between 0 and 1, not {self.own_share!r}")
        for name in ("C", "tolerance", "max_dense_bytes"):
            check_number(name, getattr(self, name), above_zero=True)
        for name, least in (
            ("rounds", 0),
            ("n_folds", 0),
            ("tail_owners", 1),
            ("n_neighbors", 1),
            ("n_hidden", 1),
            ("max_epochs", 1),
        ):
            check_whole(name, getattr(self, name), least)
        check_seed(self.random_state)
        if self.n_folds == 1:
            raise ValueError("n_folds is 1; take at least 2, or 0 for no cross-fitting")
        check_n_players(self.n_players)
        if self.players is not None:
            as_pairs(self.players)
        check_folder_name("checkpoint", self.checkpoint)
        check_n_jobs(self.n_jobs)
        if self.payoff == "squared_hinge" and self.curiosity == "divergence":
            raise ValueError("curiosity='divergence' needs probabilities; set payoff='log_likelihood'")
        if self.payoff == "squared_hinge" and self.space == "probability":
            raise ValueError("space='probability' needs probabilities; set payoff='log_likelihood'")

    def _as_labels(self, Y: Any, n: int) -> sparse.csr_array[Any]:
        """Y as CSR of ones, its names kept in ``classes_``."""
        targets = as_targets(Y, n)
        labels, self.classes_, self.sparse_labels_ = targets.labels, targets.names, targets.given_sparse
        self.label_counts_, self.n_train_ = targets.counts, n
        unseen = int((self.label_counts_ == 0).sum())
        if unseen:
            warnings.warn(
                f"{unseen} of {len(self.label_counts_)} labels have no positive; they get a constant score",
                stacklevel=3,
            )
        return labels

    def _settings(self, n: int) -> Settings:
        rules = Rules(
            cast("Loss", self.payoff),
            cast("Curiosity", self.curiosity),
            self.rarity_reward,
            self.disagreement_reward,
            self.negative_share,
            cast("Space", self.space),
            self.own_share,
        )
        return Settings(
            rules=rules,
            regularization=self.C,
            rounds=self.rounds,
            n_folds=min(self.n_folds, n),
            fusion_pull=self.fusion_pull,
            tolerance=self.tolerance,
            prune=self.prune,
            n_jobs=effective_n_jobs(self.n_jobs),
            seed=self.random_state,
            neighbours=NeighbourRule(int(self.n_neighbors)),
            neural=NeuralRule(int(self.n_hidden), int(self.max_epochs)),
        )

    def _fitted_inputs(self, X: Any) -> Views:
        check_is_fitted(self)
        return as_views(self, X, reset=False)

    def _score_chunks(self, inputs: Views) -> Iterator[npt.NDArray[Any]]:
        """Some rows at a time, so that the players' scores stay small."""
        row_bytes = 4 * len(self.classes_) * (len(self.team_.players) + 2)
        step = max(1, _CHUNK_BYTES // row_bytes)
        for start in range(0, len(inputs), step):
            yield self.team_.logits(inputs[start : start + step])
