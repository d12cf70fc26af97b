import json
import shutil

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from evenhand.multilabel import embedding
from evenhand.multilabel.embedding import TextEmbedder
from evenhand.multilabel.text_views import TextViews
from evenhand.multilabel.views import Views

TEXTS = [
    "a plain text editor",
    "an editor of plain music",
    "music player with plain text lyrics",
    "",
    "plain text music editor",
]


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
        ({"embedder": TextEmbedder()}, "views hold no 'embedding'"),
        ({"views": ["embedding"], "embedder": "minilm"}, "embedder must be a TextEmbedder"),
        ({"views": ["embedding"], "embedder": TextEmbedder("no_such_model")}, "model is 'no_such_model'"),
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
    beside = FunctionTransformer(lambda views: sparse.hstack(list(views.blocks.values())))
    pipeline = make_pipeline(TextViews(("words", "word_pairs")), beside, LogisticRegression(C=10.0))
    assert pipeline.fit(TEXTS * 4, y).predict(TEXTS).tolist() == y[:5]
    search = GridSearchCV(pipeline, {"textviews__min_df": [1, 2]}, cv=2)
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
        (lambda s, a: s.update(version=3), "version 3, but this release reads 'TextViews' up to 2"),
        (lambda s, a: s.pop("version"), "version None"),
        (lambda s, a: s.update(kind="Other"), "of 'Other'"),
        (lambda s, a: s.pop("vocabulary"), "damaged: 'vocabulary'"),
        (lambda s, a: s["params"].update(colour=1), "damaged: .*colour"),
        (lambda s, a: s["params"].update(embedder="minilm"), "damaged: embedder must be"),
        (lambda s, a: s.update(embedding={}), "damaged: the view 'embedding' and what"),
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


def test_a_state_from_before_there_were_embeddings_is_read():
    state, arrays = saved(views=["words"])
    del state["embedding"]
    assert TextViews.from_state(state | {"version": 1}, arrays).transform(TEXTS).names == ("words",)


# The embedding


@pytest.fixture
def embedded(tiny_bert, tmp_path):
    def make(folder=tiny_bert, views=("words", "embedding"), **options):
        embedder = TextEmbedder(str(folder), cache_dir=str(tmp_path / "cache"))
        return TextViews(views, embedder=embedder, **options)

    return make


def test_an_embedding_is_a_view_among_others(embedded):
    text_views = embedded(columns={"embedding": [1]})
    table = np.array([[text, text[::-1]] for text in TEXTS], dtype=object)
    views = text_views.fit_transform(table)
    assert list(views.n_features) == ["words", "embedding"]
    assert text_views.n_features_ == views.n_features
    expected = text_views.embedder.transform(table[:, 1])
    np.testing.assert_array_equal(views.blocks["embedding"], expected)
    np.testing.assert_array_equal(text_views.transform(table[:2]).blocks["embedding"], expected[:2])
    assert text_views.get_feature_names_out()[-1] == "embedding__15"


def test_a_model_of_another_package_is_saved_as_its_folder(embedded, tiny_bert, tmp_path, monkeypatch):
    (tmp_path / "their_model.py").write_text(f"def get_model_path(): return {str(tiny_bert)!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    state, arrays = embedded("their_model").fit(TEXTS).get_state()
    assert state["embedding"]["model"] == str(tiny_bert)
    monkeypatch.setattr("importlib.import_module", None)  # nothing is imported to read it
    assert TextViews.from_state(state, arrays).embedder.model == str(tiny_bert)


def test_the_saved_state_knows_the_model_but_does_not_hold_it(embedded, tiny_bert, tmp_path):
    text_views = embedded()
    rows = text_views.fit_transform(TEXTS).blocks["embedding"]
    state, arrays = text_views.get_state()
    again = TextViews.from_state(json.loads(json.dumps(state)), arrays)
    again.embedder.set_params(cache=False)
    np.testing.assert_allclose(again.transform(TEXTS).blocks["embedding"], rows, atol=1e-6)
    assert again.get_state()[0] == state

    moved = tmp_path / "moved"
    shutil.copytree(tiny_bert, moved)
    again.set_params(embedder__model=str(moved))
    assert again.transform(TEXTS).shape == (5, 20)
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    embedding._digest.cache_clear()
    with pytest.raises(ValueError, match="another than in training"):
        again.transform(TEXTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("model_digest"), "damaged: 'model_digest'"),
        (lambda e: e.update(model=3), "of a wrong type"),
        (lambda e: e.update(max_tokens="9"), "of a wrong type"),
        (lambda e: e.update(n_features=0), "n_features must be"),
        (lambda e: e.update(model="antigravity"), "'antigravity' is no folder; nothing is imported"),
    ],
)
def test_a_damaged_embedding_is_refused(change, message, embedded):
    state, arrays = embedded().fit(TEXTS).get_state()
    change(state["embedding"])
    with pytest.raises(ValueError, match=message):
        TextViews.from_state(state, arrays)
