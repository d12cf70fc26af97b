import math
import os
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evenhand.grpo.aggregation import (
    SMALLEST_BASE,
    Scheme,
    aggregate,
    length_bases,
    preference_gradient,
    preference_slopes,
    preference_weights,
    response_weights,
    standardised_lengths,
)

SCHEMES = get_args(Scheme)
FORMS = ("lambda", "power")


class Batch:
    """Rows of several prompts in shuffled order, with what a policy loss reads."""

    def __init__(self, seed: int = 0, prompts: int = 3, size: int = 4, longest: int = 9) -> None:
        draw = torch.Generator().manual_seed(seed)
        rows = prompts * size
        order = torch.randperm(rows, generator=draw)
        self.lengths = torch.randint(1, longest + 1, (rows,), generator=draw)
        self.ids = (torch.arange(rows) // size)[order] * 7
        self.advantages = torch.randn(rows, generator=draw, dtype=torch.float64)
        self.mask = (torch.arange(longest) < self.lengths.unsqueeze(1)).long()
        self.logps = 0.3 * torch.randn(rows, longest, generator=draw, dtype=torch.float64) - 1
        self.old_logps = 0.3 * torch.randn(rows, longest, generator=draw, dtype=torch.float64) - 1
        self.longest = longest

    def blank(self, row: int) -> None:
        self.lengths[row] = 0
        self.mask[row] = 0

    @property
    def n_tokens(self) -> int:
        return int(self.lengths.sum())

    def surrogate(self, level: str = "token") -> Tensor:
        """ℓ, written here once more: (B, T), or (B, 1) with one ratio a sequence."""
        log_ratio = self.logps - self.old_logps
        if level == "sequence":
            total = (log_ratio * self.mask).sum(1, keepdim=True)
            log_ratio = total / self.mask.sum(1, keepdim=True).clamp(min=1)
        ratio, advantages = log_ratio.exp(), self.advantages.unsqueeze(1)
        return torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)

    def objective(self, scheme: str, level: str = "token", **options: Any) -> Tensor:
        weights = response_weights(
            scheme, self.lengths.double(), self.ids, advantages=self.advantages, **options
        )
        return aggregate(self.surrogate(level), self.mask, weights, self.n_tokens)


def grouped(bases: Tensor, ids: Tensor) -> Tensor:
    return torch.stack([bases[ids == i] for i in ids.unique()])


# Against TRL's own loss, called with no more of a trainer than it reads.


@pytest.fixture(scope="module")
def trl_loss() -> Iterator[Any]:
    pytest.importorskip("trl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
        from trl import GRPOTrainer

        def loss(batch: Batch, loss_type: str, level: str) -> Tensor:
            trainer = SimpleNamespace(
                loss_type=loss_type,
                importance_sampling_level=level,
                max_completion_length=batch.longest,
                epsilon_low=0.2,
                epsilon_high=0.2,
                beta=0.0,
                top_entropy_quantile=1.0,
                off_policy_mask_threshold=None,
                aux_loss_enabled=False,
                use_vllm=False,
                _entropy_bonus_enabled=False,
                current_gradient_accumulation_steps=1,
                args=SimpleNamespace(delta=None, steps_per_generation=1),
                model=SimpleNamespace(training=True),
                accelerator=SimpleNamespace(
                    num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x
                ),
                _metrics={"train": defaultdict(list)},
                _get_per_token_logps_and_entropies=lambda *_, **__: (
                    batch.logps,
                    torch.zeros_like(batch.logps),
                    None,
                ),
            )
            nothing = batch.mask[:, :0]
            inputs = {
                "prompt_ids": nothing,
                "prompt_mask": nothing,
                "completion_ids": batch.mask,
                "completion_mask": batch.mask,
                "advantages": batch.advantages,
                "old_per_token_logps": batch.old_logps,
                "num_items_in_batch": batch.mask.sum(),
            }
            result: Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
            return result

        yield loss


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("scheme", "level"),
    [
        ("grpo", "token"),
        ("dr_grpo", "token"),
        ("luspo", "sequence"),
        ("luspo", "token"),
        ("grpo", "sequence"),
    ],
)
def test_a_scheme_is_the_loss_of_trl(trl_loss: Any, scheme: str, level: str, seed: int) -> None:
    batch = Batch(seed)
    batch.blank(2)  # TRL's means run over rows without tokens too
    ours = batch.objective(scheme, level, length_budget=batch.longest)
    torch.testing.assert_close(ours, -trl_loss(batch, scheme, level), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("scheme", "loss_type"), [("dapo", "dapo"), ("bnpo", "bnpo"), ("lambda", "dapo"), ("power", "dapo")]
)
def test_token_means_and_lambda_zero_are_trl_to_the_bit(
    trl_loss: Any, scheme: str, loss_type: str, dtype: torch.dtype
) -> None:
    for seed in range(5):
        batch = Batch(seed)
        for name in ("advantages", "logps", "old_logps"):
            setattr(batch, name, getattr(batch, name).to(dtype))
        batch.logps.requires_grad_()
        weights = response_weights(scheme, batch.lengths.to(dtype), batch.ids)
        ours = -aggregate(batch.surrogate(), batch.mask, weights, batch.n_tokens)
        theirs = trl_loss(batch, loss_type, "token")
        assert torch.equal(ours, theirs)
        gradients = [torch.autograd.grad(loss, batch.logps)[0] for loss in (ours, theirs)]
        assert torch.equal(*gradients)


