import pickle

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.utils import _safe_indexing

from evenhand.multilabel.views import Views


def two_views(n=6):
    rng = np.random.default_rng(0)
    words = sparse.random_array((n, 4), density=0.5, format="csr", rng=rng, dtype=np.float32)
    return Views({"words": words, "image": rng.normal(size=(n, 3)).astype(np.float32)})


class ViewsClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression on the chosen views side by side."""

    def __init__(self, use=("words", "image")):
        self.use = use

    def _matrix(self, X):
        assert isinstance(X, Views)
        return sparse.hstack([sparse.csr_array(X.blocks[name]) for name in self.use], format="csr")

    def fit(self, X, y):
        self.model_ = LogisticRegression().fit(self._matrix(X), y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(self._matrix(X))


def test_views_know_their_shape():
    views = two_views()
    assert views.names == ("words", "image")
    assert views.shape == (6, 7)
    assert len(views) == 6
    assert views.ndim == 2
    assert views.dtype == np.float32
    assert views.n_features == {"words": 4, "image": 3}
    assert repr(views) == "Views(6 instances; words: 4 sparse float32, image: 3 dense float32)"
    assert Views({**views.blocks, "more": np.eye(6)}).dtype == np.float64


def test_the_dict_of_blocks_is_the_callers_own():
    views = two_views()
    views.blocks.clear()
    assert views.names == ("words", "image")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("f4", "f4"), ("f8", "f8"), ("f2", "f4"), ("i8", "f4"), ("u1", "f4"), ("?", "f4"), ("O", "f4")],
)
def test_float64_is_kept_and_other_numbers_become_float32(given, kept):
    dense = np.asfortranarray([[1, 0], [0, 1], [1, 1]], dtype=given)
    has_sparse = given not in ("O", "f2")  # SciPy holds neither
    for form in [dense, sparse.csr_array(dense)] if has_sparse else [dense]:
        block = Views({"v": form}).blocks["v"]
        assert block.dtype == np.dtype(kept)
        assert isinstance(block, np.ndarray if form is dense else sparse.csr_array)
        np.testing.assert_array_equal(sparse.csr_array(block).toarray(), dense.astype(kept))
    assert Views({"v": dense}).blocks["v"].flags.c_contiguous


def test_a_list_is_read_as_the_array_that_numpy_makes_of_it():
    assert Views({"v": [[0.1]]}).blocks["v"].tolist() == [[0.1]]


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array, sparse.lil_array])
def test_every_sparse_form_becomes_a_csr_array(form):
    dense = np.array([[0, 1.5, 0], [2, 0, 0]], dtype=np.float32)
    block = Views({"v": form(dense)}).blocks["v"]
    assert type(block) is sparse.csr_array
    assert block.has_canonical_format
    np.testing.assert_array_equal(block.toarray(), dense)


def test_entries_that_stand_twice_are_summed_without_overflow_and_the_callers_data_stay():
    counts = sparse.csr_array((np.full(3, 100, dtype=np.int8), [1, 0, 1], [0, 3]), shape=(1, 2))
    assert Views({"v": counts}).blocks["v"].toarray().tolist() == [[100, 200]]
    coordinates = sparse.coo_array((np.full(2, 100, dtype=np.int8), ([0, 0], [1, 1])), shape=(1, 2))
    assert Views({"v": coordinates}).blocks["v"].toarray().tolist() == [[0, 200]]
    floats = sparse.csr_array((np.array([1.0, 2.0, 3.0]), [1, 0, 1], [0, 3]), shape=(1, 2))
    assert Views({"v": floats}).blocks["v"].toarray().tolist() == [[2, 4]]
    assert floats.indices.tolist() == [1, 0, 1]
    assert floats.data.tolist() == [1, 2, 3]


def test_indices_are_32_bit_where_they_fit():
    wide = sparse.csr_array((np.ones(1, "f4"), np.array([2**31 + 5]), np.array([0, 1])), shape=(1, 2**31 + 9))
    assert Views({"v": wide}).blocks["v"].indices.dtype == np.int64
    narrow = sparse.csr_array(np.eye(2, dtype=np.float32))
    narrow.indices, narrow.indptr = narrow.indices.astype(np.int64), narrow.indptr.astype(np.int64)
    block = Views({"v": narrow}).blocks["v"]
    assert block.indices.dtype == block.indptr.dtype == np.int32
    assert narrow.indices.dtype == np.int64


def test_blocks_in_the_right_form_are_not_copied():
    dense = np.eye(3, dtype=np.float32)
    words = sparse.csr_array(dense)
    views = Views({"words": words, "dense": dense})
    assert np.shares_memory(views.blocks["dense"], dense)
    assert np.shares_memory(views.blocks["words"].data, words.data)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ([[1.0, 2.0], [3.0, np.nan], [0.0, np.inf]], "view 'b' is NaN in row 1, column 1"),
        ([[1.0, 2.0], [-np.inf, 0.0], [0.0, 1.0]], "view 'b' is -inf in row 1, column 0"),
        (np.full((3, 1), 1e300, dtype=object), "view 'b' is inf in row 0, column 0"),
        (sparse.csr_array([[0.0, 0], [0, 0], [0, np.nan]]), "view 'b' is NaN in row 2, column 1"),
        (sparse.csr_array([[1.0, 0], [0, np.inf], [0, 1]]), "view 'b' is inf in row 1, column 1"),
        (np.ones(3), "view 'b': Expected 2D array, got 1D"),
        (np.ones((3, 2, 2)), "view 'b': Found array with dim 3"),
        (np.ones((3, 0)), "view 'b': .*0 feature"),
        (np.ones((0, 2)), "view 'b': .*0 sample"),
        (sparse.csr_array((3, 0)), "view 'b': .*0 feature"),
        ([["x"], ["y"], ["z"]], "view 'b': "),
        ([[1], [2, 3], [4]], "view 'b': "),
        (np.ones((3, 1)) * 1j, "view 'b': Complex data not supported"),
        (sparse.csr_array(np.ones((3, 1)) * 1j), "view 'b': Complex data not supported"),
        (np.ones((2, 2)), "view 'b' has 2 rows and view 'a' has 3"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_a_bad_block_is_refused_by_name_and_place(block, message):
    with pytest.raises(ValueError, match=message):
        Views({"a": np.ones((3, 1)), "b": block})


def test_what_is_no_number_at_all_is_a_type_error():
    with pytest.raises(TypeError, match=r"view 'all': .*string or a real number"):
        Views.of(np.array([[{"foo": "bar"}], [1]], dtype=object))


@pytest.mark.parametrize("name", ["", 3, None])
def test_names_must_be_texts(name):
    with pytest.raises(ValueError, match="name of a view"):
        Views({name: np.eye(2)})


def test_there_must_be_a_view():
    with pytest.raises(ValueError, match="at least one block"):
        Views({})


def test_of_takes_every_form():
    words, image = sparse.csr_matrix(np.eye(2)), [[1, 2], [3, 4]]
    views = Views({"words": words, "image": image})
    assert Views.of(views) is views
    assert Views.of({"words": words}).names == ("words",)
    assert Views.of([words, image]).names == ("view1", "view2")
    assert Views.of((np.eye(2), np.ones((2, 1)))).n_features == {"view1": 2, "view2": 1}
    for matrix in (image, tuple(image), np.array(image), words, [np.array([1, 2]), np.array([3, 4])]):
        assert Views.of(matrix).n_features == {"all": 2}
    frame = pl.DataFrame({"x": [1, 2], "y": [0.5, 1.5]})
    np.testing.assert_array_equal(Views.of(frame).blocks["all"], [[1, 0.5], [2, 1.5]])
    assert Views.of([frame, words]).n_features == {"view1": 2, "view2": 2}


@pytest.mark.parametrize(
    "rows",
    [
        np.array([3, 0, 0, -1]),
        [1, 2],
        np.array([True, False, False, True, False, True]),
        [False, True, False, False, False, False],
        slice(None),
        slice(1, None, 2),
    ],
)
def test_rows_are_chosen_in_every_block(rows):
    views = two_views()
    for key in (rows, (rows, Ellipsis), (rows, slice(None))):
        chosen = views[key]
        assert chosen.names == views.names
        for name, block in views.blocks.items():
            expected = sparse.csr_array(block).toarray()[rows]
            np.testing.assert_array_equal(sparse.csr_array(chosen.blocks[name]).toarray(), expected)
            assert type(chosen.blocks[name]) is type(block)
            assert chosen.blocks[name].dtype == block.dtype
        assert chosen.shape == (len(expected), 7)
        assert chosen.blocks["image"].flags.c_contiguous
        Views(chosen.blocks)  # what the constructor would refuse never comes out


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ("words", TypeError, r"\.blocks\['words'\]"),
        ((slice(None), 0), TypeError, "by rows only"),
        ((slice(None), np.array([0, 1])), TypeError, "by rows only"),
        ((1, 2, 3), TypeError, "by rows only"),
        (0, TypeError, "one-dimensional"),
        (None, IndexError, "integer"),
        ([[0], [1]], TypeError, "one-dimensional"),
        ([], ValueError, "no row is chosen"),
        (np.zeros(6, dtype=bool), ValueError, "no row is chosen"),
        (slice(6, None), ValueError, "no row is chosen"),
        ([0, 6], IndexError, "out of bounds"),
        (np.ones(5, dtype=bool), IndexError, "boolean"),
        ([0.5], IndexError, "integer"),
    ],
)
def test_a_bad_key_is_refused(key, error, message):
    with pytest.raises(error, match=message):
        two_views()[key]


def test_scikit_learn_splits_and_searches_views():
    n = 60
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, n)
    views = Views({"words": sparse.csr_array(y[:, None] * 2.0 - 1), "image": rng.normal(size=(n, 2))})
    np.testing.assert_array_equal(
        _safe_indexing(views, [4, 2]).blocks["image"], views.blocks["image"][[4, 2]]
    )
    train, test, y_train, y_test = train_test_split(views, y, random_state=0)
    assert len(train) == len(y_train) == 45
    assert ViewsClassifier().fit(train, y_train).score(test, y_test) == 1
    assert cross_val_score(ViewsClassifier(("words",)), views, y, cv=3).tolist() == [1, 1, 1]
    search = GridSearchCV(ViewsClassifier(), {"use": [("image",), ("words",)]}, cv=3).fit(views, y)
    assert search.best_params_ == {"use": ("words",)}
    assert search.best_score_ == 1
    assert search.predict(views[:5]).tolist() == y[:5].tolist()


def test_views_travel_between_joblibs_processes():
    views = two_views()
    copy = pickle.loads(pickle.dumps(views))
    np.testing.assert_array_equal(copy.blocks["image"], views.blocks["image"])


def test_64_bit_indices_become_32_bit_only_where_they_fit(wide, monkeypatch):
    words = two_views().blocks["words"]
    narrowed = Views.of(wide(words))[[3, 0]].blocks["all"]
    assert narrowed.indices.dtype == narrowed.indptr.dtype == np.int32
    np.testing.assert_array_equal(narrowed.toarray(), words[[3, 0]].toarray())
    monkeypatch.setattr(sparse, "get_index_dtype", lambda maxval: np.int64 if maxval > 3 else np.int32)
    kept = Views.of(wide(words)).blocks["all"]
    assert kept.indices.dtype == kept.indptr.dtype == np.int64
    np.testing.assert_array_equal(kept[[3, 0]].toarray(), words[[3, 0]].toarray())
