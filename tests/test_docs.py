"""What the documentation tells people to type in the shell runs; its Python is run by doctest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from evenhand.multilabel.datasets import make_long_tail

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ["tagger.md", "xmc.md"]
DATA = make_long_tail(260, 12, 80, labels_per_instance=2.0, seed=0)


@pytest.fixture
def folder(tmp_path):
    """The files that the pages speak of."""
    for name, rows in (("train", range(200)), ("test", range(200, 260))):
        words = [" ".join(f"w{column}" for column in DATA.X[[row]].indices) for row in rows]
        tags = [",".join(DATA.tags(row)) for row in rows]
        title = [text.split()[0] if text else "" for text in words]
        pl.DataFrame({"title": title, "body": words, "tags": tags}).write_csv(tmp_path / f"{name}.csv")
        lines = [f"{len(rows)} 80 12"]
        for row in rows:
            x, labels = DATA.X[[row]], ",".join(map(str, DATA.Y[[row]].indices))
            lines.append(f"{labels} " + " ".join(f"{c}:{v:g}" for c, v in zip(x.indices, x.data)))
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_run_as_they_stand(page, folder):
    blocks = re.findall(r"^```bash\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(blocks)],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"[\w/-]+\.md", (DOCS.parent / "mkdocs.yml").read_text("utf-8")))
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


def test_every_bash_block_is_run():
    for path in DOCS.rglob("*.md"):
        assert "```bash" not in path.read_text("utf-8") or path.name in PAGES