# Against verl's agg_loss, written out here from its documentation: sequences without a token leave the means.


@pytest.mark.parametrize(
    ("mode", "scheme", "budget"),
    [
        ("token-mean", "dapo", None),
        ("seq-mean-token-sum", "dr_grpo", None),
        ("seq-mean-token-sum-norm", "dr_grpo", 9),
        ("seq-mean-token-mean", "grpo", None),
    ],
)
def test_a_scheme_is_the_loss_of_verl(mode: str, scheme: str, budget: float | None) -> None:
    batch = Batch(4)
    batch.blank(1)
    batch.blank(5)
    terms = batch.surrogate()
    rows = [terms[i, :n] for i, n in enumerate(batch.lengths.tolist()) if n]
    expected = {
        "token-mean": torch.cat(rows).mean(),
        "seq-mean-token-sum": torch.stack([row.sum() for row in rows]).mean(),
        "seq-mean-token-sum-norm": torch.stack([row.sum() for row in rows]).mean() / 9,
        "seq-mean-token-mean": torch.stack([row.mean() for row in rows]).mean(),
    }[mode]
    ours = batch.objective(scheme, length_budget=budget, counted=batch.lengths > 0)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)


# Schemes that neither has, group by group as published.


def test_delta_l_is_its_formula() -> None:
    batch = Batch(5)
    sums = (batch.surrogate() * batch.mask).sum(1)
    per_prompt = []
    for i in batch.ids.unique():
        shares = batch.lengths[batch.ids == i].double() ** -0.75
        per_prompt.append((sums[batch.ids == i] * shares).sum() / shares.sum())
    expected = torch.stack(per_prompt).mean() / batch.lengths.double().mean()
    torch.testing.assert_close(batch.objective("delta_l", exponent=0.75), expected, rtol=1e-12, atol=0)
    power = batch.objective("power", lam=-0.75)
    torch.testing.assert_close(batch.objective("delta_l", exponent=0.75), power, rtol=0, atol=0)


def test_balanced_is_its_formula() -> None:
    batch = Batch(6)
    batch.advantages[batch.ids == 7] = 0.0  # a group without spread of rewards
    batch.advantages[batch.ids == 14] = batch.advantages[batch.ids == 14].abs()  # and one without A < 0
    terms, size, expected = batch.surrogate(), 4, []
    for i in batch.ids.unique():
        here, total = batch.ids == i, torch.zeros((), dtype=torch.float64)
        for side in (batch.advantages > 0, batch.advantages < 0):
            chosen = here & side
            if chosen.any():
                tokens = terms[chosen][batch.mask[chosen].bool()]
                total = total + chosen.sum() / size * tokens.mean()
        expected.append(total)
    torch.testing.assert_close(batch.objective("balanced"), torch.stack(expected).mean(), rtol=1e-12, atol=0)


