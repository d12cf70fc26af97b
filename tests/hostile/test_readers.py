"""What every reader says of files that are not what they should be: the place first, then the mend."""

import gzip
import io
import struct
import zipfile
import zlib

import numpy as np
import polars as pl
import pytest

from evenhand import gzipped
from evenhand.grpo.tasks import TaskError, read_tasks
from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers import _files, read, read_images

XML = '<labels><label name="wet"/><label name="old"/></labels>'
ARFF = "@relation r\n@attribute wet {0,1}\n@attribute old {0,1}\n@attribute size numeric\n@data\n"
TABLE = {"text": "t", "tags": "g"}

# For each text format: a name, options, a good file of three rows, and a row that is like the second.
FORMATS = {
    "xmc": ("a.txt", {}, "3 4 2\n0,1 0:0.5 2:1\n1 3:2\n0\n", "1 3:2"),
    "svm": ("a.svm", {}, "0,1 1:0.5 3:1\n1 4:2\n0\n", "1 4:2"),
    "csv": ("a.csv", TABLE, 't,g\nx,"a,b"\ny,b\nz,\n', "y,b"),
    "tsv": ("a.tsv", TABLE, "t\tg\nx\ta,b\ny\tb\nz\t\n", "y\tb"),
    "jsonl": (
        "a.jsonl",
        TABLE,
        '{"t": "x", "g": ["a", "b"]}\n{"t": "y", "g": ["b"]}\n{"t": "z", "g": []}\n',
        '{"t": "y", "g": ["b"]}',
    ),
    "arff": ("a.arff", {}, ARFF + "1,1,0.5\n0,1,2\n1,0,0\n", "0,1,2"),
}


def has_header(form):
    return form in ("xmc", "csv", "tsv")


@pytest.fixture(params=FORMATS)
def form(request, write):
    write("a.xml", XML)
    return request.param


def test_the_good_files_are_read(form, write):
    name, options, content, _ = FORMATS[form]
    for change in (str, lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text, str.rstrip):
        if form in ("csv", "tsv") and change is str.rstrip:
            continue  # the last row of these ends in its empty field
        for ending in ("", ".gz"):
            data = read(write(name + ending, change(content)), **options)
            assert data.Y.toarray().sum(axis=1).tolist() == [2, 1, 0 if "g" in options.values() else 1]


# --- every text format in the same trouble ---------------------------------------------------------------

TROUBLES = {
    "empty": (lambda text, row: b"", r"a\.\w+: the file is empty"),
    "bom_only": (lambda text, row: b"\xef\xbb\xbf", r"a\.\w+: the file is empty"),
    "utf16": (
        lambda text, row: text.encode("utf-16"),
        r"a\.\w+:1: not UTF-8 text but UTF-16; convert the file",
    ),
    "latin1": (
        lambda text, row: text.replace(row, row + " \xe9").encode("latin-1"),
        r"a\.\w+:\d: .*(not UTF-8|xe9)",
    ),
    "nul": (lambda text, row: text.replace(row, "\0" * 9).encode(), r"a\.\w+:\d: "),
    "junk_line_of_10_mb": (
        lambda text, row: text.replace(row, row + " junk!" * 1_700_000).encode(),
        r"a\.\w+:\d: |no column",
    ),
    "no_line_end_in_10_mb": (lambda text, row: b"x" * 10_000_000, r"a\.\w+:1: |a\.\w+: no column"),
    "binary": (lambda text, row: bytes(range(256)) * 40, r"a\.\w+:\d+: |no column"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_file_in_trouble(form, trouble, write, refused):
    name, options, content, row = FORMATS[form]
    change, message = TROUBLES[trouble]
    path = write(name, change(content, row))
    if (form, trouble) in (("csv", "junk_line_of_10_mb"), ("tsv", "junk_line_of_10_mb")):
        assert len(read(path, **options).tags(1)[0]) > 10_000_000  # a long tag is a tag
    elif (form, trouble) in (("csv", "nul"), ("tsv", "nul")):
        refused(DataError, r"a\.\w+:3: 1 fields, the header has 2", lambda: read(path, **options))
    else:
        refused(DataError, message, lambda: read(path, **options))


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (lambda packed: packed[:-9], "the gzip file ends too early; fetch it again"),
        (lambda packed: packed[:3], "the gzip file ends too early; fetch it again"),
        (lambda packed: b"", "the file is empty|the gzip file ends too early"),
        (lambda packed: packed[:-8] + b"\0" * 8, "not a sound gzip file"),
        (
            lambda packed: packed[:12] + b"\xff" * 30 + packed[42:],
            "not a sound gzip file|the gzip file ends too early",
        ),
        (lambda packed: packed + b"more", "not a sound gzip file"),
        (lambda packed: b"no gzip", "not a sound gzip file"),
    ],
    ids=["cut", "cut_in_the_head", "nothing", "crc", "damaged", "trailing", "plain"],
)
def test_a_gzip_file_that_is_not_sound(form, tmp_path, refused, pack, message):
    name, options, content, _ = FORMATS[form]
    path = tmp_path / f"{name}.gz"
    path.write_bytes(pack(gzip.compress(content.encode())))
    refused(DataError, rf"a\.\w+\.gz: ({message})", lambda: read(path, **options))


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda c: zlib.compress(c, 9)])
def test_a_packed_file_whose_name_does_not_say_so(form, write, refused, pack):
    name, options, content, _ = FORMATS[form]
    path = write(name, pack(content.encode()))
    message = r"a\.\w+: packed, which its name does not say; unpack it, or let a gzip file's name end"
    refused(DataError, message, lambda: read(path, **options))


