"""Debian's own package index as two long-tail label sets: tags by hand, and dependencies."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from sklearn.preprocessing import MultiLabelBinarizer

from evenhand.multilabel.data import DataError, MultilabelData
from evenhand.multilabel.datasets.debian_index import DebianIndex, load_index
from evenhand.multilabel.splitting import group_split

TEXT_COLUMNS = ("name", "short", "long")


def debian_tags(*, cache_dir: Path | None = None, offline: bool = False) -> MultilabelData:
    """The tags that people gave to Debian's packages (debtags), to be told from names and descriptions.

    The first call fetches the index through apt (about 16 MB, no root needed) and parses it; later calls
    read the result, without network.

    Parameters
    ----------
    cache_dir : Path, optional
        Default: evenhand/debian in $XDG_CACHE_HOME or ~/.cache. What is there is used as it is; delete the
        folder to fetch the newest index.
    offline : bool
        Do not use the network.

    Returns
    -------
    MultilabelData
        X: texts (`name`, `short` synopsis, `long` description). Y: the tags "facet::tag". `instance_ids`:
        package names ("name=version" where the index holds several versions). `groups`: source packages.
        `notes`: release, its date, SHA-256 sums of the index files, counts.

    Raises
    ------
    DatasetUnavailable
        If there is no apt, or no network and nothing fetched before.

    Notes
    -----
    Only packages with tags are in (`notes["packages_left_out"]` counts the others): a package without tags
    is one that nobody has looked at. Debian 12.15 (bookworm, amd64) of 11 July 2026 has 30,303 packages with
    tags, from 15,869 sources, and 33,137 without; 598 tags, 3.7 a package; the median tag is on 30 packages,
    17 tags are on one. The split with seed 0 is 21,213 / 3,030 / 6,060; 590 tags have a training positive.

    Examples
    --------
    >>> data = debian_tags()                                                             # doctest: +SKIP
    >>> parts = debian_split(data, seed=0)                                               # doctest: +SKIP
    """
    index = load_index(cache_dir, offline=offline)
    tagged = index.table.filter(pl.col("tags").list.len() > 0)
    return _as_data(index, tagged, "tags", f"tags of the packages of Debian {index.release}")


def debian_depends(*, cache_dir: Path | None = None, offline: bool = False) -> MultilabelData:
    """The packages that each Debian package depends on: an extreme label set; half the labels occur once.

    Parameters
    ----------
    cache_dir : Path, optional
        As in `debian_tags`; both share one index.
    offline : bool
        Do not use the network.

    Returns
    -------
    MultilabelData
        As `debian_tags`, but with all packages, and Y: the package names in Depends and Pre-Depends, all
        alternatives, without versions and architectures. Packages that depend on nothing have no label.

    Raises
    ------
    DatasetUnavailable
        If there is no apt, or no network and nothing fetched before.

    Notes
    -----
    Debian 12.15 (bookworm, amd64) of 11 July 2026 has 63,440 packages, from 34,169 sources, of which 7,589
    depend on nothing; 35,437 labels with 282,436 positives; 17,275 labels have one positive.

    Examples
    --------
    >>> data = debian_depends()                                                          # doctest: +SKIP
    """
    index = load_index(cache_dir, offline=offline)
    return _as_data(index, index.table, "depends", f"dependencies of the packages of Debian {index.release}")


def debian_split(data: MultilabelData, *, seed: int) -> dict[str, MultilabelData]:
    """Split 70/10/20 so that no source package (group) stands in two parts.

    Binary packages of one source share most of their descriptions and tags; apart they would leak.

    Parameters
    ----------
    data : MultilabelData
        With `groups`.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    dict of str to MultilabelData
        "train", "validation" and "test"; each with all labels of `data`.

    Raises
    ------
    DataError
        If `data` has no groups.

    Examples
    --------
    >>> data = MultilabelData([["text"]] * 10, [[1]] * 10, ("a",), tuple("0123456789"), "by hand",
    ...     feature_names=("text",), groups=list("0123456789"))
    >>> {name: part.n_instances for name, part in debian_split(data, seed=0).items()}
    {'train': 7, 'validation': 1, 'test': 2}
    """
    if data.groups is None:
        raise DataError(f"{data.source}: there are no groups to split by; use splitting.stratified_split")
    rows = group_split(data.groups, {"train": 0.7, "validation": 0.1, "test": 0.2}, seed=seed)
    return {name: data.take(part) for name, part in rows.items()}


def _as_data(index: DebianIndex, table: pl.DataFrame, labels: str, source: str) -> MultilabelData:
    binarizer = MultiLabelBinarizer(sparse_output=True)
    Y = binarizer.fit_transform(table[labels].to_list())
    name = pl.col("package")
    ids = table.select(
        pl.when(name.is_duplicated()).then(name + "=" + pl.col("version")).otherwise(name)
    ).to_series()
    counts = {
        "packages": str(table.height),
        "packages_left_out": str(index.table.height - table.height),
        "labels": str(Y.shape[1]),
    }
    return MultilabelData(
        X=table.select("package", "short", "long").to_numpy(),
        Y=Y,
        label_names=tuple(binarizer.classes_),
        instance_ids=tuple(ids),
        source=source,
        feature_names=TEXT_COLUMNS,
        groups=table["source"].to_numpy(),
        notes={**index.notes, **counts},
    )
