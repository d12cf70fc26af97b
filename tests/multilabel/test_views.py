import json
import pickle

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing

from evenhand.multilabel.views import TextViews, Views

TEXTS = [
    "a plain text editor",
    "an editor of plain music",
    "music player with plain text lyrics",
    "",
    "plain text music editor",
]


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


# Views


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


# TextViews


def test_each_view_is_the_tfidf_that_its_name_says():
    views = TextViews().fit_transform(TEXTS)
    options = {"sublinear_tf": True, "min_df": 2, "dtype": np.float32}
    peers = {
        "words": TfidfVectorizer(**options),
        "word_pairs": TfidfVectorizer(**options, ngram_range=(2, 2)),
        "characters": TfidfVectorizer(**options, analyzer="char_wb", ngram_range=(3, 5)),
    }
    assert views.names == tuple(peers)
    for name, peer in peers.items():
        block = views.blocks[name]
        assert block.dtype == np.float32
        np.testing.assert_array_equal(block.toarray(), peer.fit_transform(TEXTS).toarray())


def test_the_words_agree_with_tfidf_by_hand():
    views = TextViews(["words"], min_df=1).fit_transform(["red red green", "red"])
    idf = {"green": 1 + np.log(3 / 2), "red": 1.0}
    row = np.array([1.0 * idf["green"], (1 + np.log(2)) * idf["red"]])
    np.testing.assert_allclose(views.blocks["words"].toarray()[0], row / np.linalg.norm(row), rtol=1e-6)


def test_transform_repeats_fit_transform_and_leaves_unknown_terms_out():
    text_views = TextViews()
    views = text_views.fit_transform(TEXTS)
    again = text_views.transform(TEXTS)
    for name, block in views.blocks.items():
        np.testing.assert_array_equal(again.blocks[name].toarray(), block.toarray())
    assert text_views.transform(["zzz"]).shape == (1, views.shape[1])
    assert text_views.transform(["zzz"]).blocks["words"].nnz == 0
    other = TextViews().fit(TEXTS).transform(TEXTS)
    np.testing.assert_array_equal(other.blocks["words"].toarray(), views.blocks["words"].toarray())


def test_feature_names_start_with_their_view():
    text_views = TextViews(("word_pairs", "words"))
    shape = text_views.fit_transform(TEXTS).shape
    names = text_views.get_feature_names_out()
    assert names.tolist() == [
        "word_pairs__plain text",
        *[f"words__{word}" for word in ("editor", "music", "plain", "text")],
    ]
    assert names.shape == (shape[1],)


def test_a_view_reads_the_columns_it_is_given():
    table = np.array([["vim", "text editor"], ["nano", "text editor"], ["vim2", None]], dtype=object)
    text_views = TextViews(("words", "characters"), min_df=1, columns={"characters": (0,)})
    blocks = text_views.fit_transform(table).blocks
    names = text_views.get_feature_names_out().tolist()
    assert "words__editor" in names
    assert "words__vim" in names
    assert "characters__vim" in names
    assert "characters__text" not in names
    alone = TextViews(["characters"], min_df=1).fit_transform(table[:, 0]).blocks["characters"]
    np.testing.assert_array_equal(blocks["characters"].toarray(), alone.toarray())
    joined = TextViews(["words"], min_df=1).fit_transform(["vim text editor", "nano text editor", "vim2"])
    np.testing.assert_array_equal(blocks["words"].toarray(), joined.blocks["words"].toarray())


def test_long_texts_are_cut_for_the_characters_only():
    texts = ["abc " * 10 + "xyz", "abc xyz"]
    short = TextViews(("words", "characters"), min_df=1, max_characters=7).fit(texts)
    names = set(short.get_feature_names_out())
    assert {"words__xyz", "characters__xyz"} <= names
    assert short.transform(texts[:1]).blocks["words"].nnz == 2
    cut = short.transform([texts[0], "abc abc"]).blocks["characters"].toarray()
    np.testing.assert_array_equal(cut[0], cut[1])
    whole = TextViews(["characters"], min_df=1, max_characters=None).fit_transform(texts)
    expected = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 5)).fit_transform(texts)
    np.testing.assert_allclose(whole.blocks["characters"].toarray(), expected.toarray(), rtol=1e-6)


