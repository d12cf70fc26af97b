"""How a `NeuralPlayer` learns: u_i with a team of its own, by gradient, until held-out instances say stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from evenhand.multilabel import game
from evenhand.multilabel.neural.encoders import DenseLayers, Encoder, SparseBag
from evenhand.multilabel.neural.evaluation import Examples
from evenhand.multilabel.neural.inputs import Column, Inputs
from evenhand.multilabel.neural.network import TeamNetwork
from evenhand.multilabel.neural.player import NeuralPlayer
from evenhand.multilabel.neural.training import Settings, train
from evenhand.multilabel.splitting import cross_fitting_folds
from evenhand.multilabel.views import Block

IntArray = npt.NDArray[np.integer[Any]]

_PARTS = 7  # one of them is held out


@dataclass(frozen=True)
class NeuralRule:
    """How a `NeuralPlayer` learns; see `NeuralGameClassifier` for the meaning of each.

    Parameters
    ----------
    n_hidden : int
        Units of its hidden layer, and length of the embeddings of a sparse view's features.
    max_epochs, patience, batch_size : int
    learning_rate, weight_decay : float
    """

    n_hidden: int = 256
    max_epochs: int = 50
    patience: int = 5
    batch_size: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 0.01


def learn_alone(
    view: str,
    block: Block,
    labels: sparse.csr_array[Any],
    row_weights: npt.NDArray[np.float64],
    owned: npt.NDArray[np.bool_],
    label_rarity: npt.NDArray[np.float64],
    rules: game.Rules,
    rule: NeuralRule,
    *,
    groups: npt.NDArray[Any] | None,
    seed: int,
) -> NeuralPlayer:
    """A player that has learned from these instances.

    Parameters
    ----------
    view : str
    block : csr_array or ndarray, shape (n, D)
    labels : csr_array, shape (n, K)
    row_weights : ndarray, shape (n,)
        Instances of weight 0 are left out.
    owned : ndarray of bool, shape (K,)
        L_i, not empty.
    label_rarity : ndarray, shape (K,)
        ρ.
    rules : Rules
        α and κ are heeded. R is the log-likelihood, whatever the team's payoff is.
    rule : NeuralRule
    groups : ndarray, shape (n,), optional
        Instances of one group are held out together.
    seed : int
        Of weights, batches and the held-out part.

    Returns
    -------
    NeuralPlayer

    Raises
    ------
    FloatingPointError
        If training diverges.

    Notes
    -----
    A seventh of the instances is held out; the weights of the epoch whose mean average precision is highest
    there are kept. A label whose positives would all be held out has them learned from instead. Where one of
    the parts would be without any label, all instances are learned from and say when to stop. It runs on the
    CPU.
    """
    rows = np.flatnonzero(row_weights)
    own = sparse.csr_array(labels[rows] @ sparse.diags_array(owned.astype(labels.dtype)))
    own.eliminate_zeros()
    inside, held_out = _split(own, None if groups is None else groups[rows], seed)

    def examples(part: IntArray) -> Examples:
        return Examples(Inputs({view: _column(block[rows[part]])}), own[part])

    with torch.random.fork_rng():  # what the caller draws shall not depend on it
        torch.manual_seed(seed)
        network = _network(_column(block), own[inside], owned, rule)
        if len(rows):
            try:
                train(
                    network,
                    (view,),
                    examples(inside),
                    examples(held_out),
                    _settings(rules, rule, seed),
                    row_weights=row_weights[rows[inside]],
                    label_rarity=label_rarity,
                    device=torch.device("cpu"),
                )
            except FloatingPointError as error:
                raise FloatingPointError(
                    f"the neural player of view {view!r} diverges ({error}); scale the view's features"
                ) from error
    encoder, head = network.encoders[0], network.heads[0]
    assert isinstance(encoder, Encoder)
    assert isinstance(head, torch.nn.Linear)
    return NeuralPlayer(view, owned, encoder.eval(), head.eval())


def _split(
    labels: sparse.csr_array[Any], groups: npt.NDArray[Any] | None, seed: int
) -> tuple[IntArray, IntArray]:
    """Rows to learn from, and rows that say when to stop."""
    every = np.arange(labels.shape[0])
    n_groups = len(every if groups is None else np.unique(groups))
    if n_groups < 2:
        return every, every
    held = cross_fitting_folds(labels, min(_PARTS, n_groups), groups=groups, seed=seed) == 0
    lost = np.bincount(labels[~held].indices, minlength=labels.shape[1]) == 0
    held[labels @ lost.astype(labels.dtype) > 0] = False
    if not labels[held].nnz or not labels[~held].nnz:
        return every, every
    return every[~held], every[held]


def _column(block: Block) -> Column:
    return Column("dense" if isinstance(block, np.ndarray) else "sparse", block)


def _network(
    column: Column, labels: sparse.csr_array[Any], owned: npt.NDArray[np.bool_], rule: NeuralRule
) -> TeamNetwork:
    """Biases start at the log-odds of their labels."""
    width = rule.n_hidden
    recipe = SparseBag(width, (width,)) if column.kind == "sparse" else DenseLayers((width,))
    encoder = recipe.build(column)
    n, n_labels = labels.shape
    counts = np.bincount(labels.indices, minlength=n_labels)
    return TeamNetwork([encoder], [0], owned[None], np.log((counts + 1) / (n - counts + 1)))


def _settings(rules: game.Rules, rule: NeuralRule, seed: int) -> Settings:
    return Settings(
        # Alone there is no disagreement, and its own score is the team's.
        game.Rules(rarity_reward=rules.rarity_reward, negative_share=rules.negative_share),
        loss=None,
        update="joint",
        epochs=rule.max_epochs,
        warmup_epochs=0,
        annealing=False,
        batch_size=rule.batch_size,
        accumulation=1,
        learning_rate=rule.learning_rate,
        encoder_learning_rate=rule.learning_rate,
        weight_decay=rule.weight_decay,
        bfloat16=False,
        shard_heads=False,
        monitor="map",  # fusion sets its scale, so what counts is how it ranks
        patience=rule.patience,
        checkpoint_steps=None,
        checkpoint_minutes=None,
        seed=seed,
    )
