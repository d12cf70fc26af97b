import polars as pl
import pytest

from evenhand import gzipped
from evenhand.multilabel.data import DataError
from evenhand.multilabel.readers import images, read_images, table


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


TABLE = pl.DataFrame({"file_name": ["a.png", "b.png"], "tags": [["cat", "sofa"], ["cat"]]})
FLAT = TABLE.with_columns(pl.col("tags").list.join(","))


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: FLAT.write_csv(folder / "metadata.csv"),
        lambda folder: TABLE.write_ndjson(folder / "metadata.jsonl"),
        lambda folder: TABLE.write_parquet(folder / "metadata.parquet"),
    ],
)
def test_a_folder_with_a_table(folder, write):
    write(folder)
    data = read_images(folder)
    assert data.images == [folder / "a.png", folder / "b.png"]
    assert data.label_names == ("cat", "sofa")
    assert data.Y.toarray().tolist() == [[1, 1], [1, 0]]
    (table,) = folder.glob("metadata.*")
    assert read_images(table).images == data.images


@pytest.mark.parametrize("at_a_time", [1, 256])
@pytest.mark.parametrize("name", ["all.parquet", "all.PARQUET"])
@pytest.mark.parametrize("struct", [False, True])
def test_a_parquet_file_that_holds_the_images(tmp_path, monkeypatch, struct, name, at_a_time):
    monkeypatch.setattr(images, "_FILES", at_a_time)
    files = [b"first", b"second"]
    column = [{"bytes": f, "path": None} for f in files] if struct else files
    TABLE.with_columns(picture=pl.Series(column)).write_parquet(tmp_path / name)
    data = read_images(tmp_path / name, image="picture")
    assert data.images == files
    assert data.Y.toarray().tolist() == [[1, 1], [1, 0]]


def test_a_parquet_bomb_is_refused_before_all_of_it_is_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(gzipped, "FREE_BYTES", 1 << 20)
    frame = pl.DataFrame({"picture": [bytes(10_000)] * 5000, "tags": ["a"] * 5000})
    frame.write_parquet(tmp_path / "all.parquet")
    read, collect = [], table._collect
    monkeypatch.setattr(table, "_collect", lambda *a: read.append(collect(*a)) or read[-1])
    with pytest.raises(DataError, match=r"all.parquet: unpacks to more than [\d,]+ bytes, the bound"):
        read_images(tmp_path / "all.parquet", image="picture")
    assert 0 < sum(part.height for part in read if part.columns == ["picture"]) < 1000


def test_what_is_wrong_is_named(folder):
    with pytest.raises(DataError, match=r"there must be one of metadata.csv, .* beside the images; 0 are"):
        read_images(folder)
    FLAT.write_csv(folder / "metadata.csv")
    with pytest.raises(DataError, match="no column 'labels'"):
        read_images(folder, tags="labels")
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"metadata.csv: row 2: there is no image file .*b.png"):
        read_images(folder)
    TABLE.with_columns(picture=pl.Series([b"1", None])).write_parquet(folder / "all.parquet")
    with pytest.raises(DataError, match="row 2 has no image in the column 'picture'"):
        read_images(folder / "all.parquet", image="picture")
    (folder / "all.parquet").write_text("no Parquet")
    with pytest.raises(DataError, match="not a sound Parquet file"):
        read_images(folder / "all.parquet")