@pytest.mark.parametrize("filler", ["\n", "x", " "])
def test_a_gzip_bomb_is_refused_by_the_stated_bound(form, tmp_path, refused, monkeypatch, filler):
    monkeypatch.setattr(gzipped, "FREE_BYTES", 1 << 20)
    name, options, content, _ = FORMATS[form]
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress((content + filler * (1 << 22)).encode()))
    assert path.stat().st_size < 1 << 13
    bound = r"unpacks to more than [\d,]+ bytes, the bound for a file of its size \(200 times it, at least"
    refused(DataError, rf"a\.\w+\.gz: {bound}.*unpack it with gunzip", lambda: read(path, **options))


def test_what_the_bound_is_and_that_honest_files_pass_it(form, tmp_path, monkeypatch):
    assert (gzipped.MOST_TIMES, gzipped.FREE_BYTES) == (200, 64 << 20)
    monkeypatch.setattr(gzipped, "FREE_BYTES", 0)
    name, options, content, _ = FORMATS[form]
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(content.encode()))
    assert read(path, **options).n_instances == 3


@pytest.mark.parametrize("what", ["folder", "nothing"])
def test_no_file(form, tmp_path, refused, what):
    name, options, *_ = FORMATS[form]
    if what == "folder":
        (tmp_path / name).mkdir()
    message = {"folder": "Is a directory", "nothing": "No such file or directory"}[what]
    refused(DataError, rf"a\.\w+: {message}", lambda: read(tmp_path / name, **options))


def test_a_blank_line_between_rows(form, write, refused):
    name, options, content, row = FORMATS[form]
    path = write(name, content.replace(f"{row}\n", f"\n{row}\n"))
    if form == "arff":  # whose blank lines are no rows
        assert read(path, **options).n_instances == 3
        return
    line = 2 + has_header(form)
    refused(DataError, rf"a\.\w+:{line}: blank line; .*take it out", lambda: read(path, **options))


def test_a_line_of_10_mb_that_is_right(form, write):
    name, options, content, row = FORMATS[form]
    more = {
        "xmc": row + "".join(f" {feature % 4}:1" for feature in range(2_500_000)),
        "svm": row + "".join(f" {1 + feature % 4}:1" for feature in range(2_500_000)),
        "jsonl": '{"t": "' + "word " * 2_000_000 + '", "g": ["b"]}',
        "arff": row + " " * 10_000_000,
    }.get(form, "word " * 2_000_000 + row)
    data = read(write(name, content.replace(row, more)), **options)
    assert data.n_instances == 3
    if form in ("xmc", "svm"):
        assert data.X[[1]].sum() == 2_500_002
    assert [len(data.tags(row)) for row in range(2)] == [2, 1]


# --- XMC and svmlight ------------------------------------------------------------------------------------

