"""Files and folders that nobody would write: an answer or one of our errors within seconds, and no row lost.

`fuzz_readers.py` beside this file looks for such files by coverage, for as long as one likes.
"""

import csv
import hashlib
import io
import json
import shutil

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from scipy import sparse

from evenhand.grpo.tasks import TaskError, read_tasks
from evenhand.multilabel.data import DataError
from evenhand.multilabel.datasets import make_long_tail
from evenhand.multilabel.estimator import CuriosityGameClassifier
from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
from evenhand.multilabel.model_io import Model, load_model, save_model
from evenhand.multilabel.neural.encoders import SparseBag
from evenhand.multilabel.neural.estimator import NeuralGameClassifier
from evenhand.multilabel.readers import read
from evenhand.multilabel.storage import FolderError

SECONDS = 5  # after which an answer counts as a hang
QUICK = settings(
    max_examples=60,
    deadline=SECONDS * 1000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

XML = b'<labels><label name="wet"/><label name="old"/></labels>'
ARFF = b"@relation r\n@attribute wet {0,1}\n@attribute 'o l d' numeric\n@attribute old {0,1}\n@data\n"
TABLE = {"text": "t", "tags": "g", "id": "i"}


def npz():
    file = io.BytesIO()
    sparse.save_npz(file, sparse.csr_array([[0.5, 0.0, 1.0], [0.0, 2.0, 0.0]]))
    return file.getvalue()


def parquet():
    file = io.BytesIO()
    pl.DataFrame({"t": ["x", None], "g": [["a", "b"], []], "i": [1, 2]}).write_parquet(file)
    return file.getvalue()


# What is read, with which options, and a good file.
FORMS = {
    "xmc": ("a.txt", {}, b"3 4 5\n0,3 0:0.5 2:1e-3\n 3:-.2\n4\n"),
    "svm": ("a.svm", {}, b"# head\n3,7 1:0.5 3:1 # first\n 2:2\n7#\n"),
    "csv": ("a.csv", TABLE, b't,g,i\n"x, ""y""\nz",a,1\n,"b,c",2\n'),
    "tsv": ("a.tsv", TABLE, b"t\tg\ti\nx\ta,b\t1\ny\t\t2\n"),
    "jsonl": ("a.jsonl", TABLE, b'{"t": "x", "g": ["a"], "i": 1}\n{"t": null, "g": [], "i": 2}\n'),
    "parquet": ("a.parquet", TABLE, parquet()),
    "arff": ("a.arff", {}, ARFF + b"1,0.5,0\n{0 1, 1 2}\n"),
    "xml": ("a.xml", {}, XML),
    "npz": ("X.npz", {}, npz()),
    "tasks": ("t.jsonl", {}, b'{"prompt": "1+1?", "answer": "2"}\n{"prompt": "?", "answer": [3.5]}\n'),
}


def mutated(good):
    """A good file with some bytes cut out, put in or doubled."""
    snippet = st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [b"\n", b"\r\n", b"\0", b",", b":", b'"', b"{", b"}", b"[", b" ", b"-", b"1e400", b"nan"]
        ),
        st.integers(0, 2**40).map(lambda n: str(n).encode()),
    )
    edit = st.tuples(st.integers(0, len(good)), st.integers(0, 8), snippet)

    def apply(edits):
        content = good
        for at, cut, put in edits:
            content = content[:at] + put + content[at + cut :]
        return content

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def content_of(form):
    good = FORMS[form][2]
    return st.one_of(st.binary(max_size=200), mutated(good), mutated(good))


def read_form(form, folder, content):
    name, options, _ = FORMS[form]
    (folder / name).write_bytes(content)
    if form == "tasks":
        return read_tasks(folder / name)
    if form == "xml":
        (folder / "a.arff").write_bytes(ARFF + b"1,0.5,0\n")
        name = "a.arff"
    if form == "npz":
        (folder / "Y.npz").write_bytes(FORMS["npz"][2])
        options = {"y_path": folder / "Y.npz"}
    return read(folder / name, **options)


@pytest.fixture(scope="module")
def fuzz_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "a.xml").write_bytes(XML)
    for form in ("xmc", "svm"):
        read_form(form, folder, FORMS[form][2])  # compiles
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_any_bytes_are_read_or_refused(form, fuzz_folder):
    @QUICK
    @given(content=content_of(form))
    def check(content):
        (fuzz_folder / "a.xml").write_bytes(XML)
        try:
            found = read_form(form, fuzz_folder, content)
        except (DataError, TaskError) as error:
            assert len(str(error)) < 2000  # noqa: PT017
            return
        if form == "tasks":
            assert len(found) <= content.count(b"\n") + 1
            return
        assert found.Y.shape == (len(found.instance_ids), len(found.label_names))
        assert np.isfinite(found.Y.data).all()
        if found.kind != "text":
            assert found.X.shape[0] == found.n_instances

    check()


