import re

import pytest

collect_ignore = ["fuzz_readers.py"]  # a command, which needs atheris


@pytest.fixture
def refused():
    """Assert that a call ends in this error, with a message that matches and that a person can read."""

    def check(error, pattern, call):
        with pytest.raises(error) as caught:
            call()
        text = str(caught.value)
        assert re.search(pattern, text), text[:2000]
        assert len(text) < 2000

    return check