HUGE = "9" * 4000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2 4 2\n0,1 0:0.5\n1 3:2\n0\n", r":4: more rows than the header says \(2\)"),
        ("4 4 2\n0,1 0:0.5\n1 3:2\n0\n", r": the header says 4 rows, the file has 3; is it cut off"),
        ("3 3 2\n0,1 0:0.5\n1 3:2\n0\n", r":3: feature id 3 is too large; the highest allowed is 2"),
        ("3 4 1\n0,1 0:0.5\n1 3:2\n0\n", r":2: label id 1 is too large; the highest allowed is 0"),
        ("2 2 2\n1 1:1\n2 1:1\n", r":3: label id 2 is too large; the highest allowed is 1"),
        ("2 2 2\n1 1:1\n1 2:1\n", r":3: feature id 2 is too large; the highest allowed is 1"),
        ("0,1 1:0.5 3:1\n1 4:2\n", r":1: no header; the first line has to be `N D L`"),
        ("1 2\n1 1:1\n", r":1: no header"),
        ("1 2 2 2\n1 1:1\n", r":1: no header"),
        ("1.0 2 2\n1 1:1\n", r":1: no header"),
        ("1,2,2\n1 1:1\n", r":1: no header"),
        ("+1 2 2\n1 1:1\n", r":1: no header"),
        ("1 -2 2\n1 1:1\n", r":1: no header"),
        (f"{HUGE} 2 2\n1 1:1\n", r":1: no header"),
        ("1 2 2147483647\n1 1:1\n", r":1: 2147483647 labels; more than 16,777,216 are read only by name"),
        ("1 2147483648 2\n1 1:1\n", r":1: the header asks for more than 2147483647 features"),
        ("999999999999999999 2 2\n1 1:1\n", r": the header says 999999999999999999 rows, the file has 1"),
        (f"1 2 2\n{HUGE} 1:1\n", r":2: label id 9{20} is too large"),
        (f"1 2 2\n0 {HUGE}:1\n", r":2: feature id 9{20} is too large"),
        (f"1 2 2\n-{HUGE} 1:1\n", r":2: label id -9{19} is negative; ids start at 0"),
        ("1 2 2\n" + "0," * 50_000 + "\n", r":2: labels '0,0,.* start or end with a comma"),
        ("1 2 2\n" + "0 " * 50_000 + "\n", r":2: feature 0 has no value; write 0:VALUE"),
        (f"1 2 2\n0 1:{'x' * 50_000}\n", r":2: the value of feature 1 is 'x+, not a number"),
        (f"1 2 2\n0 1:{HUGE}\n", r":2: the value of feature 1 is 9+; it has to be a finite number"),
        ("1 2 2\n0 1:1e400\n", r":2: the value of feature 1 is 1e400; it has to be a finite number"),
        ("1 2 2\n0 1:-1e400\n", r":2: the value of feature 1 is -1e400; it has to be a finite number"),
        ("1 2 2\n0 1:1e99999999\n", r":2: the value of feature 1 is 1e99999999; it has to be"),
        ("1 2 2\n0 1:NaN\n", r":2: the value of feature 1 is NaN; it has to be a finite number"),
        ("1 2 2\n0 1:Infinity\n", r":2: the value of feature 1 is Infinity; it has to be a finite number"),
        ("1 2 2\n0 1:0x1p3\n", r":2: the value of feature 1 is '0x1p3', not a number"),
        ("1 2 2\n0 1:١\n", r":2: the value of feature 1 is '١'; write it as a plain decimal number"),
        ("1 2 2\n٠ 1:1\n", r":2: label id '٠' is not a whole number"),
        ("1 2 2\n0 1:1\n\n0 1:1\n", r":3: blank line"),
        ("1 2 2\r0 1:1\r", r":1: no header"),
        ("1 2 2\n0\u00a01:1\n", r":2: feature id '0\\xa01' is not a whole number|:2: label id"),
        ("1 2 2\n0 1:1,0:1\n", r":2: the value of feature 1 is '1,0:1', not a number"),
        ("1 2 2\n0; 1:1\n", r":2: label id '0;' is not a whole number"),
        ("1 2 2\n0 1: 1\n", r":2: feature 1 has no value"),
    ],
)
def test_bad_xmc(write, refused, content, message):
    path = write("a.txt", content)
    refused(DataError, rf"a\.txt{message}", lambda: read(path))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("3 4 2\n0,1 0:0.5 2:1\n", {}, r":1: feature 4 has no value; write 4:VALUE"),  # XMC's header
        ("1 1:1\n0 0:1\n", {"zero_based": False}, r":2: feature id 0, but zero_based=False"),
        ("1 1:1\n0 3:1\n", {"zero_based": True, "n_features": 3}, r":2: feature id 3 is too large"),
        ("1 1:1\n0 4:1\n", {"zero_based": False, "n_features": 3}, r":2: feature id 4 is too large"),
        ("1 2147483647:1\n", {}, r":1: feature id 2147483647 is too large"),
        ("2147483647 1:1\n", {}, r":1: label id 2147483647 is too large"),
        ("1 1:1\n", {"n_features": 2**31}, r"n_features must be from 1 to 2147483646, not 2147483648"),
        ("1 1:1\n", {"n_features": 2**40}, r"n_features must be from 1 to 2147483646, not 1099511627776"),
        ("1 1:1e400\n", {}, r":1: the value of feature 1 is 1e400"),
        ("1 1:nan\n", {}, r":1: the value of feature 1 is nan"),
        ("1 a:1\n", {}, r":1: feature id 'a' is not a whole number"),
        ("1.5 1:1\n", {}, r":1: label id '1.5' is not a whole number"),
        ("-1 1:1\n", {}, r":1: label id -1 is negative"),
        ("1 1:1\n\n1 1:1\n", {}, r":2: blank line"),
        ("1 1:1\n  # blank but for this\n\n1 1:1\n", {}, r":3: blank line"),
        ("#\n" * 9, {}, r": no rows, only comments or blank lines"),
        ("0 1:1\n9 1:1\n", {"label_names": ["only"]}, r":2: label id 9 is too large"),
    ],
)
def test_bad_svmlight(write, refused, content, options, message):
    path = write("a.svm", content)
    refused(DataError, message, lambda: read(path, **options))


