"""What is written to a folder is what is read; what cannot be read again is not written."""

import json
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from evenhand.multilabel.storage import (
    FolderError,
    Kind,
    array_entry,
    entry,
    read_folder,
    sparse_entry,
    sparse_state,
    write_folder,
)

KIND = Kind("evenhand test", 3, "test.json")

finite = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    finite,
    st.text(st.characters()),  # lone surrogates and NUL too
    hnp.arrays(
        st.sampled_from([np.bool_, np.int32, np.int64]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
    ),
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=2), elements=st.floats(-9, 9, width=32)),
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=3), elements=finite).map(np.transpose),
)
states = st.dictionaries(
    st.text(max_size=3).filter(lambda key: key != "$array" and "/" not in key),
    st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.text("abcé$", min_size=1, max_size=3), inner, max_size=3),
        ),
        max_leaves=5,
    ),
    max_size=3,
)


def _same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            _same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _same(a, b)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    else:
        assert one == other


@settings(max_examples=60, deadline=None)
@given(state=states)
def test_a_state_comes_back_as_it_was(tmp_path_factory, state):
    folder = tmp_path_factory.mktemp("state") / "folder"
    write_folder(folder, KIND, state)
    _same(state, read_folder(folder, KIND))


def test_tuples_and_numpy_scalars_come_back_plain(tmp_path):
    write_folder(tmp_path / "a", KIND, {"a": (np.int64(3), np.float64(0.1), np.str_("x"), np.bool_(True))})
    assert read_folder(tmp_path / "a", KIND) == {"a": [3, 0.1, "x", True]}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [float("nan")]}, "a/0 is nan"),
        ({"a": np.array([np.inf])}, "a must be finite"),
        ({"a": np.array(["x"], dtype=object)}, "of type bool, uint16, int32"),
        ({"a": np.array([1.0], dtype=np.float16)}, "of type bool, uint16, int32"),
        ({"a": {1: 2}}, "a has the key 1"),
        ({"$array": 2}, "the state has the key"),
        ({"a": {"b": {1, 2}}}, "a/b is {1, 2}"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_written(tmp_path, state, message):
    with pytest.raises(FolderError, match=message):
        write_folder(tmp_path / "a", KIND, state)
    assert not os.listdir(tmp_path)


def test_an_empty_folder_is_taken_and_parents_are_made(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "one" / "two"):
        write_folder(folder, KIND, {"a": np.arange(3)})
        assert read_folder(folder, KIND)["a"].tolist() == [0, 1, 2]
        assert sorted(f.suffix for f in folder.iterdir()) == [".json", ".safetensors"]


def test_an_older_version_and_another_kind_are_refused(tmp_path):
    write_folder(tmp_path / "a", Kind("evenhand test", 2, "test.json"), {})
    with pytest.raises(FolderError, match=r"version 2, but .* reads version 3; write it again"):
        read_folder(tmp_path / "a", KIND)
    with pytest.raises(FolderError, match="is not of the format 'evenhand other'"):
        read_folder(tmp_path / "a", Kind("evenhand other", 2, "test.json"))
    write_folder(tmp_path / "a", KIND, {"new": 1})  # a version that cannot be read may still be replaced
    assert read_folder(tmp_path / "a", KIND) == {"new": 1}


def test_a_version_that_is_none_is_told_with_the_file(tmp_path):
    write_folder(tmp_path / "a", KIND, {"n": 1})
    file = tmp_path / "a" / KIND.file
    for version in ("1", None, True):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"version": version}))
        message = rf"{file} has the format version {version!r}, not a whole number"
        with pytest.raises(FolderError, match=message):
            read_folder(tmp_path / "a", KIND)


def test_two_writers_at_a_time_leave_one_whole_state(tmp_path):
    folder = tmp_path / "a"
    write_folder(folder, KIND, {"a": np.zeros(1)})

    def write(number):
        for _ in range(15):
            write_folder(folder, KIND, {"a": np.full(1000, number, np.int64)})

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(np.unique(read_folder(folder, KIND)["a"])) == 1
    assert len(os.listdir(folder)) == 2


def test_entries_are_of_the_type_asked_for():
    state = {"n": True, "a": np.zeros((2, 3), np.float32)}
    with pytest.raises(FolderError, match="'n' should be of type int"):
        entry(state, "n", int)
    with pytest.raises(FolderError, match="'b' is missing"):
        entry(state, "b", int)
    with pytest.raises(FolderError, match="'n' is missing"):
        entry([state], "n", bool)
    assert array_entry(state, "a", ["float32"], (2, None)) is state["a"]
    with pytest.raises(FolderError, match=r"float64 of shape \(any\), but is float32 of shape \(2, 3\)"):
        array_entry(state, "a", ["float64"], (None,))


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_array])
def test_sparse_arrays_come_back(kind):
    matrix = kind(sparse.random_array((5, 7), density=0.3, rng=np.random.default_rng(0)))
    again = sparse_entry({"m": sparse_state(matrix)}, "m", kind)
    assert (matrix != again).nnz == 0
    state = sparse_state(matrix) | {"indices": matrix.indices + 7}
    with pytest.raises(FolderError, match="'m' is damaged"):
        sparse_entry({"m": state}, "m", kind)
