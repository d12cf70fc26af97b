from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize

from evenhand.multilabel.fusion import Outputs, fit_fusion

LOSSES = ["squared_hinge", "log_likelihood"]
N_PLAYERS, N_ROWS = 3, 240
COUNTS = (4, 5, 8, 10, 15, 60, 70, 90)  # buckets <=5, 6-10, 11-20 and 51-100


def said(seed=0, counts=COUNTS, skill=(2.0, 1.0, 0.3), n=N_ROWS):
    """Logits (N, K, n) of players of falling skill, and labels with these counts."""
    rng = np.random.default_rng(seed)
    Y = np.zeros((n, len(counts)))
    for label, count in enumerate(counts):
        Y[rng.choice(n, count, replace=False), label] = 1
    signal = np.array(skill)[:, None, None] * (2 * Y.T - 1)
    logits = (signal + rng.normal(scale=1.5, size=signal.shape) - 0.5).astype(np.float32)
    return Outputs(
        logits,
        sparse.csc_array(Y),
        rng.uniform(0.5, 2.0, n),
        rng.integers(0, 3, n),
        np.ones((len(counts), 3), np.bool_),
    )


def everybody(outputs):
    return np.ones(outputs.logits.shape[:2], np.bool_)


def fuse(outputs, owners=None, **options):
    n_labels = outputs.logits.shape[1]
    given = {"loss": "log_likelihood", "space": "logit", "pull": 5.0, "n_jobs": 1, "seed": 0} | options
    weights = given.pop("positive_weights", np.linspace(1, 3, n_labels))
    return fit_fusion(outputs, everybody(outputs) if owners is None else owners, weights, **given)


def payoff_loss(theta, outputs, labels, positive_weights, loss):
    """Σ w ℓ(y (ω·s + b)) and its gradient over some labels, written out on its own."""
    value, gradient = 0.0, np.zeros_like(theta)
    Y = outputs.labels.toarray()
    for label in labels:
        heard = outputs.usable[label][outputs.fold_of]
        sign = 2 * Y[heard, label] - 1
        weight = outputs.row_weights[heard] * np.where(sign > 0, positive_weights[label], 1)
        Z = np.vstack([outputs.logits[:, label][:, heard].astype(float), np.ones(heard.sum())])
        margin = sign * (theta @ Z)
        if loss == "squared_hinge":
            slack = np.maximum(0, 1 - margin)
            value, slope = value + weight @ slack**2, -2 * slack
        else:
            value, slope = value + weight @ np.logaddexp(0, -margin), -1 / (1 + np.exp(margin))
        gradient += Z @ (weight * sign * slope)
    return value, gradient