def test_every_form_of_texts_gives_the_same_views():
    expected = TextViews().fit_transform(TEXTS).blocks["words"].toarray()
    with_null = [text or None for text in TEXTS]
    for form in (tuple(TEXTS), np.array(TEXTS), np.array(TEXTS)[:, None], [[t] for t in TEXTS], with_null):
        np.testing.assert_array_equal(TextViews().fit_transform(form).blocks["words"].toarray(), expected)
    frame = pl.DataFrame({"text": with_null})
    for form in (frame, frame["text"]):
        np.testing.assert_array_equal(TextViews().fit_transform(form).blocks["words"].toarray(), expected)


def test_the_callers_texts_are_left_alone():
    table = np.array([["plain text", None], ["plain text", "b"]], dtype=object)
    TextViews(["words"]).fit_transform(table)
    assert table.tolist() == [["plain text", None], ["plain text", "b"]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", 5], "row 1, text column 0 is 5, not a text"),
        (["a", float("nan")], "row 1, text column 0 is nan, not a text"),
        (np.array([["a", "b"], ["c", b"d"]], dtype=object), "row 1, text column 1 is b'd', not a text"),
        ([["a", "b"], ["c"]], "row 0, text column 0 is "),
        ("one text", "X must be a list of texts"),
        ([], "X must be a list of texts"),
        (np.empty((2, 0), dtype=object), "X must be a list of texts"),
        ((text for text in TEXTS), "X must be a list of texts"),
        (sparse.csr_array(np.eye(2)), "X must be a list of texts"),
    ],
)
def test_what_is_no_text_is_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        TextViews().fit(texts)
    with pytest.raises(ValueError, match=message):
        TextViews().fit(TEXTS).transform(texts)