def test_label_names_that_do_not_fit(write, refused):
    path = write("a.txt", "1 2 2\n0 1:1\n")
    for content, message in [
        (b"", r"names\.txt: the file is empty"),
        (b"one\n", r"names\.txt: 1 names for 2 labels; give one name a label"),
        (b"one\ntwo\nthree\n", r"names\.txt: 3 names for 2 labels"),
        (b"same\nsame\n", r"names\.txt: the label name 'same' stands twice"),
        (b"caf\xe9\ntwo\n", r"names\.txt:1: not UTF-8 text .*convert the file"),
        (b"\xff\xfeo\0n\0", r"names\.txt:1: not UTF-8 text but UTF-16"),
    ]:
        names = write("names.txt", content)
        refused(DataError, message, lambda names=names: read(path, label_names=names))
    refused(DataError, r"none\.txt: No such file", lambda: read(path, label_names=path.with_name("none.txt")))


def test_a_header_of_more_features_and_labels_than_occur_is_kept(write):
    data = read(write("a.txt", "1 2147483647 1000000\n0 2147483646:1\n"))
    assert (data.X.shape, data.Y.shape) == ((1, 2**31 - 1), (1, 1_000_000))
    assert data.X.indices.tolist() == [2**31 - 2]


def test_labels_beyond_the_bound_are_read_by_name(write, monkeypatch):
    monkeypatch.setattr(_files, "MOST_UNNAMED", 2)
    path = write("a.txt", "1 2 3\n0 1:1\n")
    assert read(path, label_names=["a", "b", "c"]).tags(0) == ["a"]
    with pytest.raises(DataError, match=r"a.txt:1: 3 labels; more than 2 are read only by name"):
        read(path)


# --- tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x,a\ny,b\n", r"a\.csv: no column 't'; the columns are 'x', 'a'"),  # no header
        ("a.csv", "t;g\nx;a\n", r"a\.csv: no column 't'; the columns are 't;g'"),
        ("a.csv", "t,g\n,\n,\n", r"a\.csv: no row has a tag in column 'g'"),
        ("a.csv", 't,g\n"x,a\n' + "y,b\n" * 9, r"a\.csv:11: unexpected end of data; a double quote"),
        ("a.csv", 't,g\n"x"y,a\n', r"a\.csv(:2)?: .*double quote"),
        ("a.csv", "t,g,g\nx,a,b\n", r"a\.csv:1: column 'g' stands twice; rename one"),
        ("a.csv", "t,g\nx,a,\n", r"a\.csv:2: 3 fields, the header has 2"),
        ("a.csv", "t,g\nx,a\ny\nz,b\n", r"a\.csv:3: 1 fields, the header has 2"),
        ("a.csv", ",".join(f"column{n}" for n in range(5000)) + "\n", r"a\.csv: no column 't'; .* more"),
        ("a.csv", "x" * 5000 + ",g\n1,2\n", r"a\.csv: no column 't'; the columns are 'x"),
        ("a.csv", "T,G\nx,a\n", r"no column 't'; the columns are 'T', 'G'"),
        ("a.csv", " t, g\nx,a\n", r"no column 't'; the columns are ' t', ' g'"),
        ("a.tsv", "t g\nx a\n", r"a\.tsv: no column 't'; the columns are 't g'"),
        ("a.jsonl", '{"t": "x", "g": ["a"], "g": ["b"]}\n', r"a\.jsonl:1: .*'g' stands twice"),
        ("a.jsonl", '{"t": "x", "g": ["a"], "m": {"k": 1, "k": 2}}\n', r"a\.jsonl:1: .*'k' stands twice"),
        ("a.jsonl", '{"t": 1e400, "g": ["a"]}\n', r"a\.jsonl:1: field 't' is Infinity, not a text"),
        ("a.jsonl", '{"t": "x", "g": [1e400]}\n', r"a\.jsonl:1: field 'g' is \[Infinity\], not a text"),
        ("a.jsonl", '{"t": "x", "g": [0.5]}\n', r"a\.jsonl:1: field 'g' is \[0.5\], not a text"),
        ("a.jsonl", '{"t": "x", "g": {"a": 1}}\n', r'a\.jsonl:1: field \'g\' is {"a": 1}, not a text'),
        ("a.jsonl", '{"t": null, "g": null}\n', r"a\.jsonl: (no row has a tag|column 'g')"),
        ("a.jsonl", '{"t": "x"}\n{"t": "y"}\n', r"a\.jsonl: no column 'g'; the columns are 't'"),
        ("a.jsonl", "[" + '{"t": "x", "g": ["a"]}' + "]\n", r"a\.jsonl:1: not a JSON object; write one"),
        ("a.jsonl", '{"t": "x", "g": ["a"]},\n', r"a\.jsonl:1: not sound JSON"),
        ("a.jsonl", "{'t': 'x', 'g': ['a']}\n", r"a\.jsonl:1: not sound JSON"),
        ("a.jsonl", '{"t":' * 50_000, r"a\.jsonl:1: not sound JSON"),
        ("a.jsonl", '{"t": "x", "g": ' + "[" * 50_000 + "]" * 50_000 + "}\n", r"a\.jsonl:1: not sound JSON"),
        ("a.jsonl", b'{"t": "\xed\xa0\x80", "g": ["a"]}\n', r"a\.jsonl:1: not UTF-8 text"),
        ("a.jsonl", '{"t": "x", "g": ["\\udfff"]}\n', r"a\.jsonl:1: not sound JSON"),
        ("a.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", r"a\.parquet: not a sound Parquet file"),
        ("a.parquet", b"PAR1" + struct.pack("<I", 2**31) + b"PAR1", r"a\.parquet: not a sound Parquet file"),
        ("a.parquet", "t,g\nx,a\n", r"a\.parquet: not a sound Parquet file"),
    ],
)
def test_bad_tables(write, refused, name, content, message):
    path = write(name, content)
    refused(DataError, message, lambda: read(path, **TABLE))