def test_one_prompt_gives_the_paper_s_table() -> None:
    lengths, ids = torch.tensor([2.0, 6.0, 10.0]), torch.zeros(3, dtype=torch.int64)
    assert response_weights("grpo", lengths, ids).tolist() == [6 / 2, 6 / 6, pytest.approx(6 / 10)]
    assert response_weights("dr_grpo", lengths, ids).tolist() == [6.0] * 3
    assert response_weights("dapo", lengths, ids).tolist() == [1.0] * 3


@pytest.mark.parametrize("seed", range(5))
def test_power_at_minus_one_is_grpo_up_to_a_scale_per_group(seed: int) -> None:
    """Within 4 units in the last place: the power goes through a logarithm. λ = 0 above is to the bit."""
    batch = Batch(seed, longest=500)
    power = response_weights("power", batch.lengths.double(), batch.ids, lam=-1.0)
    grpo = response_weights("grpo", batch.lengths.double(), batch.ids)
    for i in batch.ids.unique():
        ratio = (power / grpo)[batch.ids == i]
        torch.testing.assert_close(
            ratio, ratio[:1].expand(4), rtol=4 * torch.finfo(torch.float64).eps * 6, atol=0
        )


# λ and its gradient.


@pytest.mark.parametrize("lam", [-3.0, -1.0, 0.0, 0.4, 3.0])
@pytest.mark.parametrize("form", FORMS)
def test_autograd_closed_form_and_finite_differences_agree(form: Any, lam: float) -> None:
    batch = Batch(7)
    counted = torch.ones_like(batch.ids, dtype=torch.bool)
    counted[3] = False
    bases = length_bases(form, batch.lengths.double(), batch.ids, r=0.3, counted=counted)
    sums = (batch.surrogate() * batch.mask).sum(1) * counted
    bases, sums, counted = (grouped(x, batch.ids) for x in (bases, sums, counted))

    def objective(value: float | Tensor) -> Tensor:
        return (sums * preference_weights(form, bases, value, counted=counted)).sum() / batch.n_tokens

    leaf = torch.tensor(lam, dtype=torch.float64, requires_grad=True)
    (automatic,) = torch.autograd.grad(objective(leaf), leaf)
    slopes = preference_slopes(form, bases, lam, counted=counted)
    closed = preference_gradient(sums, slopes, batch.n_tokens)
    step = 1e-5
    differences = (objective(lam + step) - objective(lam - step)) / (2 * step)
    assert abs(closed) > 1e-4
    torch.testing.assert_close(closed, automatic, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(closed, differences, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(slopes.sum(1), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-13)


def test_weights_are_differentiable_through_the_one_entry() -> None:
    batch = Batch(8)
    leaf = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    (automatic,) = torch.autograd.grad(batch.objective("lambda", lam=leaf), leaf)
    bases = grouped(length_bases("lambda", batch.lengths.double(), batch.ids), batch.ids)
    sums = grouped((batch.surrogate() * batch.mask).sum(1), batch.ids)
    closed = preference_gradient(sums, preference_slopes("lambda", bases, 0.5), batch.n_tokens)
    torch.testing.assert_close(closed, automatic, rtol=1e-12, atol=0)


def test_at_zero_on_policy_the_gradient_is_a_covariance_of_length_and_advantage() -> None:
    """≈ (r/G)[Σ A z + (σ/μ) Σ A z²] to first order in r: the relative error halves with r."""
    batch = Batch(9, prompts=1, size=8, longest=40)
    lengths, advantages = batch.lengths.double(), batch.advantages - batch.advantages.mean()
    z = standardised_lengths(lengths, batch.ids)
    spread = lengths.std() / lengths.mean()
    errors = []
    for r in (0.02, 0.01):
        slopes = preference_slopes("lambda", length_bases("lambda", lengths, batch.ids, r=r)[None], 0.0)[0]
        exact = preference_gradient(lengths * advantages, slopes, batch.n_tokens)
        first_order = r / 8 * ((advantages * z).sum() + spread * (advantages * z**2).sum())
        errors.append(float((exact - first_order).abs() / first_order.abs()))
    assert errors[0] < 0.05
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_moves_lambda_where_lengths_or_advantages_are_equal(form: Any) -> None:
    same = torch.full((6,), 11)
    bases = length_bases(form, same, torch.zeros_like(same))[None]
    assert bases.tolist() == [[1.0] * 6]
    assert preference_weights(form, bases, 2.5).tolist() == [[1.0] * 6]
    assert preference_slopes(form, bases, 2.5).tolist() == [[0.0] * 6]
    bases = length_bases(form, torch.tensor([3, 9, 27]), torch.zeros(3, dtype=torch.int64))[None]
    slopes = preference_slopes(form, bases, 2.5)
    assert float(preference_gradient(torch.zeros(1, 3), slopes, 39)) == 0.0


@pytest.mark.parametrize("form", FORMS)
def test_lambda_zero_weighs_exactly_one(form: Any) -> None:
    """For every size: G · (1/G) is not 1 for some."""
    for size in range(1, 82):
        lengths = torch.arange(1, size + 1) ** 2
        weights = response_weights(form, lengths, torch.zeros_like(lengths), lam=torch.tensor(0.0))
        assert weights.dtype == torch.float32
        assert weights.tolist() == [1.0] * size


# Invariance.

batches = st.integers(1, 5).flatmap(
    lambda size: st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 3), st.floats(-2, 2), st.booleans()),
        min_size=size,
        max_size=4 * size,
    )
)


