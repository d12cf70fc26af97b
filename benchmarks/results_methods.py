"""The methods of the multi-label page: the game, its controls, and peers, all with the same budget of tuning.

All are judged by the same calibration and decoders. Linear methods learn these from the outputs of three
folds, neural ones from a held-out fifth of the training part, where they also stop early by mAP (patience 3).
What a method is tried with is a list of configurations; `Method.play` plays one.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from evenhand.multilabel import game
from evenhand.multilabel.decoding import GlobalThreshold, MacroF1, PooledCalibration
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.neural import losses
from evenhand.multilabel.neural.encoders import DenseLayers, Recipe, SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.neural.evaluation import player_logits
from evenhand.multilabel.neural.inputs import Inputs
from evenhand.multilabel.predictions import LabelSetPredictor
from evenhand.multilabel.splitting import cross_fitting_folds, stratified_split
from evenhand.multilabel.views import Views
from results_data import Problem

Configuration = dict[str, Any]
Floats = npt.NDArray[np.floating[Any]]
DECODERS = ("micro", "macro_f1")
_FOLDS, _HELD_OUT = 3, 0.2
_RATES = (2e-3, 5e-3)


@dataclass(frozen=True)
class Team:
    """What a game leaves as evidence.

    Parameters
    ----------
    history : sequence of dict
        A record a round or epoch.
    logits : ndarray, shape (N, n, K)
        Of the players on the test instances; NaN where one does not own the label.
    weights : ndarray, shape (N, K)
        ω; 0 where a player does not own the label.
    """

    history: Sequence[Mapping[str, Any]]
    logits: Floats
    weights: Floats


@dataclass(frozen=True)
class Outcome:
    """What a method says of the test instances, and what its game left as evidence.

    Parameters
    ----------
    probabilities : ndarray, shape (n, K)
    sets : dict of str to csr_array, shape (n, K)
        By decoder.
    team : Team, optional
        None where there was no game.
    """

    probabilities: Floats
    sets: Mapping[str, sparse.csr_array[Any]]
    team: Team | None = None


class Method(Protocol):
    """One row of the tables."""

    @property
    def tried(self) -> Sequence[Configuration]:
        """Configurations to choose from, as JSON knows them; the first is chosen where there is no budget."""

    def play(self, problem: Problem, configuration: Configuration, seed: int) -> Outcome:
        """Learn from the training part and speak of the test part."""


def choices(**values: Sequence[Any]) -> list[Configuration]:
    """All combinations of some options' values."""
    return [dict(zip(values, chosen)) for chosen in product(*values.values())]


@dataclass(frozen=True)
class LinearGame:
    """`CuriosityGameClassifier`, or a control that its options make.

    Parameters
    ----------
    tried : sequence of dict
    options : mapping
        The same in all configurations.
    is_team : bool
        Whether there is a player a view, or one that reads the whole.
    is_rarity_even : bool
        Whether ρ is 1 for every label, for which the estimator has no option.
    """

    tried: Sequence[Configuration]
    options: Mapping[str, Any] = field(default_factory=dict)
    is_team: bool = True
    is_rarity_even: bool = False

    def play(self, problem: Problem, configuration: Configuration, seed: int) -> Outcome:
        """Play the game of round 0, and further rounds where the options ask for them."""
        views, test_views = problem.views, problem.test_views
        if not self.is_team:
            views, test_views = (
                Views({problem.whole: one.blocks[problem.whole]}) for one in (views, test_views)
            )
        model = CuriosityGameClassifier(
            random_state=seed, n_folds=_FOLDS, **{**self.options, **configuration}
        )
        with _rarity(even=self.is_rarity_even), _quiet():
            model.fit(views, problem.train.Y, groups=problem.train.groups)
        owners = np.stack([player.owned for player in model.team_.players])
        logits = np.where(owners[:, None], model.team_.player_logits(test_views), np.nan)
        return _outcome(model, test_views, Team(model.team_.history, logits, model.team_.fusion.weights))


