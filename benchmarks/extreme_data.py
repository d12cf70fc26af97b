"""Data of the extreme benchmarks as files that any method can read: x_ and y_ of train, val and test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.datasets import debian_depends, debian_split, debian_tags, protein_functions


def protein_functions_fifth() -> MultilabelData:
    """Every fifth sequence, for what would take hours with all of them."""
    data = protein_functions()
    return data.take(range(0, data.n_instances, 5))


# What is to be told, and how often a label must stand in training to be one.
DATA = {
    "depends": (debian_depends, 2),
    "tags": (debian_tags, 1),
    "proteins": (protein_functions, 1),
    "proteins-fifth": (protein_functions_fifth, 1),
}
_PARTS = {"train": "train", "validation": "val", "test": "test"}


def prepare(folder: Path, name: str, seed: int) -> None:
    """Write a split by source package (or by sequence); texts become TF-IDF of words.

    Validation and test instances without a label of the training are left out.
    """
    if (folder / "y_test.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    load, least = DATA[name]
    parts = debian_split(load(), seed=seed)
    kept = np.flatnonzero(parts["train"].label_counts() >= least)
    x = {part: parts[part].X for part in _PARTS} if name.startswith("proteins") else _words(parts)
    for part, short in _PARTS.items():
        y = sparse.csr_array(parts[part].Y[:, kept])
        rows = np.arange(y.shape[0]) if part == "train" else np.flatnonzero(np.diff(y.indptr))
        # plain matrices: the peers' scipy does not know arrays in its files
        sparse.save_npz(folder / f"x_{short}.npz", sparse.csr_matrix(x[part])[rows], compressed=False)
        sparse.save_npz(folder / f"y_{short}.npz", sparse.csr_matrix(y[rows]), compressed=False)


def load(folder: Path, name: str) -> sparse.csr_array:
    """One of the files."""
    return sparse.csr_array(sparse.load_npz(folder / f"{name}.npz"))


def _words(parts: dict[str, MultilabelData]) -> dict[str, sparse.csr_matrix]:
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, dtype=np.float32)
    texts = {part: [" ".join(map(str, row)) for row in parts[part].X] for part in _PARTS}
    vectorizer.fit(texts["train"])
    return {part: vectorizer.transform(texts[part]) for part in _PARTS}
