"""apt itself, run on a small repository in a folder; and, where there is a network, on the real one."""

import hashlib
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from evenhand.multilabel.data import DataError, MultilabelData
from evenhand.multilabel.datasets import DatasetUnavailable, debian_depends, debian_split, debian_tags
from evenhand.multilabel.datasets.apt import APT_HELPER, run_apt
from evenhand.multilabel.datasets.debian_index import load_index

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt")

PACKAGES = """\
Package: edit
Version: 1
Depends: libc6 (>= 2.34), look | see
Description: small editor
Description-md5: 5b88f121f65a6109565901167f790075
Tag: role::program, works-with::{text,image}

Package: edit-data
Source: edit
Version: 1
Description: data of the editor
Tag: role::data

Package: look
Version: 1
Description: a viewer
Tag: role::program

Package: look
Version: 2
Description: a newer viewer
Tag: role::program

Package: bare
Version: 1
Pre-Depends: edit
Description: a package without tags
"""
TRANSLATIONS = """\
Package: edit
Description-md5: 5b88f121f65a6109565901167f790075
Description-en: small editor
 It edits.
"""
UPDATES = "Package: late\nVersion: 1\nDescription: not of the release itself\nTag: role::program\n"


def write_release(root, codename, files):
    sums = []
    for name, text in files.items():
        path = root / "dists" / codename / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sums.append(f" {hashlib.sha256(text.encode()).hexdigest()} {len(text)} {name}")
    head = ["Origin: Debian", "Label: Debian", f"Suite: {codename}", f"Codename: {codename}", "Version: 1.2"]
    head += [
        "Date: Sat, 01 Jan 2022 00:00:00 UTC",
        "Architectures: all amd64 arm64",
        "Components: main",
        "SHA256:",
    ]
    (root / "dists" / codename / "Release").write_text("\n".join(head + sums) + "\n")


@pytest.fixture
def machine(tmp_path, apt_sources):
    """A machine whose apt knows one small Debian release and its updates, in a folder."""
    native = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    root = tmp_path / "repository"
    index = f"main/binary-{native}/Packages"
    write_release(root, "small-updates", {index: UPDATES})
    write_release(root, "small", {index: PACKAGES, "main/i18n/Translation-en": TRANSLATIONS})
    source = f"deb [trusted=yes] file:{root}"
    return apt_sources(f"{source} small-updates main\n{source} small main\n")


