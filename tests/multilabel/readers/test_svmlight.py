import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers.svmlight import read_svmlight

GOOD = "# made by hand\n3,7 1:0.5 3:1 # first\n 2:2\n7#no feature\n"


@pytest.mark.parametrize("name", ["train.svm", "train.svm.gz"])
@pytest.mark.parametrize(
    "form", [GOOD, GOOD.rstrip(), GOOD.replace("\n", "\r\n"), b"\xef\xbb\xbf" + GOOD.encode(), GOOD + "\n\n"]
)
def test_good_files(write, form, name):
    data = read_svmlight(write(name, form))
    assert data.X.toarray().tolist() == [[0.5, 0, 1], [0, 2, 0], [0, 0, 0]]
    assert [data.tags(row) for row in range(3)] == [["3", "7"], [], ["7"]]
    assert data.label_names == ("3", "7")


def test_agrees_with_scikit_learn(tmp_path):
    rng = np.random.default_rng(0)
    X = sparse.random_array((60, 30), density=0.2, rng=rng, format="csr")
    Y = (rng.random((60, 7)) < 0.3).astype(int)
    Y[0] = 0
    path = tmp_path / "train.svm"
    for zero_based in (True, False):
        dump_svmlight_file(X, Y, str(path), zero_based=zero_based, multilabel=True)
        data = read_svmlight(path, n_features=30, zero_based=zero_based, label_names=list("abcdefg"))
        theirs, labels = load_svmlight_file(str(path), n_features=30, zero_based=zero_based, multilabel=True)
        assert np.array_equal(data.X.toarray(), theirs.toarray().astype(np.float32))
        assert np.array_equal(data.Y.toarray(), Y)
        assert [tuple(data.Y[[row]].indices) for row in range(60)] == labels


def test_where_counting_starts(write):
    from_one, from_zero = write("one.svm", "1 1:5 2:6\n"), write("zero.svm", "1 0:5 1:6\n")
    assert read_svmlight(from_one).X.toarray().tolist() == [[5, 6]]
    assert read_svmlight(from_one, zero_based=True).X.toarray().tolist() == [[0, 5, 6]]
    assert read_svmlight(from_one, zero_based=False, n_features=2).X.toarray().tolist() == [[5, 6]]
    assert read_svmlight(from_zero).X.toarray().tolist() == [[5, 6]]
    assert read_svmlight(from_zero, n_features=4).X.toarray().tolist() == [[5, 6, 0, 0]]


def test_label_names_name_the_numbers_and_all_are_kept(write):
    data = read_svmlight(write("train.svm", "2,0 1:5\n"), label_names=["a", "b", "c"])
    assert data.tags(0) == ["a", "c"]
    assert data.label_counts().tolist() == [1, 0, 1]


def test_no_features_at_all(write):
    assert read_svmlight(write("train.svm", "1\n2\n"), zero_based=False).X.shape == (2, 0)


BAD = [
    ("empty", "", {}, ": the file is empty"),
    ("only_comments", "# a\n# b\n", {}, ": no rows, only comments"),
    ("blank_line", "1 1:1\n\n1 1:1\n", {}, ":2: blank line"),
    ("line_after_comments", "# a\n1 1:1 # b\n# c\n1 x:1\n", {}, ":4: feature id 'x' is not a whole number"),
    ("space_in_labels", "1, 2 1:0.5\n", {}, ":1: labels '1,' start or end with a comma"),
    ("negative_label", "-1 1:0.5\n", {}, ":1: label id -1 is negative"),
    ("plus_label", "+1 1:0.5\n", {}, ":1: label id '+1' is not a whole number"),
    ("query", "1 qid:2 1:0.5\n", {}, ":1: feature id 'qid' is not a whole number"),
    ("nan", "1 1:nan\n", {}, ":1: the value of feature 1 is nan"),
    ("no_value", "1 1\n", {}, ":1: feature 1 has no value"),
    ("label_without_name", "1 1:1\n2 1:1\n", {"label_names": ["a", "b"]}, ":2: label id 2 is too large"),
    ("too_large_from_0", "1 3:1\n", {"n_features": 3, "zero_based": True}, ":1: feature id 3 is too large"),
    ("too_large_from_1", "1 4:1\n", {"n_features": 3, "zero_based": False}, ":1: feature id 4 is too large"),
    (
        "too_large_found_late",
        "# a\n1 3:1\n1 0:1\n",
        {"n_features": 3},
        ":2: feature id 3 is too large for 3 features from 0",
    ),
    (
        "zero_in_a_file_from_1",
        "# a\n1 1:1\n# b\n1 0:1\n",
        {"zero_based": False},
        ":4: feature id 0, but zero_based=False says",
    ),
]


@pytest.mark.parametrize(("content", "options", "message"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_bad_files_name_line_and_fault(write, fails, content, options, message):
    fails(lambda path: read_svmlight(path, **options), write("train.svm", content), message)


@pytest.mark.parametrize(
    "options", [{"n_features": 0}, {"n_features": -2}, {"zero_based": "maybe"}, {"zero_based": 0}]
)
def test_bad_options_name_themselves(write, options):
    with pytest.raises(DataError, match=next(iter(options))):
        read_svmlight(write("train.svm", GOOD), **options)
