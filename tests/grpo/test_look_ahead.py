import pytest
import torch

from evenhand.grpo.aggregation import length_bases, preference_slopes, preference_weights
from evenhand.grpo.look_ahead import LookAhead, check_optimizer, update_slope

H = 1e-5
GROUP, PROMPTS, FEATURES, TOKENS = 4, 3, 5, 6


def parameters_of(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for shape in ((FEATURES, TOKENS), (TOKENS,))
    ]


class ToyBatch:
    """Responses to some prompts, under a policy that is linear in features of the place."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        n = GROUP * PROMPTS
        self.lengths = torch.randint(1, 9, (n,), generator=generator)
        self.mask = torch.arange(8) < self.lengths[:, None]
        self.tokens = torch.randint(TOKENS, (n, 8), generator=generator)
        self.features = torch.randn(n, 8, FEATURES, generator=generator, dtype=torch.float64)
        self.advantages = torch.randn(n, generator=generator, dtype=torch.float64)
        ids = torch.arange(n) // GROUP
        self.bases = length_bases("power", self.lengths.double(), ids).view(-1, GROUP)

    def logps(self, parameters, rows=slice(None)):
        """log π of each response, (B,)."""
        logits = self.features[rows] @ parameters[0] + parameters[1]
        taken = logits.log_softmax(-1).gather(2, self.tokens[rows][:, :, None]).squeeze(2)
        return (taken * self.mask[rows]).sum(1)

    def surrogate(self, parameters, weights, rows=slice(None)):
        """(1/N) Σ_i w_i S_i on-policy, with the gradients that it has there."""
        sums = self.advantages[rows] * self.logps(parameters, rows)
        return (weights[rows] * sums).sum() / self.lengths.sum()

    def objective(self, parameters, lam, rows=slice(None)):
        return self.surrogate(parameters, preference_weights("power", self.bases, lam).flatten(), rows)

    def slope(self, parameters, lam, rows=slice(None)):
        return self.surrogate(parameters, preference_slopes("power", self.bases, lam).flatten(), rows)

    def reward(self, parameters, rows=slice(None)):
        return self.surrogate(parameters, torch.ones(len(self.lengths), dtype=torch.float64), rows)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.3, weight_decay=0.1)


def adamw(parameters):
    return torch.optim.AdamW(
        [{"params": parameters[:1], "weight_decay": 0.1}, {"params": parameters[1:], "lr": 0.02}],
        lr=0.05,
        betas=(0.9, 0.95),
    )


def policy_step(parameters, optimizer, loss, max_norm):
    optimizer.zero_grad()
    loss.backward(inputs=parameters, retain_graph=True)
    if max_norm:
        torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    optimizer.step()


def started(make):
    """Parameters and an optimiser that has taken two steps, so that AdamW's moments are those of a run."""
    parameters = parameters_of()
    optimizer = make(parameters)
    for seed in (8, 9):
        policy_step(parameters, optimizer, -ToyBatch(seed).objective(parameters, 0.0), 0.0)
    return parameters, optimizer


def reward_of_the_next_batch(make, lam, max_norm):
    parameters, optimizer = started(make)
    policy_step(parameters, optimizer, -ToyBatch(1).objective(parameters, lam), max_norm)
    return ToyBatch(2).reward(parameters).item()


def look_ahead_step(look_ahead, parameters, optimizer, batch, lam, max_norm, parts=(slice(None),)):
    for rows in parts:
        look_ahead.add(batch.reward(parameters, rows), batch.slope(parameters, lam, rows))
    loss = -batch.objective(parameters, lam)
    optimizer.zero_grad()
    loss.backward()
    signal = look_ahead.step(optimizer, max_norm)
    policy_step(parameters, optimizer, -batch.objective(parameters, lam), max_norm)
    return signal


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("max_norm", [0.0, 0.05, 100.0])
@pytest.mark.parametrize("lam", [0.0, -0.7])
def test_the_slope_is_that_of_the_next_batch_s_reward_after_the_optimiser_s_step(make, max_norm, lam):
    parameters, optimizer = started(make)
    look_ahead = LookAhead({"weight": parameters[0], "bias": parameters[1]})
    first = look_ahead_step(look_ahead, parameters, optimizer, ToyBatch(1), lam, max_norm)
    assert (float(first.slope), float(first.cosine)) == (0.0, 0.0)
    signal = look_ahead_step(look_ahead, parameters, optimizer, ToyBatch(2), lam, max_norm)
    up, down = (reward_of_the_next_batch(make, lam + h, max_norm) for h in (H, -H))
    expected = (up - down) / (2 * H)
    assert abs(expected) > 1e-5
    assert float(signal.slope) == pytest.approx(expected, rel=1e-6)
    assert signal.slope.sign() == signal.cosine.sign()
    assert 0 < abs(float(signal.cosine)) < 1


