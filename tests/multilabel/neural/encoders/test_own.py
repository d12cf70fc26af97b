import numpy as np
import pytest
import torch
from torch import nn

from evenhand.multilabel.neural.encoders import OwnEncoder
from evenhand.multilabel.neural.inputs import Column

DENSE = Column("dense", np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))


def test_the_users_module_is_copied_and_its_lazy_layers_take_shape(encode):
    module = nn.Linear(3, 2)
    encoder = OwnEncoder(module, 2).build(DENSE)
    with torch.no_grad():
        encoder.module.weight += 1
    assert not torch.equal(encoder.module.weight, module.weight)
    lazy = OwnEncoder(nn.LazyLinear(2), 2).build(DENSE)
    assert encode(lazy, DENSE).shape == (2, 2)


@pytest.mark.parametrize("layer", [nn.Linear(3, 2), nn.LazyLinear(2)])
def test_the_users_module_may_read_rows_in_float64(layer):
    column = Column("dense", np.ones((4, 3), np.float64))
    assert OwnEncoder(layer, 2).build(column).dim == 2