@pytest.mark.parametrize(
    ("texts", "options", "view"),
    [
        (["one", "two"], {}, "words"),
        (["plain", "plain"], {"views": ["words", "word_pairs"]}, "word_pairs"),
        (["", None], {"min_df": 1}, "words"),
        (["plain text"], {}, "words"),
    ],
)
def test_an_empty_vocabulary_is_an_error_that_names_the_view(texts, options, view):
    with pytest.raises(
        ValueError, match=rf"view '{view}' is empty: .*min_df=.* lower min_df or leave the view out"
    ):
        TextViews(**options).fit(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "words"}, "list of different names"),
        ({"views": []}, "list of different names"),
        ({"views": ["words", "words"]}, "list of different names"),
        ({"views": ["letters"]}, "no view 'letters'"),
        ({"min_df": 0}, "min_df"),
        ({"min_df": 1.5}, "min_df"),
        ({"min_df": "2"}, "min_df"),
        ({"max_characters": 0}, "max_characters"),
        ({"max_characters": 2.5}, "max_characters"),
        ({"columns": {"letters": [0]}}, "columns names the view 'letters'"),
        ({"columns": {"words": [1]}}, r"columns\['words'\] must be numbers from 0 to 0"),
        ({"columns": {"words": [-1]}}, r"columns\['words'\]"),
        ({"columns": {"words": ["name"]}}, r"columns\['words'\]"),
        ({"columns": {"words": 0}}, r"columns\['words'\]"),
        ({"columns": {"words": []}}, r"columns\['words'\]"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TextViews(**options).fit(TEXTS)


def test_nothing_works_before_fit():
    for call in (lambda t: t.transform(TEXTS), lambda t: t.get_feature_names_out(), lambda t: t.get_state()):
        with pytest.raises(NotFittedError):
            call(TextViews())


def test_a_failed_fit_leaves_the_last_one():
    text_views = TextViews(["words"]).fit(TEXTS)
    with pytest.raises(ValueError, match="is empty"):
        text_views.fit(["one", "two"])
    assert text_views.transform(TEXTS).shape == (5, 4)


def test_other_columns_than_fitted_are_refused():
    text_views = TextViews().fit(TEXTS)
    with pytest.raises(ValueError, match="have 2 columns, but 1 were fitted"):
        text_views.transform([["a", "b"]])


def test_a_pipeline_hands_views_on():
    y = ["editor" in text for text in TEXTS] * 4
    steps = [
        ("text", TextViews(("words", "word_pairs"))),
        ("model", ViewsClassifier(("words", "word_pairs"))),
    ]
    pipeline = Pipeline(steps).fit(TEXTS * 4, y)
    assert pipeline.predict(TEXTS).tolist() == y[:5]
    search = GridSearchCV(pipeline, {"text__min_df": [1, 2], "model__use": [("words",)]}, cv=2)
    assert search.fit(TEXTS * 4, y).best_score_ == 1


def test_a_global_wish_for_dataframes_leaves_views_alone():
    with config_context(transform_output="polars"):
        assert isinstance(TextViews().fit_transform(TEXTS), Views)
        assert isinstance(TextViews().fit(TEXTS).transform(TEXTS), Views)


def test_a_clone_has_the_parameters_and_nothing_else():
    text_views = TextViews(["words"], min_df=1, columns={"words": [0]}, max_characters=None).fit(TEXTS)
    copy = clone(text_views)
    assert copy.get_params() == text_views.get_params()
    assert not hasattr(copy, "vectorizers_")


# The saved state


def saved(**options):
    state, arrays = TextViews(**options).fit(TEXTS).get_state()
    return json.loads(json.dumps(state)), arrays


def test_a_saved_state_gives_the_same_views_to_the_bit():
    table = np.array([[text, text[::-1]] for text in TEXTS], dtype=object)
    options = {
        "min_df": np.int64(1),
        "columns": {"characters": (np.int64(0),)},
        "max_characters": np.int64(9),
    }
    text_views = TextViews(**options).fit(table)
    state, arrays = text_views.get_state()
    again = TextViews.from_state(json.loads(json.dumps(state)), arrays)
    table[:, 1] = "plain unknown"
    for name, block in text_views.transform(table).blocks.items():
        restored = again.transform(table).blocks[name]
        assert restored.dtype == np.float32
        assert restored.data.tobytes() == block.data.tobytes()
        assert restored.indices.tobytes() == block.indices.tobytes()
        assert restored.indptr.tobytes() == block.indptr.tobytes()
    assert again.get_feature_names_out().tolist() == text_views.get_feature_names_out().tolist()
    state_again, arrays_again = again.get_state()
    assert state_again == state
    assert {name: idf.dtype for name, idf in arrays_again.items()} == dict.fromkeys(arrays, np.float32)
    assert again.fit(table).n_columns_ == 2  # a vocabulary that was read does not bind the next fit
    assert "words__unknown" in again.get_feature_names_out()


def test_a_share_survives_the_state():
    assert TextViews.from_state(*saved(min_df=0.4)).min_df == 0.4


def damage(change):
    state, arrays = saved(views=["words", "characters"])
    change(state, arrays)
    return state, arrays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, a: s.update(version=2), "version 2, but this release reads 'TextViews' version 1"),
        (lambda s, a: s.pop("version"), "version None"),
        (lambda s, a: s.update(kind="Other"), "of 'Other'"),
        (lambda s, a: s.pop("vocabulary"), "damaged: 'vocabulary'"),
        (lambda s, a: s["params"].update(colour=1), "damaged: .*colour"),
        (lambda s, a: s["params"].update(min_df=-1), "damaged: min_df"),
        (
            lambda s, a: s["params"].update(views=["words"]),
            r"one vocabulary for each of the views \['words'\]",
        ),
        (lambda s, a: s.update(vocabulary=[]), "one vocabulary for each"),
        (lambda s, a: s.update(n_columns="1"), "damaged: n_columns"),
        (lambda s, a: s["vocabulary"]["words"].pop(), r"idf of view 'words' .* 3 finite .* of shape \(4,\)"),
        (lambda s, a: s["vocabulary"].update(words=[1, 2, 3, 4]), "vocabulary of view 'words'"),
        (lambda s, a: s["vocabulary"].update(words=["a", "a", "b", "c"]), "vocabulary of view 'words'"),
        (lambda s, a: s["vocabulary"].update(words=[]), "vocabulary of view 'words'"),
        (lambda s, a: a.pop("words.idf"), "one idf array for each"),
        (lambda s, a: a.update(more=np.ones(1)), "one idf array for each"),
        (lambda s, a: a.update({"words.idf": np.ones(4)}), "idf of view 'words' .* is float64"),
        (lambda s, a: a.update({"words.idf": np.full(4, np.nan, "f4")}), "idf of view 'words'"),
    ],
)
def test_a_damaged_state_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TextViews.from_state(*damage(change))


def test_64_bit_indices_become_32_bit_only_where_they_fit(wide, monkeypatch):
    words = two_views().blocks["words"]
    narrowed = Views.of(wide(words))[[3, 0]].blocks["all"]
    assert narrowed.indices.dtype == narrowed.indptr.dtype == np.int32
    np.testing.assert_array_equal(narrowed.toarray(), words[[3, 0]].toarray())
    monkeypatch.setattr(sparse, "get_index_dtype", lambda maxval: np.int64 if maxval > 3 else np.int32)
    kept = Views.of(wide(words)).blocks["all"]
    assert kept.indices.dtype == kept.indptr.dtype == np.int64
    np.testing.assert_array_equal(kept[[3, 0]].toarray(), words[[3, 0]].toarray())
