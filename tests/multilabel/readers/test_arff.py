import gzip

import numpy as np
import pytest
from scipy import sparse
from scipy.io import arff as scipy_arff

from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers.arff import read_arff

XML = '<?xml version="1.0"?>\n<labels xmlns="http://mulan.sourceforge.net/labels">{}</labels>'
HEADER = (
    "% a toy\n@relation 'a toy'\n\n@ATTRIBUTE wet {0,1}\n@attribute\t'air pressure' numeric\n"
    "@attribute \"it's \\\"odd\\\"\" REAL\n@attribute 'don\\'t' {0, 1}\n@attribute d.x integer\n@Data\n"
)
DENSE = "0,0.5,1e-1,1,-3\n% no row\n\n1, 2,0,0 ,0\n"
SPARSE = "{1 0.5,2 1e-1, 3 1 ,4 -3}\n% no row\n\n{0 1,1 2}\n"


def labels(*names):
    return XML.format("".join(f'<label name="{name}"></label>\n' for name in names))


@pytest.fixture
def read(write):
    def read_toy(content, xml=None, name="toy-train.arff"):
        write("toy.xml", labels("don't", "wet") if xml is None else xml)
        return read_arff(write(name, content))

    return read_toy


@pytest.mark.parametrize("rows", [DENSE, SPARSE], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    "change", [str, lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text]
)
@pytest.mark.parametrize("name", ["toy-train.arff", "toy-test.arff.gz", "toy.arff"])
def test_good_files(read, rows, change, name):
    data = read(change(HEADER + rows), name=name)
    X = np.array([[0.5, 0.1, -3], [2, 0, 0]], dtype=np.float32)
    assert data.kind == ("sparse" if rows is SPARSE else "dense")
    assert np.array_equal(data.X.toarray() if data.kind == "sparse" else data.X, X)
    assert data.feature_names == ("air pressure", 'it\'s "odd"', "d.x")
    assert data.label_names == ("don't", "wet")
    assert data.Y.toarray().tolist() == [[1, 0], [0, 1]]


def test_an_empty_sparse_row_is_a_row(read):
    data = read(HEADER + "{}\n{ }\n{0 1}\n")
    assert data.X.nnz == 0
    assert data.Y.toarray().tolist() == [[0, 0], [0, 0], [0, 1]]


def test_duplicates_are_summed_in_features_and_count_once_in_labels(read):
    data = read(HEADER + "{0 1,1 0.5,1 0.25,0 1}\n")
    assert data.X.toarray().tolist() == [[0.75, 0, 0]]
    assert data.Y.toarray().tolist() == [[0, 1]]


def test_quoted_values_and_nested_labels(read):
    xml = XML.format("<label name='wet'><label name=\"don't\"/></label>")
    data = read(HEADER.replace("{0,1}", "{'0','1'}") + "'1',0,0,'0',0\n", xml)
    assert data.label_names == ("wet", "don't")
    assert data.Y.toarray().tolist() == [[1, 0]]


def test_the_xml_may_lie_elsewhere_or_have_the_files_own_name(write, tmp_path):
    path = write("toy-train.arff", HEADER + DENSE)
    with pytest.raises(
        DataError, match=r"no toy-train.xml or toy.xml beside it to name the labels; give xml="
    ):
        read_arff(path)
    assert read_arff(path, write("other.xml", labels("wet"))).label_names == ("wet",)
    write("toy-train.xml", labels("don't"))
    assert read_arff(path).label_names == ("don't",)


def rows(text):
    return HEADER + text