def columns(rows: list[tuple[int, int, float, bool]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lengths, ids, advantages, counted = zip(*rows, strict=True)
    return (
        torch.tensor(lengths, dtype=torch.float64),
        torch.tensor(ids),
        torch.tensor(advantages, dtype=torch.float64),
        torch.tensor(counted),
    )


@settings(max_examples=60, deadline=None)
@given(rows=batches, scheme=st.sampled_from(SCHEMES), lam=st.floats(-3, 3), data=st.data())
def test_the_order_of_rows_and_the_names_of_groups_do_not_matter(
    rows: list[tuple[int, int, float, bool]], scheme: Any, lam: float, data: Any
) -> None:
    order = torch.tensor(data.draw(st.permutations(range(len(rows)))))
    lengths, ids, advantages, counted = columns(rows)

    def weigh(order: Tensor, ids: Tensor) -> Tensor:
        return response_weights(
            scheme, lengths[order], ids[order], advantages=advantages[order], lam=lam, counted=counted[order]
        )

    before = weigh(torch.arange(len(rows)), ids)
    torch.testing.assert_close(weigh(order, 5 - 11 * ids), before[order], rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(rows=batches, form=st.sampled_from(FORMS), lam=st.floats(-3, 3))
def test_weights_are_not_negative_and_sum_to_the_size_of_the_group(
    rows: list[tuple[int, int, float, bool]], form: Any, lam: float
) -> None:
    lengths, ids, _, counted = columns(rows)
    weights = response_weights(form, lengths, ids, lam=lam, counted=counted)
    assert (weights >= 0).all()
    assert (weights[~counted] == 0).all()
    for i in ids.unique():
        here = ids == i
        assert float(weights[here].sum()) == pytest.approx(int(counted[here].sum()), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scheme=st.sampled_from(SCHEMES), data=st.data())
def test_the_objective_is_the_sum_over_any_parts_of_the_batch(seed: int, scheme: Any, data: Any) -> None:
    batch = Batch(seed)
    rows = len(batch.ids)
    part = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows)))
    weights = response_weights(
        scheme, batch.lengths.double(), batch.ids, advantages=batch.advantages, lam=1.5
    )
    terms = batch.surrogate()
    whole = aggregate(terms, batch.mask, weights, batch.n_tokens)
    parts = [
        aggregate(terms[part == p], batch.mask[part == p], weights[part == p], batch.n_tokens)
        for p in range(4)
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rows_that_do_not_count_are_as_if_absent(scheme: Any) -> None:
    batch = Batch(10)
    counted = torch.ones_like(batch.ids, dtype=torch.bool)
    counted[[0, 4, 5]] = False
    options = {"lam": 1.7, "length_budget": 12}
    lengths = batch.lengths.double()
    with_them = response_weights(
        scheme, lengths, batch.ids, advantages=batch.advantages, counted=counted, **options
    )
    without = response_weights(
        scheme, lengths[counted], batch.ids[counted], advantages=batch.advantages[counted], **options
    )
    torch.testing.assert_close(with_them[counted], without, rtol=1e-12, atol=0)
    assert with_them[~counted].tolist() == [0.0] * 3


# Degenerate batches.


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "lengths", [[1], [0], [5, 5, 5, 5], [1, 1], [0, 0, 0], [0, 1, 40], [1, 1, 1, 30_000]], ids=str
)
def test_degenerate_lengths_give_finite_weights(scheme: Any, lengths: list[int]) -> None:
    values = torch.tensor(lengths)
    advantages = torch.linspace(-1, 1, len(lengths))
    weights = response_weights(scheme, values, torch.zeros_like(values), advantages=advantages, lam=-3.0)
    assert weights.isfinite().all()
    if len(set(lengths)) == 1 and scheme in ("dapo", "bnpo", "delta_l", "lambda", "power"):
        assert weights.tolist() == [1.0] * len(lengths)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_batch_without_a_row_that_counts_has_no_objective_and_no_gradient(scheme: Any) -> None:
    batch = Batch(11)
    nobody = torch.zeros_like(batch.ids, dtype=torch.bool)
    leaf = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    weights = response_weights(
        scheme, batch.lengths, batch.ids, advantages=batch.advantages, lam=leaf, counted=nobody
    )
    assert weights.tolist() == [0.0] * len(batch.ids)
    terms = torch.full_like(batch.logps, torch.nan, requires_grad=True)  # what is masked is not read
    objective = aggregate(terms, torch.zeros_like(batch.mask), weights, 0)
    assert objective.item() == 0.0
    objective.backward()
    assert terms.grad is not None
    assert not terms.grad.any()
    assert leaf.grad is None or float(leaf.grad) == 0.0


