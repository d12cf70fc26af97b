"""apt and dpkg-deb themselves, on a small package in a folder; and the real one, where it was fetched."""

import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from evenhand.multilabel.data import DataError
from evenhand.multilabel.datasets import DatasetUnavailable, debian_split, kmer_names, protein_functions

needs_apt = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None, reason="this machine has no apt"
)

SEQUENCES = {"P1": "MKVLA", "P2": "MKVLAMKV", "P3": "MKVLA", "P4": "MXK", "P5": "WWWWW"}
ANNOTATIONS = {
    "BPO": ["P1\tGO:0000002\tGO:0000001\tGO:0000002", "P2\tGO:0000001", "P4\tGO:0000003"],
    "CCO": ["P1\tGO:0000005", "P3\tGO:0000005"],
    "MFO": ["P5\tGO:0000004", "P2\tGO:0000004\tGO:0000004"],
}
CONTROL = """\
Package: metastudent-data
Version: 2.0.1-8
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: a small one
"""


class Machine:
    """A machine whose apt knows one package, in a folder."""

    def __init__(self, tmp_path, write_database, apt_sources):
        self.root, self.tree = tmp_path / "repository", tmp_path / "tree"
        self.data = self.tree / "usr/share/metastudent-data/dataset_201401"
        (self.tree / "DEBIAN").mkdir(parents=True)
        self.root.mkdir()
        (self.tree / "DEBIAN" / "control").write_text(CONTROL)
        # It must never run.
        preinst = self.tree / "DEBIAN" / "preinst"
        preinst.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-was-run\n")
        preinst.chmod(0o755)
        for aspect, lines in ANNOTATIONS.items():
            names = [line.split("\t")[0] for line in lines]
            records = [(f"{name}|GO:0000009", SEQUENCES[name]) for name in names]
            write_database(self.data / aspect / "goasp.fasta", records)
            (self.data / aspect / "goasp_annot.dat").write_text("\n".join(lines) + "\n")
        (self.data / "goGraph.txt").write_text("not needed\n")
        self.hook = apt_sources(f"deb [trusted=yes] file:{self.root} ./\n")

    def publish(self):
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", self.tree, self.root / "small.deb"]
        subprocess.run(command, check=True, capture_output=True)
        self.deb = (self.root / "small.deb").read_bytes()
        self.digest = hashlib.sha256(self.deb).hexdigest()
        entry = f"{CONTROL}Filename: ./small.deb\nSize: {len(self.deb)}\nSHA256: {self.digest}\n"
        (self.root / "Packages").write_text(entry)


@pytest.fixture
def machine(tmp_path, write_database, apt_sources):
    return Machine(tmp_path, write_database, apt_sources)


@needs_apt
def test_functions_through_apt(machine, tmp_path, capfd):
    machine.publish()
    data = protein_functions(cache_dir=tmp_path / "kept", k=2)
    assert capfd.readouterr() == ("", "")
    assert not machine.hook.exists(), "a script of the machine or of the package was run"
    assert data.instance_ids == ("P1", "P2", "P4", "P3", "P5")
    assert data.groups.tolist() == ["P1", "P2", "P4", "P1", "P5"]
    assert data.label_names == tuple(f"GO:000000{n}" for n in range(1, 6))
    assert [data.tags(row) for row in range(5)] == [
        ["GO:0000001", "GO:0000002", "GO:0000005"],
        ["GO:0000001", "GO:0000004"],
        ["GO:0000003"],
        ["GO:0000005"],
        ["GO:0000004"],
    ]
    assert data.feature_names == kmer_names(2)
    present = [data.feature_names[column] for column in data.X[[0]].indices]
    assert sorted(present) == ["KV", "LA", "MK", "VL"]
    assert data.X[[2]].nnz == 0
    words = {data.feature_names[c]: v for c, v in zip(data.X[[1]].indices, data.X[[1]].data)}
    counts = {"MK": 2, "KV": 2, "VL": 1, "LA": 1, "AM": 1}
    length = np.linalg.norm(np.log1p(list(counts.values())))
    assert words == pytest.approx({word: np.log1p(n) / length for word, n in counts.items()}, rel=1e-6)
    assert data.notes == {
        "package": "metastudent-data_2.0.1-8_all",
        "package_sha256": machine.digest,
        "proteins": "5",
        "distinct_sequences": "4",
        "labels": "5",
    }


