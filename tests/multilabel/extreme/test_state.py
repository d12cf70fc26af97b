import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.storage import FolderError


@pytest.fixture(scope="module")
def data():
    return make_long_tail(300, 60, 150, seed=2)


@pytest.fixture(scope="module")
def model(data):
    tags = [data.tags(row) for row in range(300)]
    return ExtremeGameClassifier(n_players=2, partition="frequency", leaf_size=8).fit(data.X, tags)


@pytest.fixture
def folder(model, tmp_path):
    save_model(Model(model), tmp_path / "model")
    return tmp_path / "model"


def damage(folder, name, change):
    """Change one array, and the checksum with it, as someone with bad intent would."""
    (file,) = folder.glob("arrays-*.safetensors")
    arrays = load_file(file)
    key = next(key for key in arrays if key.endswith(name))
    arrays[key] = change(arrays[key].copy())
    content = save(arrays)
    document = json.loads((folder / "model.json").read_text())
    document["arrays_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "model.json").write_text(json.dumps(document))
    file.unlink()
    (folder / f"arrays-{document['arrays_sha256'][:16]}.safetensors").write_bytes(content)


def put(at, value):
    def change(array):
        array[at] = value
        return array

    return change


def test_a_loaded_model_predicts_the_same_to_the_bit(data, model, folder):
    loaded = load_model(folder).classifier
    before, after = model.predict_topk(data.X, 7), loaded.predict_topk(data.X, 7)
    assert np.array_equal(before.data, after.data)
    assert np.array_equal(before.indices, after.indices)
    assert loaded.get_params() == model.get_params()
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert loaded.label_counts_.tolist() == model.label_counts_.tolist()


def test_weights_stay_on_disk(folder):
    """They lie in a mapping of the file, not in memory of their own."""
    loaded = load_model(folder).classifier
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    mapped = [line[0].split("-") for line in lines if line[-1].startswith(str(folder))]
    assert mapped
    for player in loaded.players_:
        for level in player.levels:
            address = level.value.__array_interface__["data"][0]
            assert any(int(start, 16) <= address < int(stop, 16) for start, stop in mapped)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("levels/0/child", put(0, 60_000), "places of a level's weights"),
        ("levels/1/row_ptr", put(-1, 10**9), "places of a level's weights"),
        ("levels/1/row_ptr", put(2, -5), "places of a level's weights"),
        ("levels/0/feature_ptr", put(0, 1), "places of a level's weights"),
        ("levels/0/children", put(-1, 0), "places of a level's weights"),
        ("players/0/labels", put(0, 60), "labels of a tree"),
        ("players/0/labels", lambda a: np.full_like(a, 3), "labels of a tree"),
        ("players/0/labels", lambda a: a[:-1], "should be|do not fit each other"),
        ("owners", lambda a: np.zeros_like(a), "no player that owns it"),
    ],
)
def test_damaged_arrays_are_refused(folder, name, change, message):
    damage(folder, name, change)
    with pytest.raises(FolderError, match=message):
        load_model(folder)


def test_damaged_files_are_refused(folder, tmp_path):
    (file,) = folder.glob("arrays-*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(FolderError, match="changed or damaged"):
        load_model(folder)
    shutil.rmtree(folder)
    with pytest.raises(FolderError, match="is no folder"):
        load_model(folder)


def test_bad_options_are_refused(folder):
    document = json.loads((folder / "model.json").read_text())
    document["state"]["classifier"]["params"]["beam"] = 0
    (folder / "model.json").write_text(json.dumps(document))
    with pytest.raises(FolderError, match="beam must be a whole number"):
        load_model(folder)


def test_thresholds_views_and_added_labels_come_back(data, tmp_path):
    views = {"left": data.X[:, :70], "right": data.X[:, 70:]}
    model = ExtremeGameClassifier(leaf_size=8, decoder="per_label").fit(views, data.Y[:, :50])
    model.add_labels(views, data.Y[:, 50:]).fit_decoders(views, data.Y)
    save_model(Model(model), tmp_path / "model")
    loaded = load_model(tmp_path / "model").classifier
    assert loaded.views_ == model.views_
    assert (loaded.predict(views) != model.predict(views)).nnz == 0
    loaded.partial_fit(views, data.Y)
    assert loaded.n_train_ == 600


def change_state(folder, change):
    document = json.loads((folder / "model.json").read_text())
    change(document["state"]["classifier"])
    (folder / "model.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state["players"][0].update(view="other"),
            "reads the view 'other', which is not there",
        ),
        (lambda state: state["views"].update(all=0), "views: 'all' has 0"),
        (lambda state: state.update(decoders={"micro": {"kind": "no"}}), "micro, macro, per_label belong"),
        (lambda state: state["params"].update(depth=3), "knows no estimator parameter depth"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(folder, change, message):
    change_state(folder, change)
    with pytest.raises(FolderError, match=message):
        load_model(folder)