def test_numbers_that_no_column_holds_are_names_all_the_same(write):
    path = write("a.jsonl", '{"t": "x", "g": ["a"], "i": 1' + "0" * 30 + '}\n{"t": "y", "g": [], "i": 2}\n')
    assert read(path, **TABLE, id="i").instance_ids == ("1" + "0" * 30, "2")


def parquet(folder, **columns):
    pl.DataFrame(columns).write_parquet(folder / "a.parquet")
    return folder / "a.parquet"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t": ["x"], "g": [1.5]}, r"a\.parquet: column 'g' holds Float64, not strings or lists of them"),
        ({"t": ["x"], "g": [{"a": 1}]}, r"a\.parquet: column 'g' holds Struct"),
        ({"t": ["x"], "g": [[["a"]]]}, r"a\.parquet: column 'g' holds List\(List\(String\)\)"),
        ({"t": [b"x"], "g": ["a"]}, r"a\.parquet: column 't' holds Binary, not strings; convert it"),
        ({"t": [["x"]], "g": ["a"]}, r"a\.parquet: column 't' holds List\(String\), not strings"),
        ({"t": [1], "g": ["a"]}, r"a\.parquet: column 't' holds Int64, not strings"),
        ({"t": [True], "g": ["a"]}, r"a\.parquet: column 't' holds Boolean, not strings"),
        ({"t": ["x"], "g": [None]}, r"a\.parquet: no row has a tag in column 'g'"),
        ({"t": ["x"], "g": [[]]}, r"a\.parquet: (no row has a tag|column 'g' holds List\(Null\))"),
        ({"t": [], "g": []}, r"a\.parquet: the table has no rows"),
    ],
)
def test_bad_parquet_columns(tmp_path, refused, columns, message):
    path = parquet(tmp_path, **columns)
    refused(DataError, message, lambda: read(path, **TABLE))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
def test_a_parquet_file_that_is_cut_off(tmp_path, refused, kept):
    path = parquet(tmp_path, t=[f"text {n}" for n in range(500)], g=[f"tag{n % 9}" for n in range(500)])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(DataError, r"a\.parquet: not a sound Parquet file", lambda: read(path, **TABLE))


def test_a_parquet_file_with_any_byte_changed(tmp_path):
    """polars panics at some of them, which is no Exception."""
    path = parquet(tmp_path, t=["x", None], g=[["a", "b"], []], i=[1, 2])
    good, refused = path.read_bytes(), 0
    for at in range(0, len(good), 3):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        try:
            read(path, **TABLE, id="i")
        except DataError:
            refused += 1
        try:
            read_tasks(path, prompt="t", answer="i")
        except TaskError:
            refused += 1
    assert refused > len(good) / 12


