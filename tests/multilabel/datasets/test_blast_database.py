import pytest

from evenhand.multilabel.data import DataError
from evenhand.multilabel.datasets.blast_database import read_proteins

RECORDS = [
    ("P1|first", "ABCDEFGHIKLMNPQRSTVWXYZU*OJ"),
    ("P2|" + "long " * 30, "M"),
    ("P3|" + "longer " * 100, "MM"),
]


@pytest.fixture
def stem(tmp_path, write_database):
    write_database(tmp_path / "small", RECORDS)
    return tmp_path / "small"


def change(stem, ending, edit):
    path = stem.with_name(f"{stem.name}{ending}")
    content = bytearray(path.read_bytes())
    path.write_bytes(edit(content) or content)


def put(at, value):
    def edit(content):
        content[at] = value

    return edit


def test_records_come_as_written(stem):
    assert list(read_proteins(stem)) == RECORDS


@pytest.mark.parametrize(
    ("ending", "edit", "message"),
    [
        (".pin", put(3, 5), r"small\.pin: version 5, type 1; .* version 4.*makeblastdb -blastdb_version 4"),
        (".pin", put(7, 0), r"small\.pin: version 4, type 0"),
        (".pin", lambda content: content[:6], r"small\.pin: ends within"),
        (".pin", lambda content: content[:-2], r"small\.pin: ends within"),
        (".pin", put(11, 255), r"small\.pin: ends within"),
        (".pin", put(-1, 0), r"small\.pin: its offsets do not fit"),
        (".pin", put(-9, 0), r"small\.pin: its offsets do not fit"),
        (".phr", lambda content: content[:-1], r"small\.pin: its offsets do not fit"),
        (".psq", lambda content: content + b"\0", r"small\.pin: its offsets do not fit"),
        (".psq", put(2, 28), r"small\.psq: record 1 is no protein sequence"),
        (".psq", put(-2, 0), r"small\.psq: record 3 is no protein sequence"),
        (".psq", put(-1, 1), r"small\.psq: record 3 is no protein sequence"),
        (".phr", put(0, 0), r"small\.phr: record 1 does not begin with a title"),
        (".phr", put(7, 127), r"small\.phr: record 1 does not begin with a title"),
    ],
)
def test_damage_names_the_file_and_the_mend(stem, ending, edit, message):
    change(stem, ending, edit)
    with pytest.raises(DataError, match=f"{message}.*(make|fetch)"):
        list(read_proteins(stem))


@pytest.mark.parametrize("ending", [".pin", ".phr", ".psq"])
def test_a_missing_or_empty_file(stem, ending):
    path = stem.with_name(f"small{ending}")
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"small\{ending}: cannot be read .*empty"):
        list(read_proteins(stem))
    path.unlink()
    with pytest.raises(DataError, match=rf"small\{ending}: cannot be read .*No such file"):
        list(read_proteins(stem))
