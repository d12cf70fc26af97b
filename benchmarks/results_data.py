"""The data sets of the multi-label page: a made-up long tail, MULAN's sets, the tags of Debian's packages.

A seed draws the made-up data, Debian's split by source package, and the views. MULAN's sets have published
test parts, which stay. Whatever is tuned is tuned on a split of a seed of its own, without the test part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import normalize

from evenhand.multilabel.data import MultilabelData
from evenhand.multilabel.datasets import DatasetUnavailable, debian_split, debian_tags, make_long_tail
from evenhand.multilabel.readers import read_arff
from evenhand.multilabel.splitting import stratified_split
from evenhand.multilabel.text_views import TextViews
from evenhand.multilabel.views import Views

MADE_UP = {"made up": (3000, 200, 2000), "made up, small": (500, 30, 300)}  # instances, labels, features
MULAN = ("yeast", "medical", "enron", "corel5k", "bibtex", "delicious")
TAGS = "Debian's tags"
TUNING_SEED = 1000  # no reported seed is as large
_JUDGED = 0.2  # of the training part, where configurations are tried


@dataclass(frozen=True)
class Problem:
    """What is learned from and what is judged on, as data and in the views of linear players.

    Parameters
    ----------
    train, test : MultilabelData
    views, test_views : Views
        Words, word pairs and characters of texts; else the whole matrix and two random halves of its
        features. Sparse rows have length 1.
    """

    train: MultilabelData
    test: MultilabelData
    views: Views
    test_views: Views

    @property
    def whole(self) -> str:
        """The view that a player reads who has no team."""
        return self.views.names[0]


def why_absent(name: str, folder: Path | None) -> str | None:
    """Why a data set cannot be had here; None where it can."""
    if name in MULAN:
        if folder is None:
            return "no folder of MULAN's files was given (--data)"
        needed = [f"{name}{ending}" for ending in ("-train.arff.gz", "-test.arff.gz", ".xml")]
        missing = [file for file in needed if not (folder / file).exists()]
        return f"{folder} has no {missing[0]}" if missing else None
    if name == TAGS:
        try:
            debian_tags()
        except DatasetUnavailable as error:
            return str(error)
    return None


@lru_cache(maxsize=2)  # the one that is played, and the one for tuning
def load(name: str, folder: Path | None, seed: int) -> Problem:
    """A data set by name; with `TUNING_SEED`, of its training part alone.

    Parameters
    ----------
    name : str
    folder : Path, optional
        Of MULAN's files.
    seed : int

    Returns
    -------
    Problem
    """
    train, test = _parts(name, folder, seed)
    if seed == TUNING_SEED and name != TAGS:
        rows, judged = stratified_split(train.Y, _JUDGED, seed=seed)
        train, test = train.take(rows), train.take(judged)
    return Problem(train, test, *_views(train, test, seed))


def _parts(name: str, folder: Path | None, seed: int) -> tuple[MultilabelData, MultilabelData]:
    if name in MULAN:
        assert folder is not None
        train, test = (read_arff(folder / f"{name}-{part}.arff.gz") for part in ("train", "test"))
        return train, test
    if name == TAGS:
        parts = debian_split(debian_tags(), seed=seed)
        return parts["train"], parts["validation" if seed == TUNING_SEED else "test"]
    data = make_long_tail(*MADE_UP[name], seed=seed)
    rows, others = stratified_split(data.Y, 1 / 3, seed=seed)
    return data.take(rows), data.take(others)


def _views(train: MultilabelData, test: MultilabelData, seed: int) -> tuple[Views, Views]:
    if train.kind == "text":
        # Names and short descriptions are where runs of characters tell; the long text would cost most.
        front = TextViews(columns={"characters": (0, 1)}, max_characters=None)
        return front.fit_transform(train.X), front.transform(test.X)
    X, X_test = _scaled(train, test)
    width = X.shape[1]
    order = np.random.default_rng(seed).permutation(width)
    columns = {
        "whole": np.arange(width),
        "first half": np.sort(order[: width // 2]),
        "second half": np.sort(order[width // 2 :]),
    }
    views, test_views = (
        Views({name: matrix[:, chosen] for name, chosen in columns.items()}) for matrix in (X, X_test)
    )
    return views, test_views


def _scaled(train: MultilabelData, test: MultilabelData) -> tuple[Any, Any]:
    """Dense features as they are; sparse rows at length 1, counts of words by TF-IDF before that."""
    if train.kind == "dense":
        return train.X, test.X
    if np.all(train.X.data == 1):
        X, X_test = (normalize(sparse.csr_matrix(part.X)) for part in (train, test))
    else:
        front = TfidfTransformer(sublinear_tf=True).fit(train.X)
        X, X_test = front.transform(train.X), front.transform(test.X)
    return sparse.csr_array(X.astype(np.float32)), sparse.csr_array(X_test.astype(np.float32))
