import numpy as np
import pytest
import torch

from evenhand.multilabel.neural.schedule import rate_share, scheduler


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0.0, [1, 1, 1, 1, 1, 1]),
        ("constant", 0.5, [1 / 4, 2 / 4, 3 / 4, 1, 1, 1]),
        ("linear", 0.0, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("linear", 1 / 3, [1 / 3, 2 / 3, 1, 3 / 4, 2 / 4, 1 / 4]),
        ("cosine", 0.0, [(1 + np.cos(np.pi * step / 6)) / 2 for step in range(6)]),
        ("cosine", 0.99, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1]),
    ],
)
def test_shares_of_six_steps(schedule, warmup, expected):
    assert [rate_share(step, 6, schedule, warmup) for step in range(6)] == pytest.approx(expected)


def test_a_training_of_one_step_takes_it():
    assert rate_share(0, 1, "cosine", 0.9) == 1


@pytest.mark.parametrize("done", range(5))
def test_it_goes_on_from_any_step(done):
    """The rates of a training that is taken up are those of one that was not interrupted, to the bit."""

    def rates(from_step):
        weights = torch.nn.Linear(1, 1)
        groups = [{"params": [weights.weight], "lr": 0.3}, {"params": [weights.bias], "lr": 0.1}]
        optimizer = torch.optim.AdamW(groups)
        moving, seen = scheduler(optimizer, 5, "cosine", 0.2, from_step), []
        for _ in range(from_step, 5):
            seen.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            moving.step()
        return seen

    assert rates(done) == rates(0)[done:]
