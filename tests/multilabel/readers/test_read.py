import gzip

import polars as pl
import pytest
from scipy import sparse

from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers import read


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", "t,g\nx,1\n", {"text": "t", "tags": "g"}),
        ("a.TSV.gz", "t\tg\nx\t1\n", {"text": "t", "tags": "g"}),
        ("a.jsonl", '{"t": "x", "g": "1"}\n', {"text": "t", "tags": "g"}),
        ("a.txt", "1 2 2\n1 0:0.5\n", {}),
        ("a.txt.gz", "1 2 2\n1 0:0.5\n", {}),
        ("a.svm", "1 1:0.5\n", {"zero_based": False}),
        ("a.libsvm.gz", "1 1:0.5\n", {}),
        ("a.arff", "@attribute 1 {0,1}\n@attribute a numeric\n@data\n1,0.5\n", {}),
    ],
)
def test_the_ending_picks_the_reader(write, name, content, options):
    write("a.xml", '<labels><label name="1"/></labels>')
    path = write(name.replace("TSV", "tsv"), content)
    data = read(path, **options)
    assert data.tags(0) == ["1"]
    assert data.source == str(path)
    assert read(str(path), **options).tags(0) == ["1"]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.CSV.GZ", "t,g\nx,1\n", {"text": "t", "tags": "g"}),
        ("a.csv.GZ", "t,g\nx,1\n", {"text": "t", "tags": "g"}),
        ("a.TSV.gz", "t\tg\nx\t1\n", {"text": "t", "tags": "g"}),
        ("a.Jsonl.Gz", '{"t": "x", "g": "1"}\n', {"text": "t", "tags": "g"}),
        ("a.txt.GZ", "1 2 2\n1 0:0.5\n", {}),
        ("a.SVM.GZ", "1 1:0.5\n", {}),
        ("a.ARFF.GZ", "@attribute 1 {0,1}\n@attribute a numeric\n@data\n1,0.5\n", {}),
    ],
)
def test_endings_may_be_in_capitals(tmp_path, name, content, options):
    (tmp_path / "a.xml").write_text('<labels><label name="1"/></labels>')
    (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    assert read(tmp_path / name, **options).tags(0) == ["1"]


def test_parquet_in_capitals_is_parquet_and_never_gzipped(tmp_path):
    pl.DataFrame({"t": ["x"], "g": ["1"]}).write_parquet(tmp_path / "a.PARQUET")
    assert read(tmp_path / "a.PARQUET", text="t", tags="g").tags(0) == ["1"]
    for name in ("a.parquet.gz", "a.PARQUET.GZ"):
        with pytest.raises(DataError, match="not a table; its name has to end in"):
            read(tmp_path / name, text="t", tags="g")


def test_npz_pairs(tmp_path):
    for name in ("X", "Y"):
        sparse.save_npz(tmp_path / f"{name}.npz", sparse.csr_array([[1.0, 0.0]]))
    assert read(tmp_path / "X.npz", y_path=tmp_path / "Y.npz").tags(0) == ["0"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.doc", {}, r"a.doc: no reader for the ending '.doc'; there are .csv, "),
        ("a", {}, r"no reader for the ending ''"),
        ("a.txt", {"tags": "g"}, r"read_xmc has no option 'tags'; its options are label_names"),
        ("a.csv", {"text": "t"}, r"read_table needs the option 'tags'"),
        ("a.npz", {}, r"read_npz needs the option 'y_path'"),
        ("a.csv", {"path": "b"}, r"read_table has no option"),
    ],
)
def test_what_does_not_fit_is_said(name, options, message):
    with pytest.raises((DataError, TypeError), match=message if "path" not in options else "path"):
        read(name, **options)
