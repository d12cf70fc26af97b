import gzip
import time

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers import _rows
from evenhand.multilabel.readers._files import blocks
from evenhand.multilabel.readers.xmc import read_xmc

GOOD = "3 4 5\n0,3 0:0.5 2:1\n 3:-2e-1\n4\n"
X = [[0.5, 0, 1, 0], [0, 0, 0, -0.2], [0, 0, 0, 0]]
Y = [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]

FORMS = {
    "plain": GOOD,
    "no_last_line_end": GOOD.rstrip(),
    "crlf": GOOD.replace("\n", "\r\n"),
    "bom": b"\xef\xbb\xbf" + GOOD.encode(),
    "blank_lines_at_the_end": GOOD + "\n \r\n\n",
    "tabs_and_spaces": "3 4 5 \n0,3\t0:0.5  2:1 \n \t3:-2e-1\n4 \n",
    "no_space_before_unlabelled": "3 4 5\n0,3 0:0.5 2:1\n3:-2e-1\n4\n",
    "duplicates": "3 4 5\n0,3,0 0:0.25 2:1 0:0.25\n 3:-2e-1\n4,4\n",
    "any_order": "3 4 5\n3,0 2:1 0:0.5\n 3:-2e-1\n4\n",
    "explicit_zero": "3 4 5\n0,3 0:0.5 2:1 1:0\n 3:-2e-1\n4\n",
}


@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_good_files(write, form, name):
    data = read_xmc(write(name, form))
    assert np.array_equal(data.X.toarray(), np.array(X, dtype=np.float32))
    assert data.Y.toarray().tolist() == Y
    assert data.Y.has_canonical_format
    assert data.X.has_canonical_format
    assert data.label_names == ("0", "1", "2", "3", "4")
    assert data.instance_ids == ("0", "1", "2")
    assert data.label_counts().tolist() == [1, 0, 0, 1, 1]


def row(text):
    return f"3 4 5\n0 0:1\n{text}\n1 1:1\n".encode()


