"""Train one extreme classifier on prepared files, and leave its scores, times, memory and size.

Runs by itself, in whatever environment has the method (some need an older numpy than evenhand):

    python benchmarks/extreme_method.py pecos runs/extreme-labels --options '{"C": 0.3}'

The folder holds x_train, y_train, x_val and x_test (.npz, CSR). Scores go to METHOD.val.npz and
METHOD.test.npz, costs to METHOD.json.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

K = 20  # labels kept of each instance

Matrix = Any
Seconds = tuple[float, float]  # by the clock, and of the processor in all threads
Outcome = tuple[Callable[[Matrix], Matrix], Seconds, int]  # how to predict, cost of training, bytes on disk


def now() -> Seconds:
    return time.perf_counter(), time.process_time()


def since(start: Seconds) -> Seconds:
    return time.perf_counter() - start[0], time.process_time() - start[1]


def folder_size(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def evenhand(x: Matrix, y: Matrix, threads: int, **options: Any) -> Outcome:
    from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
    from evenhand.multilabel.model_io import Model, load_model, save_model

    few = slice(0, 200)
    ExtremeGameClassifier(leaf_size=4, n_jobs=threads, **options).fit(x[few], y[few]).predict_topk(x[few], K)
    start = now()  # after compilation
    model = ExtremeGameClassifier(n_jobs=threads, **options).fit(x, y)
    trained = since(start)
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    save_model(Model(model), f"{folder}/model")
    loaded = load_model(f"{folder}/model").classifier
    return lambda wanted: loaded.predict_topk(wanted, K), trained, folder_size(folder)


def pecos(x: Matrix, y: Matrix, threads: int, *, C: float = 1.0) -> Outcome:
    from pecos.xmc import Indexer, LabelEmbeddingFactory
    from pecos.xmc.xlinear.model import XLinearModel

    x, y = (sparse.csr_matrix(part).astype(np.float32) for part in (x, y))
    start = now()
    clusters = Indexer.gen(LabelEmbeddingFactory.create(y, x, method="pifa"))
    model = XLinearModel.train(x, y, C=clusters, threads=threads, Cp=C, Cn=C)
    trained = since(start)
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        size = folder_size(folder)

    def predict(wanted: Matrix) -> Matrix:
        return model.predict(sparse.csr_matrix(wanted).astype(np.float32), only_topk=K, threads=threads)

    return predict, trained, size


def omikuji(x: Matrix, y: Matrix, threads: int, *, bonsai: bool, C: float = 1.0) -> Outcome:
    import omikuji as library

    options = library.Model.default_hyper_param()
    options.linear_c = C
    if bonsai:
        options.cluster_balanced, options.cluster_k, options.max_depth = False, 100, 3
    with tempfile.TemporaryDirectory() as folder:
        write_xmc(Path(folder) / "train.txt", x, y)
        start = now()  # parsing the file, a small part of it, is in it
        model = library.Model.train_on_data(f"{folder}/train.txt", options, n_threads=threads)
        trained = since(start)
        model.save(f"{folder}/model")
        size = folder_size(f"{folder}/model")

    def predict(wanted: Matrix) -> Matrix:
        rows = (
            list(zip(wanted.indices[a:b].tolist(), wanted.data[a:b].tolist()))
            for a, b in zip(wanted.indptr[:-1], wanted.indptr[1:])
        )
        return from_pairs([model.predict(row, top_k=K) for row in rows], y.shape[1])

    return predict, trained, size


def napkinxc(x: Matrix, y: Matrix, threads: int, *, C: float = 10.0) -> Outcome:
    from napkinxc.models import PLT

    x, y = (sparse.csr_matrix(part) for part in (x, y))
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    model = PLT(folder, threads=threads, liblinear_c=C, seed=0)
    start = now()
    model.fit(x, y)
    trained = since(start)

    def predict(wanted: Matrix) -> Matrix:
        return from_pairs(model.predict_proba(sparse.csr_matrix(wanted), top_k=K), y.shape[1])

    return predict, trained, folder_size(folder)


def libmultilabel(x: Matrix, y: Matrix, threads: int, *, C: float = 1.0) -> Outcome:
    from libmultilabel.linear import tree

    x, y = (sparse.csr_matrix(part).astype(np.float64) for part in (x, y))
    start = now()
    model = tree.train_tree(y, x, f"-s 1 -e 0.0001 -c {C} -m {threads}")
    trained = since(start)
    size = sum(part.nbytes for part in (model.flat_model.weights.data, model.flat_model.weights.indices))

    def predict(wanted: Matrix) -> Matrix:
        parts = []
        for at in range(0, wanted.shape[0], 256):  # it predicts into a dense array
            dense = model.predict_values(sparse.csr_matrix(wanted[at : at + 256]).astype(np.float64))
            best = np.argpartition(-dense, min(K, dense.shape[1] - 1), axis=1)[:, :K]
            values = np.take_along_axis(dense, best, axis=1)
            rows = np.repeat(np.arange(len(best)), best.shape[1])
            parts.append(sparse.csr_matrix((values.ravel(), (rows, best.ravel())), shape=dense.shape))
        return sparse.vstack(parts, format="csr")

    return predict, trained, size


def from_pairs(found: list[list[tuple[int, float]]], n_labels: int) -> Matrix:
    """Lists of (label, score), one an instance, as CSR."""
    pairs = np.array([pair for row in found for pair in row])
    indptr = np.cumsum([0, *map(len, found)])
    shape = (len(found), n_labels)
    return sparse.csr_matrix((pairs[:, 1], pairs[:, 0].astype(int), indptr), shape=shape)


def write_xmc(path: Path, x: Matrix, y: Matrix) -> None:
    with path.open("w") as file:
        file.write(f"{x.shape[0]} {x.shape[1]} {y.shape[1]}\n")
        for row in range(x.shape[0]):
            a, b = x.indptr[row : row + 2]
            labels = ",".join(map(str, y.indices[y.indptr[row] : y.indptr[row + 1]]))
            values = " ".join(f"{i}:{v:.6g}" for i, v in zip(x.indices[a:b], x.data[a:b]))
            file.write(f"{labels} {values}\n")


METHODS: dict[str, Callable[..., Outcome]] = {
    "evenhand": evenhand,
    "evenhand, 3 trees": partial(evenhand, n_players=3),
    "evenhand, 3 trees, α = 1": partial(evenhand, n_players=3, rarity_reward=1.0, C=0.5),
    "evenhand, α = 0": partial(evenhand, rarity_reward=0.0),
    "pecos": pecos,
    "omikuji (Parabel)": partial(omikuji, bonsai=False),
    "omikuji (Bonsai)": partial(omikuji, bonsai=True),
    "napkinxc": napkinxc,
    "libmultilabel": libmultilabel,
}


def main() -> None:
    """Train, predict, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--options", type=json.loads, default={}, help="of the method, as a JSON object")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="(default: all cores)")
    given = parser.parse_args()
    x, y, x_val, x_test = (
        sparse.csr_matrix(sparse.load_npz(given.folder / f"{name}.npz"))
        for name in ("x_train", "y_train", "x_val", "x_test")
    )
    predict, trained, size = METHODS[given.method](x, y, given.threads, **given.options)
    start = time.perf_counter()
    scores = predict(x_test)
    predicted = time.perf_counter() - start
    for part, found in (("test", scores), ("val", predict(x_val))):
        sparse.save_npz(given.folder / f"{given.method}.{part}.npz", sparse.csr_matrix(found))
    record = {"train": trained[0], "processor": trained[1], "predict": predicted / x_test.shape[0]}
    record |= {"size": size, "memory": peak_memory()}
    (given.folder / f"{given.method}.json").write_text(json.dumps(record))


def peak_memory() -> int:
    """Bytes held at most. getrusage would begin with what the process that started this one had held."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)[0])


if __name__ == "__main__":
    main()