# --- no row is lost --------------------------------------------------------------------------------------

ids = st.integers(0, 49)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
feature_rows = st.lists(
    st.tuples(st.lists(ids, max_size=4), st.dictionaries(ids, numbers, max_size=5)), min_size=1, max_size=12
)
# Separators and line ends of every kind are texts like others; surrogates are none.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tag_sets = st.lists(st.text("abc é", min_size=1, max_size=4).map(str.strip).filter(bool), max_size=3)
text_rows = st.lists(st.tuples(texts, tag_sets), min_size=1, max_size=12).filter(
    lambda rows: any(tags for _, tags in rows)
)


def line(labels, features):
    pairs = "".join(f" {feature}:{value!r}" for feature, value in features.items())
    return ",".join(map(str, labels)) + (pairs or " ")


def dense(rows):
    X, Y = np.zeros((len(rows), 50), np.float32), np.zeros((len(rows), 50))
    for row, (labels, features) in enumerate(rows):
        Y[row, labels] = 1
        for feature, value in features.items():
            X[row, feature] = value
    return X, Y


@QUICK
@given(rows=feature_rows, ending=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_no_row_of_features_is_lost(rows, ending, last, fuzz_folder):
    X, Y = dense(rows)
    # A line of nothing but spaces is refused: it could be a slip.
    written = [line(*row) if any(row) else "0" for row in rows]
    Y[[row for row, parts in enumerate(rows) if not any(parts)], 0] = 1
    body = ending.join(written) + ending * last
    (fuzz_folder / "r.txt").write_bytes(f"{len(rows)} 50 50{ending}{body}".encode())
    (fuzz_folder / "r.svm").write_bytes(body.encode())
    names = [str(n) for n in range(50)]
    for data in (
        read(fuzz_folder / "r.txt"),
        read(fuzz_folder / "r.svm", zero_based=True, n_features=50, label_names=names),
    ):
        assert np.array_equal(data.X.toarray(), X)
        assert np.array_equal(data.Y.toarray(), Y)


@QUICK
@given(rows=text_rows)
@pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.jsonl", "r.parquet"])
def test_no_row_of_a_table_is_lost(name, rows, fuzz_folder):
    path = fuzz_folder / name
    if name.endswith("sv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="," if name == "r.csv" else "\t")  # line ends are CRLF
            writer.writerows([["t", "g"], *([text, ",".join(tags)] for text, tags in rows)])
    elif name == "r.jsonl":
        lines = [json.dumps({"t": text, "g": tags}, ensure_ascii=False) + "\n" for text, tags in rows]
        path.write_bytes("".join(lines).encode())
    else:
        pl.DataFrame(
            {"t": [text for text, _ in rows], "g": [tags for _, tags in rows]},
            schema={"t": pl.String, "g": pl.List(pl.String)},
        ).write_parquet(path)
    data = read(path, text="t", tags="g")
    assert [text for (text,) in data.X] == [text for text, _ in rows]
    assert [sorted(data.tags(row)) for row in range(len(rows))] == [sorted(set(tags)) for _, tags in rows]


@QUICK
@given(rows=feature_rows, as_sparse=st.booleans())
def test_no_row_of_arff_is_lost(rows, as_sparse, fuzz_folder):
    X, Y = dense(rows)
    table = np.hstack([Y[:, :2], X[:, :5]])
    header = "@relation r\n@attribute wet {0,1}\n@attribute old {0,1}\n"
    header += "".join(f"@attribute f{n} numeric\n" for n in range(5)) + "@data\n"
    if as_sparse:
        body = ["{" + ",".join(f"{n} {v!r}" for n, v in enumerate(row.tolist()) if v) + "}" for row in table]
    else:
        body = [",".join(map(repr, row.tolist())) for row in table]
    (fuzz_folder / "a.xml").write_bytes(XML)
    (fuzz_folder / "a.arff").write_text(header + "\n".join(body))
    data = read(fuzz_folder / "a.arff")
    assert np.array_equal(data.X.toarray() if as_sparse else data.X, X[:, :5])
    assert np.array_equal(data.Y.toarray(), Y[:, :2])


@QUICK
@given(rows=st.lists(texts.filter(str.strip), min_size=1, max_size=9))
def test_no_task_is_lost(rows, fuzz_folder):
    path = fuzz_folder / "r.jsonl"
    path.write_text("".join(json.dumps({"prompt": text, "answer": n}) + "\n" for n, text in enumerate(rows)))
    assert read_tasks(path).to_dict() == {
        "prompt": rows,
        "answer": [str(n) for n in range(len(rows))],
        "problem_id": [str(n) for n in range(1, len(rows) + 1)],
    }


# --- models ----------------------------------------------------------------------------------------------

DATA = make_long_tail(60, 6, 30, labels_per_instance=1.5, seed=0)
MODELS = {
    "game": (
        lambda f: save_model(Model(CuriosityGameClassifier(tolerance=0.3, n_folds=2).fit(DATA.X, DATA.Y)), f),
        lambda f: load_model(f).classifier,
    ),
    "trees": (
        lambda f: save_model(Model(ExtremeGameClassifier(leaf_size=2, branching=2).fit(DATA.X, DATA.Y)), f),
        lambda f: load_model(f).classifier,
    ),
    "neural": (
        lambda f: save_model(
            Model(NeuralGameClassifier(SparseBag(4), epochs=1, device="cpu").fit(DATA.X, DATA.Y)), f
        ),
        lambda f: load_model(f).classifier,
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def kind(request, tmp_path_factory):
    write, load_kind = MODELS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write(folder / "good")
    load_kind(folder / "good").predict_topk(DATA.X[:3], 2)  # compiles
    return folder, load_kind


def answer(folder, load_kind):
    """What comes of a folder: an answer or an error of ours."""
    try:
        model = load_kind(folder / "bad")
    except FolderError:
        return
    try:
        with np.errstate(all="ignore"):
            model.predict_topk(DATA.X[:3], 2)
    except ValueError:
        pass  # sound by itself, and for other features or of scores that are not finite


def copy(folder):
    shutil.rmtree(folder / "bad", ignore_errors=True)
    shutil.copytree(folder / "good", folder / "bad")
    return folder / "bad" / "model.json", next((folder / "bad").glob("arrays-*"))


@QUICK
@given(data=st.data())
def test_any_json_of_a_model_is_read_or_refused(kind, data):
    folder, load_kind = kind
    file, _ = copy(folder)
    file.write_bytes(data.draw(mutated(file.read_bytes())))
    answer(folder, load_kind)


finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.one_of(
    *(st.none(), st.booleans(), st.integers(), finite, st.text(max_size=5), st.just({})),
    *(st.lists(st.integers(-3, 3), max_size=3), st.sampled_from([2**31, 2**63, -1, 10**12, 10**400])),
)


def leaves(value, path=()):
    """The paths to all that stands in a JSON document."""
    yield path
    for key, part in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from leaves(part, (*path, key))


@QUICK
@given(data=st.data())
def test_any_field_of_a_model_is_read_or_refused(kind, data):
    folder, load_kind = kind
    file, _ = copy(folder)
    document = json.loads(file.read_text())
    *way, last = data.draw(st.sampled_from(sorted(filter(None, leaves(document["state"])), key=repr)))
    part = document["state"]
    for key in way:
        part = part[key]
    part[last] = data.draw(values)
    file.write_text(json.dumps(document))
    answer(folder, load_kind)


@QUICK
@given(data=st.data())
def test_any_array_of_a_model_is_read_or_refused(kind, data):
    """By a forger, who puts the checksum right."""
    folder, load_kind = kind
    file, arrays_file = copy(folder)
    arrays = load(arrays_file.read_bytes())
    name = data.draw(st.sampled_from(sorted(name for name in arrays if arrays[name].size)))
    array = arrays[name].copy()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, array.size - 1))
        if array.dtype.kind in "iu":
            ends = np.iinfo(array.dtype)
            near = [n for n in (-1, 0, 1, 5, 100, 2**31 - 1) if ends.min <= n <= ends.max]
            array.flat[at] = data.draw(st.sampled_from([ends.min, ends.max, *near]))
        elif array.dtype.kind == "f":
            array.flat[at] = data.draw(st.sampled_from([0, -1, 1e30, -1e30, 1e-30]))
        else:
            array.flat[at] = not array.flat[at]
    content = save(arrays | {name: array})
    digest = hashlib.sha256(content).hexdigest()
    document = json.loads(file.read_text()) | {"arrays_sha256": digest}
    file.write_text(json.dumps(document))
    arrays_file.unlink()
    (folder / "bad" / f"arrays-{digest[:16]}.safetensors").write_bytes(content)
    answer(folder, load_kind)


@QUICK
@given(data=st.data())
def test_any_bytes_for_arrays_are_read_or_refused(kind, data):
    folder, load_kind = kind
    file, arrays_file = copy(folder)
    content = data.draw(mutated(arrays_file.read_bytes()[:3000]))
    digest = hashlib.sha256(content).hexdigest()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"arrays_sha256": digest}))
    arrays_file.unlink()
    (folder / "bad" / f"arrays-{digest[:16]}.safetensors").write_bytes(content)
    answer(folder, load_kind)
