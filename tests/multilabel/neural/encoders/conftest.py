import json

import numpy as np
import pytest
import torch

from evenhand.multilabel.neural.encoders import encoder_from_state, encoder_state


@pytest.fixture(scope="session")
def encode():
    """Features of some rows, without dropout."""

    def features(encoder, column, rows=np.array([2, 0])):  # noqa: B008
        with torch.no_grad():
            return encoder.eval()(*encoder.tensors(column.take(rows)))

    return features


@pytest.fixture(scope="session")
def again():
    """The encoder built from its state, through JSON, and its weights."""

    def rebuilt(encoder, recipe):
        state = json.loads(json.dumps(encoder_state(encoder)))
        other = encoder_from_state(state, recipe)
        other.load_state_dict(encoder.state_dict())
        return other

    return rebuilt
