import pytest

from evenhand.multilabel.data import DataError


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
