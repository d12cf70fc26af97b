import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel.players import LinearPlayer, label_blocks
from evenhand.multilabel.solver import LABELS_PER_BLOCK


def player(n_features=6, n_labels=150, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    owned = rng.random(n_labels) < 0.6
    weights = rng.normal(size=(n_features + 1, n_labels)) * owned
    weights[rng.random(weights.shape) < 0.5] = 0
    return LinearPlayer("words", owned, sparse.csc_array(weights.astype(dtype)))


@pytest.mark.parametrize("as_block", [sparse.csr_array, np.ascontiguousarray])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_are_a_product_and_a_bias(as_block, dtype):
    one = player(dtype=dtype)
    X = np.random.default_rng(1).normal(size=(9, 6)).astype(dtype)
    W = one.weights.toarray()
    got = one.logits(as_block(X))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, X @ W[:-1] + W[-1], rtol=1e-5, atol=1e-6)
    assert not got[:, ~one.owned].any()
    assert got[:, one.owned].any(0).mean() > 0.9


def test_features_that_were_not_trained_on_are_refused():
    with pytest.raises(ValueError, match="view 'words' has 5 features, but the model was trained on 6"):
        player().logits(np.ones((2, 5), np.float32))


def test_a_player_without_labels_says_nothing():
    mute = LinearPlayer("words", np.zeros(4, np.bool_), sparse.csc_array((7, 4), dtype=np.float32))
    np.testing.assert_array_equal(mute.logits(np.ones((2, 6), np.float32)), np.zeros((2, 4)))


@pytest.mark.parametrize("n_labels", [0, 1, LABELS_PER_BLOCK, LABELS_PER_BLOCK + 1, 3 * LABELS_PER_BLOCK])
def test_blocks_hold_every_label_once_in_order(n_labels):
    labels = np.random.default_rng(0).permutation(n_labels)
    blocks = list(label_blocks(labels))
    np.testing.assert_array_equal(np.concatenate([labels[:0], *blocks]), labels)
    assert all(len(block) == LABELS_PER_BLOCK for block in blocks[:-1])
    assert all(0 < len(block) <= LABELS_PER_BLOCK for block in blocks)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_gives_back_the_player(dtype):
    one = player(dtype=dtype)
    again = LinearPlayer.from_state(one.get_state())
    X = np.random.default_rng(1).normal(size=(9, 6)).astype(dtype)
    assert again.view == one.view
    np.testing.assert_array_equal(again.owned, one.owned)
    assert again.logits(X).tobytes() == one.logits(X).tobytes()
