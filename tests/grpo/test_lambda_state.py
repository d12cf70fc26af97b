"""λ's files in a checkpoint: whole, or not there."""

import pytest
import torch

from evenhand.grpo import lambda_state
from evenhand.grpo.look_ahead import LookAhead
from evenhand.grpo.preference import LearnablePreference


def full(content, place):
    place.write_bytes(b"half")
    raise OSError(28, "No space left on device")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    look_ahead = LookAhead({"theta": torch.nn.Parameter(torch.ones(2))})
    lambda_state.write_last_update(look_ahead, tmp_path)
    before = (tmp_path / lambda_state.UPDATE_FILE).read_bytes()
    monkeypatch.setattr(lambda_state, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        lambda_state.write_last_update(look_ahead, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {lambda_state.UPDATE_FILE: before}


def test_it_is_written_over_the_old_one(tmp_path):
    for start in (0.5, -0.5):
        lambda_state.write_state(LearnablePreference(start=start), tmp_path)
    resumed = LearnablePreference()
    lambda_state.read_state(resumed, tmp_path, mend="")
    assert float(resumed.value) == -0.5
    assert [path.name for path in tmp_path.iterdir()] == [lambda_state.STATE_FILE]
