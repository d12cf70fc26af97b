import gzip

import pytest

from evenhand.multilabel.data import DataError


@pytest.fixture
def write(tmp_path):
    """Write a file into the test's folder (gzipped for .gz) and return its path."""

    def write_file(name, content):
        content = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write_file


@pytest.fixture
def fails():
    """Assert that reading fails with a message that starts at the place and holds the rest."""

    def check(read, path, message):
        with pytest.raises(DataError) as caught:
            read(path)
        place, _, rest = message.partition(" ")
        assert str(caught.value).startswith(f"{path}{place} ")
        assert rest in str(caught.value)

    return check


@pytest.fixture(scope="session")
def mulan(public_data):
    return public_data("mulan")
