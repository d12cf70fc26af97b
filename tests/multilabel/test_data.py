import numpy as np
import pytest
from scipy import sparse

from evenhand.multilabel.data import DataError, MultilabelData, as_label_matrix


def make(**changes):
    fields = {
        "X": sparse.csr_array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]),
        "Y": [[1, 0], [1, 1]],
        "label_names": ("a", "b"),
        "instance_ids": ("x", "y"),
        "source": "test",
    }
    return MultilabelData(**(fields | changes))


def test_labels_come_into_one_form():
    Y = sparse.coo_array(([2.0, 1.0, 1.0, 0.0], ([0, 0, 1, 1], [1, 1, 0, 1])), shape=(2, 3)).tocsr()
    for form in (
        Y,
        sparse.csr_matrix(Y),
        sparse.csc_array(Y),
        Y.toarray(),
        Y.astype(bool),
        Y.astype(np.int8),
    ):
        out = as_label_matrix(form)
        assert out.toarray().tolist() == [[0, 1, 0], [1, 0, 0]]
        assert out.dtype == np.float32
        assert out.nnz == 2
        assert out.has_canonical_format


def test_duplicates_that_cancel_are_still_a_label_and_no_small_type_overflows():
    parts = ([1, -1] + [1] * 256, ([0] * 258, [0, 0] + [1] * 256))
    Y = sparse.csr_array((np.array(parts[0], dtype=np.int8), parts[1][1], [0, 258]), shape=(1, 3))
    assert as_label_matrix(Y).toarray().tolist() == [[1, 1, 0]]


def test_features_that_stand_twice_sum_without_overflow_in_a_small_type():
    X = sparse.csr_array((np.array([100, 100], np.int8), [0, 0], [0, 2]), shape=(1, 2))
    assert make(X=X, Y=[[1, 0]], instance_ids=("x",)).X.toarray().tolist() == [[200, 0]]


def test_complex_features_are_refused():
    with pytest.raises(DataError, match="complex numbers"):
        make(X=np.array([[1j, 0]]), Y=[[1, 0]], instance_ids=("x",))


def test_the_callers_arrays_are_left_alone():
    Y = sparse.csr_array(([5.0, 0.0, 1.0], [1, 0, 1], [0, 3]), shape=(1, 2))
    X = sparse.csr_array(([1.0, 2.0], [1, 1], [0, 2]), shape=(1, 2))
    data = make(X=X, Y=Y, instance_ids=("x",))
    assert Y.data.tolist() == [5, 0, 1]
    assert Y.indices.tolist() == [1, 0, 1]
    assert X.data.tolist() == [1, 2]
    assert data.X.toarray().tolist() == [[0, 3]]


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        (sparse.csr_matrix(np.eye(2)), "sparse"),
        (np.eye(2, dtype=np.float64), "dense"),
        ([["a"], ["b"]], "text"),
        (np.array([["a", "c"], ["b", ""]], dtype=object), "text"),
    ],
)
def test_kinds_and_types(X, kind):
    data = make(X=X, feature_names=("p", "q")[: np.shape(X)[1]])
    assert data.kind == kind
    assert data.X.dtype == (object if kind == "text" else np.float32)
    assert isinstance(data.X, sparse.csr_array) == (kind == "sparse")


def test_take_rows_in_order_and_by_mask():
    data = make(groups=["g", "h"], X=np.array([[1.0], [2.0]]), notes={"release": "today"})
    turned = data.take([1, 0])
    assert turned.X.tolist() == [[2], [1]]
    assert turned.instance_ids == ("y", "x")
    assert turned.groups.tolist() == ["h", "g"]
    assert turned.tags(0) == ["a", "b"]
    assert turned.notes == {"release": "today"}
    one = data.take(np.array([True, False]))
    assert one.instance_ids == ("x",)
    assert one.label_counts().tolist() == [1, 0]
    assert data.take([]).n_instances == 0


def test_a_mask_of_the_wrong_length_is_an_error():
    with pytest.raises(IndexError):
        make().take([True])


def test_label_counts_are_int64_and_count_labels_without_a_positive():
    counts = make(Y=[[0, 0], [1, 0]]).label_counts()
    assert counts.tolist() == [1, 0]
    assert counts.dtype == np.int64


def test_align_labels_reorders_and_extends():
    data = make().align_labels(("new", "b", "a"))
    assert data.label_names == ("new", "b", "a")
    assert data.Y.toarray().tolist() == [[0, 0, 1], [0, 1, 1]]
    assert data.Y.has_canonical_format


def test_align_labels_may_leave_out_labels_without_a_positive_only():
    assert make(Y=[[1, 0], [1, 0]]).align_labels(("a",)).Y.toarray().tolist() == [[1], [1]]
    with pytest.raises(
        DataError, match=r"test: 1 labels with positives are not in the list of labels .first: 'b'."
    ):
        make().align_labels(("a", "c"))


BAD = [
    ("nan_sparse", {"X": sparse.csr_array([[0, 1.0], [np.nan, 0]])}, "test: X is nan in row 1, column 0"),
    ("inf_dense", {"X": np.array([[0, -np.inf], [0, 0]])}, "test: X is -inf in row 0, column 1"),
    ("float32_overflow", {"X": np.array([[0.0, 0], [1e300, 0]])}, "test: X is inf in row 1, column 0"),
    ("nan_label", {"Y": [[1, 0], [0, np.nan]]}, "Y is nan in row 1, column 1"),
    ("one_dimension", {"X": np.zeros(2)}, "X must be instances by features, not 1-dimensional"),
    ("flat_labels", {"Y": [1, 0]}, "Y must be two-dimensional"),
    ("rows", {"Y": [[1, 0]]}, "Y has 1 rows for 2 instances"),
    ("ids", {"instance_ids": ("x",)}, "instance_ids has 1 entries for 2 instances"),
    ("names", {"label_names": ("a",)}, "label_names has 1 entries for 2 labels"),
    ("groups", {"groups": ["a"]}, "groups has 1 entries for 2 instances"),
    ("features", {"feature_names": ("a",)}, "feature_names has 1 entries for 3 features"),
    ("same_name", {"label_names": ("a", "a")}, "the label name 'a' stands twice"),
    ("no_text", {"X": np.array([["a"], [None]]), "feature_names": ("t",)}, "row 1, text column 0 is None"),
    ("unnamed_text", {"X": np.array([["a"], ["b"]])}, "texts need feature_names"),
]


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(("changes", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_data_names_the_place(changes, message):
    with pytest.raises(DataError, match=r"^(test: |Y )") as caught:
        make(**changes)
    assert message in str(caught.value)


def test_64_bit_indices_change_nothing(wide):
    rng = np.random.default_rng(0)
    X, Y = (sparse.csr_array(rng.random((40, 12)) * (rng.random((40, 12)) < 0.3)) for _ in range(2))
    names, ids = tuple("abcdefghijkl"), tuple(map(str, range(40)))
    narrow, widened = (
        make(X=form(X), Y=form(Y), label_names=names, instance_ids=ids)
        .take([7, 3, 39])
        .align_labels(names[::-1])
        for form in (sparse.csr_array, wide)
    )
    np.testing.assert_array_equal(widened.X.toarray(), narrow.X.toarray())
    np.testing.assert_array_equal(widened.Y.toarray(), narrow.Y.toarray())