@dataclass(frozen=True)
class NeuralGame:
    """`NeuralGameClassifier`, or a control that its options make.

    Parameters
    ----------
    tried : sequence of dict
        Options of the estimator, or values of its loss.
    options : mapping
        The same in all configurations.
    is_rarity_even : bool
        Whether ρ is 1 for every label, for which the estimator has no option.
    """

    tried: Sequence[Configuration]
    options: Mapping[str, Any] = field(default_factory=dict)
    is_rarity_even: bool = False

    def play(self, problem: Problem, configuration: Configuration, seed: int) -> Outcome:
        """Learn with early stop on a held-out fifth."""
        rows, others = stratified_split(problem.train.Y, _HELD_OUT, seed=seed)
        train, held_out = problem.train.take(rows), problem.train.take(others)
        model = NeuralGameClassifier(
            _encoder(problem),
            batch_size=_batch_size(train.n_instances),
            patience=3,
            random_state=seed,
            device="cpu",
        )
        options = {"update": "joint", **self.options, **configuration}
        of_loss = {name: options.pop(name) for name in options.keys() - model.get_params()}
        model.set_params(**options)
        with _replaced_loss(model.loss, of_loss), _rarity(even=self.is_rarity_even), _quiet():
            model.fit(train.X, train.Y, validation_data=(held_out.X, held_out.Y))
        X = problem.test.X
        logits = player_logits(
            model.network_, Inputs.of(X), model.encoder_views_, model.batch_size, shared_out=False
        )
        owners = model.network_.owners.cpu()
        with torch.no_grad():
            weights = model.network_.team(torch.zeros(owners.shape[1])).weights.where(owners, 0.0).numpy()
        return _outcome(
            model, X, Team(model.history_, logits.where(owners[:, None], torch.nan).numpy(), weights)
        )


@dataclass(frozen=True)
class OneVsRest:
    """scikit-learn's one-vs-rest on the whole view, cross-fitted as the game is.

    Parameters
    ----------
    tried : sequence of dict
        Options of the model.
    make : callable
        From options to the model of a label.
    """

    tried: Sequence[Configuration]
    make: Callable[..., Any]

    def play(self, problem: Problem, configuration: Configuration, seed: int) -> Outcome:
        """Learn once a fold, and once from all rows."""

        def scores(X: Any, Y: Any, X_new: Any) -> Floats:
            model = OneVsRestClassifier(self.make(**configuration))
            with _quiet():
                model.fit(sparse.csr_matrix(X), sparse.csr_matrix(Y.astype(np.int64)))
            found: Floats = model.decision_function(sparse.csr_matrix(X_new)).astype(np.float32)
            return found

        return _cross_fitted(problem, scores, seed)


@dataclass(frozen=True)
class Peer:
    """A label tree of another library on the whole view, in a Python of its own, cross-fitted as the game is.

    Parameters
    ----------
    tried : sequence of dict
        With "C", the strength of its losses.
    name : str
        As extreme_method.py knows it.
    python : Path
    """

    tried: Sequence[Configuration]
    name: str
    python: Path

    def play(self, problem: Problem, configuration: Configuration, seed: int) -> Outcome:
        """Learn once a fold, and once from all rows; a label that is not among the 20 best gets a 0."""

        def scores(X: Any, Y: Any, X_new: Any) -> Floats:
            seen = np.flatnonzero(np.bincount(Y.indices, minlength=Y.shape[1]))
            with tempfile.TemporaryDirectory() as folder:
                parts = {"x_train": X, "y_train": Y[:, seen], "x_val": X_new[:1], "x_test": X_new}
                for part, matrix in parts.items():  # plain matrices: the peers' scipy has no arrays in files
                    sparse.save_npz(Path(folder) / f"{part}.npz", sparse.csr_matrix(matrix), compressed=False)
                self._run(folder, configuration)
                known = sparse.load_npz(Path(folder) / f"{self.name}.test.npz")
            found = np.zeros((known.shape[0], Y.shape[1]), np.float32)
            found[:, seen] = known.toarray()
            return found

        return _cross_fitted(problem, scores, seed)

    def _run(self, folder: str, configuration: Configuration) -> None:
        script = str(Path(__file__).with_name("extreme_method.py"))
        command = [str(self.python), script, self.name, folder, "--options", json.dumps(configuration)]
        done = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.name} failed: {done.stderr[-2000:]}")


def linear_methods() -> dict[str, Method]:
    """The linear game, its controls, and one-vs-rest."""
    both = choices(C=[0.3, 1.0], rarity_reward=[3.0, 1.0])
    strengths = choices(C=[0.3, 1.0, 0.1, 3.0])
    rounds: Mapping[str, Any] = {"rounds": 3}
    return {
        GAME: LinearGame(both),
        "game, rounds": LinearGame(choices(own_share=[0.0, 0.5], disagreement_reward=[1.0, 4.0]), rounds),
        "game, rounds, β = 0": LinearGame(
            choices(own_share=[0.0, 0.5], C=[0.3, 1.0]), {**rounds, "disagreement_reward": 0.0}
        ),
        ENSEMBLE: LinearGame(strengths, {"rarity_reward": 0.0, "disagreement_reward": 0.0}),
        "game, ρ ≡ 1": LinearGame(both, is_rarity_even=True),
        "game, disjoint players": LinearGame(both, {"partition": "frequency", "tail_owners": 1}),
        "one player": LinearGame(both, is_team=False),
        "one player, log-likelihood": LinearGame(
            choices(C=[1.0, 3.0], rarity_reward=[3.0, 10.0]), {"payoff": "log_likelihood"}, is_team=False
        ),
        "OvR LinearSVC": OneVsRest(strengths, partial(LinearSVC, random_state=0)),
        "OvR logistic": OneVsRest(
            choices(C=[1.0, 3.0, 0.3, 10.0]), partial(LogisticRegression, solver="liblinear", random_state=0)
        ),
    }


