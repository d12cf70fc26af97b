"""Train one extreme classifier on prepared files, and leave its scores, times, memory and size.

Runs by itself, in whatever environment has the method (some need an older numpy than evenhand):

    python benchmarks/extreme_method.py pecos runs/extreme-labels

The folder holds x_train, y_train, x_test, y_test (.npz, CSR). The result goes to METHOD.npz and METHOD.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

K = 20  # labels kept of each instance
THREADS = os.cpu_count() or 1

Matrix = Any
Outcome = tuple[Matrix, float, float, int]  # scores, seconds of training, of prediction, bytes on disk


def folder_size(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def evenhand(x: Matrix, y: Matrix, x_test: Matrix, **options: Any) -> Outcome:
    from evenhand.multilabel.extreme.estimator import ExtremeGameClassifier
    from evenhand.multilabel.extreme.model_io import load_extreme_model, save_extreme_model

    few = slice(0, 200)
    ExtremeGameClassifier(leaf_size=4, n_jobs=THREADS, **options).fit(x[few], y[few]).predict_topk(x[few], K)
    start = time.perf_counter()  # after compilation
    model = ExtremeGameClassifier(n_jobs=THREADS, **options).fit(x, y)
    trained = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        save_extreme_model(model, f"{folder}/model")
        size = folder_size(folder)
        model = load_extreme_model(f"{folder}/model")
        start = time.perf_counter()
        scores = model.predict_topk(x_test, K)
        return scores, trained, time.perf_counter() - start, size


def pecos(x: Matrix, y: Matrix, x_test: Matrix) -> Outcome:
    from pecos.xmc import Indexer, LabelEmbeddingFactory
    from pecos.xmc.xlinear.model import XLinearModel

    x, y, x_test = (sparse.csr_matrix(part).astype(np.float32) for part in (x, y, x_test))
    start = time.perf_counter()
    clusters = Indexer.gen(LabelEmbeddingFactory.create(y, x, method="pifa"))
    model = XLinearModel.train(x, y, C=clusters, threads=THREADS)
    trained = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        size = folder_size(folder)
    start = time.perf_counter()
    scores = model.predict(x_test, only_topk=K, threads=THREADS)
    return scores, trained, time.perf_counter() - start, size


def omikuji(x: Matrix, y: Matrix, x_test: Matrix, *, bonsai: bool) -> Outcome:
    import omikuji as library

    options = library.Model.default_hyper_param()
    if bonsai:
        options.cluster_balanced, options.cluster_k, options.max_depth = False, 100, 3
    with tempfile.TemporaryDirectory() as folder:
        write_xmc(Path(folder) / "train.txt", x, y)
        start = time.perf_counter()  # parsing the file, about 0.1 s, is in it
        model = library.Model.train_on_data(f"{folder}/train.txt", options, n_threads=THREADS)
        trained = time.perf_counter() - start
        model.save(f"{folder}/model")
        size = folder_size(f"{folder}/model")
    rows = [
        list(zip(x_test.indices[a:b].tolist(), x_test.data[a:b].tolist()))
        for a, b in zip(x_test.indptr[:-1], x_test.indptr[1:])
    ]
    start = time.perf_counter()
    found = [model.predict(row, top_k=K) for row in rows]
    seconds = time.perf_counter() - start
    return from_pairs(found, y.shape[1]), trained, seconds, size


def napkinxc(x: Matrix, y: Matrix, x_test: Matrix) -> Outcome:
    from napkinxc.models import PLT

    x, y, x_test = (sparse.csr_matrix(part) for part in (x, y, x_test))
    folder = tempfile.mkdtemp()
    try:
        model = PLT(folder, threads=THREADS)
        start = time.perf_counter()
        model.fit(x, y)
        trained = time.perf_counter() - start
        size = folder_size(folder)
        start = time.perf_counter()
        found = model.predict_proba(x_test, top_k=K)
        seconds = time.perf_counter() - start
    finally:
        shutil.rmtree(folder)
    return from_pairs(found, y.shape[1]), trained, seconds, size


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


METHODS: dict[str, Callable[[Matrix, Matrix, Matrix], Outcome]] = {
    "evenhand": evenhand,
    "evenhand, α = 0": lambda *data: evenhand(*data, rarity_reward=0.0),
    "evenhand, beam negatives": lambda *data: evenhand(*data, matcher_beam=3),
    "evenhand, 2 trees": lambda *data: evenhand(*data, n_players=2, matcher_beam=3),
    "pecos": pecos,
    "omikuji (Parabel)": lambda *data: omikuji(*data, bonsai=False),
    "omikuji (Bonsai)": lambda *data: omikuji(*data, bonsai=True),
    "napkinxc": napkinxc,
}


def main() -> None:
    """Train, predict, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    x, y, x_test = (
        sparse.csr_array(sparse.load_npz(options.folder / f"{name}.npz"))
        for name in ("x_train", "y_train", "x_test")
    )
    scores, trained, predicted, size = METHODS[options.method](x, y, x_test)
    sparse.save_npz(options.folder / f"{options.method}.npz", sparse.csr_matrix(scores))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    record = {"train": trained, "predict": predicted / x_test.shape[0], "size": size, "memory": peak}
    (options.folder / f"{options.method}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
