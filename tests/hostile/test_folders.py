"""Folders of models and checkpoints with which someone means harm: refused with a reason, and nothing runs.

Every attack is made on every kind of folder. A forger knows the format, so checksums, types and shapes in the
JSON are put right after each change.
"""

import hashlib
import json
import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from safetensors.torch import save as save_tensors

from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.storage import FolderError

DATA = make_long_tail(80, 9, 40, labels_per_instance=1.5, seed=0)


def game(**options):
    return CuriosityGameClassifier(tolerance=0.3, n_folds=2, **options).fit(
        [DATA.X, DATA.X[:, :9].toarray()], DATA.Y
    )


def trees(**options):
    return ExtremeGameClassifier(leaf_size=4, branching=2, **options).fit(DATA.X, DATA.Y)


def neural(**options):
    model = NeuralGameClassifier(SparseBag(4), epochs=1, batch_size=32, device="cpu", **options)
    return model.fit(DATA.X, DATA.Y)


# For each kind: what writes a folder, what reads it, and the part of it that is attacked.
KINDS = {
    "game": (lambda folder: save_model(Model(game()), folder), load_model, "."),
    "trees": (
        lambda folder: save_model(Model(trees().fit_decoders(DATA.X, DATA.Y)), folder),
        load_model,
        ".",
    ),
    "neural": (lambda folder: save_model(Model(neural()), folder), load_model, "."),
    "turn": (
        lambda folder: game(checkpoint=str(folder)),
        lambda folder: game(checkpoint=str(folder)),
        "turn-000000",
    ),
    "block": (
        lambda folder: trees(checkpoint=str(folder)),
        lambda folder: trees(checkpoint=str(folder)),
        "tree-0000-level-00-node-00000000",
    ),
    "epoch": (
        lambda folder: neural(checkpoint=str(folder)),
        lambda folder: neural(checkpoint=str(folder)),
        "latest",
    ),
}


class Folder:
    """A folder that was copied for one attack."""

    def __init__(self, path: Path, load, part: str):
        self.path, self.part = path, path / part
        self._load = load
        (self.json,) = self.part.glob("*.json")
        (self.arrays,) = self.part.glob("arrays-*.safetensors")

    def load(self):
        return self._load(self.path)

    @property
    def document(self):
        return json.loads(self.json.read_text())

    def write(self, document):
        self.json.write_text(json.dumps(document))

    def forge(self, content):
        """Other arrays, under the name and checksum that the JSON then gives."""
        document = self.document
        document["arrays_sha256"] = hashlib.sha256(content).hexdigest()
        self.arrays.unlink()
        self.arrays = self.part / f"arrays-{document['arrays_sha256'][:16]}.safetensors"
        self.arrays.write_bytes(content)
        self.write(document)

    def change_array(self, change, dtype="float32"):
        """Change the first array of a type; its type and shape in the JSON follow."""
        arrays = load(self.arrays.read_bytes())
        name = next(name for name in sorted(arrays) if arrays[name].dtype == dtype and arrays[name].size > 1)
        arrays[name] = np.ascontiguousarray(change(arrays[name].copy()))
        self.forge(save(arrays))
        document = self.document
        for place in places(document["state"]):
            if place["$array"] == name:
                place |= {"dtype": str(arrays[name].dtype), "shape": list(arrays[name].shape)}
        self.write(document)


def places(value):
    """What stands in the JSON for arrays."""
    if isinstance(value, dict):
        if "$array" in value:
            yield value
        for part in value.values():
            yield from places(part)
    elif isinstance(value, list):
        for part in value:
            yield from places(part)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    for kind, (write, _, _) in KINDS.items():
        write(root / kind)
    return root


@pytest.fixture(params=KINDS)
def folder(request, originals, tmp_path):
    _, load_kind, part = KINDS[request.param]
    return Folder(shutil.copytree(originals / request.param, tmp_path / request.param), load_kind, part)


# --- attacks on every kind -------------------------------------------------------------------------------


def with_value(value):
    def change(array):
        array.flat[0] = value
        return array

    return lambda folder: folder.change_array(change)