@needs_apt
def test_tags_through_apt(machine, tmp_path, capfd):
    data = debian_tags(cache_dir=tmp_path / "kept")
    assert capfd.readouterr() == ("", "")
    assert not machine.exists(), "the machine's own apt hooks were run"
    assert data.kind == "text"
    assert data.feature_names == ("name", "short", "long")
    assert data.X.tolist() == [
        ["edit", "small editor", "It edits."],
        ["edit-data", "data of the editor", ""],
        ["look", "a viewer", ""],
        ["look", "a newer viewer", ""],
    ]
    assert data.instance_ids == ("edit", "edit-data", "look=1", "look=2")
    assert data.groups.tolist() == ["edit", "edit", "look", "look"]
    assert data.label_names == ("role::data", "role::program", "works-with::image", "works-with::text")
    assert data.Y.toarray().tolist() == [[0, 1, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
    assert data.source == "tags of the packages of Debian small"
    assert data.notes["release"] == "small (small), version 1.2"
    assert data.notes["date"] == "Sat, 01 Jan 2022 00:00:00 UTC"
    assert data.notes["packages_sha256"] == hashlib.sha256(PACKAGES.encode()).hexdigest()
    assert (data.notes["packages"], data.notes["packages_left_out"], data.notes["labels"]) == ("4", "1", "4")


@needs_apt
def test_depends_share_the_index_and_keep_packages_without_any(machine, tmp_path):
    debian_tags(cache_dir=tmp_path / "kept")
    data = debian_depends(cache_dir=tmp_path / "kept", offline=True)
    assert data.label_names == ("edit", "libc6", "look", "see")
    assert data.Y.toarray().tolist() == [[0, 1, 1, 1], [0] * 4, [0] * 4, [0] * 4, [1, 0, 0, 0]]
    assert data.notes["packages_left_out"] == "0"


@needs_apt
def test_second_call_needs_neither_apt_nor_network(machine, tmp_path, monkeypatch):
    first = debian_tags(cache_dir=tmp_path / "kept")
    monkeypatch.setenv("PATH", "")
    shutil.rmtree(tmp_path / "kept" / "lists")
    again = debian_tags(cache_dir=tmp_path / "kept")
    assert again.X.tolist() == first.X.tolist()
    assert (again.Y != first.Y).nnz == 0
    assert again.notes == first.notes


@needs_apt
def test_default_folder_is_the_users_cache(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load_index()
    assert (tmp_path / "xdg" / "evenhand" / "debian" / "index.json").exists()
    assert not list((tmp_path / "xdg" / "evenhand" / "debian").glob(".*")), "an unfinished file was left"


@needs_apt
def test_index_of_another_format_is_parsed_anew_without_network(machine, tmp_path):
    kept = tmp_path / "kept"
    debian_tags(cache_dir=kept)
    pointer = json.loads((kept / "index.json").read_text())
    (kept / "index.json").write_text(json.dumps({**pointer, "format": 0}))
    assert debian_tags(cache_dir=kept, offline=True).n_instances == 4
    assert json.loads((kept / "index.json").read_text()) == pointer


@needs_apt
@pytest.mark.parametrize("name", ["index.json", "packages-*.parquet"])
def test_a_damaged_index_says_so(machine, tmp_path, name):
    debian_tags(cache_dir=tmp_path / "kept")
    next((tmp_path / "kept").glob(name)).write_text("{")
    with pytest.raises(DatasetUnavailable, match=r"kept is damaged .*delete that folder"):
        debian_tags(cache_dir=tmp_path / "kept")


@needs_apt
def test_no_network(tmp_path, apt_sources):
    apt_sources("deb http://127.0.0.1:9/debian small main\n")
    with pytest.raises(DatasetUnavailable, match=r"apt says: Failed to fetch .*make_long_tail"):
        debian_tags(cache_dir=tmp_path / "kept")


@needs_apt
def test_sources_without_debian(tmp_path, apt_sources):
    apt_sources("")
    with pytest.raises(DatasetUnavailable, match=r"apt's sources name none"):
        debian_tags(cache_dir=tmp_path / "kept")


@needs_apt
def test_offline_without_an_index(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"offline=True and no index was fetched before"):
        debian_tags(cache_dir=tmp_path / "kept", offline=True)


def test_no_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DatasetUnavailable, match=r"has no apt.*make_long_tail"):
        debian_tags(cache_dir=tmp_path / "kept")


@needs_apt
def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetUnavailable, match=r"cannot be used .*pass another cache_dir"):
        debian_tags(cache_dir=tmp_path / "file")


@needs_apt
@pytest.mark.slow
def test_the_real_index(tmp_path):
    """16 MB over the network, once a run of the slow tests."""
    try:
        tags = debian_tags(cache_dir=tmp_path)
    except DatasetUnavailable as error:
        pytest.skip(str(error))
    assert re.fullmatch(r"\w{3}, \d+ \w{3} \d{4} .* UTC", tags.notes["date"])
    # apt's own view of the same file
    grep = run_apt(tmp_path, "apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages")
    sums = set()
    for name in grep.stdout.decode().splitlines():
        text = run_apt(tmp_path, APT_HELPER, "cat-file", name).stdout
        sums.add((hashlib.sha256(text).hexdigest(), len(re.findall(rb"^Tag:", text, re.MULTILINE))))
    assert (tags.notes["packages_sha256"], tags.n_instances) in sums
    assert 500 < tags.n_labels < 800
    assert np.diff(tags.Y.indptr).min() >= 1
    assert (tags.X[:, 2] != "").mean() > 0.99
    depends = debian_depends(cache_dir=tmp_path, offline=True)
    assert depends.n_instances > 50_000
    assert depends.n_labels > 30_000
    assert "libc6" in depends.label_names


def grouped(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    groups = rng.zipf(1.8, size=n).clip(max=400).astype(str)
    X = np.array([[f"text {row}"] for row in range(n)], dtype=object)
    ids = [str(row) for row in range(n)]
    return MultilabelData(X, np.ones((n, 1)), ("a",), ids, "by hand", feature_names=("text",), groups=groups)


def test_split_keeps_groups_together_and_loses_no_row():
    data = grouped()
    parts = debian_split(data, seed=3)
    assert list(parts) == ["train", "validation", "test"]
    ids = [name for part in parts.values() for name in part.instance_ids]
    assert sorted(ids) == sorted(data.instance_ids)
    sides = [set(part.groups) for part in parts.values()]
    assert sum(len(side) for side in sides) == len(set(data.groups))


def test_split_is_seeded_and_has_the_shares():
    n = 2000
    data = MultilabelData(
        np.zeros((n, 1)), np.ones((n, 1)), ("a",), [str(i) for i in range(n)], "by hand",
        groups=[str(i // 2) for i in range(n)],
    )  # fmt: skip
    parts = debian_split(data, seed=1)
    assert [part.n_instances for part in parts.values()] == pytest.approx([1400, 200, 400], abs=2)
    assert debian_split(data, seed=1)["test"].instance_ids == parts["test"].instance_ids
    assert debian_split(data, seed=2)["test"].instance_ids != parts["test"].instance_ids


def test_split_without_groups_is_refused():
    data = MultilabelData(np.zeros((3, 1)), np.ones((3, 1)), ("a",), ("1", "2", "3"), "by hand")
    with pytest.raises(DataError, match="no groups"):
        debian_split(data, seed=0)