def neural_methods(epochs: int) -> dict[str, Method]:
    """The neural game and the losses that a claim for it needs beside it.

    Each is tried with two learning rates times two values of its own strength; that of an ensemble is its
    weight decay. The first two differ in both, so that a budget of two tries every value once. α = β = 0 is
    BCE to the bit, and cheaper as a loss.
    """

    def tried(**values: Sequence[float]) -> list[Configuration]:
        found = [{**one, "epochs": epochs} for one in choices(learning_rate=_RATES, **values)]
        return [found[place] for place in (0, 3, 1, 2)]

    rewards = [
        {**one, "disagreement_reward": one["rarity_reward"]} for one in tried(rarity_reward=[1.0, 3.0])
    ]
    return {
        NEURAL_GAME: NeuralGame(rewards),
        "neural, β = 0": NeuralGame(tried(rarity_reward=[1.0, 3.0]), {"disagreement_reward": 0.0}),
        "neural, ρ ≡ 1": NeuralGame(rewards, is_rarity_even=True),
        NEURAL_ENSEMBLE: NeuralGame(tried(weight_decay=[0.01, 0.3]), {"loss": "bce"}),
        "neural, one player": NeuralGame(tried(weight_decay=[0.01, 0.3]), {"loss": "bce", "n_players": 1}),
        "neural, positive weight": NeuralGame(tried(alpha=[3.0, 10.0]), {"loss": "positive_weight"}),
        "neural, focal": NeuralGame(tried(gamma=[1.0, 2.0]), {"loss": "focal"}),
        "neural, asymmetric": NeuralGame(tried(negative_gamma=[2.0, 4.0]), {"loss": "asymmetric"}),
        "neural, class-balanced": NeuralGame(tried(beta=[0.99, 0.999]), {"loss": "class_balanced"}),
        "neural, distribution-balanced": NeuralGame(
            tried(negative_scale=[2.0, 5.0]), {"loss": "distribution_balanced"}
        ),
    }


def peer_methods(python: Path) -> dict[str, Method]:
    """Label trees of other libraries."""
    tried = choices(C=[1.0, 0.3, 3.0, 10.0])
    return {name: Peer(tried, name, python) for name in PEERS}


GAME, ENSEMBLE = "game", "ensemble, α = β = 0"
NEURAL_GAME, NEURAL_ENSEMBLE = "neural game", "neural, ensemble (BCE)"
PEERS = ("pecos", "omikuji (Parabel)", "omikuji (Bonsai)", "napkinxc", "libmultilabel")


def _cross_fitted(problem: Problem, scores: Callable[[Any, Any, Any], Floats], seed: int) -> Outcome:
    """Decide by what a method says of rows that it has not seen, as the game's estimators do."""
    X, Y = problem.views.blocks[problem.whole], problem.train.Y
    folds = cross_fitting_folds(Y, _FOLDS, groups=problem.train.groups, seed=seed)
    held_out = np.zeros(Y.shape, np.float32)
    for fold in range(_FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        held_out[outside] = scores(X[inside], Y[inside], X[outside])
    test = scores(X, Y, problem.test_views.blocks[problem.whole])
    calibration = PooledCalibration().fit(held_out, Y)
    known, found = calibration.transform(held_out), calibration.transform(test)
    found[:, problem.train.label_counts() == 0] = 0.5 / (problem.train.n_instances + 1)
    sets = {
        "micro": GlobalThreshold("micro").fit(known, Y).decode(found),
        "macro_f1": MacroF1().decode(found),
    }
    return Outcome(found, sets)


def _outcome(model: LabelSetPredictor, X: Any, team: Team) -> Outcome:
    sets = {name: sparse.csr_array(model.predict(X, decoder=name)) for name in DECODERS}
    return Outcome(model.predict_proba(X), sets, team)


def _encoder(problem: Problem) -> Recipe:
    return DenseLayers((256, 128), dropout=0.3) if problem.train.kind == "dense" else SparseBag(128)


def _batch_size(n: int) -> int:
    return 32 if n < 800 else 64 if n < 1_600 else 128


@contextmanager
def _rarity(*, even: bool) -> Iterator[None]:
    """ρ as it is, or 1 for every label."""
    if not even:
        yield
        return
    with patch.object(game, "rarity", lambda counts, n: torch.ones(len(counts), dtype=torch.float64)):
        yield


@contextmanager
def _replaced_loss(loss: str | None, values: Configuration) -> Iterator[None]:
    """A loss with values of its own, for which the estimator has no option."""
    if loss is None or not values:
        yield
        return
    with patch.object(losses, loss, partial(getattr(losses, loss), **values)):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # a label without a positive
        yield
