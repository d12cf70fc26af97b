"""Look by coverage for files that break a reader or the model loader: no test, see CONTRIBUTING.md.

    python tests/hostile/fuzz_readers.py xmc -max_total_time=600 corpus/xmc

The first argument is what is read; the rest is libFuzzer's. Whatever is neither read nor refused by an error
of ours, or takes more than 5 seconds or 2 GB, is written to a file crash-…, timeout-… or oom-…, which the
same command reads again. It starts from a good file of its kind.

Bytes go in as a file, but for "model": these are a model's JSON, beside the arrays of a sound one. Coverage
sees nothing of modules with compiled loops, such as that of XMC text and svmlight.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

# numba compiles what these hold, and cannot compile what atheris puts into it.
COMPILED = (
    *("_kernels", "fusion", "solver", "splitting", "readers._rows", "metrics.ranking", "datasets.kmers"),
    *("decoding.calibration", "extreme.label_tree"),
)

with atheris.instrument_imports(
    include=["evenhand", "gzip", "zipfile"], exclude=[f"evenhand.multilabel.{name}" for name in COMPILED]
):
    import numpy as np
    import polars as pl
    from scipy import sparse

    from evenhand.grpo.tasks import TaskError, read_tasks
    from evenhand.multilabel.data import DataError
    from evenhand.multilabel.datasets import make_long_tail
    from evenhand.multilabel.estimator import CuriosityGameClassifier
    from evenhand.multilabel.model_io import Model, load_model, save_model
    from evenhand.multilabel.readers import read
    from evenhand.multilabel.storage import FolderError
    from evenhand.multilabel.text_views import TextViews

FOLDER = Path(tempfile.mkdtemp(prefix="evenhand-fuzz-"))
SEEDS = FOLDER / "seeds"
TABLE = {"text": "t", "tags": "g", "id": "i"}
XMC = b"3 4 5\n0,3 0:0.5 2:1e-3\n 3:-.2\n4\n"
ARFF = b"@relation r\n@attribute wet {0,1}\n@attribute 'o l d' numeric\n@data\n1,0.5\n{0 1}\n"
XML = b'<?xml version="1.0"?><labels><label name="wet"/></labels>'

Run = Callable[[bytes], None]


def file(name: str, seed: bytes, call: Callable[[Path], object]) -> Run:
    """What reads bytes as a file of this name."""
    (SEEDS / "good").write_bytes(seed)

    def run(content: bytes) -> None:
        (FOLDER / name).write_bytes(content)
        with suppress(DataError, TaskError):
            call(FOLDER / name)

    return run


def table(name: str, seed: bytes) -> Run:
    """What reads bytes as a table."""
    return file(name, seed, lambda path: read(path, **TABLE))


def parquet() -> Run:
    """What reads bytes as Parquet."""
    good = io.BytesIO()
    pl.DataFrame({"t": ["x", None], "g": [["a", "b"], []], "i": [1, 2]}).write_parquet(good)
    return table("a.parquet", good.getvalue())


def arff() -> Run:
    """What reads bytes as ARFF."""
    (FOLDER / "a.xml").write_bytes(XML)
    return file("a.arff", ARFF, read)


def xml() -> Run:
    """What reads bytes as the XML beside an ARFF file."""
    (FOLDER / "a.arff").write_bytes(ARFF)
    return file("a.xml", XML, lambda path: read(FOLDER / "a.arff"))


def npz() -> Run:
    """What reads bytes as a SciPy matrix."""
    good = io.BytesIO()
    sparse.save_npz(good, sparse.csr_array(np.eye(2)))
    (FOLDER / "Y.npz").write_bytes(good.getvalue())
    return file("X.npz", good.getvalue(), lambda path: read(path, y_path=FOLDER / "Y.npz"))


def model() -> Run:
    """What reads bytes as the JSON of a model."""
    data = make_long_tail(60, 6, 30, labels_per_instance=1.5, seed=0)
    texts = [" ".join(f"w{column}" for column in data.X[[row]].indices) for row in range(60)]
    views = TextViews(("words",))
    classifier = CuriosityGameClassifier(tolerance=0.3, n_folds=2).fit(views.fit_transform(texts), data.Y)
    save_model(Model(classifier, views), FOLDER / "model")
    shutil.copy(FOLDER / "model" / "model.json", SEEDS / "good")

    def run(content: bytes) -> None:
        (FOLDER / "model" / "model.json").write_bytes(content)
        with suppress(FolderError):
            load_model(FOLDER / "model")

    return run


TARGETS: dict[str, Callable[[], Run]] = {
    "xmc": lambda: file("a.txt", XMC, read),
    "xmc.gz": lambda: file("a.txt.gz", gzip.compress(XMC), read),
    "svmlight": lambda: file("a.svm", b"# head\n3,7 1:0.5 3:1 # first\n 2:2\n7#\n", read),
    "csv": lambda: table("a.csv", b't,g,i\n"x, ""y""\nz",a,1\n,"b,c",2\n'),
    "tsv": lambda: table("a.tsv", b"t\tg\ti\nx\ta,b\t1\ny\t\t2\n"),
    "jsonl": lambda: table("a.jsonl", b'{"t": "x", "g": ["a"], "i": 1}\n{"t": null, "g": [], "i": 2}\n'),
    "parquet": parquet,
    "arff": arff,
    "xml": xml,
    "npz": npz,
    "tasks": lambda: file("t.jsonl", b'{"prompt": "1+1?", "answer": ["2"]}\n', read_tasks),
    "model": model,
}


def main() -> None:
    """Fuzz what the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"give one of {', '.join(TARGETS)}")
    SEEDS.mkdir()
    call = TARGETS[sys.argv.pop(1)]()
    call((SEEDS / "good").read_bytes())  # compiles, so that the first input is not late

    def run(content: bytes) -> None:
        try:
            call(content)
        except BaseException:  # libFuzzer does not always come to it where other threads are running
            Path(f"crash-{hashlib.sha1(content).hexdigest()}").write_bytes(content)
            raise

    atheris.Setup([sys.argv[0], "-timeout=5", "-rss_limit_mb=2048", *sys.argv[1:], str(SEEDS)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    try:
        main()
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