def optimum(outputs, labels, positive_weights, loss, prior, pull):
    """The minimum of the loss with its ridge to the prior over ω ≥ 0, by scipy."""

    def objective(theta):
        value, gradient = payoff_loss(theta, outputs, labels, positive_weights, loss)
        away = theta - prior
        return value + pull / 2 * away @ away, gradient + pull * away

    bounds = [(0, None)] * (len(prior) - 1) + [(None, None)]
    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000}
    found = minimize(objective, prior, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return found.x, found.fun, objective


def theta_of(fusion, label):
    return np.append(fusion.weights[:, label], fusion.bias[label])


NEUTRAL = np.append(np.full(N_PLAYERS, 1 / N_PLAYERS), 0.0)
WEIGHTS = np.linspace(1, 3, len(COUNTS))


# --- logit space --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_an_endless_pull_gives_the_pooled_optimum_of_each_bucket(loss):
    outputs = said()
    fusion = fuse(outputs, loss=loss, pull=1e12)
    for labels in ([0, 1], [2, 3], [4], [5, 6, 7]):
        expected, value, objective = optimum(outputs, labels, WEIGHTS, loss, NEUTRAL, 1e-3)
        for label in labels:
            got = theta_of(fusion, label)
            assert objective(got)[0] <= value * (1 + 1e-6) + 1e-6
            np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("pull", [1.0, 30.0])
def test_each_label_is_at_the_optimum_of_its_loss_and_the_pull_to_its_bucket(loss, pull):
    outputs = said(1)
    fusion, pooled = fuse(outputs, loss=loss, pull=pull), fuse(outputs, loss=loss, pull=1e12)
    for label in range(len(COUNTS)):
        prior = theta_of(pooled, label)
        expected, value, objective = optimum(outputs, [label], WEIGHTS, loss, prior, pull)
        got = theta_of(fusion, label)
        assert objective(got)[0] <= value * (1 + 1e-6) + 1e-6
        np.testing.assert_allclose(got, expected, atol=2e-3)
    assert np.abs(fusion.weights - pooled.weights).max() > 0.01  # the labels have their say


@pytest.mark.parametrize("loss", LOSSES)
def test_no_pull_leaves_a_label_its_own_optimum(loss):
    outputs = said(2)
    fusion = fuse(outputs, loss=loss, pull=0.0)
    label = 7  # 90 positives determine it
    _, value, objective = optimum(outputs, [label], WEIGHTS, loss, NEUTRAL, 0.0)
    assert objective(theta_of(fusion, label))[0] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_player_who_misleads_is_kept_at_zero_where_the_slope_says_so(loss):
    outputs = said(3, skill=(2.0, -1.5, 0.2))
    pull = 2.0
    fusion, pooled = fuse(outputs, loss=loss, pull=pull), fuse(outputs, loss=loss, pull=1e12)
    at_bound = 0
    for label in range(len(COUNTS)):
        theta, prior = theta_of(fusion, label), theta_of(pooled, label)
        slope = payoff_loss(theta, outputs, [label], WEIGHTS, loss)[1] + pull * (theta - prior)
        free = np.append(theta[:-1] > 0, True)
        scale = abs(payoff_loss(NEUTRAL, outputs, [label], WEIGHTS, loss)[1]).max()
        assert np.all(np.abs(slope[free]) < 2e-3 * scale)
        assert np.all(slope[~free] > -2e-3 * scale)
        at_bound += (~free).sum()
    assert at_bound >= len(COUNTS)
    assert (fusion.weights >= 0).all()


def test_outputs_of_folds_that_never_saw_a_positive_have_no_say():
    outputs = said(4)
    usable = outputs.usable.copy()
    usable[0, 1] = usable[6, 0] = usable[6, 2] = False
    outputs = replace(outputs, usable=usable)
    before = fuse(outputs)
    logits = outputs.logits.copy()
    for label, fold in ((0, 1), (6, 0), (6, 2)):
        logits[:, label, outputs.fold_of == fold] = 77
    after = fuse(replace(outputs, logits=logits))
    np.testing.assert_array_equal(after.weights, before.weights)
    np.testing.assert_array_equal(after.bias, before.bias)
    everything = fuse(replace(outputs, usable=np.ones_like(usable)))
    assert np.abs(everything.weights - before.weights).max() > 1e-3


@pytest.mark.parametrize("space", ["logit", "probability"])
def test_a_label_without_a_usable_fold_takes_its_buckets_weights_and_has_no_say(space):
    outputs = said(5)
    usable = outputs.usable.copy()
    usable[1] = False
    fusion = fuse(replace(outputs, usable=usable), space=space)
    pooled = fuse(replace(outputs, usable=usable), space=space, pull=1e12)
    np.testing.assert_allclose(theta_of(fusion, 1), theta_of(pooled, 0), rtol=1e-6)


def test_a_bucket_that_nobody_can_speak_for_is_neutral():
    outputs = replace(said(), usable=np.zeros((len(COUNTS), 3), np.bool_))
    fusion = fuse(outputs)
    np.testing.assert_allclose(fusion.weights, 1 / N_PLAYERS)
    np.testing.assert_array_equal(fusion.bias, 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_players_speak_only_for_labels_that_they_own(loss):
    outputs = said(6)
    owners = everybody(outputs)
    owners[0, 5] = owners[2, 5] = owners[1, 6] = False
    logits = np.where(owners[:, :, None], outputs.logits, 0).astype(np.float32)
    outputs = replace(outputs, logits=logits)
    fusion = fuse(outputs, owners, loss=loss, pull=3.0)
    assert (fusion.weights[~owners] == 0).all()
    bucket = theta_of(fuse(outputs, owners, loss=loss, pull=1e12), 7)
    for label in (5, 6):
        players = np.where(owners[:, label], bucket[:-1], 0)
        prior = np.append(players * bucket[:-1].sum() / players.sum(), bucket[-1])
        expected, _, _ = optimum(outputs, [label], WEIGHTS, loss, prior, 3.0)
        np.testing.assert_allclose(theta_of(fusion, label), expected, atol=2e-3)


@pytest.mark.parametrize("space", ["logit", "probability"])
def test_permuted_players_get_permuted_weights(space):
    outputs, order = said(7), np.array([2, 0, 1])
    straight = fuse(outputs, space=space)
    turned = fuse(replace(outputs, logits=outputs.logits[order]), space=space)
    np.testing.assert_allclose(turned.weights, straight.weights[order], atol=1e-6)
    np.testing.assert_allclose(turned.bias, straight.bias, atol=1e-6)


@pytest.mark.parametrize("space", ["logit", "probability"])
def test_threads_do_not_change_a_bit(space):
    outputs = said(8)
    one, two = fuse(outputs, space=space, n_jobs=1), fuse(outputs, space=space, n_jobs=2)
    assert one.weights.tobytes() == two.weights.tobytes()
    assert one.bias.tobytes() == two.bias.tobytes()


@pytest.mark.parametrize("space", ["logit", "probability"])
def test_a_weight_of_a_row_is_the_row_that_often(space):
    outputs = only(said(9), [6])  # 70 positives; in its bucket before and after
    twice = np.flatnonzero(outputs.labels.toarray()[:, 0])[:20]
    rows = np.append(np.arange(N_ROWS), twice)
    repeated = Outputs(
        outputs.logits[:, :, rows],
        sparse.csc_array(outputs.labels.toarray()[rows]),
        np.ones(len(rows)),
        outputs.fold_of[rows],
        outputs.usable,
    )
    weighted = replace(outputs, row_weights=np.bincount(rows).astype(float))
    one, two = (fuse(said, space=space) for said in (weighted, repeated))
    np.testing.assert_allclose(one.weights, two.weights, atol=1e-6)
    plain = fuse(replace(outputs, row_weights=np.ones(N_ROWS)), space=space)
    assert np.abs(one.weights - plain.weights).max() > 1e-3


def only(outputs, labels):
    return replace(
        outputs,
        logits=outputs.logits[:, labels],
        labels=outputs.labels[:, labels],
        usable=outputs.usable[labels],
    )


def test_a_large_bucket_is_spoken_for_by_a_hundred_labels_chosen_by_the_seed():
    outputs = said(10, counts=(4,) * 130, n=60)
    one, same, other = (fuse(outputs, seed=seed, pull=1e12) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.weights, same.weights)
    assert 0 < np.abs(one.weights - other.weights).max() < 0.5


# --- probability space --------------------------------------------------------------------------------------


def mixture_optimum(outputs, labels, owners, positive_weights, anchor):
    """max Σ w log(Σ_{owners} ω p / Σ_{owners} ω) + Σ a log ω over the simplex, by scipy on softmax."""
    Y = outputs.labels.toarray()
    free = np.flatnonzero(anchor > 0)

    def loss(mixture):
        value = 0.0
        for label in labels:
            sign = 2 * Y[:, label] - 1
            p = 1 / (1 + np.exp(-sign * outputs.logits[:, label].astype(float)))
            weight = outputs.row_weights * outputs.usable[label][outputs.fold_of]
            weight = weight * np.where(sign > 0, positive_weights[label], 1)
            own = mixture * owners[:, label]
            value -= weight @ np.log(own @ p / own.sum())
        return value - anchor[free] @ np.log(mixture[free])

    def of(logits):
        mixture = np.zeros(len(anchor))
        mixture[free] = np.exp(logits - logits.max())
        return mixture / mixture.sum()

    found = minimize(lambda z: loss(of(z)), np.zeros(len(free)), method="BFGS", options={"gtol": 1e-6})
    return of(found.x), loss


def test_pooled_mixture_weights_maximise_the_likelihood_of_the_bucket():
    outputs = said(11, skill=(0.5, 0.4, 0.3))
    owners = everybody(outputs)
    fusion = fuse(outputs, space="probability", pull=1e12)
    for labels in ([0, 1], [5, 6, 7]):
        expected, loss = mixture_optimum(outputs, labels, owners, WEIGHTS, np.full(3, 1e-3 / 3))
        assert loss(fusion.weights[:, labels[0]]) == pytest.approx(loss(expected), rel=1e-3)
        np.testing.assert_allclose(fusion.weights[:, labels[0]], expected, atol=0.01)


@pytest.mark.parametrize("pull", [1.0, 20.0])
def test_mixture_weights_of_a_label_maximise_its_penalised_likelihood(pull):
    outputs = said(12)
    owners = everybody(outputs)
    fusion, pooled = (fuse(outputs, space="probability", pull=p) for p in (pull, 1e12))
    for label in (0, 3, 7):
        anchor = pull * np.maximum(pooled.weights[:, label], 1e-6)
        expected, loss = mixture_optimum(outputs, [label], owners, WEIGHTS, anchor)
        assert loss(fusion.weights[:, label]) == pytest.approx(loss(expected), rel=1e-4)
        np.testing.assert_allclose(fusion.weights[:, label], expected, atol=0.01)


def test_mixture_weights_lie_on_the_simplex_of_the_owners():
    outputs = said(13)
    owners = everybody(outputs)
    owners[0, 5] = owners[1, 0] = owners[2, 0] = False
    fusion = fuse(outputs, owners, space="probability")
    assert (fusion.weights[~owners] == 0).all()
    assert (fusion.weights >= 0).all()
    np.testing.assert_allclose(fusion.weights.sum(0), 1)
    np.testing.assert_array_equal(fusion.bias, 0)


def test_a_player_earns_no_weight_from_labels_that_it_does_not_own():
    outputs = said(14, counts=(60, 70, 80, 90), skill=(0.3, 0.2, 0.1))
    owners = everybody(outputs)
    owners[2, :3] = False  # its zeros would be probabilities of a half, better than a wrong answer
    logits = np.where(owners[:, :, None], outputs.logits, 0).astype(np.float32)
    outputs = replace(outputs, logits=logits)
    weights = np.linspace(1, 3, 4)
    fusion = fuse(outputs, owners, space="probability", pull=1e12, positive_weights=weights)
    expected, _ = mixture_optimum(outputs, range(4), owners, weights, np.full(3, 1e-3 / 3))
    np.testing.assert_allclose(fusion.weights[:, 3], expected, atol=0.02)  # heard, its zeros add 0.09


def test_outputs_beyond_all_doubt_leave_the_mixture_finite():
    outputs = said(15)
    logits = outputs.logits.copy()
    logits[:, 7] = -2000.0 * np.sign(logits[:, 7])
    fusion = fuse(replace(outputs, logits=logits), space="probability")
    assert np.isfinite(fusion.weights).all()
