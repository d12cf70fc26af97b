"""The scikit-learn face of the neural game."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from evenhand.multilabel.features import as_views
from evenhand.multilabel.game import Curiosity, Payoff, Rules, Space
from evenhand.multilabel.neural.ascent import Update
from evenhand.multilabel.neural.encoders import Encoder, Recipe, default_recipe
from evenhand.multilabel.neural.evaluation import Examples, Metric, fused, player_logits
from evenhand.multilabel.neural.inputs import Inputs, Kind, holds_features
from evenhand.multilabel.neural.losses import LossName
from evenhand.multilabel.neural.network import TeamNetwork
from evenhand.multilabel.neural.processes import processes
from evenhand.multilabel.neural.schedule import Schedule
from evenhand.multilabel.neural.training import Settings, train
from evenhand.multilabel.options import (
    check_choice,
    check_device,
    check_folder_name,
    check_n_players,
    check_number,
    check_seed,
    check_whole,
)
from evenhand.multilabel.partition import Partition, chosen_partition, partition_labels
from evenhand.multilabel.predictions import DecoderName, LabelSetPredictor
from evenhand.multilabel.progress import progress_bar
from evenhand.multilabel.splitting import stratified_split
from evenhand.multilabel.targets import as_known_targets, as_targets
from evenhand.multilabel.views import player_views

_PLAYERS = 3  # of one view; by our first measurements
_CHUNK_BYTES = 1 << 28  # of players' scores at a time in predict and predict_topk


class NeuralGameClassifier(LabelSetPredictor):
    """CD-GTMLL with neural players: encoders of features, texts or images, a head a player over its labels.

    Players are paid for the team's accuracy and earn a curiosity reward for rare labels and for labels on
    which they do not agree. Thresholds, calibration and the moment to stop are learned on a held-out part.

    Parameters
    ----------
    encoders : Recipe, or mapping of str to Recipe, optional
        What reads each view: `SparseBag`, `DenseLayers`, `PretrainedText`, `ImageModel` or `OwnEncoder`; one
        recipe for all views, or one for each by name (a matrix, or list of texts or images, that has no name
        is the view "all"). None: `SparseBag` and `DenseLayers` with their defaults.
    n_players : int, optional
        N. None: one player a view, 3 of a single view.
    shared_encoder : bool
        Whether the players of a single view share its encoder; players of different views never do.
    partition : {"auto", "all", "frequency", "random", "cooccurrence"}
        Which player owns which label, see `partition_labels`. "auto": every player owns every label where the
        views differ or there are at most 101 labels, else "frequency".
    tail_owners : int
        Owners of a label below the median frequency, where labels are split.
    payoff : {"log_likelihood", "squared_hinge", "soft_macro_f1"}
        R.
    curiosity : {"success", "divergence"}
        The form of C_i.
    space : {"logit", "probability"}
        Where players are fused.
    rarity_reward, disagreement_reward, negative_share : float
        α, β, κ ≥ 0.
    own_share : float
        η in [0, 1]: the share of the payoff that a player gets for its own score instead of the team's. 0 is
        the paper's game.
    loss : str, optional
        A control: minimise this loss of the fused score instead of playing the game; payoff and rewards then
        only say what is logged. "bce", "positive_weight", "focal", "asymmetric", "class_balanced" or
        "distribution_balanced", see `losses`.
    update : {"best_response", "joint"}
        Players in turn, then shared encoders and fusion; or one simultaneous step on Φ, N times cheaper.
    epochs : int
        At most.
    warmup_epochs : int
        Epochs on the payoff alone, before there is curiosity.
    annealing : bool
        Whether curiosity then falls in a straight line to 0 in the last epoch.
    batch_size : int
        Instances of a step, on all processes together.
    accumulation : int
        Parts in which a process takes its share of a batch, where memory is short.
    learning_rate : float
        Of AdamW, for heads and fusion weights.
    encoder_learning_rate : float, optional
        For encoders. None: the same. Pretrained ones want less, 2e-5 say.
    weight_decay : float
        Of AdamW, on matrices of weights.
    schedule : {"constant", "cosine", "linear"}
        How both learning rates go over the steps of all ``epochs``, see `schedule.rate_share`. The last two
        fall to 0; a training that stops early does not get there.
    schedule_warmup : float
        In [0, 1): the share of the steps in which the learning rates rise in a straight line first.
    bfloat16 : bool
        Run encoders and heads in bfloat16 (autocast); weights and the game's arithmetic stay in float32.
    validation_share : float
        In (0, 1): the share of the training instances that is held out, where `fit` is given none.
    monitor : str
        What is to rise on the held-out part: "map", "micro_f1", "macro_f1", "rare_f1", "precision_at_1",
        "precision_at_3", "precision_at_5", "payoff" or "potential". The best epoch's weights are kept.
    patience : int
        Training stops after this many epochs without a rise.
    decoder : {"micro", "macro", "per_label", "macro_f1"}
        How `predict` decides, see `CuriosityGameClassifier`.
    max_dense_bytes : int
        The largest (n, L) array that `decision_function` and `predict_proba` may return.
    checkpoint : str, optional
        A folder that keeps the state of training. A `fit` that was interrupted takes up from there with the
        same results to the bit on a device of the same kind; one with other data or options is refused.
    checkpoint_steps : int, optional
        Keep the state after every so many steps.
    checkpoint_minutes : float, optional
        Keep the state whenever so many minutes have passed.
    log : str, optional
        A file for one JSON line an epoch.
    shard_heads : bool
        Deal the players' heads out to the processes of a distributed run, at most N of them, so that each has
        the weights and moments of its own players' heads alone; see `shards`. For many labels. The results
        are the same but for rounding, and afterwards every process has the whole model.
    device : str, optional
        As torch names it. None: the first that Accelerate finds.
    random_state : int
        Seeds weights, split, partition, batches and dropout. On one machine the same seed gives the same
        model to the bit.
    verbose : bool
        Show a progress bar.

    Attributes
    ----------
    classes_ : ndarray, shape (L,)
        Label names: the tags or column names that y came with, else 0 to L − 1.
    network_ : TeamNetwork
        Of the best epoch.
    encoder_views_ : tuple of str
        The view of each encoder.
    history_ : tuple of dict
        One record an epoch, see `training.train`.
    calibration_ : PooledCalibration
    decoders_ : dict of str to Decoder
    label_counts_ : ndarray of int64, shape (L,)
        n_c, positives of each label among the instances learned from.
    held_out_f1_ : ndarray of float64, shape (L,)
        F1 of each label on the held-out part by decoder "micro".
    sparse_labels_ : bool
        Whether y was sparse or tags; `predict` then returns sparse label sets.
    views_ : dict of str to int
        Features of each view; 0 for texts and images.
    kinds_ : dict of str to str
        What each view holds: "sparse", "dense", "texts" or "images".
    n_train_ : int
        M, instances learned from.
    n_features_in_ : int
        Of all views together.
    feature_names_in_ : ndarray of str
        Where X was a DataFrame.

    Notes
    -----
    Method: arXiv:2510.17520, 2602.15330, as docs/game.md reads them. [D] A head's biases start at the
    log-odds of their labels. Processes that `torchrun` or `accelerate launch` start share out each batch;
    every one must be given the same data, and only the first one writes. After each epoch the players' scores
    of the held-out part are in memory as arrays (N, n, L): for many thousands of labels see
    `ExtremeGameClassifier`.

    Examples
    --------
    >>> from evenhand.multilabel.datasets import make_long_tail
    >>> from evenhand.multilabel.neural.encoders import SparseBag
    >>> data = make_long_tail(400, 20, 300, seed=0)
    >>> model = NeuralGameClassifier(SparseBag(32), epochs=3, device="cpu")
    >>> model = model.fit(data.X[:300], data.Y[:300])
    >>> model.predict(data.X[300:]).shape, model.predict_topk(data.X[300:], 3).nnz
    ((100, 20), 300)
    """

    def __init__(
        self,
        encoders: Recipe | Mapping[str, Recipe] | None = None,
        *,
        n_players: int | None = None,
        shared_encoder: bool = True,
        partition: str = "auto",
        tail_owners: int = 2,
        payoff: str = "log_likelihood",
        curiosity: str = "success",
        space: str = "probability",
        rarity_reward: float = 1.0,
        disagreement_reward: float = 1.0,
        negative_share: float = 0.0,
        own_share: float = 0.0,
        loss: str | None = None,
        update: str = "best_response",
        epochs: int = 30,
        warmup_epochs: int = 1,
        annealing: bool = False,
        batch_size: int = 64,
        accumulation: int = 1,
        learning_rate: float = 5e-3,
        encoder_learning_rate: float | None = None,
        weight_decay: float = 0.01,
        schedule: str = "constant",
        schedule_warmup: float = 0.0,
        bfloat16: bool = False,
        validation_share: float = 0.15,
        monitor: str = "map",
        patience: int = 5,
        decoder: str = "micro",
        max_dense_bytes: int = 1 << 32,
        checkpoint: str | None = None,
        checkpoint_steps: int | None = None,
        checkpoint_minutes: float | None = 10.0,
        log: str | None = None,
        shard_heads: bool = False,
        device: str | None = None,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.encoders = encoders
        self.n_players = n_players
        self.shared_encoder = shared_encoder
        self.partition = partition
        self.tail_owners = tail_owners
        self.payoff = payoff
        self.curiosity = curiosity
        self.space = space
        self.rarity_reward = rarity_reward
        self.disagreement_reward = disagreement_reward
        self.negative_share = negative_share
        self.own_share = own_share
        self.loss = loss
        self.update = update
        self.epochs = epochs
        self.warmup_epochs = warmup_epochs
        self.annealing = annealing
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.learning_rate = learning_rate
        self.encoder_learning_rate = encoder_learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.schedule_warmup = schedule_warmup
        self.bfloat16 = bfloat16
        self.validation_share = validation_share
        self.monitor = monitor
        self.patience = patience
        self.decoder = decoder
        self.max_dense_bytes = max_dense_bytes
        self.checkpoint = checkpoint
        self.checkpoint_steps = checkpoint_steps
        self.checkpoint_minutes = checkpoint_minutes
        self.log = log
        self.shard_heads = shard_heads
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        validation_data: tuple[Any, Any] | None = None,
    ) -> Self:
        """Play the game on training data.

        Parameters
        ----------
        X : matrix, Views, list of matrices, texts, images, or mapping of str to any of these
            As `Inputs.of` takes it: n instances in one or several views.
        y : sparse or dense matrix, shape (n, L), or sequence of collections of str
            Labels: whatever is not zero is a label; or the tags of each instance.
        sample_weight : array-like, shape (n,), optional
            Weights of the instances in the payoff, the curiosity reward and the losses of controls, which are
            weighted means: a factor common to all changes nothing. Rarity, and all that is measured or
            learned on the held-out part, take no notice of them.
        validation_data : (X, y), optional
            The held-out part; X is then learned from as a whole.

        Returns
        -------
        NeuralGameClassifier
            Itself.

        Raises
        ------
        ValueError
            If an option or the data are wrong; the message names the place.
        FloatingPointError
            If training diverges.
        FolderError
            If the checkpoint is of another training, or damaged.
        """
        self.check_options()
        inputs = self._as_inputs(X, reset=True)
        examples, held_out, weights = self._parts(inputs, y, sample_weight, validation_data)
        settings = self._settings()
        with torch.random.fork_rng():  # training seeds torch; what the caller draws shall not depend on it
            torch.manual_seed(self.random_state)
            network = self._network(examples)
            with progress_bar(self.verbose and processes().is_main_process, "steps") as report:
                steps = -(-len(examples.inputs) // self.batch_size)

                def on_step(epoch: int, step: int, value: float) -> None:
                    if report is not None:
                        report(f"epoch {epoch}", epoch * steps + step, self.epochs * steps)

                history = train(
                    network,
                    self.encoder_views_,
                    examples,
                    held_out,
                    settings,
                    row_weights=weights,
                    device=self._device(),
                    checkpoint=None if self.checkpoint is None else Path(self.checkpoint),
                    log=None if self.log is None else Path(self.log),
                    on_step=on_step,
                )
        self.network_, self.history_ = network, tuple(history)
        self._learn_decisions((np.concatenate(list(self._score_chunks(held_out.inputs))), held_out.labels))
        return self

    def check_options(self) -> None:
        """Refuse options that are wrong; `fit` does so first.

        Raises
        ------
        ValueError
            The message names the option and what it may be.
        """
        choices: dict[str, Sequence[str | None]] = {
            "partition": ("auto", *get_args(Partition)),
            "payoff": get_args(Payoff),
            "curiosity": get_args(Curiosity),
            "space": get_args(Space),
            "loss": (None, *get_args(LossName)),
            "update": get_args(Update),
            "schedule": get_args(Schedule),
            "monitor": get_args(Metric),
            "decoder": get_args(DecoderName),
        }
        for name, known in choices.items():
            if getattr(self, name) is not None or None not in known:
                check_choice(name, getattr(self, name), [one for one in known if one is not None])
        for name in (
            "rarity_reward",
            "disagreement_reward",
            "negative_share",
            "own_share",
            "weight_decay",
            "schedule_warmup",
        ):
            check_number(name, getattr(self, name), above_zero=False)
        if self.own_share > 1:
            raise ValueError(f"own_share must lie between 0 and 1, not {self.own_share!r}")
        if self.schedule_warmup >= 1:
            raise ValueError(f"schedule_warmup must lie in [0, 1), not {self.schedule_warmup!r}")
        for name in ("learning_rate", "validation_share", "max_dense_bytes"):
            check_number(name, getattr(self, name), above_zero=True)
        for name in ("encoder_learning_rate", "checkpoint_minutes"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above_zero=True)
        if self.validation_share >= 1:
            raise ValueError(f"validation_share must lie between 0 and 1, not {self.validation_share!r}")
        least = {"tail_owners": 1, "epochs": 1, "warmup_epochs": 0, "batch_size": 1, "accumulation": 1}
        least |= {"patience": 1}
        if self.checkpoint_steps is not None:
            least["checkpoint_steps"] = 1
        for name, bound in least.items():
            check_whole(name, getattr(self, name), bound)
        check_seed(self.random_state)
        check_n_players(self.n_players)
        check_folder_name("checkpoint", self.checkpoint)
        if self.device is not None:
            check_device(self.device)

    def _parts(
        self, inputs: Inputs, y: Any, sample_weight: Any, given: tuple[Any, Any] | None
    ) -> tuple[Examples, Examples, npt.NDArray[np.float64]]:
        """What is learned from, what is held out, and weights of the first; keeps what is known of labels."""
        targets = as_targets(y, len(inputs))
        weights = _check_sample_weight(
            sample_weight, targets.labels, dtype=np.float64, ensure_non_negative=True
        )
        self.classes_, self.sparse_labels_ = targets.names, targets.given_sparse
        examples = Examples(inputs, targets.labels)
        if given is None:
            rows, others = stratified_split(targets.labels, self.validation_share, seed=self.random_state)
            held_out = Examples(inputs[others], targets.labels[others])
            examples, weights = Examples(inputs[rows], targets.labels[rows]), weights[rows]
        else:
            other_inputs = self._as_inputs(given[0], reset=False)
            held_out = Examples(other_inputs, as_known_targets(given[1], len(other_inputs), self.classes_))
        for what, part in (("learned from", examples), ("held out", held_out)):
            if not part.labels.nnz:
                raise ValueError(f"no instance that is {what} has a label; give more instances")
        if not weights.any():
            raise ValueError("sample_weight is 0 for every instance that is learned from; give some a weight")
        self.n_train_, n_labels = examples.labels.shape
        self.label_counts_ = np.bincount(examples.labels.indices, minlength=n_labels)
        unseen = int((self.label_counts_ == 0).sum())
        if unseen:
            warnings.warn(
                f"{unseen} of {n_labels} labels have no positive among the instances that are learned from;"
                " they get a constant score",
                stacklevel=3,
            )
        return examples, held_out, weights

    def _settings(self) -> Settings:
        rules = Rules(
            cast("Payoff", self.payoff),
            cast("Curiosity", self.curiosity),
            self.rarity_reward,
            self.disagreement_reward,
            self.negative_share,
            cast("Space", self.space),
            self.own_share,
        )
        own_rate = self.encoder_learning_rate
        return Settings(
            rules=rules,
            loss=cast("LossName | None", self.loss),
            update=cast("Update", self.update),
            epochs=self.epochs,
            warmup_epochs=self.warmup_epochs,
            annealing=self.annealing,
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            learning_rate=self.learning_rate,
            encoder_learning_rate=self.learning_rate if own_rate is None else own_rate,
            weight_decay=self.weight_decay,
            schedule=cast("Schedule", self.schedule),
            schedule_warmup=self.schedule_warmup,
            bfloat16=self.bfloat16,
            shard_heads=self.shard_heads,
            monitor=cast("Metric", self.monitor),
            patience=self.patience,
            checkpoint_steps=self.checkpoint_steps,
            checkpoint_minutes=self.checkpoint_minutes,
            seed=self.random_state,
        )

    def _device(self) -> torch.device:
        return processes().device if self.device is None else torch.device(self.device)

    def _network(self, examples: Examples) -> TeamNetwork:
        inputs, labels = examples.inputs, examples.labels
        one_view = len(inputs.names) == 1
        n_players = _PLAYERS if self.n_players is None and one_view else self.n_players
        views = player_views(inputs, n_players)
        owners = partition_labels(
            labels,
            len(views),
            method=chosen_partition(self.partition, labels.shape[1], alike=one_view),
            tail_owners=self.tail_owners,
            seed=self.random_state,
        )
        shared = one_view and self.shared_encoder
        self.encoder_views_ = views[:1] if shared else views
        encoders = [self._encoder(inputs, view) for view in self.encoder_views_]
        counts = self.label_counts_
        start = np.log((counts + 1) / (self.n_train_ - counts + 1))
        return TeamNetwork(encoders, [0] * len(views) if shared else range(len(views)), owners, start)

    def _encoder(self, inputs: Inputs, view: str) -> Encoder:
        recipe, column = self.encoders, inputs.columns[view]
        if isinstance(recipe, Mapping):
            if strange := sorted(recipe.keys() - set(inputs.names)):
                raise ValueError(
                    f"encoders names the view {strange[0]!r}, but the views are {', '.join(inputs.names)}"
                )
            recipe = recipe.get(view)
        if recipe is None:
            recipe = default_recipe(column, view)
        if not hasattr(recipe, "build"):
            raise ValueError(
                f"the encoder of view {view!r} is {type(recipe).__name__}; give a recipe, such as SparseBag()"
                " or, for a torch module, OwnEncoder(module, dim)"
            )
        try:
            return recipe.build(column)
        except ValueError as error:
            raise ValueError(f"the encoder of view {view!r}: {error}") from error

    def _fitted_inputs(self, X: Any) -> Inputs:
        check_is_fitted(self)
        return self._as_inputs(X, reset=False)

    def _as_inputs(self, X: Any, *, reset: bool) -> Inputs:
        """X, checked; numbers are also checked by scikit-learn, which keeps feature names."""
        is_numbers = holds_features(X) and (reset or {*self.kinds_.values()} <= {"sparse", "dense"})
        inputs = Inputs.of(as_views(self, X, reset=reset) if is_numbers else X)
        if reset:
            if len(inputs) < 2:
                raise ValueError("X has one instance; at least two are needed")
            self.views_ = inputs.widths
            self.kinds_: dict[str, Kind] = inputs.kinds
            self.n_features_in_ = sum(self.views_.values())
        elif inputs.widths != self.views_ or inputs.kinds != self.kinds_:
            raise ValueError(
                f"X has the views {inputs.widths} ({', '.join(inputs.kinds.values())}), but the model was"
                f" trained on {self.views_} ({', '.join(self.kinds_.values())})"
            )
        return inputs

    def _score_chunks(self, inputs: Inputs) -> Iterator[npt.NDArray[Any]]:
        """Some rows at a time, so that the players' scores stay small."""
        row_bytes = 4 * len(self.classes_) * (len(self.network_.heads) + 2)
        step = max(1, _CHUNK_BYTES // row_bytes)
        for start in range(0, len(inputs), step):
            part = inputs[np.arange(start, min(start + step, len(inputs)))]
            logits = player_logits(
                self.network_, part, self.encoder_views_, self.batch_size, shared_out=False
            )
            yield fused(self.network_, logits, cast("Space", self.space)).numpy()