@pytest.mark.parametrize("column", ["text", "tags"])
def test_a_parquet_bomb_is_refused_by_the_stated_bound(tmp_path, refused, monkeypatch, column):
    monkeypatch.setattr(gzipped, "FREE_BYTES", 1 << 20)
    long = "tag," * 10_000
    texts, tags = ([long] * 2000, ["a"] * 2000) if column == "text" else (["x"] * 2000, [long] * 2000)
    path = parquet(tmp_path, t=texts, g=tags)
    assert path.stat().st_size < 1 << 18
    refused(
        DataError,
        r"a\.parquet: unpacks to more than [\d,]+ bytes, .*if you trust it, write it as .jsonl",
        lambda: read(path, **TABLE),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": [], "tags": "g"}, "text has to name one column or more"),
        ({"text": ["t", "t"], "tags": "g"}, "text has to name one column or more, none twice"),
        ({"text": "t", "tags": "g", "separator": ""}, "separator is empty"),
        ({"text": "t", "tags": "g", "id": "no"}, "no column 'no'"),
        ({"text": "t", "tags": "g", "group": "no"}, "no column 'no'"),
        ({"text": "t"}, "read_table needs the option 'tags'"),
        ({"tags": "g"}, "read_table needs the option 'text'"),
        ({"text": "t", "tags": "g", "label_names": []}, "read_table has no option 'label_names'"),
    ],
)
def test_bad_options_of_a_table(write, refused, options, message):
    path = write("a.csv", "t,g\nx,a\n")
    refused(DataError, message, lambda: read(path, **options))


# --- ARFF ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            ARFF.replace("@attribute old", "@attribute wet") + "1,1,1\n",
            r"a\.arff:3: attribute 'wet' stands tw",
        ),
        (
            ARFF.replace("{0,1}", "{no,yes}") + "no,no,1\n",
            r"a\.arff:2: attribute 'wet' has the nominal value",
        ),
        (ARFF.replace("numeric", "string") + "1,1,x\n", r"a\.arff:4: attribute 'size' is of type 'string'"),
        (ARFF.replace("numeric", "date yyyy") + "1,1,x\n", r"a\.arff:4: attribute 'size' is of type"),
        (ARFF.replace("numeric", "relational") + "1,1,x\n", r"a\.arff:4: attribute 'size' is of type"),
        (ARFF.replace("wet", "dry") + "1,1,1\n", r"a\.arff: no attribute 'wet', which .*a\.xml names"),
        (ARFF.replace("@data", ""), r"a\.arff: no @data line; is the file ARFF, and whole"),
        (ARFF, r"a\.arff: no rows after @data"),
        (ARFF + "1,1\n", r"a\.arff:6: 2 values for 3 attributes"),
        (ARFF + "1,1,1,1\n", r"a\.arff:6: 4 values for 3 attributes"),
        (ARFF + "1,1,1,{5}\n", r"a\.arff:6: 4 values for 3 attributes"),
        (ARFF + "1,1,\n", r"a\.arff:6: the value of attribute 'size' is '', not a finite number"),
        (ARFF + "1,1,?\n", r"a\.arff:6: the value of attribute 'size' is missing"),
        (ARFF + "1,1,NaN\n", r"a\.arff:6: the value of attribute 'size' is 'NaN', not a finite number"),
        (ARFF + "1,1,1e400\n", r"a\.arff:6: the value of attribute 'size' is '1e400', not a finite number"),
        (ARFF + "1,1,1e39\n", r"a\.arff:6: the value of attribute 'size' is '1e39', not a finite number"),
        (ARFF + "1,0.5,1\n", r"a\.arff:6: the value of attribute 'old' is '0.5', not 0 or 1"),
        (ARFF + "1,1,1\n{2 1}\n", r"a\.arff:7: dense and sparse rows in one file"),
        (ARFF + "{2 1\n", r"a\.arff:6: sparse row without a closing brace"),
        (ARFF + "{3 1}\n", r"a\.arff:6: index 3 is too large for 3 attributes, counted from 0"),
        (ARFF + "{-1 1}\n", r"a\.arff:6: '-1 1' is not an index and a value"),
        (ARFF + "{2 1e400}\n", r"a\.arff:6: the value of attribute 'size' is '1e400', not a finite number"),
        (ARFF + "{" + "9" * 5000 + " 1}\n", r"a\.arff:6: index 9{20} is too large"),
        (ARFF + "{" + "x" * 50_000 + "}\n", r"a\.arff:6: 'x+.* is not an index and a value"),
        (ARFF + "1,1," + "x" * 50_000 + "\n", r"a\.arff:6: the value of attribute 'size' is 'x+"),
        ("@relation r\n@attribute " + "x" * 50_000 + " y\n@data\n", r"a\.arff:2: attribute 'x+"),
        ("@relation r\n" + "x" * 50_000 + "\n@data\n", r"a\.arff:2: 'x+' is neither @relation"),
    ],
)
def test_bad_arff(write, refused, content, message):
    write("a.xml", XML)
    path = write("a.arff", content)
    refused(DataError, message, lambda: read(path))


