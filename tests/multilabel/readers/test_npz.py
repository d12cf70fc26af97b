import zipfile

import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers.npz import read_npz

X = sparse.csr_array([[0.5, 0.0, 1.0], [0.0, 2.0, 0.0]])
Y = sparse.csr_array([[1, 0], [1, 1]])


@pytest.fixture
def save(tmp_path):
    def save_both(x=X, y=Y):
        sparse.save_npz(tmp_path / "X.npz", x)
        sparse.save_npz(tmp_path / "Y.npz", y)
        return tmp_path / "X.npz", tmp_path / "Y.npz"

    return save_both


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
def test_all_sparse_forms(save, form):
    data = read_npz(*save(X.asformat(form), sparse.csr_matrix(Y).asformat(form)))
    assert data.X.toarray().tolist() == X.toarray().tolist()
    assert data.Y.toarray().tolist() == Y.toarray().tolist()
    assert data.X.dtype == np.float32
    assert data.label_names == ("0", "1")


def test_label_names(save, write):
    assert read_npz(*save(), label_names=["a", "b"]).tags(1) == ["a", "b"]
    assert read_npz(*save(), label_names=write("names.txt", "a\nb\n")).tags(1) == ["a", "b"]
    with pytest.raises(DataError, match="label_names: 1 names for 2 labels"):
        read_npz(*save(), label_names=["a"])


def broken(**changes):
    matrix = X.copy()
    for name, value in changes.items():
        setattr(matrix, name, np.array(value))
    return matrix


BAD = [
    ("nan", sparse.csr_array([[0, 1.0], [np.nan, 0]]), Y, r"X.npz: X is nan in row 1, column 0"),
    ("nan_label", X, sparse.csr_array([[0, 1.0], [np.nan, 0]]), r"Y.npz: Y is nan in row 1, column 0"),
    ("rows", X, Y[:1], r"X.npz has 2 rows, .*Y.npz has 1"),
    ("no_rows", X[:0], Y[:0], r"X.npz: no rows"),
    ("index_out_of_range", broken(indices=[0, 99, 1]), Y, r"X.npz: not a sound .npz matrix"),
    ("negative_index", broken(indices=[0, -5, 1]), Y, r"X.npz: not a sound .npz matrix"),
    ("starts_that_fall", broken(indptr=[0, 9, 3]), Y, r"X.npz: not a sound .npz matrix"),
]


@pytest.mark.parametrize(("x", "y", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_matrices(save, x, y, message):
    with pytest.raises(DataError, match=message):
        read_npz(*save(x, y))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_broken_files(save, content):
    x_path, y_path = save()
    y_path.write_bytes(content)
    with pytest.raises(DataError, match=r"Y.npz: not a sound .npz matrix"):
        read_npz(x_path, y_path)


def test_cut_off_file(save):
    x_path, y_path = save()
    x_path.write_bytes(x_path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"X.npz: not a sound .npz matrix"):
        read_npz(x_path, y_path)


def test_damaged_entry(save):
    x_path, y_path = save()
    content = bytearray(x_path.read_bytes())
    with zipfile.ZipFile(x_path) as archive:
        entry = archive.infolist()[0]
    content[entry.header_offset + 60 : entry.header_offset + 70] = b"\xff" * 10
    x_path.write_bytes(content)
    with pytest.raises(DataError, match=r"X.npz: not a sound .npz matrix"):
        read_npz(x_path, y_path)


def test_plain_arrays_and_pickles_are_refused(tmp_path, save):
    _, y_path = save()
    np.savez(tmp_path / "plain.npz", X=np.eye(2))
    np.savez(tmp_path / "pickle.npz", format=np.array([{"a": 1}], dtype=object))
    for name in ("plain.npz", "pickle.npz"):
        with pytest.raises(DataError, match=rf"{name}: not a sound .npz matrix"):
            read_npz(tmp_path / name, y_path)


def test_no_such_file(tmp_path, save):
    with pytest.raises(DataError, match=r"none.npz: No such file"):
        read_npz(tmp_path / "none.npz", save()[1])


def test_no_file_of_labels(save):
    data = read_npz(save()[0], None)
    assert data.X.toarray().tolist() == X.toarray().tolist()
    assert data.Y.shape == (2, 0)


def test_64_bit_indices_change_nothing(save, wide):
    narrow, widened = read_npz(*save()), read_npz(*save(wide(X), wide(Y)))
    assert (widened.X != narrow.X).nnz == (widened.Y != narrow.Y).nnz == 0