def test_clipping_took_hold_where_it_is_tested():
    parameters, _ = started(sgd)
    ToyBatch(1).objective(parameters, 0.0).backward(inputs=parameters)
    assert 0.1 < torch.nn.utils.get_total_norm([p.grad for p in parameters]) < 50


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("max_norm", [0.0, 1.0])
@pytest.mark.parametrize("steps_before", [0, 1, 30])
def test_the_update_s_slope_is_that_of_torch_s_own_optimiser(make, max_norm, steps_before):
    def gradients(seed):
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters_of()]

    def before():
        parameters = parameters_of()
        optimizer = make(parameters)
        for seed in range(steps_before):
            for p, g in zip(parameters, gradients(seed)):
                p.grad = g
            optimizer.step()
        return parameters, optimizer

    def after(h):
        parameters, optimizer = before()
        for p, g, d in zip(parameters, gradients(100), gradients(200)):
            p.grad = g + h * d
        if max_norm:
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        optimizer.step()
        return parameters

    parameters, optimizer = before()
    for p, g in zip(parameters, gradients(100)):
        p.grad = g
    slopes = update_slope(optimizer, parameters, gradients(200), max_norm)
    for slope, up, down in zip(slopes, after(H), after(-H)):
        expected = (up - down) / (2 * H)
        # AdamW's first step is η sign(g): both are 0 but for ε and rounding.
        torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-9)


def test_parameters_that_do_not_move_have_no_slope():
    moved, without_gradient, not_the_optimiser_s = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    moved.grad = not_the_optimiser_s.grad = torch.ones(2)
    optimizer = torch.optim.SGD([moved, without_gradient], lr=0.5)
    ones = [torch.ones(2) for _ in range(3)]
    slopes = update_slope(optimizer, [moved, without_gradient, not_the_optimiser_s], ones)
    assert [slope.tolist() for slope in slopes] == [[-0.5, -0.5], [0.0, 0.0], [0.0, 0.0]]


def test_an_entry_that_never_had_a_gradient_is_no_nan():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([0.0, 1.0])
    (slope,) = update_slope(torch.optim.AdamW([parameter], lr=0.1), [parameter], [torch.ones(2)])
    assert slope.isfinite().all()


@pytest.mark.parametrize("make", [sgd, adamw])
def test_micro_batches_add_up(make):
    def last_signal(parts):
        parameters, optimizer = started(make)
        look_ahead = LookAhead({"weight": parameters[0], "bias": parameters[1]})
        for seed in (1, 2):
            signal = look_ahead_step(look_ahead, parameters, optimizer, ToyBatch(seed), 0.4, 0.05, parts)
        return [float(signal.slope), float(signal.cosine)]

    # One cut goes through a group.
    assert last_signal([slice(0, 2), slice(2, 7), slice(7, 12)]) == pytest.approx(
        last_signal([slice(0, 12)]), rel=1e-12
    )


def test_without_a_spread_of_lengths_there_is_no_signal():
    parameters, optimizer = started(sgd)
    look_ahead = LookAhead({"weight": parameters[0], "bias": parameters[1]})
    even = ToyBatch(1)
    even.bases = torch.ones_like(even.bases)
    look_ahead_step(look_ahead, parameters, optimizer, even, 0.0, 0.0)
    signal = look_ahead_step(look_ahead, parameters, optimizer, ToyBatch(2), 0.0, 0.0)
    assert (float(signal.slope), float(signal.cosine)) == (0.0, 0.0)


def test_a_state_is_taken_up_to_the_bit_and_another_s_is_refused():
    parameters, optimizer = started(adamw)
    named = {"weight": parameters[0], "bias": parameters[1]}
    look_ahead = LookAhead(named)
    assert look_ahead.state_dict() == {}
    look_ahead_step(look_ahead, parameters, optimizer, ToyBatch(1), 0.0, 0.0)
    state = look_ahead.state_dict()
    other = LookAhead(named)
    other.load_state_dict(state)
    for one in (look_ahead, other):
        one.add(ToyBatch(2).reward(parameters), ToyBatch(2).slope(parameters, 0.0))
    assert look_ahead.step(optimizer) == other.step(optimizer)
    with pytest.raises(ValueError, match="other parameters than are trained here: bias"):
        other.load_state_dict({"weight": state["weight"]})
    with pytest.raises(ValueError, match=r"bias has shape \(2,\); the parameter has \(6,\)"):
        other.load_state_dict(state | {"bias": torch.zeros(2)})


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.SGD(parameters_of(), lr=0.1, momentum=0.9),
        torch.optim.AdamW(parameters_of(), amsgrad=True),
        torch.optim.AdamW(parameters_of(), maximize=True),
        torch.optim.RMSprop(parameters_of()),
        torch.optim.Adam(parameters_of()),
    ],
)
def test_optimisers_whose_step_is_not_differentiated_are_refused(optimizer):
    with pytest.raises(ValueError, match=type(optimizer).__name__ + r" as it is set.*AdamW"):
        check_optimizer(optimizer)