BOMB = '<!DOCTYPE labels [<!ENTITY a0 "aaaaaaaaaa">{}]><labels><label name="&a9;"/></labels>'.format(
    "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b"", r"a\.xml:1: not sound XML"),
        (b"wet\nold\n", r"a\.xml:1: not sound XML"),
        (XML.encode()[:-9], r"a\.xml:1: not sound XML"),
        (b"<labels>" * 200_000, r"a\.xml:1: not sound XML"),
        (BOMB, r"a\.xml:1: not sound XML"),
        (
            '<!DOCTYPE l [<!ENTITY f SYSTEM "file:///etc/passwd">]><labels><label name="wet"/>&f;</labels>',
            r"a\.xml:1: not sound XML .*undefined entity",
        ),
        ('<?xml version="1.0" encoding="no-such"?>' + XML, r"a\.xml:1: not sound XML"),
        ('<?xml version="1.0" encoding="utf-7"?>' + XML, r"a\.xml:1: not sound XML|no attribute"),
        ('<?xml version="1.0" encoding="cp037"?>' + XML, r"a\.xml:1: not sound XML"),
        (XML.replace("wet", "\xe9").encode("latin-1"), r"a\.xml:1: not sound XML"),
        ('<labels><label name=""/></labels>', r"a\.xml: names no label"),
        (
            '<labels><label name="wet"/><label name="wet"/></labels>',
            r"a\.xml: the label name 'wet' stands twice",
        ),
    ],
)
def test_bad_xml_of_labels(write, refused, xml, message):
    write("a.xml", xml)
    path = write("a.arff", ARFF + "1,1,0.5\n")
    refused(DataError, message, lambda: read(path))


# --- .npz ------------------------------------------------------------------------------------------------


def npz(folder, name="X.npz", packed=True, **arrays):
    (np.savez_compressed if packed else np.savez)(folder / name, **arrays)
    return folder / name


GOOD = {
    "format": np.array(b"csr"),
    "shape": np.array([2, 3]),
    "data": np.ones(2),
    "indices": np.array([0, 2], np.int32),
    "indptr": np.array([0, 1, 2], np.int32),
}


@pytest.fixture
def y_file(tmp_path):
    return npz(tmp_path, "Y.npz", **GOOD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": np.array(b"abc")}, "not a sound .npz matrix"),
        ({"shape": np.array([-2, 3])}, "not a sound .npz matrix"),
        ({"shape": np.array([2, 3, 4])}, "not a sound .npz matrix"),
        ({"shape": np.array([2**62, 2**62])}, "not a sound .npz matrix"),
        ({"shape": np.array([10**9, 3])}, "not a sound .npz matrix"),
        ({"shape": np.array([2, 2])}, "not a sound .npz matrix"),
        ({"shape": np.array(["a", "b"])}, "not a sound .npz matrix"),
        ({"data": np.array([1, 2j])}, "the matrix holds complex128, not real numbers; convert it"),
        ({"data": np.array(["1", "2"])}, "not a sound .npz matrix|the matrix holds"),
        ({"data": np.array([1, 2], "M8[s]")}, "not a sound .npz matrix|the matrix holds"),
        ({"data": np.array([None, 1])}, "not a sound .npz matrix"),
        ({"data": np.array([np.nan, 1])}, "X is nan in row 0, column 0"),
        ({"data": np.array([np.inf, 1])}, "X is inf in row 0, column 0"),
        ({"data": np.array([1, 1e300])}, r"X is inf in row 1, column 2 \(as float32\)"),
        ({"data": np.ones(3)}, "not a sound .npz matrix"),
        ({"indices": np.array([0, -1])}, "not a sound .npz matrix"),
        ({"indices": np.array([0, 3])}, "not a sound .npz matrix"),
        ({"indptr": np.array([0, 2, 1])}, "not a sound .npz matrix"),
        ({"indptr": np.array([0, 1, 2**40])}, "not a sound .npz matrix"),
        ({"indptr": np.array([-1, 1, 2])}, "not a sound .npz matrix"),
        ({"indptr": np.zeros((3, 1), np.int32)}, "not a sound .npz matrix"),
        (
            {"indptr": np.array([0, 1, -(2**31), -1, 2], np.int32), "shape": np.array([4, 3])},
            "not a sound .npz matrix.*the pointers run from -2147483648",
        ),
    ],
)
def test_bad_npz(tmp_path, y_file, refused, change, message):
    path = npz(tmp_path, **(GOOD | change))
    refused(DataError, rf"X\.npz: .*({message})|{message}", lambda: read(path, y_path=y_file))


