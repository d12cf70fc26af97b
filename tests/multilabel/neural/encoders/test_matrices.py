import numpy as np
import torch
from scipy import sparse

from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.inputs import Column

ROWS = np.array([2, 0])
SPARSE = Column("sparse", sparse.random_array((4, 6), density=0.4, format="csr", rng=0, dtype=np.float32))


def test_a_sparse_bag_is_the_matrix_product(encode):
    bag = SparseBag(5).build(SPARSE)
    with torch.no_grad():
        bag.bias += 0.5
    expected = SPARSE.rows[ROWS].toarray() @ bag.bag.weight.detach().numpy() + 0.5
    np.testing.assert_allclose(encode(bag, SPARSE), expected, rtol=1e-5)


def test_a_row_without_features_is_the_bias(encode):
    column = Column("sparse", sparse.csr_array(np.array([[0, 0], [1, 2], [0, 0]], np.float32)))
    bag = SparseBag(3).build(column)
    assert torch.equal(encode(bag, column, np.array([2, 0])), torch.zeros(2, 3))
