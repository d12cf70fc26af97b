"""What proteins do: amino acid sequences and their Gene Ontology terms, from a package of Debian's."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.preprocessing import normalize

from evenhand.multilabel.data import DataError, MultilabelData
from evenhand.multilabel.datasets.apt import (
    cache_folder,
    download_package,
    prepare_apt,
    unavailable,
)
from evenhand.multilabel.datasets.blast_database import read_proteins
from evenhand.multilabel.datasets.kept import keep, read_kept
from evenhand.multilabel.datasets.kmers import kmer_counts, kmer_names
from evenhand.multilabel.readers._files import solid_lines

_PACKAGE = "metastudent-data"
_READ_VERSION = "2.0.1"
_MOST_K = 4  # 160,000 words, all of which get a name
_COLUMNS = ("id", "sequence", "group", "terms")
# Biological process, cellular component, molecular function: each has its sequences and its annotations.
_ASPECTS = ("BPO", "CCO", "MFO")
_FILES = ("goasp.fasta.pin", "goasp.fasta.phr", "goasp.fasta.psq", "goasp_annot.dat")
_MEMBER = re.compile(rf"\./usr/share/metastudent-data/dataset_201401/({'|'.join(_ASPECTS)})/([^/]+)")
_TERM = re.compile(r"GO:\d{7}")


@dataclass(frozen=True)
class _Proteins:
    table: pl.DataFrame
    notes: dict[str, str]


def protein_functions(*, cache_dir: Path | None = None, offline: bool = False, k: int = 3) -> MultilabelData:
    """What proteins do, told from their amino acids: Gene Ontology terms, an extreme label set.

    The first call fetches Debian's package metastudent-data through apt (225 MB, no root needed) and parses
    it; later calls read the result, without network.

    Parameters
    ----------
    cache_dir : Path, optional
        Default: evenhand/proteins in $XDG_CACHE_HOME or ~/.cache. 113 MB stay there; the first call needs
        1 GB more for a minute. What is there is used as it is; delete the folder to fetch it anew.
    offline : bool
        Do not use the network.
    k : int
        Length of the words that are counted, 1 to 4.

    Returns
    -------
    MultilabelData
        X: csr_array (n, 20**k), float32: log(1 + count) of each word of k amino acids (see `kmer_counts`),
        then rows scaled to length 1; a sequence without a word is a row of zeros. `feature_names`: the words.
        Y: the terms, "GO:0000001". `instance_ids`: UniProt's accession numbers. `groups`: proteins with
        the same sequence are one group, so that `debian_split` keeps them together. `notes`: name and
        SHA-256 of the package, counts.

    Raises
    ------
    DatasetUnavailable
        If there is no apt, no network and nothing fetched before, or no such package in apt's sources.
    DataError
        If the package does not hold what it should.
    ValueError
        If k is out of range.

    Notes
    -----
    The labels are the terms that the package gives each protein, of all three ontologies (process, component,
    function) and on any evidence. They are not propagated: a more general term is a label only where the
    package names it too. A protein may well have a function that nobody has noted.

    Only identical sequences are kept together. Homologous proteins, alike and with much the same terms, stand
    in training and test: of 150 test proteins half had one in training with a cosine above 0.77. So scores
    tell how terms are found for proteins with known relatives, and promise too much for those without.

    metastudent-data 2.0.1, whose data are named 201401, has 516,371 proteins with 435,059 sequences (187
    million residues) and 22,604 terms, 8.8 a protein; the median term is on 9 proteins, 8,769 terms (39 %)
    are on 5 or fewer, 2,807 on one. With k = 3, X has 170 million values (1.4 GB). On two cores the first
    call took 48 s, later ones 8 s, and either at most 2.4 GB of memory. The split with seed 0 is
    361,460 / 51,637 / 103,274; 21,516 terms have a training positive.

    Examples
    --------
    >>> data = protein_functions()                                                       # doctest: +SKIP
    >>> parts = debian_split(data, seed=0)                                               # doctest: +SKIP
    """
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= _MOST_K:
        raise ValueError(f"k must be a whole number from 1 to {_MOST_K}, not {k!r}")
    proteins = _load(cache_folder(cache_dir, "proteins"), offline)
    table = proteins.table
    Y, terms = _label_matrix(table["terms"])
    return MultilabelData(
        X=_features(table["sequence"], k),
        Y=Y,
        label_names=terms,
        instance_ids=tuple(table["id"]),
        source=f"Gene Ontology terms of the proteins in Debian's {_PACKAGE}",
        feature_names=kmer_names(k),
        groups=table["group"].to_numpy(),
        notes={
            **proteins.notes,
            "proteins": str(table.height),
            "distinct_sequences": str(table["group"].n_unique()),
            "labels": str(len(terms)),
        },
    )


def _features(sequences: pl.Series, k: int) -> sparse.csr_array[Any]:
    counts = kmer_counts(sequences.to_list(), k)
    np.log1p(counts.data, out=counts.data)
    weighted: sparse.csr_array[Any] = normalize(counts, copy=False)
    return weighted


def _label_matrix(terms: pl.Series) -> tuple[sparse.csr_array[Any], tuple[str, ...]]:
    """The terms of each protein, sorted, as a matrix; and all terms, sorted."""
    every = terms.explode()
    names = every.unique().sort()
    indices = every.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(terms.list.len().to_numpy(), dtype=np.int64)]).astype(np.int32)
    parts = (np.ones(len(indices), np.float32), indices, indptr)
    return sparse.csr_array(parts, shape=(len(terms), len(names))), tuple(names)


def _load(folder: Path, offline: bool) -> _Proteins:
    try:
        pointer = folder / "proteins.json"
        if kept := read_kept(pointer, _COLUMNS, ("notes",)):
            return _Proteins(kept[0], *kept[1])
        if offline:
            raise unavailable(f"offline=True and the package {_PACKAGE} was not fetched before")
        proteins = _fetch(folder)
        name = f"proteins-{proteins.notes['package_sha256'][:16]}.parquet"
        keep(pointer, name, proteins.table, {"notes": proteins.notes})
    except OSError as error:
        reason = f"The folder {folder} cannot be used ({error}); pass another cache_dir"
        raise unavailable(reason) from error
    return proteins


def _fetch(folder: Path) -> _Proteins:
    """Fetch, unpack and parse in a folder that goes when this is done: only the table is worth its room."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".fetch-", dir=folder) as work:
        place = Path(work)
        prepare_apt(place, f"the package {_PACKAGE}")
        deb = download_package(place, _PACKAGE)
        try:
            _unpack(deb, place)
            table = _parse(place)
        except DataError as error:
            told = f"{deb.name} is not the {_PACKAGE} that this release of evenhand reads ({_READ_VERSION})"
            raise DataError(f"{error}. {told}; report it if that version is what you have") from error
        with deb.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _Proteins(table, {"package": deb.stem, "package_sha256": digest})