@pytest.mark.parametrize(
    "arrays",
    [
        {"format": np.array(b"csc"), "indptr": np.zeros(4, np.int32)},
        {"format": np.array(b"coo"), "row": np.zeros(0, np.int32), "col": np.zeros(0, np.int32)},
    ],
    ids=["csc", "coo"],
)
@pytest.mark.parametrize("n_rows", [10**9, 2**40])
def test_rows_that_are_only_claimed(tmp_path, y_file, refused, arrays, n_rows):
    empty = {"shape": np.array([n_rows, 3]), "data": np.zeros(0), "indices": np.zeros(0, np.int32)}
    path = npz(tmp_path, **empty | arrays)
    refused(
        DataError,
        rf"X\.npz: {n_rows} rows in \d+ bytes; the file is damaged",
        lambda: read(path, y_path=y_file),
    )


def test_labels_that_are_only_claimed(tmp_path, refused):
    x_path, y_path = (
        npz(tmp_path, **GOOD),
        npz(tmp_path, "Y.npz", **GOOD | {"shape": np.array([2, 2**31 - 1])}),
    )
    refused(
        DataError, r"Y\.npz: 2147483647 labels; more than 16,777,216", lambda: read(x_path, y_path=y_path)
    )


def entry(shape, content=b""):
    """An array file whose header claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue() + content


@pytest.mark.parametrize("shape", [(10**15,), (10**9,), (2**63,), (-5,), (2**32, 2**32)])
def test_an_array_that_claims_more_than_there_is(tmp_path, y_file, refused, shape):
    path = npz(tmp_path, packed=False, **GOOD)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts["data.npy"] = entry(shape, b"\0" * 16)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    refused(DataError, r"X\.npz: not a sound .npz matrix", lambda: read(path, y_path=y_file))


def test_a_zip_bomb_is_refused_by_the_stated_bound(tmp_path, y_file, refused, monkeypatch):
    monkeypatch.setattr(gzipped, "FREE_BYTES", 1 << 20)
    arrays = GOOD | {"data": np.zeros(10**6), "indices": np.zeros(10**6, np.int32)}
    path = npz(tmp_path, **arrays)
    refused(
        DataError,
        r"X\.npz: unpacks to [\d,]+ bytes, more than .*if you trust it, save it again with compressed=False",
        lambda: read(path, y_path=y_file),
    )


def test_a_zip_file_that_is_locked_or_holds_a_pickle(tmp_path, y_file, refused):
    path = npz(tmp_path, packed=False, **GOOD)
    content = bytearray(path.read_bytes())
    for at in range(len(content) - 4):
        if content[at : at + 4] in (b"PK\x01\x02", b"PK\x03\x04"):
            content[at + (8 if content[at + 2] == 1 else 6)] |= 1  # the flag for a password
    path.write_bytes(content)
    refused(
        DataError,
        r"X\.npz: not a sound .npz matrix.*password|X\.npz: not a sound",
        lambda: read(path, y_path=y_file),
    )
    path = npz(tmp_path, **GOOD | {"data": np.array([{"a": 1}, print], dtype=object)})
    refused(
        DataError, r"X\.npz: not a sound .npz matrix.*allow_pickle=False", lambda: read(path, y_path=y_file)
    )


# --- images ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file_name,tags\nnone.png,a\n", r"row 1: there is no image file .*none\.png"),
        ("file_name,tags\n,a\n", r"row 1: there is no image file"),
        ("file_name,tags\n.,a\n", r"row 1: there is no image file"),
        (f"file_name,tags\n{'x' * 5000},a\n", r"row 1: there is no image file"),
        ('file_name,tags\n"a\0b",a\n', r"row 1: there is no image file"),
        ("file_name,tags\n", r"the table has no rows"),
        ("name,tags\na.png,a\n", r"no column 'file_name'; the columns are 'name', 'tags'"),
        ("file_name,tag\na.png,a\n", r"no column 'tags'"),
        ("file_name,tags\na.png,\n", r"no row has a tag in column 'tags'"),
    ],
)
def test_bad_tables_of_images(write, tmp_path, refused, table, message):
    write("metadata.csv", table)
    refused(DataError, rf"metadata\.csv: ({message})", lambda: read_images(tmp_path))