def test_one_group_without_a_row_that_counts_leaves_the_gradient_of_the_others_finite() -> None:
    lengths, ids = torch.tensor([1.0, 9.0, 2.0, 4.0]), torch.tensor([0, 0, 1, 1])
    counted = torch.tensor([False, False, True, True])
    leaf = torch.tensor(0.5, requires_grad=True)
    response_weights("lambda", lengths, ids, lam=leaf, counted=counted)[2].backward()
    assert leaf.grad is not None
    assert 0 < abs(float(leaf.grad)) < 1
    counted, bases = counted.view(2, 2), torch.ones(2, 2)
    assert preference_weights("power", bases, 1.0, counted=counted).tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert preference_slopes("power", bases, 1.0, counted=counted).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_rewards_without_spread_give_a_zero_objective() -> None:
    batch = Batch(12)
    batch.advantages.zero_()
    for scheme in SCHEMES:
        assert float(batch.objective(scheme, lam=2.0)) == 0.0


def test_standardised_lengths_use_the_unbiased_deviation() -> None:
    lengths = torch.tensor([4.0, 9.0, 2.0, 100.0], dtype=torch.float64)
    z = standardised_lengths(lengths, torch.tensor([3, 3, 3, 8]))
    expected = (lengths[:3] - lengths[:3].mean()) / lengths[:3].std()
    torch.testing.assert_close(z[:3], expected, rtol=1e-14, atol=0)
    assert float(z[3]) == 0.0


