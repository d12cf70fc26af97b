import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from evenhand.grpo.preference import LearnablePreference


def test_it_starts_at_dapo_and_ascends_by_plain_sgd() -> None:
    preference = LearnablePreference(learning_rate=0.1)
    assert preference.value.dtype == torch.float32
    assert preference.value.shape == ()
    assert float(preference.value) == 0.0
    preference.accumulate(torch.tensor(0.25))
    preference.accumulate(0.5)
    assert float(preference.value) == 0.0  # accumulating moves nothing
    preference.step()
    assert float(preference.value) == pytest.approx(0.075)
    preference.step()  # the gradient was used up, and there is no momentum
    assert float(preference.value) == pytest.approx(0.075)


def test_it_climbs_to_the_top_of_a_concave_objective() -> None:
    preference = LearnablePreference(learning_rate=0.2)
    for _ in range(100):
        preference.accumulate(-2 * (preference.value - 0.7))  # J = −(λ − 0.7)²
        preference.step()
    assert float(preference.value) == pytest.approx(0.7, abs=1e-6)


def test_it_is_the_step_of_torch_sgd_with_weight_decay() -> None:
    preference = LearnablePreference(start=0.5, learning_rate=0.3, pull=0.2)
    parameter = torch.nn.Parameter(torch.tensor(0.5))
    optimizer = torch.optim.SGD([parameter], lr=0.3, weight_decay=0.2, maximize=True)
    for gradient in (1.0, -0.4, 0.1):
        preference.accumulate(gradient)
        preference.step()
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    torch.testing.assert_close(preference.value, parameter.detach())


def test_the_projection_comes_after_the_step_and_lets_go_again() -> None:
    preference = LearnablePreference(start=2.9, learning_rate=1.0, bounds=(-3.0, 3.0))
    preference.accumulate(10.0)
    preference.step()
    assert float(preference.value) == 3.0
    preference.accumulate(-0.5)
    preference.step()
    assert float(preference.value) == 2.5  # not frozen at the bound


def test_a_pull_alone_draws_it_to_zero_and_a_rate_of_zero_keeps_it() -> None:
    pulled = LearnablePreference(start=1.0, learning_rate=0.5, pull=1.0)
    pulled.step()
    assert float(pulled.value) == 0.5
    kept = LearnablePreference(start=1.0, learning_rate=0.0, pull=1.0)
    kept.accumulate(5.0)
    kept.step()
    assert float(kept.value) == 1.0


def test_what_it_hands_out_and_takes_in_is_not_shared() -> None:
    preference = LearnablePreference(learning_rate=1.0)
    preference.value.add_(1.0)
    assert float(preference.value) == 0.0
    gradient = torch.tensor(1.0)
    preference.accumulate(gradient)
    gradient.zero_()
    preference.step()
    assert float(preference.value) == 1.0


@pytest.mark.parametrize("gradient", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_refused_and_dropped(gradient: float) -> None:
    preference = LearnablePreference(start=0.5, learning_rate=1.0)
    preference.accumulate(1.0)
    preference.accumulate(gradient)
    with pytest.raises(ValueError, match=rf"∂J/∂λ is {gradient}; λ stays at 0\.5\. Look for NaN"):
        preference.step()
    assert float(preference.value) == 0.5
    preference.accumulate(1.0)
    preference.step()
    assert float(preference.value) == 1.5


def test_it_climbs_another_signal_instead_and_still_answers_its_gradient() -> None:
    preference = LearnablePreference(start=1.0, learning_rate=0.5, pull=0.2)
    preference.accumulate(7.0)
    assert float(preference.step(torch.tensor(-0.4, dtype=torch.float64))) == 7.0
    assert float(preference.value) == pytest.approx(1.0 + 0.5 * (-0.4 - 0.2))
    with pytest.raises(ValueError, match=r"what λ was to climb is nan; λ stays at 0\.7"):
        preference.step(torch.tensor(math.nan))
    assert float(preference.value) == pytest.approx(0.7)


def test_its_state_survives_json_to_the_bit() -> None:
    before = LearnablePreference("power", learning_rate=0.37, bounds=(-1.1, 2.0))
    before.accumulate(1 / 3)
    before.step()
    after = LearnablePreference("power", learning_rate=0.01, bounds=(-1.1, 2.0))
    after.accumulate(7.0)  # of the run before the resume; forgotten
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert torch.equal(before.value, after.value)
    after.step()
    assert torch.equal(before.value, after.value)
    assert after.learning_rate == 0.01


@pytest.mark.parametrize("bound", [0.1, 0.3, 1.1])
def test_its_state_is_taken_back_at_a_bound_that_float32_rounds_up(bound: float) -> None:
    before = LearnablePreference("power", learning_rate=1.0, bounds=(-bound, bound))
    before.accumulate(9.0)
    before.step()
    after = LearnablePreference("power", learning_rate=1.0, bounds=(-bound, bound))
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert torch.equal(before.value, after.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "power"}, "is of form 'power', and this one is 'lambda'; resume with the form"),
        ({"bounds": [-1.0, 1.0]}, r"has bounds \[-1\.0, 1\.0\], and this one has \[-3\.0, 3\.0\]"),
        ({"value": 3.5}, "value is 3.5; λ must lie in its bounds, -3 to 3"),
        ({"value": math.nan}, "value is nan"),
        ({"momentum": 0.9}, "must hold bounds, form, value"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    preference = LearnablePreference(start=0.25)
    with pytest.raises(ValueError, match=message):
        preference.load_state_dict(preference.state_dict() | change)
    assert float(preference.value) == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "grpo"}, "form is 'grpo'; choose one of lambda, power"),
        ({"start": 4.0}, "start is 4.0; λ must lie in its bounds, -3 to 3"),
        ({"start": math.nan}, "start is nan"),
        ({"learning_rate": -0.1}, "learning_rate is -0.1"),
        ({"pull": math.inf}, "pull is inf"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"bounds": (-math.inf, 1.0)}, "bounds is"),
        ({"bounds": (-1.0, 0.0, 1.0)}, "bounds is"),
        ({"bounds": ("-1", "1")}, "bounds is"),
        ({"bounds": (1.0, -1.0)}, "bounds is"),
    ],
)
def test_a_bad_option_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnablePreference(**options)


def test_a_gradient_of_many_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gradient has shape \(2,\)"):
        LearnablePreference().accumulate(torch.ones(2))


def _one_of_two(rank: int, folder: str) -> None:
    """Each process has half of the gradient; in the second step one has NaN, and both must stop."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    preference = LearnablePreference(start=1.0, learning_rate=0.5, pull=0.1)
    preference.accumulate((0.25, 0.75)[rank])
    preference.step()
    value = float(preference.value)
    preference.accumulate((0.0, math.nan)[rank])
    try:
        preference.step()
        refused = False
    except ValueError:
        refused = True
    alone = LearnablePreference(learning_rate=1.0, over_processes=False)
    alone.accumulate((0.25, 0.75)[rank])
    alone.step()
    answer = {"value": value, "refused": refused, "alone": float(alone.value)}
    Path(folder, f"{rank}.json").write_text(json.dumps(answer))
    distributed.destroy_process_group()


def test_processes_sum_their_gradients_pull_once_and_stop_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("torch is built without gloo")
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # the new processes import this file by its name
    multiprocessing.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    answers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [answer.pop("alone") for answer in answers] == [0.25, 0.75]
    assert answers[0] == answers[1]
    assert answers[0]["value"] == pytest.approx(1.0 + 0.5 * (0.25 + 0.75 - 0.1 * 1.0))
    assert answers[0]["refused"]
