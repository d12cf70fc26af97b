"""A model on disk predicts the same to the bit, and a folder that is not sound ends in one clear message."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save
from scipy import sparse

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.storage import FolderError
from evenhand.multilabel.text_views import TextViews
from evenhand.multilabel.views import Views

DATA = make_long_tail(150, 12, 60, seed=0)
TEXTS = [" ".join(f"term{column}" for column in DATA.X[[row]].indices[:12]) for row in range(150)]
TWO = Views({"left": DATA.X[:, :30], "right": DATA.X[:, 30:].toarray().astype(np.float64)})
TAGS = [
    [f"täg {label}\u0000\U0001f600\ud800" for label in row]
    for row in np.split(DATA.Y.indices, DATA.Y.indptr[1:-1])
]


def _fit(X=DATA.X, y=DATA.Y, **options):
    return CuriosityGameClassifier(tolerance=0.1, **options).fit(X, y)


def _assert_same(one, other, X):
    assert one.get_params() == other.get_params()
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
    best, best_too = one.predict_topk(X, 3), other.predict_topk(X, 3)
    assert (best != best_too).nnz == 0
    for decoder in one.decoders_:
        sets, sets_too = one.predict(X, decoder), other.predict(X, decoder)
        assert type(sets) is type(sets_too)
        assert sets.dtype == sets_too.dtype
        assert np.array_equal(*(s.toarray() if sparse.issparse(s) else s for s in (sets, sets_too)))
    assert one.classes_.tolist() == other.classes_.tolist()
    assert one.classes_.dtype == other.classes_.dtype
    assert one.label_sets(one.predict(X)) == other.label_sets(other.predict(X))
    assert one.team_.history == other.team_.history
    assert one.views_ == other.views_
    assert one.n_features_in_ == other.n_features_in_


@pytest.mark.parametrize(
    ("X", "y", "options"),
    [
        (DATA.X, DATA.Y, {}),
        (DATA.X.toarray().astype(np.float64), DATA.Y.toarray(), {"decoder": "macro_f1", "prune": 0.01}),
        (TWO, DATA.Y, {"rounds": 2, "C": np.float64(0.7), "random_state": np.int64(3)}),
        (TWO, DATA.Y, {"payoff": "log_likelihood", "space": "probability", "decoder": "per_label"}),
        (DATA.X, TAGS, {"n_folds": 0}),
        (DATA.X, DATA.Y, {"n_players": 3, "partition": "random", "tail_owners": 1}),
    ],
    ids=["sparse", "dense", "two views", "probability", "tags, no folds", "split labels"],
)
def test_the_model_predicts_the_same_to_the_bit(tmp_path, X, y, options):
    model = _fit(X, y, **options)
    save_model(Model(model, notes={"Größe": "\U0001f600 \ud800"}), tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.notes == {"Größe": "\U0001f600 \ud800"}
    _assert_same(model, loaded.classifier, X)
    again = loaded.classifier.fit(X, y)
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_texts_go_through_the_saved_text_views(tmp_path):
    text_views = TextViews(("words", "characters"))
    model = Model(_fit(text_views.fit_transform(TEXTS)), text_views)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    texts = ["term1 term2 term59", "", None, "nothing known"]
    _assert_same(model.classifier, loaded.classifier, model.views(texts))
    for name, block in loaded.views(texts).blocks.items():
        assert (block != model.views(texts).blocks[name]).nnz == 0
    with pytest.raises(ValueError, match="X is features, but the model was trained on texts"):
        loaded.views(DATA.X)


def test_names_of_columns_are_kept(tmp_path):
    X = pl.DataFrame(DATA.X.toarray(), schema=[f"spalte {n}" for n in range(60)])
    y = pl.DataFrame(DATA.Y.toarray(), schema=[f"标签{n}" for n in range(12)])
    model = _fit(X, y)
    save_model(Model(model), tmp_path / "model")
    loaded = load_model(tmp_path / "model").classifier
    assert loaded.feature_names_in_.tolist() == X.columns
    assert loaded.classes_.tolist() == y.columns
    _assert_same(model, loaded, X)


def test_a_model_of_features_takes_features_in_every_form():
    model = Model(_fit())
    expected = model.classifier.predict_proba(DATA.X)
    for X in (DATA.X, DATA.X.toarray(), DATA.X.toarray().tolist(), pl.DataFrame(DATA.X.toarray())):
        assert np.allclose(model.classifier.predict_proba(model.views(X)), expected, atol=1e-3)
    for X in (
        TEXTS,
        np.array(TEXTS),
        np.array(TEXTS, dtype=object)[:, None],
        [[None, "a"]],
        pl.Series(TEXTS),
    ):
        with pytest.raises(ValueError, match="X is texts, but the model was trained on features"):
            model.views(X)


def test_notes_must_be_texts():
    with pytest.raises(ValueError, match="notes must map texts to texts"):
        Model(_fit(), notes={"P@1": 0.7})


def test_text_views_must_be_those_of_the_classifier():
    with pytest.raises(ValueError, match=r"the text views are .*, but the classifier was trained on"):
        Model(_fit(), TextViews(("words",)).fit(TEXTS))


@pytest.fixture
def folder(tmp_path):
    save_model(Model(_fit(TWO)), tmp_path / "model")
    return tmp_path / "model"


def _change(folder: Path, change, path: str = "") -> None:
    """Change the JSON at a path such as "state/classifier"; arrays stay as they are."""
    document = json.loads((folder / "model.json").read_text())
    at = document
    for key in filter(None, path.split("/")):
        at = at[int(key) if isinstance(at, list) else key]
    change(at)
    (folder / "model.json").write_text(json.dumps(document))


def _change_array(folder: Path, name: str, change) -> None:
    """Change an array, with hash, name, type and shape in the JSON as a forger would write them."""
    (old,) = folder.glob("arrays-*")
    arrays = load_file(old)
    arrays[name] = np.ascontiguousarray(change(arrays[name].copy()))
    content = save(arrays)
    digest = hashlib.sha256(content).hexdigest()
    old.unlink()
    (folder / f"arrays-{digest[:16]}.safetensors").write_bytes(content)

    def place(document):
        document["arrays_sha256"] = digest
        at = document["state"]
        for key in name.split("/"):
            at = at[int(key) if isinstance(at, list) else key]
        at |= {"dtype": str(arrays[name].dtype), "shape": list(arrays[name].shape)}

    _change(folder, place)


def test_a_forged_array_that_is_sound_is_read(folder):
    _change_array(
        folder, "classifier/team/fusion/bias", lambda bias: bias + 1
    )  # the helper does what it says
    load_model(folder)


@pytest.mark.parametrize(
    ("array", "change", "message"),
    [
        ("team/players/0/weights/indices", lambda a: np.append(a[:-1], 31).astype(np.int32), "is damaged"),
        ("team/players/0/weights/indices", lambda a: np.append(a[:-1], -1).astype(np.int32), "is damaged"),
        ("team/players/1/weights/indptr", lambda a: a[::-1], "is damaged"),
        ("team/players/1/weights/indptr", lambda a: a + 1, "is damaged"),
        ("team/players/1/weights/indptr", lambda a: a[:-1], "is damaged"),
        ("team/players/0/weights/values", lambda a: a.astype(np.int32), "should be float32 or float64"),
        (
            "team/players/0/weights/values",
            lambda a: np.append(a[:-1], np.nan).astype(np.float32),
            "NaN or inf",
        ),
        ("team/players/0/owned", lambda a: ~a, "labels that it does not own"),
        ("team/fusion/weights", lambda a: a[:, :-1], r"of shape \(2, 12\)"),
        ("team/fusion/weights", lambda a: -a - 1, "below 0"),
        ("label_counts", lambda a: a[:-1], "classes must be 11 texts"),
        ("label_counts", lambda a: -a, "label counts"),
        ("held_out_f1", lambda a: a[:-1], r"of shape \(12\)"),
        ("calibration/buckets", lambda a: a[:-1], "damaged"),
        (
            "decoders/per_label/thresholds",
            lambda a: a[:-1],
            "decoder .per_label. is for 11 labels, but there are 12",
        ),
    ],
)
def test_an_array_that_does_not_fit_is_refused(folder, array, change, message):
    _change_array(folder, f"classifier/{array}", change)
    with pytest.raises(FolderError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (
            "",
            {"version": 2},
            "format version 2, but this release of evenhand reads version 1; update evenhand",
        ),
        ("", {"version": "1"}, r"model\.json has the format version '1', not a whole number"),
        ("", {"format": "something"}, "is not of the format 'evenhand model'"),
        ("", {"arrays_sha256": "../../../x"}, "SHA-256"),
        ("", {"arrays_sha256": "0" * 64}, "is missing"),
        ("", {"state": []}, "lacks its state"),
        ("state", {"notes": {"a": 1}}, "notes must map texts to texts"),
        ("state/classifier/params", {"new_option": 1}, "knows no estimator parameter new_option"),
        ("state/classifier/params", {"payoff": "money"}, "payoff is 'money'"),
        ("state/classifier/params", {"C": 10**400}, "C must be a finite number above 0"),
        ("state/classifier", {"views": {"left": 30, "right": 31}}, "reads 30 features of view 'right'"),
        ("state/classifier", {"n_train": 2.5}, "'n_train' should be of type int"),
        ("state/classifier/classes", {"dtype": "<U2000000000"}, "must not be of type"),
        ("state/classifier/classes", {"values": [[]] * 12}, "texts or whole numbers"),
        ("state/classifier/team", {"space": "outer"}, "space"),
        ("state/classifier/team/players/0/weights", {"shape": [10**30, 12]}, "damaged"),
        ("state/classifier/team/players/0/weights", {"shape": [-5, 12]}, "damaged"),
        ("state/classifier/team/players/0/weights", {"shape": 31}, "'shape' should be of type list"),
        ("state/classifier/team/players/0/weights", {"shape": [31, "x"]}, "damaged"),
        ("state/classifier/team/players/0/weights/values", {"shape": [1]}, "should be float32 of shape"),
        ("state/classifier/team/players/0/weights/values", {"$array": "nowhere"}, "'nowhere' is missing"),
        ("state/classifier/team/players/0/weights", {"values": None}, "values' belongs nowhere"),
        ("state/classifier/team/players/0/weights", {"indptr": 3}, "indptr' belongs nowhere"),
        ("state/classifier", {"calibration": None}, "belongs nowhere"),
        ("state/classifier/decoders/micro", {"kind": "Oracle"}, "Oracle"),
        ("state", {"text_views": {"state": {}, "arrays": {}}}, "the state is of None"),
    ],
)
def test_a_field_that_does_not_fit_is_refused(folder, path, change, message):
    _change(folder, lambda at: at.update(change), path)
    with pytest.raises(FolderError, match=message):
        load_model(folder)


@pytest.mark.parametrize("value", [None, True, -1, 1.5, "x", [], {}, [[1]], {"a": {}}, 10**400])
def test_no_field_of_any_other_type_gets_through_as_another_error(folder, value):
    whole = json.loads((folder / "model.json").read_text())
    places = [
        (part, name)
        for part in ("", "state", "state/classifier", "state/classifier/team", "state/classifier/params")
        for name in _at(whole, part)
        if name != "written_by"
    ]
    refused = 0
    for part, name in places:
        document = json.loads(json.dumps(whole))
        _at(document, part)[name] = value
        (folder / "model.json").write_text(json.dumps(document))
        try:
            load_model(folder)
        except FolderError:
            refused += 1
    assert refused > len(places) / 2


def _at(document, path):
    for key in filter(None, path.split("/")):
        document = document[key]
    return document


def test_json_that_is_deep_or_no_json_or_too_large_is_refused(folder, monkeypatch):
    sound = (folder / "model.json").read_text()
    for text in ("[" * 100_000 + "]" * 100_000, sound[:-10], sound.replace("150", "NaN"), "\xff"):
        (folder / "model.json").write_text(text, encoding="latin-1" if text == "\xff" else "utf-8")
        with pytest.raises(FolderError, match=r"is no sound JSON .*model\.json|model\.json is no sound JSON"):
            load_model(folder)
    monkeypatch.setattr("evenhand.multilabel.storage._MAX_JSON_BYTES", len(sound) - 1)
    (folder / "model.json").write_text(sound)
    with pytest.raises(FolderError, match="larger than"):
        load_model(folder)


def test_a_changed_byte_is_noticed(folder):
    (arrays,) = folder.glob("arrays-*")
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(FolderError, match="was changed or damaged"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model.json", "arrays-*"])
def test_links_and_pipes_are_refused(folder, name):
    (file,) = folder.glob(name)
    file.rename(folder.parent / "elsewhere")
    file.symlink_to(folder.parent / "elsewhere")
    with pytest.raises(FolderError, match="symbolic links"):
        load_model(folder)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(FolderError, match="no regular file"):
        load_model(folder)
    file.unlink()
    with pytest.raises(FolderError, match="is missing"):
        load_model(folder)


def test_what_is_no_model_is_not_written_over(tmp_path):
    model = Model(_fit())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "thesis")
    for name in ("thesis", "file", "link"):
        with pytest.raises(
            FolderError, match=r"is no evenhand model, so it is not written over|symbolic link"
        ):
            save_model(model, tmp_path / name)
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == (tmp_path / "file").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "thesis"]
    with pytest.raises(FolderError, match="is no folder"):
        load_model(tmp_path / "file")


def test_a_model_takes_the_place_of_another(folder):
    (folder / "README.txt").write_text("mine")
    first = load_model(folder)
    second = Model(_fit())
    save_model(second, folder)
    _assert_same(second.classifier, load_model(folder).classifier, DATA.X)
    assert len(os.listdir(folder)) == 3
    save_model(first, folder)
    assert np.array_equal(
        load_model(folder).classifier.predict_proba(TWO), first.classifier.predict_proba(TWO)
    )
    assert (folder / "README.txt").read_text() == "mine"


def test_a_kill_at_any_step_leaves_the_old_or_the_new_model(folder, monkeypatch):
    second = Model(_fit())
    kept = folder.parent / "kept"
    shutil.copytree(folder, kept)
    old, new = load_model(folder).classifier.views_, second.classifier.views_
    found = []
    for steps in range(100):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        with monkeypatch.context() as patch:
            left = iter(range(steps))
            for name in ("fsync", "replace", "unlink"):
                patch.setattr(os, name, _dies(getattr(os, name), left))
            try:
                save_model(second, folder)
            except KeyboardInterrupt:
                found.append(load_model(folder).classifier.views_)
                continue
        break
    assert found[0] == old
    assert found[-1] == new
    assert all(views in (old, new) for views in found)
    save_model(second, folder)
    assert len(os.listdir(folder)) == 2  # what the killed ones left is gone


def _dies(call, left):
    def wrapped(*args, **kwargs):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return call(*args, **kwargs)

    return wrapped


def test_a_failed_save_leaves_nothing(tmp_path):
    model = _fit()
    model.team_.fusion.bias[0] = np.nan
    with pytest.raises(FolderError, match=r"classifier/team/fusion/bias must be finite"):
        save_model(Model(model), tmp_path / "model")
    assert not os.listdir(tmp_path)
    model = _fit()
    model.classes_ = np.linspace(0, 1, 12)
    with pytest.raises(FolderError, match=r"the name 0\.0 cannot be saved"):
        save_model(Model(model), tmp_path / "model")
    assert not os.listdir(tmp_path)


def test_files_follow_the_umask(folder):
    other = folder / "other"
    other.write_text("")
    for file in folder.iterdir():
        assert file.stat().st_mode == other.stat().st_mode