def test_r_is_refused_where_h_could_reach_zero() -> None:
    lengths = torch.tensor([0, 9, 9, 9])  # the least z that four lengths can have, −3/2
    ids = torch.zeros_like(lengths)
    with pytest.raises(ValueError, match=r"r = 0\.7 .* group of 4 responses; use r < 0\.6667"):
        length_bases("lambda", lengths, ids, r=0.7)
    assert float(length_bases("lambda", lengths, ids, r=0.66).min()) == pytest.approx(0.01, abs=1e-6)
    clamped = length_bases("lambda", lengths, ids, r=0.7, clamp=True)
    assert int((clamped <= SMALLEST_BASE).sum()) == 1
    weights = preference_weights("lambda", clamped[None], -3.0)
    assert weights.isfinite().all()
    assert preference_slopes("lambda", clamped[None], -3.0).isfinite().all()
    # Only the responses that count make up G.
    counted = torch.tensor([True, True, True, False])
    length_bases("lambda", lengths, ids, r=0.7, counted=counted)
    length_bases("power", lengths, ids, r=5.0)


LENGTHS, IDS, BASES = torch.tensor([1, 2, 3]), torch.tensor([0, 0, 0]), torch.tensor([[0.9, 1.1]])
NAN = torch.tensor([1.0, -1.0, torch.nan])
TERMS = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: response_weights("gspo", LENGTHS, IDS), "scheme is 'gspo'; choose one of grpo, dapo"),
        (lambda: response_weights("dapo", torch.tensor([1, -2, 3]), IDS), r"lengths\[1\] is -2"),
        (lambda: response_weights("dapo", torch.tensor([1, 2, 2.5]), IDS), r"lengths\[2\] is 2\.5"),
        (lambda: response_weights("dapo", torch.tensor([torch.nan, 2, 3]), IDS), r"lengths\[0\] is nan"),
        (lambda: response_weights("dapo", LENGTHS, IDS[:2]), r"group_ids \(2,\)"),
        (lambda: response_weights("dapo", LENGTHS[:0], IDS[:0]), "B ≥ 1"),
        (lambda: response_weights("dapo", LENGTHS, IDS.double()), "group_ids has dtype torch.float64"),
        (lambda: response_weights("dapo", LENGTHS, IDS, counted=IDS), "give 3 booleans"),
        (lambda: response_weights("balanced", LENGTHS, IDS), "give advantages"),
        (lambda: response_weights("balanced", LENGTHS, IDS, advantages=torch.ones(2)), "give 3 numbers"),
        (lambda: response_weights("balanced", LENGTHS, IDS, advantages=1 / IDS), r"advantages\[0\] is inf"),
        (lambda: response_weights("balanced", LENGTHS, IDS, advantages=NAN), r"advantages\[2\] is nan"),
        (lambda: response_weights("dr_grpo", LENGTHS, IDS, length_budget=0), "length_budget is 0"),
        (lambda: response_weights("delta_l", LENGTHS, IDS, exponent=-1), "exponent is -1"),
        (lambda: response_weights("lambda", LENGTHS, IDS, lam=math.inf), "lam is inf"),
        (lambda: response_weights("power", LENGTHS, IDS, lam=torch.ones(2)), "give one finite number"),
        (lambda: response_weights("lambda", LENGTHS, IDS, r=0.0), "r is 0.0"),
        (lambda: length_bases("grpo", LENGTHS, IDS), "form is 'grpo'; choose one of lambda, power"),
        (lambda: preference_weights("lambda", BASES[0], 1.0), r"give floats \(P, G\)"),
        (lambda: preference_weights("lambda", BASES * 0, 1.0), r"bases\[0, 0\] is 0.0; bases are positive"),
        (lambda: preference_weights("lambda", BASES * 1e-6, -9.0), r"λ is not finite at λ = -9"),
        (lambda: preference_slopes("power", BASES, 1.0, counted=IDS > 0), r"booleans of shape \(1, 2\)"),
        (lambda: aggregate(TERMS, torch.ones(2, 4), torch.ones(2), 6), r"per_token has shape \(2, 3\)"),
        (lambda: aggregate(TERMS, TERMS, torch.ones(3), 6), r"weights has shape \(3,\); give 2 numbers"),
        (lambda: aggregate(TERMS, TERMS, torch.ones(2), -1), "n_tokens is -1"),
        (lambda: preference_gradient(torch.ones(2), torch.ones(3), 6), "give one slope a sum"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