def text_of(change):
    return lambda folder: folder.json.write_bytes(change(folder.json.read_text()))


def flip_a_bit(folder):
    content = bytearray(folder.arrays.read_bytes())
    content[-1] ^= 1
    folder.arrays.write_bytes(content)


def first_field_twice(text):
    return text.replace('"state": {', '"state": {}, "state": {', 1).encode()


def a_place_twice(folder):
    document = folder.document
    first, second = list(places(document["state"]))[:2]
    second |= first
    folder.write(document)


def header(claims, content=b"\0" * 64):
    """A safetensors file with this header."""
    text = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return struct.pack("<Q", len(text)) + text + content


def more_arrays(folder):
    arrays = load(folder.arrays.read_bytes())
    folder.forge(save(arrays | {"stowaway": np.zeros(3, np.float32)}))


def fewer_arrays(folder):
    arrays = load(folder.arrays.read_bytes())
    arrays.pop(max(arrays))
    folder.forge(save(arrays))


def half_precision(dtype):
    def attack(folder):
        arrays = {n: torch.from_numpy(a.astype(a.dtype)) for n, a in load(folder.arrays.read_bytes()).items()}
        name = next(n for n in sorted(arrays) if arrays[n].dtype == torch.float32 and arrays[n].numel() > 1)
        arrays[name] = arrays[name].to(dtype)
        folder.forge(save_tensors(arrays))
        document = folder.document
        for place in places(document["state"]):
            if place["$array"] == name:
                place["dtype"] = str(dtype).removeprefix("torch.")
        folder.write(document)

    return attack


def climb(path):
    """A checksum that is the way to a file outside."""

    def attack(folder):
        outside = folder.path.parent / "arrays-outside.safetensors"
        shutil.move(folder.arrays, outside)
        folder.write(folder.document | {"arrays_sha256": path})

    return attack


def link(which):
    def attack(folder):
        file = getattr(folder, which)
        outside = folder.path.parent / f"outside-{file.name}"
        shutil.move(file, outside)
        file.symlink_to(outside)

    return attack


def pipe(which):
    def attack(folder):
        getattr(folder, which).unlink()
        os.mkfifo(getattr(folder, which))

    return attack


def huge_json(folder):
    with folder.json.open("ab") as file:
        file.truncate((1 << 28) + 1)  # a hole: takes no room on disk


