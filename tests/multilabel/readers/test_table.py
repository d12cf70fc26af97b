import gzip
import json

import numpy as np
import polars as pl
import pytest

from evenhand import gzipped
from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers import table
from evenhand.multilabel.readers.table import read_table

CSV = (
    'id,title,body,tags\n7,Oak,"a tall, ""old""\ntree","tree, wood"\n8,Fern,,\n9,,moss,"wood,,tree, wood,"\n'
)
JSON_LINES = [
    {"id": "7", "title": "Oak", "body": 'a tall, "old"\ntree', "tags": ["tree", " wood"], "more": {"a": 1}},
    {"id": "8", "title": "Fern", "body": None, "tags": []},
    {"id": "9", "body": "moss", "tags": ["wood", "", None, "tree", "wood"]},
]
EXPECTED = [["Oak", 'a tall, "old"\ntree'], ["Fern", ""], ["", "moss"]]


def json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def check(data):
    assert data.kind == "text"
    assert data.X.tolist() == EXPECTED
    assert data.feature_names == ("title", "body")
    assert data.label_names == ("tree", "wood")
    assert data.Y.toarray().tolist() == [[1, 1], [0, 0], [1, 1]]
    assert data.instance_ids == ("7", "8", "9")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.CSV", CSV),
        ("a.csv.gz", CSV),
        ("bom.csv", "\ufeff" + CSV),
        ("no_end.csv", CSV.rstrip()),
        ("blank_end.csv", CSV + "\n\n"),
        ("a.jsonl", json_lines(JSON_LINES)),
        ("a.ndjson.gz", json_lines(JSON_LINES) + "\n"),
        ("bom.jsonl", "\ufeff" + json_lines(JSON_LINES).replace("\n", "\r\n")),
    ],
)
def test_good_text_files(write, name, content):
    check(read_table(write(name, content), text=["title", "body"], tags="tags", id="id"))


def test_crlf_table(write):
    data = read_table(write("a.csv", "t,g\r\nx,a\r\ny,\r\n"), text="t", tags="g")
    assert data.X.tolist() == [["x"], ["y"]]
    assert data.tags(0) == ["a"]


def test_tsv_and_other_separators(write):
    path = write("a.tsv", "t\tg\nx, y\tb; a,c ;\nz\t\n")
    data = read_table(path, text="t", tags="g", separator=";")
    assert data.X.tolist() == [["x, y"], ["z"]]
    assert data.label_names == ("a,c", "b")
    assert data.instance_ids == ("0", "1")


@pytest.mark.parametrize("tags", ["lists", "strings", "categories"])
def test_parquet(tmp_path, tags):
    frame = pl.DataFrame(
        {
            "id": [7, 8, 9],
            "title": ["Oak", "Fern", None],
            "body": [row["body"] for row in JSON_LINES],
            "tags": [["tree", " wood"], [], ["wood", "", None, "tree", "wood"]],
        }
    )
    if tags == "strings":
        frame = frame.with_columns(tags=pl.Series(["tree, wood", None, "wood,,tree, wood,"]))
    if tags == "categories":
        frame = frame.with_columns(pl.col("tags").cast(pl.List(pl.Categorical)))
    frame.write_parquet(tmp_path / "a.parquet")
    check(read_table(tmp_path / "a.parquet", text=["title", "body"], tags="tags", id="id"))


def test_no_letter_of_a_name_is_a_pattern(tmp_path):
    pl.DataFrame({"t": ["x"], "g": ["a"]}).write_parquet(tmp_path / "a[1]*.parquet")
    assert read_table(tmp_path / "a[1]*.parquet", text="t", tags="g").tags(0) == ["a"]


def test_text_that_looks_like_something_else_stays_text(write):
    data = read_table(write("a.csv", "t,g\n007,1.0\nNaN,01\nnull,1.0\n"), text="t", tags="g")
    assert data.X.tolist() == [["007"], ["NaN"], ["null"]]
    assert data.label_names == ("01", "1.0")


def test_tags_that_are_whole_numbers(write, tmp_path):
    path = write("a.jsonl", '{"t": "x", "g": [10, 9]}\n{"t": "y", "g": ["9"]}\n')
    assert read_table(path, text="t", tags="g").tags(0) == ["10", "9"]
    pl.DataFrame({"t": ["x"], "g": [[10, 9]]}).write_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", text="t", tags="g").tags(0) == ["10", "9"]


def test_the_file_with_a_column_of_text_that_is_long(write):
    long = "word " * 50_000
    data = read_table(write("a.csv", f"t,g\n{long},\ny,a\n"), text="t", tags="g")
    assert data.X[0, 0] == long
    assert data.tags(1) == ["a"]