@needs_apt
def test_second_call_needs_neither_apt_nor_network_and_little_is_kept(machine, tmp_path, monkeypatch):
    machine.publish()
    first = protein_functions(cache_dir=tmp_path / "kept")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        f"proteins-{machine.digest[:16]}.parquet",
        "proteins.json",
    ]
    monkeypatch.setenv("PATH", "")
    again = protein_functions(cache_dir=tmp_path / "kept", offline=True)
    assert (again.X != first.X).nnz == (again.Y != first.Y).nnz == 0
    assert again.X.shape == (5, 8000)
    assert (again.instance_ids, again.label_names, again.notes) == (
        first.instance_ids,
        first.label_names,
        first.notes,
    )


@needs_apt
def test_a_table_of_another_format_is_made_anew(machine, tmp_path):
    machine.publish()
    kept = tmp_path / "kept"
    protein_functions(cache_dir=kept)
    pointer = json.loads((kept / "proteins.json").read_text())
    (kept / "proteins.json").write_text(json.dumps({**pointer, "format": 0}))
    assert protein_functions(cache_dir=kept).n_instances == 5
    assert json.loads((kept / "proteins.json").read_text()) == pointer


@needs_apt
@pytest.mark.parametrize("name", ["proteins.json", "proteins-*.parquet"])
def test_a_damaged_table_says_so(machine, tmp_path, name):
    machine.publish()
    protein_functions(cache_dir=tmp_path / "kept")
    next((tmp_path / "kept").glob(name)).write_text("{")
    with pytest.raises(DatasetUnavailable, match=r"kept is damaged .*delete that folder"):
        protein_functions(cache_dir=tmp_path / "kept")


def to_lines(*lines):
    return lambda data: (data / "CCO" / "goasp_annot.dat").write_text("\n".join(lines) + "\n")


