"""How the team weighs its players: ω and b of each label, fitted on out-of-fold outputs.

In logit space s̄_c = Σ_i ω_{i,c} s_{i,c} + b_c with ω ≥ 0; in probability space p̄_c = Σ_i ω_{i,c} σ(s_{i,c})
with ω on the simplex. A rare label has too few positives to choose its own weights, and the choice of all
labels together is the head's. So the weights are fitted twice: first one set for each bucket of equally
frequent labels, then one for each label, pulled to its bucket's. Positives count 1 + α ρ_c times, so that the
rarest labels of a bucket have their say.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import sparse
from scipy.special import expit

from evenhand.multilabel.game import Space
from evenhand.multilabel.metrics.buckets import frequency_buckets
from evenhand.multilabel.solver import FloatArray, Loss
from evenhand.multilabel.storage import FolderError, array_entry

_POOLED_LABELS = 100  # of a bucket that say what its weights are: more change them little and cost time
_NEWTON_STEPS = 50
_EM_STEPS = 100
_RIDGE = 1e-3


@dataclass(frozen=True)
class Fusion:
    """The team's weights.

    Parameters
    ----------
    weights : ndarray of float64, shape (N, K)
        ω ≥ 0; 0 where a player does not own a label.
    bias : ndarray of float64, shape (K,)
        b; 0 in probability space.
    """

    weights: FloatArray
    bias: FloatArray

    def get_state(self) -> dict[str, Any]:
        """What `from_state` needs."""
        return {"weights": self.weights, "bias": self.bias}

    @classmethod
    def from_state(cls, state: Any, shape: tuple[int, int]) -> Self:
        """The fusion whose state this is.

        Parameters
        ----------
        state : dict
            As `get_state` returns it, read from a file.
        shape : (int, int)
            N and K.

        Returns
        -------
        Fusion

        Raises
        ------
        FolderError
            If an array is missing or damaged.
        """
        weights = array_entry(state, "weights", ["float64"], shape)
        if (weights < 0).any():
            raise FolderError("a fusion weight is below 0; the file is damaged")
        return cls(weights, array_entry(state, "bias", ["float64"], shape[1:]))


@dataclass(frozen=True)
class Outputs:
    """What the players said of the training instances, and what they should have said.

    Parameters
    ----------
    logits : ndarray of float32, shape (N, K, n)
        s, out-of-fold; 0 where a player does not own a label.
    labels : csc_array, shape (n, K)
        y.
    row_weights : ndarray of float64, shape (n,)
        Weights of the instances.
    fold_of : ndarray of int, shape (n,)
        The fold in which each instance was held out.
    usable : ndarray of bool, shape (K, F)
        False where the models of a fold never saw a positive of the label: their outputs say nothing of how
        good the players are.
    """

    logits: npt.NDArray[np.float32]
    labels: sparse.csc_array[Any]
    row_weights: npt.NDArray[np.float64]
    fold_of: npt.NDArray[np.integer[Any]]
    usable: npt.NDArray[np.bool_]

    def of_label(self, label: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], FloatArray]:
        """Logits (N, n), positives (n,) and weights (n,) of one label."""
        positive = np.zeros(len(self.row_weights), np.bool_)
        rows = slice(self.labels.indptr[label], self.labels.indptr[label + 1])
        positive[self.labels.indices[rows]] = True
        return self.logits[:, label], positive, self.row_weights * self.usable[label][self.fold_of]


def fit_fusion(
    outputs: Outputs,
    owners: npt.NDArray[np.bool_],
    positive_weights: FloatArray,
    *,
    loss: Loss,
    space: Space,
    pull: float,
    n_jobs: int,
    seed: int,
) -> Fusion:
    """The weights that maximise the team's payoff on out-of-fold outputs, each label pulled to its bucket.

    Parameters
    ----------
    outputs : Outputs
    owners : ndarray of bool, shape (N, K)
    positive_weights : ndarray, shape (K,)
        1 + α ρ_c.
    loss : {"squared_hinge", "log_likelihood"}
    space : {"logit", "probability"}
    pull : float
        λ of (λ/2)‖(ω_c, b_c) − (ω, b)_{bucket of c}‖² in logit space, a number of pseudo-observations in
        probability space.
    n_jobs : int
        Threads.
    seed : int
        Chooses the labels that speak for a large bucket.

    Returns
    -------
    Fusion

    Notes
    -----
    [D] Our reading, by our first measurements; docs/experiments.md says what each part adds.
    """
    n_players, n_labels = owners.shape
    counts = np.diff(outputs.labels.indptr)
    buckets = frequency_buckets(counts)
    fit = _Fit(outputs, owners, positive_weights, loss, space)
    rng = np.random.default_rng(seed)
    pooled = [
        rng.permutation(np.flatnonzero((buckets.index == b) & outputs.usable.any(1)))[:_POOLED_LABELS]
        for b in range(len(buckets.names))
    ]
    neutral = np.append(np.full(n_players, 1 / n_players), 0.0)

    def together(labels: npt.NDArray[Any]) -> FloatArray:
        if not len(labels):
            return neutral
        prior = _among_owners(neutral, np.asarray(owners[:, labels].any(axis=1)))
        return fit.solve(labels, prior, prior, _RIDGE)

    of_bucket = np.stack(_parallel(together, pooled, n_jobs))

    def of_label(label: int) -> FloatArray:
        prior = _among_owners(of_bucket[buckets.index[label]], owners[:, label])
        if not outputs.usable[label].any():
            return prior
        return fit.solve(np.array([label]), prior, prior, pull)

    solved = np.stack(_parallel(of_label, range(n_labels), n_jobs), axis=1)
    return Fusion(solved[:-1] * owners, solved[-1])


def _parallel(work: Any, items: Iterable[Any], n_jobs: int) -> list[FloatArray]:
    with ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(work, items))


def _among_owners(weights: FloatArray, owned: npt.NDArray[np.bool_]) -> FloatArray:
    """A bucket's weights for a label that only some players own, with the same sum."""
    if owned.all():
        return weights
    players, bias = np.where(owned, weights[:-1], 0.0), weights[-1:]
    total = players.sum()
    shared = players * (weights[:-1].sum() / total) if total > 0 else owned / owned.sum()
    return np.concatenate([shared, bias])