UNSOUND = "no sound JSON"
ATTACKS = {
    "bit": (flip_a_bit, "was changed or damaged: its SHA-256 is"),
    "nan": (with_value(np.nan), "holds NaN or inf"),
    "inf": (with_value(np.inf), "holds NaN or inf"),
    "minus_inf": (with_value(-np.inf), "holds NaN or inf"),
    "longer": (
        lambda f: f.change_array(lambda a: np.append(a, a[-1:], axis=0)),
        "shape|fit|places|damaged|of ",
    ),
    "shorter": (lambda f: f.change_array(lambda a: a[:-1]), "shape|fit|places|damaged|of "),
    "more_axes": (lambda f: f.change_array(lambda a: a[None]), "shape"),
    "int64": (lambda f: f.change_array(lambda a: a.astype(np.int64)), "should be float32"),
    "int32": (lambda f: f.change_array(lambda a: a.astype(np.int32)), "should be float32"),
    "float16": (half_precision(torch.float16), "should be float32"),
    "bfloat16": (half_precision(torch.bfloat16), "no sound safetensors file|should be float32"),
    "stowaway": (more_arrays, "'stowaway' belongs nowhere"),
    "missing_array": (fewer_arrays, "is missing"),
    "one_for_two": (a_place_twice, "is missing; the folder is damaged|belongs nowhere"),
    "climbs_out": (climb("../../arrays-outside"), "lacks its state or its SHA-256"),
    "absolute": (climb("/etc/passwd"), "lacks its state or its SHA-256"),
    "no_text": (climb(["../x"]), "lacks its state or its SHA-256"),
    "link_to_json": (link("json"), "no regular file; symbolic links are not followed"),
    "link_to_arrays": (link("arrays"), "no regular file; symbolic links are not followed"),
    "pipe_for_json": (pipe("json"), "no regular file"),
    "pipe_for_arrays": (pipe("arrays"), "no regular file"),
    "no_json": (lambda f: f.json.unlink(), "is missing"),
    "no_arrays": (lambda f: f.arrays.unlink(), "is missing"),
    "huge_json": (huge_json, "is larger than 256 MiB"),
    "empty_json": (text_of(lambda text: b""), UNSOUND),
    "binary_json": (text_of(lambda text: bytes(range(256))), UNSOUND),
    "utf16": (text_of(lambda text: text.encode("utf-16")), UNSOUND),
    "depth_bomb": (text_of(lambda text: text.replace("{", '{"a":' * 50_000, 1).encode()), UNSOUND),
    "list_bomb": (text_of(lambda text: b"[" * 500_000 + b"]" * 500_000), UNSOUND),
    "twice": (text_of(first_field_twice), "'state' stands twice"),
    "digits": (
        text_of(lambda text: text.replace('"state": {', f'"state": {{"n": {"9" * 5000},').encode()),
        UNSOUND,
    ),
    "nan_in_json": (
        text_of(lambda text: text.replace('"state": {', '"state": {"n": NaN,').encode()),
        UNSOUND,
    ),
    "1e400": (
        text_of(lambda text: text.replace('"state": {', '"state": {"n": 1e400,').encode()),
        "1e400 is not a finite number",
    ),
    "no_object": (text_of(lambda text: b"[1, 2]"), "is not of the format"),
    "other_kind": (lambda f: f.write(f.document | {"format": "pickle"}), "is not of the format"),
    "newer": (lambda f: f.write(f.document | {"version": 99}), "format version 99, .* update evenhand"),
    "no_version": (
        lambda f: f.write(f.document | {"version": "1"}),
        r"\.json has the format version '1', not a whole number|is not of the format",
    ),
    "state_is_text": (lambda f: f.write(f.document | {"state": "x"}), "lacks its state"),
    "state_is_empty": (lambda f: f.write(f.document | {"state": {}}), "belongs nowhere"),
    "head_of_2_63": (lambda f: f.forge(struct.pack("<Q", 2**63 + 9) + b"{}"), "no sound safetensors file"),
    "head_cut": (lambda f: f.forge(b"\1\0"), "no sound safetensors file"),
    "head_no_json": (lambda f: f.forge(header(b"{" * 99)), "no sound safetensors file"),
    "head_deep": (lambda f: f.forge(header(b'{"a":' * 50_000)), "no sound safetensors file"),
    "claims_2_40": (
        lambda f: f.forge(header({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 64]}})),
        "no sound safetensors file",
    ),
    "claims_overflow": (
        lambda f: f.forge(
            header({"a": {"dtype": "F32", "shape": [2**40, 2**40, 0], "data_offsets": [0, 0]}}, b"")
        ),
        "no sound safetensors file|is missing",
    ),
    "overlapping": (
        lambda f: f.forge(
            header({n: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for n in ("a", "b")})
        ),
        "no sound safetensors file",
    ),
    "out_of_file": (
        lambda f: f.forge(
            header({"a": {"dtype": "F32", "shape": [16], "data_offsets": [2**40, 2**40 + 64]}})
        ),
        "no sound safetensors file",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_refused_with_a_reason(folder, attack, refused):
    change, message = ATTACKS[attack]
    change(folder)
    refused(FolderError, message, folder.load)


def test_what_is_left_alone_is_read(folder):
    folder.load()


# --- attacks on what one kind holds ----------------------------------------------------------------------


@pytest.fixture
def opened(originals, tmp_path):
    def copy(kind):
        _, load_kind, part = KINDS[kind]
        return Folder(shutil.copytree(originals / kind, tmp_path / kind), load_kind, part)

    return copy


def at(state, path):
    for key in path.split("/"):
        state = state[int(key) if isinstance(state, list) else key]
    return state


@pytest.mark.parametrize(
    ("kind", "path", "change", "message"),
    [
        (
            "game",
            "classifier/classes",
            {"values": list(range(8))},
            "classes must be 9 texts or whole numbers",
        ),
        (
            "game",
            "classifier/classes",
            {"values": list(range(10))},
            "classes must be 9 texts or whole numbers",
        ),
        ("game", "classifier/classes", {"dtype": "uint8", "values": [999] * 9}, "999"),
        ("game", "classifier/classes", {"dtype": "object), print("}, "must not be of type"),
        ("game", "classifier/views", {"view1": 10**15}, "reads 40 features of view 'view1'"),
        ("game", "classifier/views", {"view1": 0}, "views: 'view1' has 0"),
        ("game", "classifier/params", {"payoff": "__import__('os')"}, "payoff is"),
        ("game", "classifier/params", {"players": [["view1", "pickle"]]}, "is of kind 'pickle'"),
        ("game", "classifier/params", {"n_jobs": 0}, "n_jobs must be a whole number"),
        ("game", "classifier/team/players/0", {"kind": "os.system"}, "no player of kind 'os.system'"),
        ("game", "classifier/team/players/0/weights", {"shape": [41, 2**40]}, "damaged"),
        (
            "game",
            "classifier/team/players/0/weights",
            {"shape": [2**62, 9]},
            "reads 4611686018427387903 features",
        ),
        ("game", "classifier/decoders/micro", {"kind": "eval"}, "state is of kind 'eval'"),
        ("game", "classifier/decoders/micro", {"threshold": "0.5"}, "'threshold' must be a finite number"),
        ("game", "classifier/team", {"players": []}, "belongs nowhere"),
        ("game", ".", {"notes": {"reading": 5}}, "notes must map texts to texts"),
        (
            "trees",
            "classifier/classes",
            {"values": list(range(8))},
            "classes must be 9 texts or whole numbers",
        ),
        ("trees", "classifier/views", {"all": 2**70, "more": 1.5}, "'more' should be of type int"),
        ("trees", "classifier/params", {"branching": 2**40}, "branching must be at most 65536"),
        ("trees", "classifier/params", {"__class__": "x"}, "knows no estimator parameter __class__"),
        ("trees", "classifier/players/0", {"view": "../all"}, "reads the view '../all', which is not there"),
        ("trees", "classifier", {"n_train": -1}, None),
        ("game", "classifier", {"n_train": 3}, "n_train is below 1 or a label's count"),
        (
            "neural",
            "classifier/classes",
            {"values": list(range(8))},
            "classes must be 9 texts or whole numbers",
        ),
        (
            "neural",
            "classifier/encoders/0/options",
            {"dim": 10**9},
            r"should be float32 of shape \(1000000000\)",
        ),
        (
            "neural",
            "classifier/encoders/0/options",
            {"n_features": 10**12},
            r"should be float32 of shape \(1000000000000, 4\)",
        ),
        ("neural", "classifier/encoders/0/options", {"hidden": [10**6, 10**6]}, "is missing"),
        (
            "neural",
            "classifier/encoders/0/options",
            {"dim": -4},
            "options of the encoder BagEncoder are damaged",
        ),
        (
            "neural",
            "classifier/encoders/0/options",
            {"dim": "4"},
            "options of the encoder BagEncoder are damaged",
        ),
        ("neural", "classifier/encoders/0", {"kind": "Sequential"}, "there is no encoder 'Sequential'"),
        (
            "neural",
            "classifier/encoders/0",
            {"kind": "TextEncoder", "options": {"config": {"auto_map": {"AutoModel": "evil--x.Y"}}}},
            "options of the encoder TextEncoder are damaged",
        ),
        (
            "neural",
            "classifier/encoders/0",
            {"kind": "ImageEncoder", "options": {"name": "hf-hub:evil/x", "size": 1}},
            "damaged",
        ),
        (
            "neural",
            "classifier/recipes",
            {"of_all": {"kind": "os.system", "command": "x"}},
            "there is no recipe 'os.system'",
        ),
        ("neural", "classifier/params", {"device": "cuda"}, "knows no estimator parameter device"),
        (
            "neural",
            "classifier",
            {"encoder_of": [0, 10**9, 0]},
            "a player reads an encoder that there is not|do not fit",
        ),
        ("turn", "player", {"view": "view2"}, "is not of this training"),
        ("turn", "player", {"kind": "neighbours"}, "'memory' is missing|belongs nowhere"),
        ("turn", ".", {"seconds": "long"}, "'seconds' should be of type float"),
        ("epoch", "progress", {"best_epoch": 10**9}, "the best epoch is 1000000000 of 1"),
        ("epoch", "progress", {"epoch": "0"}, "'epoch' should be of type int"),
        ("epoch", "progress", {"history": {}}, "'history' should be of type list"),
        ("epoch", "progress", {"history": []}, "the history has 0 records of 1 epochs"),
        ("epoch", "progress", {"history": [5]}, "record 0 of the history: the field 'epoch' is missing"),
        ("epoch", "progress", {"history": [{"epoch": 3}]}, "record 0 of the history: it is of epoch 3"),
        (
            "epoch",
            "progress",
            {"history": [{"epoch": 0}]},
            "record 0 of the history: the field 'map' is missing.*; delete .* to start anew",
        ),
        (
            "epoch",
            "progress",
            {"history": [{"epoch": 0, "map": "high"}]},
            "'map' should be of type float or int or NoneType, but is 'high'",
        ),
        ("epoch", ".", {"rng": {"cpu": [1, 2]}}, "belongs nowhere"),
    ],
)
def test_a_field_is_refused_with_a_reason(opened, refused, kind, path, change, message):
    folder = opened(kind)
    document = folder.document
    part = document["state"] if path == "." else at(document["state"], path)
    part.update(change)
    folder.write(document)
    if message is None:
        folder.load()
    else:
        refused(FolderError, message, folder.load)


def array_at(folder, path, change):
    """Change one array by its place."""
    arrays = load(folder.arrays.read_bytes())
    arrays[path] = np.ascontiguousarray(change(arrays[path].copy()))
    folder.forge(save(arrays))
    document = folder.document
    at(document["state"], path).update(dtype=str(arrays[path].dtype), shape=list(arrays[path].shape))
    folder.write(document)


def put(place, value):
    def change(array):
        array[place] = value
        return array

    return change


def wrap_round(pointers):
    """Pointers whose differences are not below 0 once they have wrapped round."""
    least = np.iinfo(pointers.dtype).min
    pointers[2:4] = [least, -1]
    assert (np.diff(pointers) >= 0).all()
    return pointers


@pytest.mark.parametrize(
    ("kind", "path", "change", "message"),
    [
        ("game", "classifier/label_counts", lambda a: a[:-1], "classes must be 8 texts"),
        ("game", "classifier/label_counts", lambda a: a[:0], "label counts must be numbers"),
        ("game", "classifier/team/players/1/owned", lambda a: a[:-1], "of 9 labels, not 8"),
        ("game", "classifier/team/fusion/weights", lambda a: a.T, r"should be float64 of shape \(2, 9\)"),
        ("game", "classifier/calibration/buckets", put(0, 10**6), "'levels' does not fit 'buckets'"),
        ("game", "classifier/calibration/slopes", lambda a: a[:-1], "numbers; the model is damaged"),
        ("game", "classifier/decoders/per_label/thresholds", lambda a: a[None], "must be a row"),
        ("game", "classifier/team/players/0/weights/indptr", wrap_round, "the pointers run from -"),
        ("trees", "classifier/players/0/levels/1/row_ptr", wrap_round, "places of a level's weights"),
        ("block", "row_ends", wrap_round, "do not fit a node of 2 children"),
        ("trees", "classifier/players/0/levels/0/child", put(0, 60_000), "places of a level's weights"),
        ("trees", "classifier/players/0/levels/0/row_ptr", put(1, 2**40), "places of a level's weights"),
        ("trees", "classifier/players/0/levels/0/feature_ptr", put(-1, 0), "places of a level's weights"),
        ("trees", "classifier/players/0/levels/0/children", put(0, -1), "places of a level's weights"),
        ("trees", "classifier/players/0/labels", put(0, 9), "labels of a tree are damaged"),
        ("trees", "classifier/label_counts", lambda a: a[:-1], "classes must be 8 texts"),
        ("neural", "classifier/label_counts", lambda a: a[:-1], "classes must be 8 texts"),
        ("neural", "classifier/owners", lambda a: a[:, :-1], r"'owners' should be bool of shape \(any, 9\)"),
        ("neural", "classifier/owners", lambda a: ~a, "no player that owns it|has other owners"),
        ("neural", "classifier/network/mixture", lambda a: a[:, :-1], "should be float32 of shape"),
        ("turn", "logits", lambda a: a[:, :1], r"'logits' should be float32 of shape \(9, 80\)"),
        ("turn", "logits", lambda a: a[:-1], r"'logits' should be float32 of shape \(9, 80\)"),
        ("turn", "player/owned", lambda a: ~a, "labels that it does not own"),
        ("turn", "fusion/weights", lambda a: a[:1], r"should be float64 of shape \(2, 9\)"),
        ("block", "child", put(0, 60_000), "do not fit a node of 2 children"),
        ("block", "row_ends", put(0, 2**40), "do not fit a node of 2 children"),
        ("block", "row_ends", put(0, -9), "do not fit a node of 2 children"),
        ("block", "bias", lambda a: a[:-1], "do not fit a node of 2 children"),
        ("block", "features", lambda a: a[::-1], "do not fit a node of 2 children"),
        ("block", "value", lambda a: a[:-1], "do not fit a node of 2 children"),
        ("epoch", "optimizer/0/exp_avg", lambda a: a[..., :-1], "the optimizer's 'exp_avg' is of shape"),
        ("epoch", "network/mixture", lambda a: a[:, :-1], "should be float32 of shape"),
        ("epoch", "progress/best/mixture", lambda a: a[:, :-1], "should be float32 of shape"),
        ("epoch", "rng/cpu", lambda a: a[:, :-1], "random numbers 'cpu' is damaged"),
    ],
)
def test_an_array_is_refused_with_a_reason(opened, refused, kind, path, change, message):
    folder = opened(kind)
    array_at(folder, path, change)
    refused(FolderError, message, folder.load)


def test_a_beam_that_was_forged_takes_no_memory(opened):
    folder = opened("trees")
    best = folder.load().classifier.predict_topk(DATA.X, 3)
    document = folder.document
    document["state"]["classifier"]["params"]["beam"] = 10**12
    folder.write(document)
    assert (folder.load().classifier.predict_topk(DATA.X, 3) != best).nnz < best.nnz / 10


@pytest.mark.parametrize("kind", ["game", "trees", "neural"])
def test_weights_as_large_as_floats_go_are_answered_or_refused(opened, kind):
    folder = opened(kind)
    for name in [n for n, a in load(folder.arrays.read_bytes()).items() if a.dtype == np.float32]:
        array_at(folder, name, lambda a: np.where(a > 0, 3e38, -3e38).astype(np.float32))
    model = folder.load()
    classifier = model.classifier
    X = [DATA.X, DATA.X[:, :9].toarray()] if kind == "game" else DATA.X
    with np.errstate(all="ignore"):
        try:
            found = classifier.predict_topk(X, 3)
        except ValueError as error:
            assert "every score must be a finite number" in str(error)  # noqa: PT017
        else:
            assert np.isfinite(found.data).all()


SEEN: list[str] = []
FORBIDDEN = (
    "pickle.find_class",
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
)
sys.addaudithook(lambda event, _: SEEN.append(event) if event in FORBIDDEN else None)


def test_nothing_is_unpickled_started_or_fetched(opened):
    """Not even by files that other tools would take up: they are not looked at."""
    for kind in ("game", "trees", "neural"):
        folder = opened(kind)
        for name in ("model.pkl", "pytorch_model.bin", "model.joblib", "conftest.py", "__init__.py"):
            (folder.path / name).write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
        before = len(SEEN)
        folder.load()
        assert SEEN[before:] == []
    assert not Path("pwned").exists()
    import pickle

    before = len(SEEN)
    pickle.loads(pickle.dumps(Folder))
    assert SEEN[before:] == ["pickle.find_class"]  # the hook sees what it should