def _unpack(deb: Path, folder: Path) -> None:
    """Write the files that are needed, chosen by name, to a folder for each aspect; run nothing."""
    if shutil.which("dpkg-deb") is None:
        raise unavailable("This machine has no dpkg-deb, with which the package is unpacked")
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as unpacker:
        try:
            with tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive:
                for member in archive:
                    found = _MEMBER.fullmatch(member.name)
                    content = archive.extractfile(member) if found and member.isreg() else None
                    if found and content and found[2] in _FILES:
                        (folder / found[1]).mkdir(exist_ok=True)
                        with (folder / found[1] / found[2]).open("xb") as file:
                            shutil.copyfileobj(content, file)
        except tarfile.TarError as error:
            raise DataError(f"{deb.name}: cannot be unpacked ({error})") from error
    for aspect in _ASPECTS:
        for name in _FILES:
            if not (folder / aspect / name).exists():
                raise DataError(f"{deb.name}: {aspect}/{name} is missing")


def _parse(folder: Path) -> pl.DataFrame:
    """One row a protein: accession number, sequence, first protein of that sequence, sorted terms."""
    sequences: dict[str, str] = {}
    terms: dict[str, set[str]] = {}
    for aspect in _ASPECTS:
        stem, annotations = folder / aspect / "goasp.fasta", folder / aspect / "goasp_annot.dat"
        of_aspect = set()
        for title, sequence in read_proteins(stem):
            name = title.partition("|")[0]  # the annotations follow
            if sequences.setdefault(name, sequence) != sequence or name in of_aspect:
                raise DataError(f"{stem}: {name} has two sequences, or one twice; leave one")
            of_aspect.add(name)
        for line, name, found in _annotations(annotations):
            if name not in of_aspect:
                raise DataError(
                    f"{annotations}:{line}: {name} has no sequence, or a second line; mend the line"
                )
            of_aspect.remove(name)
            terms.setdefault(name, set()).update(found)
        if of_aspect:
            raise DataError(f"{annotations}: {min(of_aspect)} has a sequence but no line; add it")
    first: dict[str, str] = {}
    for name, sequence in sequences.items():
        first.setdefault(sequence, name)
    return pl.DataFrame(
        {
            "id": list(sequences),
            "sequence": list(sequences.values()),
            "group": [first[sequence] for sequence in sequences.values()],
            "terms": [sorted(terms[name]) for name in sequences],
        },
        schema_overrides={"terms": pl.List(pl.String)},
    )


def _annotations(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, accession number and terms (some more than once) of each line."""
    known: dict[str, str] = {}  # so that each term is checked, and held, once
    for number, line in solid_lines(path):
        name, *terms = line.split("\t")
        for term in terms:
            if term not in known:
                if not _TERM.fullmatch(term):
                    raise DataError(f"{path}:{number}: {term!r} is no Gene Ontology term (GO:0000001)")
                known[term] = term
        if not name or not terms:
            raise DataError(f"{path}:{number}: no accession number and terms, separated by tabs")
        yield number, name, [known[term] for term in terms]