BAD = [
    ("a.csv", b"", ": the file is empty"),
    ("a.csv", "\n", ": the table cannot be read"),
    ("a.csv", "t,g\n", ": the table has no rows"),
    ("a.csv", "t,g\nx,\ny, \n", ": no row has a tag in column 'g'"),
    ("a.csv", "t,tags\nx,a\n", ": no column 'g'; the columns are 't', 'tags'"),
    ("a.csv", "x,g\nx,a\n", ": no column 't'; the columns are 'x', 'g'"),
    (
        "a.csv",
        "t,g\nx,a\ny,a,b\n",
        ":3: 3 fields, the header has 2; put a field that holds ',' in double quotes",
    ),
    ("a.csv", "t,g\nx,a\ny\n", ":3: 1 fields, the header has 2"),
    ("a.csv", 't,g\n"x\ny",a\ny\n', ":4: 1 fields, the header has 2"),
    ("a.csv", "t,g\nx,a\n\ny,b\n", ":3: blank line; take it out"),
    ("a.csv", 't,g\nx,a\n"y,b\n', ":3: unexpected end of data; a double quote may be left open"),
    ("a.csv", b"t,g\nx,a\n\xe9,b\n", ":3: not UTF-8 text"),
    ("a.csv", "t,g,t\nx,a,y\n", ":1: column 't' stands twice"),
    ("a.csv", 't,g\nx"y,a\nz,b\n', ": the table cannot be read (CSV malformed"),
    ("a.tsv", "t,g\nx,a\n", ": no column 't'; the columns are 't,g'"),
    ("a.parquet", b"PAR1", ": not a sound Parquet file"),
    ("a.parquet", b"", ": not a sound Parquet file"),
    ("a.jsonl", b"", ": the file is empty"),
    ("a.jsonl", "\n", ": the table has no rows"),
    (
        "a.jsonl",
        '{"t": "x", "g": ["a"]}\n{"t": "y", "g": \n',
        ":2: not sound JSON (Expecting value: line 1 column 17",
    ),
    ("a.jsonl", '{"t": "x", "g": ["a"]}\n\n{"t": "x", "g": ["a"]}\n', ":2: blank line"),
    ("a.jsonl", '{"t": "\\ud800", "g": ["a"]}\n', ":1: not sound JSON ('utf-8' codec can't encode"),
    ("a.jsonl", '{"t": "x", "g": [' + "9" * 5000 + "]}\n", ":1: not sound JSON (Exceeds the limit"),
    ("a.jsonl", "[" * 100_000 + "\n", ":1: not sound JSON ("),
    ("a.jsonl", '["x", "a"]\n', ":1: not a JSON object"),
    ("a.jsonl", '{"t": "x", "tags": ["a"]}\n', ": no column 'g'; the columns are 't', 'tags'"),
    ("a.jsonl", '{"t": "x", "g": ["a"]}\n{"t": NaN, "g": []}\n', ":2: field 't' is NaN, not a text"),
    ("a.jsonl", '{"t": "x", "g": ["a"]}\n{"t": "y", "g": "b"}\n', ":2: field 'g' is \"b\", not a list"),
    ("a.jsonl", '{"t": "x", "g": "a"}\n{"t": "y", "g": ["b"]}\n', ":2: field 'g' is [\"b\"], not a text"),
    ("a.jsonl", '{"t": "x", "g": [["a"]]}\n', ":1: field 'g' is [[\"a\"]], not a text, whole number or list"),
    ("a.jsonl", '{"t": "x", "g": [true]}\n', ":1: field 'g' is [true], not a text, whole number or list"),
    ("a.jsonl", '{"t": 5, "g": ["a"]}\n', ": column 't' holds Int64, not strings"),
    ("a.jsonl", '{"t": "x", "g": 3}\n', ": column 'g' holds Int64, not strings or lists of them"),
    ("a.json", "[]", ": not a table; its name has to end in .csv"),
    ("a.parquet.gz", "", ": not a table; its name has to end in .csv"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[f"{c[0]}{c[2][:40]}" for c in BAD])
def test_bad_files_name_line_and_fault(write, fails, name, content, message):
    fails(lambda path: read_table(path, text="t", tags="g"), write(name, content), message)


def test_parquet_columns_of_another_kind(tmp_path, fails):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"t": [1.5, float("nan")], "g": ["a", "b"], "f": [[1.5], [2.5]]}).write_parquet(path)
    fails(lambda p: read_table(p, text="t", tags="g"), path, ": column 't' holds Float64, not strings")
    fails(
        lambda p: read_table(p, text="g", tags="t"), path, ": column 't' holds Float64, not strings or lists"
    )
    fails(
        lambda p: read_table(p, text="g", tags="f"), path, ": column 'f' holds List(Float64), not strings or"
    )
    fails(
        lambda p: read_table(p, text="g", tags="g", id="t"),
        path,
        ": column 't' holds Float64, not strings or",
    )
    fails(lambda p: read_table(p, text="g", tags="x"), path, ": no column 'x'; the columns are 't', 'g', 'f'")


def test_a_row_without_an_id(write, fails):
    path = write("a.csv", "i,t,g\n1,x,a\n,y,b\n")
    fails(lambda p: read_table(p, text="t", tags="g", id="i"), path, ": row 2 has no value in the column 'i'")