@dataclass(frozen=True)
class _Fit:
    outputs: Outputs
    owners: npt.NDArray[np.bool_]
    positive_weights: FloatArray
    loss: Loss
    space: Space

    def solve(
        self, labels: npt.NDArray[Any], start: FloatArray, prior: FloatArray, pull: float
    ) -> FloatArray:
        """(ω, b) shared by these labels."""
        if self.space == "probability":
            return self._mix(labels, start, prior, pull)
        theta = start.copy()
        value, gradient, hessian = self._expand(labels, theta, prior, pull)
        for _ in range(_NEWTON_STEPS):
            free = np.ones(len(theta), np.bool_)
            free[:-1] = (theta[:-1] > 0) | (gradient[:-1] < 0)
            step = np.zeros_like(theta)
            step[free] = -np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
            if -step @ gradient < 1e-6 * len(labels):
                break
            theta, value, gradient, hessian = self._search(labels, theta, step, value, prior, pull)
        return theta

    def _search(
        self,
        labels: npt.NDArray[Any],
        theta: FloatArray,
        step: FloatArray,
        value: float,
        prior: FloatArray,
        pull: float,
    ) -> tuple[FloatArray, float, FloatArray, FloatArray]:
        """Halve a projected Newton step until it does not make things worse."""
        scale = 1.0
        while True:
            trial = theta + scale * step
            trial[:-1] = np.maximum(trial[:-1], 0)
            new_value, gradient, hessian = self._expand(labels, trial, prior, pull)
            if new_value <= value + 1e-9 * abs(value) or scale < 1e-6:
                return trial, new_value, gradient, hessian
            scale /= 2

    def _expand(
        self, labels: npt.NDArray[Any], theta: FloatArray, prior: FloatArray, pull: float
    ) -> tuple[float, FloatArray, FloatArray]:
        """Loss with prior, its gradient and Hessian."""
        gradient, hessian = np.zeros_like(theta), np.zeros((len(theta), len(theta)))
        value, hinge = 0.0, self.loss == "squared_hinge"
        for label in labels:
            logits, positive, weights = self.outputs.of_label(label)
            value += _expand(
                logits, positive, weights, self.positive_weights[label], hinge, theta, gradient, hessian
            )
        strength = max(pull, _RIDGE)
        value += 0.5 * strength * float(((theta - prior) ** 2).sum())
        hessian = np.tril(hessian) + np.tril(hessian, -1).T + strength * np.eye(len(theta))
        return value, gradient + strength * (theta - prior), hessian

    def _mix(self, labels: npt.NDArray[Any], start: FloatArray, prior: FloatArray, pull: float) -> FloatArray:
        """Expectation maximisation of the mixture weights, with pull pseudo-observations of the prior."""
        owned = self.owners[:, labels].any(axis=1)
        mixture = np.where(owned, np.maximum(start[:-1], 1e-6), 0.0)
        mixture /= mixture.sum()
        anchor = max(pull, _RIDGE) * mixture
        for _ in range(_EM_STEPS):
            shares = anchor.copy()
            for label in labels:
                logits, positive, weights = self.outputs.of_label(label)
                heard = mixture * self.owners[:, label]
                say = heard[:, None] * expit(np.where(positive, logits, -logits).astype(np.float64))
                weights = weights * np.where(positive, self.positive_weights[label], 1.0)
                shares += (say / np.maximum(say.sum(axis=0), np.finfo(np.float64).tiny)) @ weights
                # The label says nothing of players who do not own it: they keep their share beside it.
                shares += (mixture - heard) * (weights.sum() / heard.sum())
            new = shares / shares.sum()
            if np.abs(new - mixture).max() < 1e-5:
                break
            mixture = new
        return np.append(mixture, 0.0)


@njit(nogil=True, cache=True)
def _expand(logits, positive, weights, positive_weight, hinge, theta, gradient, hessian):  # type: ignore[no-untyped-def]
    """Add one label's loss to gradient and (lower) hessian; returns its value."""
    n_players = logits.shape[0]
    value = 0.0
    for i in range(logits.shape[1]):
        weight = weights[i] * (positive_weight if positive[i] else 1.0)
        if weight == 0:
            continue
        s = theta[n_players]
        for v in range(n_players):
            s += theta[v] * logits[v, i]
        sign = 1.0 if positive[i] else -1.0
        z = sign * s
        if hinge:
            margin = max(1 - z, 0.0)
            value += weight * margin * margin
            slope, curvature = -2 * weight * margin * sign, 2 * weight * (margin > 0)
        else:
            value += weight * (np.log1p(np.exp(-abs(z))) + max(-z, 0.0))
            p = 1 / (1 + np.exp(z))
            slope, curvature = -weight * p * sign, weight * p * (1 - p)
        if slope == 0:
            continue
        for v in range(n_players):
            gradient[v] += slope * logits[v, i]
            for u in range(v + 1):
                hessian[v, u] += curvature * logits[v, i] * logits[u, i]
            hessian[n_players, v] += curvature * logits[v, i]
        gradient[n_players] += slope
        hessian[n_players, n_players] += curvature
    return value