@needs_apt
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (to_lines("P1\tGO:0000005", "P3\tGO:5"), r"CCO/goasp_annot\.dat:2: 'GO:5' is no Gene Ontology term"),
        (to_lines("P1", "P3\tGO:0000005"), r"CCO/goasp_annot\.dat:1: no accession number and terms"),
        (to_lines("P1\tGO:0000005", "P9\tGO:0000005"), r"CCO/goasp_annot\.dat:2: P9 has no sequence"),
        (to_lines("P1\tGO:0000005", "P1\tGO:0000005"), r"CCO/goasp_annot\.dat:2: P1 .* a second line"),
        (to_lines("P1\tGO:0000005", "", "P3\tGO:0000005"), r"CCO/goasp_annot\.dat:2: blank line"),
        (to_lines("P1\tGO:0000005"), r"CCO/goasp_annot\.dat: P3 has a sequence but no line"),
        (
            lambda data: (data / "MFO" / "goasp.fasta.psq").write_bytes(b"\0"),
            r"MFO/goasp\.fasta\.pin: its off",
        ),
        (lambda data: (data / "MFO" / "goasp.fasta.psq").unlink(), r"MFO/goasp\.fasta\.psq is missing"),
    ],
)
def test_what_the_package_lacks(machine, tmp_path, edit, message):
    edit(machine.data)
    machine.publish()
    with pytest.raises(DataError, match=f"{message}.*2.0.1-8_all.deb is not the .*report it"):
        protein_functions(cache_dir=tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == [], "something half-done was left"


@needs_apt
def test_one_protein_with_two_sequences(machine, tmp_path, write_database):
    write_database(machine.data / "CCO" / "goasp.fasta", [("P1|", "MMM"), ("P3|", "MKVLA")])
    machine.publish()
    with pytest.raises(DataError, match=r"CCO/goasp\.fasta: P1 has two sequences"):
        protein_functions(cache_dir=tmp_path / "kept")


@needs_apt
def test_a_link_in_place_of_a_file_is_not_followed(machine, tmp_path):
    (tmp_path / "secret").write_text("P1\tGO:0000001\n")
    (machine.data / "CCO" / "goasp_annot.dat").unlink()
    (machine.data / "CCO" / "goasp_annot.dat").symlink_to(tmp_path / "secret")
    machine.publish()
    with pytest.raises(DataError, match=r"CCO/goasp_annot\.dat is missing"):
        protein_functions(cache_dir=tmp_path / "kept")


@needs_apt
def test_a_package_that_was_tampered_with(machine, tmp_path):
    machine.publish()
    (machine.root / "small.deb").write_bytes(machine.deb[:-1] + b"x")
    with pytest.raises(DatasetUnavailable, match=r"metastudent-data could not be had .*make_long_tail"):
        protein_functions(cache_dir=tmp_path / "kept")


@needs_apt
def test_sources_without_the_package(apt_sources, tmp_path):
    apt_sources("")
    with pytest.raises(
        DatasetUnavailable,
        match=r"apt says: Unable to locate package .*apt sources with Debian's component main",
    ):
        protein_functions(cache_dir=tmp_path / "kept")


@needs_apt
def test_no_network(apt_sources, tmp_path):
    apt_sources("deb http://127.0.0.1:9/debian small main\n")
    with pytest.raises(DatasetUnavailable, match=r"apt says: Failed to fetch .*it needs a network"):
        protein_functions(cache_dir=tmp_path / "kept")


def test_offline_without_a_table(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"offline=True and the package .* was not fetched before"):
        protein_functions(cache_dir=tmp_path / "kept", offline=True)
    assert not (tmp_path / "kept").exists()


def test_no_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DatasetUnavailable, match=r"has no apt.*make_long_tail"):
        protein_functions(cache_dir=tmp_path / "kept")


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetUnavailable, match=r"cannot be used .*pass another cache_dir"):
        protein_functions(cache_dir=tmp_path / "file")


@pytest.mark.parametrize("k", [0, 5, 3.0, True])
def test_bad_k(tmp_path, k):
    with pytest.raises(ValueError, match="k must be a whole number from 1 to 4, not"):
        protein_functions(cache_dir=tmp_path, k=k)


INSULIN = (
    "MALWMRLLPLLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKTRREAEDLQVGQVELGGGPGAGSLQPLALEGSLQ"
    "KRGIVEQCCTSICSLYQLENYCN"
)


@pytest.mark.slow
def test_the_real_package():
    """Not fetched here, since it is 225 MB: protein_functions() does so once."""
    try:
        data = protein_functions(offline=True)
    except DatasetUnavailable as error:
        pytest.skip(str(error))
    assert data.n_instances > 500_000
    assert data.n_labels > 20_000
    assert np.diff(data.Y.indptr).min() >= 1
    assert np.allclose(np.sqrt(data.X[:1000].power(2).sum(axis=1)), 1, atol=1e-5)
    human_insulin = data.instance_ids.index("P01308")
    vectorizer = CountVectorizer(
        analyzer="char", ngram_range=(3, 3), lowercase=False, vocabulary=kmer_names(3)
    )
    expected = np.log1p(vectorizer.transform([INSULIN]).toarray()[0])
    assert np.allclose(data.X[[human_insulin]].toarray()[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert "GO:0005179" in data.tags(human_insulin)  # hormone activity
    parts = debian_split(data, seed=0)
    assert sum(len(set(part.groups)) for part in parts.values()) == len(set(data.groups))
