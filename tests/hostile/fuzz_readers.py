"""Look by coverage for files that break a reader or the model loader: no test, see CONTRIBUTING.md.

    python tests/hostile/fuzz_readers.py xmc -max_total_time=600 corpus/xmc

The first argument is what is read; the rest is libFuzzer's. Whatever is neither read nor refused by an error
of ours, or takes more than 5 seconds or 2 GB, is written to a file crash-…, timeout-… or oom-…, which the
same command reads again.

Bytes go in as a file, but for "model": these are a model's JSON, beside the arrays of a sound one. The
parsers of XMC text and svmlight run without numba here, as coverage sees Python only.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"

import atheris

with atheris.instrument_imports(include=["evenhand", "gzip", "zipfile"]):
    from evenhand.grpo.tasks import TaskError, read_tasks
    from evenhand.multilabel.data import DataError
    from evenhand.multilabel.datasets import make_long_tail
    from evenhand.multilabel.estimator import CuriosityGameClassifier
    from evenhand.multilabel.model_io import Model, load_model, save_model
    from evenhand.multilabel.readers import read
    from evenhand.multilabel.storage import FolderError
    from evenhand.multilabel.views import TextViews

FOLDER = Path(tempfile.mkdtemp(prefix="evenhand-fuzz-"))
TABLE = {"text": "t", "tags": "g", "id": "i"}


def file(name: str, call: Callable[[Path], object]) -> Callable[[bytes], None]:
    """What reads bytes as a file of this name."""

    def run(content: bytes) -> None:
        (FOLDER / name).write_bytes(content)
        with suppress(DataError, TaskError):
            call(FOLDER / name)

    return run


def arff() -> Callable[[bytes], None]:
    (FOLDER / "a.xml").write_text('<labels><label name="wet"/><label name="old"/></labels>')
    return file("a.arff", read)


def xml() -> Callable[[bytes], None]:
    (FOLDER / "a.arff").write_text("@attribute wet {0,1}\n@attribute f numeric\n@data\n1,0.5\n")
    return file("a.xml", lambda path: read(FOLDER / "a.arff"))


def npz() -> Callable[[bytes], None]:
    import numpy as np
    from scipy import sparse

    good = io.BytesIO()
    sparse.save_npz(good, sparse.csr_array(np.eye(2)))
    (FOLDER / "Y.npz").write_bytes(good.getvalue())
    return file("X.npz", lambda path: read(path, y_path=FOLDER / "Y.npz"))


def model() -> Callable[[bytes], None]:
    data = make_long_tail(60, 6, 30, labels_per_instance=1.5, seed=0)
    texts = [" ".join(f"w{column}" for column in data.X[[row]].indices) for row in range(60)]
    views = TextViews(("words",))
    classifier = CuriosityGameClassifier(tolerance=0.3, n_folds=2).fit(views.fit_transform(texts), data.Y)
    save_model(Model(classifier, views), FOLDER / "model")
    (FOLDER / "seeds").mkdir()
    shutil.copy(FOLDER / "model" / "model.json", FOLDER / "seeds")
    print(f"A sound model's JSON to start from: {FOLDER / 'seeds'}", file=sys.stderr)

    def run(content: bytes) -> None:
        (FOLDER / "model" / "model.json").write_bytes(content)
        with suppress(FolderError):
            load_model(FOLDER / "model")

    return run


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "xmc": lambda: file("a.txt", read),
    "xmc.gz": lambda: file("a.txt.gz", read),
    "svmlight": lambda: file("a.svm", read),
    "csv": lambda: file("a.csv", lambda path: read(path, **TABLE)),
    "tsv": lambda: file("a.tsv", lambda path: read(path, **TABLE)),
    "jsonl": lambda: file("a.jsonl", lambda path: read(path, **TABLE)),
    "parquet": lambda: file("a.parquet", lambda path: read(path, **TABLE)),
    "arff": arff,
    "xml": xml,
    "npz": npz,
    "tasks": lambda: file("t.jsonl", read_tasks),
    "model": model,
}


def main() -> None:
    """Fuzz what the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"give one of {', '.join(TARGETS)}")
    run = TARGETS[sys.argv.pop(1)]()
    try:
        atheris.Setup([sys.argv[0], "-timeout=5", "-rss_limit_mb=2048", *sys.argv[1:]], run)
        atheris.Fuzz()
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
