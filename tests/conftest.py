import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def public_data():
    """The folder of a public collection that is not shipped, or a skip."""
    root = Path(os.environ.get("EVENHAND_DATA", Path(__file__).parents[1].parent / "shared" / "data"))

    def folder_of(name):
        if not (root / name).is_dir():
            pytest.skip(f"the data sets {name}/ are not here; set EVENHAND_DATA to their folder's parent")
        return root / name

    return folder_of
