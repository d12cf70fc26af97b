import pytest

from evenhand.multilabel.data import DataError
from evenhand.multilabel.datasets.deb822 import (
    package_table,
    parse_depends,
    parse_tags,
    split_description,
    stanzas,
)

PACKAGES = """\
Package: edit
Version: 1.0-1
Pre-Depends: dpkg (>= 1.15.6~)
Depends: libc6 (>= 2.34), python3:any | python (<< 4), edit-data (= 1.0-1)
Description: small editor
Description-md5: aaaa
Tag: implemented-in::{c, python},
 role::program, works-with::text,
 devel::lang:c++

Package: edit-data
Source: edit (1.0)
Version: 1.0-1
Description: data of the editor
Description-md5: bbbb

Package: old
Version: 2
Description: text in place
 It stands in the index itself.
"""
TRANSLATIONS = """\
Package: edit
Description-md5: aaaa
Description-en: small editor
 It edits:
  * texts
 .
 That is all.
"""


def test_table_of_a_small_index():
    table = package_table(PACKAGES, TRANSLATIONS)
    assert table.rows(named=True) == [
        {
            "package": "edit",
            "version": "1.0-1",
            "source": "edit",
            "short": "small editor",
            "long": "It edits:\n * texts\n\nThat is all.",
            "tags": [
                "implemented-in::c",
                "implemented-in::python",
                "role::program",
                "works-with::text",
                "devel::lang:c++",
            ],
            "depends": ["dpkg", "libc6", "python3", "python", "edit-data"],
        },
        {
            "package": "edit-data",
            "version": "1.0-1",
            "source": "edit",
            "short": "data of the editor",
            "long": "",  # no translation: the synopsis only
            "tags": [],
            "depends": [],
        },
        {
            "package": "old",
            "version": "2",
            "source": "old",
            "short": "text in place",
            "long": "It stands in the index itself.",
            "tags": [],
            "depends": [],
        },
    ]


def test_empty_index_is_an_empty_table():
    assert package_table("").height == 0


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("", []),
        ("a::b", ["a::b"]),
        ("a::b, a::b", ["a::b"]),
        ("a::{b,c}, d::e", ["a::b", "a::c", "d::e"]),
        ("a::{b,\n c},\n d::e,", ["a::b", "a::c", "d::e"]),
        (
            "special::not-yet-tagged, special::not-yet-tagged::p",
            ["special::not-yet-tagged", "special::not-yet-tagged::p"],
        ),
    ],
)
def test_tags(value, tags):
    assert parse_tags(value) == tags


@pytest.mark.parametrize("value", ["program", "a::{b", "a::{}", "a::", "::b", "a:b"])
def test_a_malformed_tag_is_refused(value):
    with pytest.raises(ValueError, match="facet::tag"):
        parse_tags(value)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("", []),
        (",", []),
        ("a", ["a"]),
        ("a (>= 1:2.0~rc1), b|c:any (<< 3) , a", ["a", "b", "c"]),
        ("libstdc++6 (= 1), g++\n , python3.11", ["libstdc++6", "g++", "python3.11"]),
        ("a [amd64] <!nocheck>, b", ["a", "b"]),
    ],
)
def test_depends(value, names):
    assert parse_depends(value) == names


def test_description_keeps_paragraphs_and_verbatim_lines():
    assert split_description("short") == ("short", "")
    assert split_description("short\n one\n .\n   two") == ("short", "one\n\n  two")


def test_stanzas_count_lines_over_several_blank_lines():
    assert list(stanzas("\n\nA: 1\n\n \t\n\nB: 2:3\n", "x")) == [(3, {"A": "1"}), (7, {"B": "2:3"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Package: a\n\nVersion: 1\n", r"^index:3: .*names no Package"),
        ("Package: a\nnonsense\n", r"^index:2: 'nonsense' is not"),
        (" more\n", r"^index:1: a continuation line"),
        ("Package: a\n\nPackage: b\nTag: program\n", r"^index:3: the tag 'program'"),
    ],
)
def test_bad_text_names_file_and_line(text, message):
    with pytest.raises(DataError, match=message):
        package_table(text, place="index")