BAD = [
    ("empty", b"", ": the file is empty"),
    ("no_data", "@relation a\n@attribute wet {0,1}\n", ": no @data line"),
    ("no_rows", rows(""), ": no rows after @data"),
    (
        "junk_in_header",
        "@relation a\nwet {0,1}\n",
        ":2: 'wet {0,1}' is neither @relation, @attribute nor @data",
    ),
    ("no_name", "@attribute\n@data\n", ":1: no attribute name in ''"),
    ("text", "@attribute wet string\n@data\n", ":1: attribute 'wet' is of type 'string'"),
    ("words", "@attribute wet {yes,no}\n@data\n", ":1: attribute 'wet' has the nominal value 'yes'"),
    ("label_missing", "@attribute wet {0,1}\n@data\n0\n", ': no attribute "don\'t", which '),
    ("missing", rows("0,?,0,0,0\n"), ":10: the value of attribute 'air pressure' is missing (?)"),
    (
        "missing_sparse",
        rows("{1 1}\n{0 1,1 ?}\n"),
        ":11: the value of attribute 'air pressure' is missing (?)",
    ),
    ("missing_label", rows("?,0,0,0,0\n"), ":10: the value of attribute 'wet' is missing (?)"),
    (
        "nan",
        rows("0,nan,0,0,0\n"),
        ":10: the value of attribute 'air pressure' is 'nan', not a finite number",
    ),
    ("inf", rows("{4 -inf}\n"), ":10: the value of attribute 'd.x' is '-inf', not a finite number"),
    ("overflow", rows("{4 1e39}\n"), ":10: the value of attribute 'd.x' is '1e39', not a finite number"),
    ("word", rows("0,x,0,0,0\n"), ":10: the value of attribute 'air pressure' is 'x', not a finite number"),
    ("label_not_binary", rows("2,0,0,0,0\n"), ":10: the value of attribute 'wet' is '2', not 0 or 1"),
    ("label_negative", rows("{0 -1}\n"), ":10: the value of attribute 'wet' is '-1', not 0 or 1"),
    ("too_few", rows("0,0,0,0,0\n0,0,0,0\n"), ":11: 4 values for 5 attributes"),
    ("too_many", rows("0,0,0,0,0,0\n"), ":10: 6 values for 5 attributes"),
    ("mixed", rows("0,0,0,0,0\n{0 1}\n"), ":11: dense and sparse rows in one file"),
    ("index_too_large", rows("{5 1}\n"), ":10: index 5 is too large for 5 attributes"),
    (
        "index_of_5000_digits",
        rows("{" + "9" * 5000 + " 1}\n"),
        ":10: index 99999999999999999999 is too large",
    ),
    ("index_negative", rows("{-1 1}\n"), ":10: '-1 1' is not an index and a value"),
    ("index_real", rows("{1.0 1}\n"), ":10: '1.0 1' is not an index and a value"),
    ("no_value", rows("{1}\n"), ":10: '1' is not an index and a value"),
    ("no_comma", rows("{1 1 2 1}\n"), ":10: '1 1 2 1' is not an index and a value"),
    ("dense_in_braces", rows("{0,1}\n"), ":10: '0' is not an index and a value"),
    ("open_brace", rows("{0 1\n"), ":10: sparse row without a closing brace"),
    (
        "one_is_the_default",
        HEADER.replace("{0,1}", "{1,0}") + "{1 1}\n",
        ":10: sparse row, but what it leaves out of 'wet' would be 1",
    ),
    ("not_utf8", b"@relation a\n@attribute caf\xe9 numeric\n", ":2: not UTF-8 text"),
    (
        "undeclared",
        HEADER.replace("d.x integer", "d.x {0,2,3.5}") + "0,0,0,0,3.5\n0,0,0,0,1\n",
        ":11: the value of attribute 'd.x' is '1', not one of the declared {0,2,3.5}",
    ),
    (
        "undeclared_sparse",
        HEADER.replace("d.x integer", "d.x {0,2}") + "{4 2,1 7}\n{1 5,4 -1}\n",
        ":11: the value of attribute 'd.x' is '-1', not one of the declared {0,2}",
    ),
    (
        "undeclared_binary",
        HEADER.replace("d.x integer", "d.x {0}") + "0,0,0,0,1\n",
        ":10: the value of attribute 'd.x' is '1', not one of the declared {0}",
    ),
    (
        "undeclared_label",
        HEADER.replace("{0,1}", "{0,1,2}") + "2,0,0,0,0\n",
        ":10: the value of attribute 'wet' is '2', not 0 or 1",
    ),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_files_name_line_and_fault(write, fails, content, message):
    write("toy.xml", labels("wet", "don't"))
    fails(read_arff, write("toy.arff", content), message)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<labels>", r"toy.xml:1: not sound XML"),
        ("<labels/>", r"toy.xml: names no label"),
        ("<labels><label/></labels>", r"toy.xml: names no label"),
        (labels("wet", "wet"), r"toy.xml: the label name 'wet' stands twice"),
    ],
)
def test_bad_xml(read, xml, message):
    with pytest.raises(DataError, match=message):
        read(HEADER + DENSE, xml)


def test_no_such_files(tmp_path, write):
    with pytest.raises(DataError, match=r"none.xml: No such file"):
        read_arff(write("toy.arff", HEADER + DENSE), tmp_path / "none.xml")
    with pytest.raises(DataError, match=r"none.arff: No such file"):
        read_arff(tmp_path / "none.arff", write("toy.xml", labels("wet")))


@pytest.mark.parametrize(
    ("name", "shape", "n_labels", "kind"),
    [
        ("yeast-train", (1500, 103), 14, "dense"),
        ("yeast-test", (917, 103), 14, "dense"),
        ("medical-train", (333, 1449), 45, "sparse"),
        ("enron-train", (1123, 1001), 53, "sparse"),
        ("bibtex-test", (2515, 1836), 159, "sparse"),
        ("corel5k-train", (4500, 499), 374, "sparse"),
        ("delicious-test", (3185, 500), 983, "sparse"),
    ],
)
def test_mulans_own_files(mulan, name, shape, n_labels, kind):
    data = read_arff(mulan / f"{name}.arff.gz")
    assert data.X.shape == shape
    assert data.n_labels == n_labels
    assert data.kind == kind
    assert data.Y.nnz > shape[0]


def test_dense_values_are_those_that_scipy_reads(mulan, tmp_path):
    path = tmp_path / "yeast.arff"
    path.write_bytes(gzip.decompress((mulan / "yeast-test.arff.gz").read_bytes()))
    data = read_arff(path, mulan / "yeast.xml")
    theirs, _ = scipy_arff.loadarff(path)
    columns = np.stack([theirs[name].astype(np.float64) for name in data.feature_names], axis=1)
    assert np.array_equal(data.X, columns.astype(np.float32))
    Y = np.stack([theirs[name].astype(np.float64) for name in data.label_names], axis=1)
    assert np.array_equal(data.Y.toarray(), Y)


def test_sparse_values_hold_for_any_row(read):
    rng = np.random.default_rng(0)
    table = np.where(rng.random((50, 5)) < 0.5, np.round(rng.normal(size=(50, 5)), 3), 0)
    table[:, [0, 3]] = rng.integers(2, size=(50, 2))
    text = "".join(
        "{" + ",".join(f"{column} {value}" for column, value in enumerate(row) if value) + "}\n"
        for row in table
    )
    data = read(HEADER + text)
    assert np.array_equal(data.X.toarray(), table[:, [1, 2, 4]].astype(np.float32))
    assert np.array_equal(data.Y.toarray(), table[:, [3, 0]])
    assert isinstance(data.X, sparse.csr_array)