def test_bad_options_name_themselves(write):
    path = write("a.csv", CSV)
    for texts in ([], ["title", "title"]):
        with pytest.raises(DataError, match="text has to name one column or more, none twice"):
            read_table(path, text=texts, tags="tags")
    with pytest.raises(DataError, match="separator is empty"):
        read_table(path, text="title", tags="tags", separator="")


def test_cut_off_gzip_and_no_file(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode() * 50)[:-20])
    with pytest.raises(DataError, match="the gzip file ends too early"):
        read_table(path, text="title", tags="tags")
    for name in ("none.csv", "none.parquet", "none.jsonl"):
        with pytest.raises(DataError, match=f"{name}: No such file"):
            read_table(tmp_path / name, text="title", tags="tags")


def test_groups_and_no_tags(write):
    path = write("a.csv", "t,s\nx,1\ny,1\nz,2\n")
    data = read_table(path, text="t", tags=None, group="s")
    assert data.groups.tolist() == ["1", "1", "2"]
    assert data.Y.shape == (3, 0)
    assert data.take([2]).X.tolist() == [["z"]]


def test_a_row_without_a_group(write, fails):
    path = write("a.csv", "t,g,s\nx,a,1\ny,b,\n")
    fails(
        lambda p: read_table(p, text="t", tags="g", group="s"), path, ": row 2 has no value in the column 's'"
    )


@pytest.mark.parametrize("rows", [1, 2, 1 << 15])
@pytest.mark.parametrize("row_group", [1, 2, 3])
def test_parquet_is_the_same_in_pieces_of_any_size(tmp_path, monkeypatch, rows, row_group):
    monkeypatch.setattr(table, "_ROWS", rows)
    frame = pl.DataFrame(JSON_LINES, schema_overrides={"tags": pl.List(pl.String)})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=row_group)
    check(read_table(tmp_path / "a.parquet", text=["title", "body"], tags="tags", id="id"))


@pytest.mark.parametrize("tags", [["a", "b"], ["b", "a"]])
@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["b", "a"])])
def test_categories_of_pieces_fit_together(tmp_path, monkeypatch, kind, tags):
    monkeypatch.setattr(table, "_ROWS", 1)
    frame = pl.DataFrame({"t": ["x", "y"], "g": pl.Series(tags, dtype=kind)})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=1)
    data = read_table(tmp_path / "a.parquet", text="t", tags="g")
    assert [data.tags(0), data.tags(1)] == [[tag] for tag in tags]


@pytest.mark.parametrize("read", ["table", "tags"])
def test_a_parquet_bomb_is_refused_before_all_of_it_is_in_memory(tmp_path, monkeypatch, read):
    monkeypatch.setattr(gzipped, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(table, "_ROWS", 100)
    path = tmp_path / "a.parquet"
    pl.DataFrame({"t": ["x"] * 5000, "g": ["tag," * 5000] * 5000}).write_parquet(path)
    seen, collect = [], table._collect
    monkeypatch.setattr(table, "_collect", lambda *a: seen.append(collect(*a)) or seen[-1])
    with pytest.raises(DataError, match=r"a.parquet: unpacks to more than [\d,]+ bytes, the bound"):
        read_table(path, text="t", tags="g") if read == "table" else table.read_tags(path, tags="g")
    assert sum(part.height for part in seen if "g" in part.columns) < 1000


def test_tags_alone_of_too_many_rows_are_refused_by_their_number(tmp_path, monkeypatch):
    monkeypatch.setattr(gzipped, "FREE_BYTES", 1 << 10)
    path = tmp_path / "a.parquet"
    pl.DataFrame({"g": [None] * 100_000}, schema={"g": pl.String}).write_parquet(path)
    monkeypatch.setattr(table, "_held_bytes", lambda piece: pytest.fail("it was read"))
    with pytest.raises(DataError, match=r"a.parquet: unpacks to more than [\d,]+ bytes"):
        table.read_tags(path, tags="g")


@pytest.mark.slow
def test_parquet_texts_never_stand_in_memory_twice(tmp_path, peak_growth):
    n, length, draw = 100_000, 2_000, np.random.default_rng(0)
    for name, rows in (("small", 10), ("large", n)):
        # Packed ten times or so: more would be refused, and what is mapped of the file counts too.
        texts = [draw.bytes(length // 40).hex() * 20 for _ in range(rows)]
        pl.DataFrame({"text": texts, "tags": ["a,b"] * rows}).write_parquet(tmp_path / f"{name}.parquet")
    read = "read_table({!r}, text='text', tags='tags')"
    prepare = "from evenhand.multilabel.readers import read_table\n" + read.format(
        str(tmp_path / "small.parquet")
    )
    grown = peak_growth(prepare, read.format(str(tmp_path / "large.parquet")))
    assert grown < 1.7 * n * length