BAD = [
    ("empty", b"", ": the file is empty"),
    ("bom_only", b"\xef\xbb\xbf", ": the file is empty"),
    ("no_header", b"0,3 0:0.5\n", ":1: no header; the first line has to be `N D L`"),
    ("no_header_numbers", b"a b c\n", ":1: no header"),
    ("negative_header", b"-1 2 2\n", ":1: no header"),
    ("blank_header", b"\n1 1 1\n0 0:1\n", ":1: no header"),
    ("no_rows", b"0 4 5\n", ":1: the header says 0 rows"),
    ("huge", b"1 9999999999 5\n0\n", ":1: the header asks for more than 2147483647"),
    ("fewer_rows", b"3 4 5\n0 0:1\n", ": the header says 3 rows, the file has 1"),
    ("header_only", b"3 4 5", ": the header says 3 rows, the file has 0"),
    ("more_rows", b"1 4 5\n0 0:1\n1 1:1\n", ":3: more rows than the header says (1)"),
    ("blank_line", row(""), ":3: blank line"),
    ("blank_line_of_spaces", row("  "), ":3: blank line"),
    ("label_too_large", row("5 0:1"), ":3: label id 5 is too large; the highest allowed is 4"),
    ("label_huge", row("99999999999999999999 0:1"), ":3: label id 99999999999999999999 is too large"),
    ("label_of_5000_digits", row("9" * 5000 + " 0:1"), ":3: label id 99999999999999999999 is too large"),
    ("header_of_5000_digits", b"9" * 5000 + b" 1 1\n", ":1: no header"),
    ("feature_too_large", row("0 4:1"), ":3: feature id 4 is too large; the highest allowed is 3"),
    ("unlabelled_feature_too_large", row("9:1"), ":3: feature id 9 is too large"),
    ("negative_label", row("-1 0:1"), ":3: label id -1 is negative"),
    ("negative_feature", row("0 -1:1"), ":3: feature id -1 is negative"),
    (
        "space_after_comma",
        row("1, 2 1:0.5"),
        ":3: labels '1,' start or end with a comma; write them without spaces",
    ),
    (
        "space_before_comma",
        row("1 ,2 1:0.5"),
        ":3: a space before or after a comma at ',2'; write labels without",
    ),
    ("two_commas", row("1,,2 1:0.5"), ":3: label id '' is not a whole number"),
    ("space_between_labels", row("1 2 1:0.5"), ":3: feature 2 has no value; write 2:VALUE"),
    ("no_value", row("1 2: 3:1"), ":3: feature 2 has no value; write 2:VALUE"),
    ("no_feature", row("1 :1"), ":3: feature id '' is not a whole number"),
    ("nan", row("1 2:nan"), ":3: the value of feature 2 is nan; it has to be a finite number"),
    ("inf", row("1 2:-inf"), ":3: the value of feature 2 is -inf; it has to be a finite number"),
    ("float32_overflow", row("1 2:1e39"), ":3: the value of feature 2 is 1e39; it has to be a finite number"),
    (
        "float64_overflow",
        row("1 2:1e999"),
        ":3: the value of feature 2 is 1e999; it has to be a finite number",
    ),
    ("text_value", row("1 2:x"), ":3: the value of feature 2 is 'x', not a number"),
    ("two_colons", row("1 2:3:4"), ":3: the value of feature 2 is '3:4', not a number"),
    (
        "python_number",
        row("1 2:1_0"),
        ":3: the value of feature 2 is '1_0'; write it as a plain decimal number",
    ),
    ("real_label", row("1.0 2:1"), ":3: label id '1.0' is not a whole number"),
    ("word_label", row("cat 2:1"), ":3: label id 'cat' is not a whole number"),
    ("comment", row("1 2:1 # x"), ":3: feature id '#' is not a whole number"),
    ("not_utf8", b"1 4 5\n1 2:1 \xe9\n", r":2: feature id '\\xe9' is"),
    ("odd_space", row("1\x0b2:1"), ":3: feature id '1\\x0b2' is not a whole number"),
    ("no_line_end", b"1 4 5\n0 9:1", ":2: feature id 9 is too large"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_files_name_line_and_fault(write, fails, content, message):
    fails(read_xmc, write("train.txt", content), message)


def test_the_line_is_right_whatever_the_block(write):
    path = write("train.txt", "0,1 1:0.5 3:2\r\n" * 40 + "1 9:1\r\n" + "0 1:1\r\n" * 9)
    for size in (1, 7, 64, 1 << 20):
        with pytest.raises(DataError, match=r"train.txt:41: feature id 9"):
            _rows.parse(blocks(path, size), path, n_features=5)


def test_blocks_of_any_size_give_the_same_rows(write):
    path = write("train.txt", FORMS["crlf"].split("\r\n", 1)[1] + "\r\n\r\n")
    whole = _rows.parse(blocks(path), path)
    for size in range(1, 30):
        parts = _rows.parse(blocks(path, size), path)
        assert np.array_equal(parts.feature_matrix(4).toarray(), whole.feature_matrix(4).toarray())
        assert np.array_equal(parts.label_matrix(5).toarray(), whole.label_matrix(5).toarray())


@example(3.4028234663852886e38, "r")
@example(3.4028234663852886e38, ".9g")
@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(["r", ".9g", ".17g", ".3e"])
)
def test_values_are_those_that_python_reads(number, form):
    text = repr(number) if form == "r" else format(number, form)
    with np.errstate(over="ignore"):
        expected = np.float32(float(text))
    assume(np.isfinite(expected))  # rounding to few digits can leave float32; such values are refused
    rows = _rows.parse([f"1 2:{text}\n".encode()], "memory")
    assert rows.values[0] == expected


@pytest.mark.parametrize(
    "text", ["1", "+1", "-.5", "5.", "1e5", "1E+2", "1e-30", "0.1", "0", "-0.0", "0e99", "1e-400", "9" * 30]
)
def test_ways_to_write_a_number(text):
    assert _rows.parse([f"1 2:{text}\n".encode()], "memory").values[0] == np.float32(float(text))


@pytest.mark.parametrize("text", ["", ".", "+", "e5", "1e", "1e+", "--1", "0x10", "1.2.3", "1,5"])
def test_what_is_no_number(text):
    with pytest.raises(DataError, match="memory:1: "):
        _rows.parse([f"1 2:{text}\n".encode()], "memory")


@given(st.text(alphabet="0123,:.- \t#e\r", max_size=12))
def test_the_fast_and_the_slow_parser_agree(line):
    fault = _rows._fault(line.removesuffix("\r"), False, 100, 100)
    unknown = fault.startswith("the row cannot be read")

    def parse():
        return _rows.parse([line.encode() + b"\n0\n"], "memory", n_labels=100, n_features=100)

    if unknown:  # the slow parser sees no fault, so the fast one must not either
        assert parse().n_rows == 2
    else:
        with pytest.raises(DataError) as caught:
            parse()
        assert str(caught.value) == f"memory:1: {fault}"


def test_label_names_from_a_list_or_a_file(write):
    path = write("train.txt", GOOD)
    names = ["a", "b c", "d", "é", "f"]
    assert read_xmc(path, label_names=names).label_names == tuple(names)
    file = write("names.txt", "\n".join(names) + "\n")
    assert read_xmc(path, label_names=file).tags(0) == ["a", "é"]
    assert read_xmc(path, label_names=str(file)).tags(0) == ["a", "é"]


def test_label_names_that_do_not_fit(write):
    path = write("train.txt", GOOD)
    with pytest.raises(DataError, match="label_names: 2 names for 5 labels"):
        read_xmc(path, label_names=["a", "b"])
    with pytest.raises(DataError, match=r"names.txt: 6 names for 5 labels"):
        read_xmc(path, label_names=write("names.txt", "a\nb\nc\nd\ne\nf"))
    with pytest.raises(DataError, match=r"latin.txt:2: not UTF-8"):
        read_xmc(path, label_names=write("latin.txt", b"a\n\xe9\n"))
    with pytest.raises(DataError, match="'a' stands twice"):
        read_xmc(path, label_names=["a", "a", "b", "c", "d"])


def test_broken_gzip(write, tmp_path):
    whole = gzip.compress((GOOD + "\n" * 50_000).encode())
    for name, content, message in [
        ("cut.txt.gz", whole[:-20], "cut.txt.gz: the gzip file ends too early"),
        ("none.txt.gz", GOOD.encode(), "none.txt.gz: not a sound gzip file"),
        ("crc.txt.gz", whole[:-8] + b"12345678", "crc.txt.gz: not a sound gzip file"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_xmc(path)


def test_no_such_file_and_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"none.txt: No such file"):
        read_xmc(tmp_path / "none.txt")
    with pytest.raises(DataError, match="directory"):
        read_xmc(tmp_path)


def test_a_large_file_is_read_fast(write):
    read_xmc(write("small.txt", GOOD))  # compiles
    line = "12,7,1999 " + " ".join(f"{feature}:0.{feature:05d}" for feature in range(0, 20_000, 250)) + "\n"
    path = write("large.txt", f"20000 20000 2000\n{line * 20_000}")
    start = time.perf_counter()
    data = read_xmc(path)
    seconds = time.perf_counter() - start
    assert data.X.nnz == 20_000 * 80
    assert path.stat().st_size / seconds > 20e6


def test_row_starts_are_64_bit_where_they_have_to_be():
    most = 2**31 - 1
    below, above = _rows._starts(np.array([most])), _rows._starts(np.array([most, 1]))
    assert (below.dtype, below.tolist()) == (np.int32, [0, most])
    assert (above.dtype, above.tolist()) == (np.int64, [0, most, most + 1])


def test_small_files_are_held_with_32_bit_indices(write):
    data = read_xmc(write("a.txt", GOOD))
    assert {data.X.indices.dtype, data.X.indptr.dtype, data.Y.indices.dtype} == {np.dtype(np.int32)}


@pytest.mark.slow
def test_memory_holds_the_numbers_and_not_the_text(tmp_path, peak_growth):
    n, per_row = 40_000, 250
    rng = np.random.default_rng(0)
    with open(tmp_path / "large.txt", "w") as file:
        file.write(f"{n} 500000 1000\n")
        for features in rng.integers(500_000, size=(n, per_row)).tolist():
            file.write("7 " + " ".join(f"{feature}:0.123456789012345" for feature in features) + "\n")
    prepare = "from evenhand.multilabel.readers import read_xmc\n" + f"read_xmc({_small(tmp_path)!r})"
    grown = peak_growth(prepare, f"read_xmc({str(tmp_path / 'large.txt')!r})")
    numbers = n * per_row * 8
    assert (tmp_path / "large.txt").stat().st_size > 2.9 * numbers
    assert grown < 2.3 * numbers + 40e6


def _small(folder):
    (folder / "small.txt").write_text(GOOD)
    return str(folder / "small.txt")
