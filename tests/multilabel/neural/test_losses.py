"""Each loss against a loop over instances and labels in plain Python floats."""

import math
from typing import get_args

import numpy as np
import pytest
import torch

from evenhand.multilabel.neural.losses import (
    LossName,
    asymmetric,
    class_balanced,
    distribution_balanced,
    focal,
    loss_of,
    positive_weight,
)

M, COUNTS = 50, [1, 4, 10, 40]
RNG = np.random.default_rng(0)
S = RNG.normal(scale=2, size=(6, 4))
Y = (RNG.uniform(size=(6, 4)) < 0.4).astype(float)
Y[2] = 0  # an instance without labels
LOGITS, TARGETS, N_C = torch.tensor(S), torch.tensor(Y), torch.tensor(COUNTS)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def mean(of_entry):
    return np.mean([[of_entry(n, c, S[n, c], Y[n, c] > 0) for c in range(4)] for n in range(6)])


def cross_entropy(z, positive):
    return -math.log(sigmoid(z) if positive else 1 - sigmoid(z))


def by_positive_weight(n, c, z, positive):
    rho = math.log((M + 1) / (COUNTS[c] + 1)) / math.log((M + 1) / 2)
    return cross_entropy(z, positive) * ((1 + 7 * rho) if positive else 1)


def by_focal(n, c, z, positive):
    p_t = sigmoid(z) if positive else 1 - sigmoid(z)
    return -((1 - p_t) ** 1.5) * math.log(p_t)


def by_asymmetry(n, c, z, positive):
    p = sigmoid(z)
    shifted = max(p - 0.1, 0)
    return -((1 - p) ** 0.5 * math.log(p)) if positive else -(shifted**3 * math.log(1 - shifted))


def by_effective_number(n, c, z, positive):
    weights = [0.1 / (1 - 0.9**count) for count in COUNTS]
    return cross_entropy(z, positive) * weights[c] / np.mean(weights)


def by_distribution(n, c, z, positive):
    repeats = sum(1 / COUNTS[j] for j in range(4) if Y[n, j] > 0)
    r = math.inf if repeats == 0 else 1 / COUNTS[c] / repeats
    weight = 0.2 + (1 if r == math.inf else sigmoid(8 * (r - 0.25)))
    nu = 0.07 * math.log(M / COUNTS[c] - 1)
    if positive:
        return weight * math.log(1 + math.exp(-(z - nu)))
    return weight / 3 * math.log(1 + math.exp(3 * (z - nu)))


@pytest.mark.parametrize(
    ("loss", "of_entry"),
    [
        (positive_weight(LOGITS, TARGETS, N_C, M, alpha=7), by_positive_weight),
        (focal(LOGITS, TARGETS, gamma=1.5), by_focal),
        (asymmetric(LOGITS, TARGETS, positive_gamma=0.5, negative_gamma=3, margin=0.1), by_asymmetry),
        (class_balanced(LOGITS, TARGETS, N_C, beta=0.9), by_effective_number),
        (
            distribution_balanced(
                LOGITS, TARGETS, N_C, M, alpha=0.2, beta=8, mu=0.25, negative_scale=3, kappa=0.07
            ),
            by_distribution,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_loss_is_its_formula(loss, of_entry):
    assert loss.item() == pytest.approx(mean(of_entry), rel=1e-12)


@pytest.mark.parametrize("name", get_args(LossName))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_and_labels_without_positives_give_finite_gradients(name, dtype):
    logits = torch.tensor([[-1e4, 1e4, 0, 30], [1e4, -1e4, 0, -30]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]], dtype=dtype)
    value = loss_of(name, torch.tensor([0, 2, 1, 1]), 2)(logits, targets)
    value.backward()
    assert value.dtype == dtype
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_their_neutral_values_are_cross_entropy():
    expected = loss_of("bce", N_C, M)(LOGITS, TARGETS)
    neutral = [
        positive_weight(LOGITS, TARGETS, N_C, M, alpha=0),
        focal(LOGITS, TARGETS, gamma=0),
        asymmetric(LOGITS, TARGETS, positive_gamma=0, negative_gamma=0, margin=0),
        class_balanced(LOGITS, TARGETS, N_C, beta=0),
    ]
    for value in neutral:
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", get_args(LossName))
def test_an_instance_of_weight_two_counts_like_two(name):
    loss, weights = loss_of(name, N_C, M), torch.tensor([2.0, 0, 1, 3, 1, 0], dtype=torch.float64)
    rows = torch.arange(6).repeat_interleave(weights.long())
    expected = loss(LOGITS[rows], TARGETS[rows])
    for scale in (1, 0.3):
        found = loss(LOGITS, TARGETS, row_weights=scale * weights)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert abs(loss(LOGITS, TARGETS) - expected) > 1e-4
