"""Debian's package index as a table: text of Packages and Translation-en in, one row a package out."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from evenhand.multilabel.data import DataError

COLUMNS = {
    "package": pl.String(),
    "version": pl.String(),
    "source": pl.String(),
    "short": pl.String(),
    "long": pl.String(),
    "tags": pl.List(pl.String()),
    "depends": pl.List(pl.String()),
}
_TAG_ITEM = re.compile(r"([^\s,{}]+)(\{[^{}]*\})?")
_TAG_NAME = re.compile(r"[^\s:]+::\S+")
_DEPENDENCY = re.compile(r"(?:^|[,|])\s*([A-Za-z0-9][A-Za-z0-9+.-]*)")


def package_table(packages: str, translations: str = "", *, place: str = "Packages") -> pl.DataFrame:
    """One row for each stanza of a Packages file.

    Parameters
    ----------
    packages : str
        Text of a Packages file.
    translations : str
        Text of the Translation-en file beside it; its long descriptions are found by Description-md5.
    place : str
        Name of the Packages file, for messages.

    Returns
    -------
    polars.DataFrame
        Columns `package`, `version`, `source`, `short` (synopsis), `long` ("" where there is none), `tags`
        and `depends` (lists; Pre-Depends and Depends together), in the order of the file.

    Raises
    ------
    DataError
        If a line is no field, a stanza names no package or a tag is not of the form facet::tag.

    Examples
    --------
    >>> table = package_table("Package: vi\\nDescription: an editor\\nDepends: libc6 (>= 2.3) | libc\\n")
    >>> table.select("package", "source", "depends").row(0)
    ('vi', 'vi', ['libc6', 'libc'])
    """
    long_texts = {
        fields.get("Description-md5", ""): fields["Description-en"]
        for _, fields in stanzas(translations, "Translation-en")
        if "Description-en" in fields
    }
    rows = []
    for line, fields in stanzas(packages, place):
        if not fields.get("Package"):
            raise DataError(f"{place}:{line}: the stanza names no Package; fetch the index again")
        description = long_texts.get(fields.get("Description-md5", ""), fields.get("Description", ""))
        short, long = split_description(description)
        # "Source: name (version)" where the version differs; absent where the source has the package's name
        source = fields.get("Source", fields["Package"]).split(" ", 1)[0]
        try:
            tags = parse_tags(fields.get("Tag", ""))
        except ValueError as error:
            raise DataError(f"{place}:{line}: {error}; fetch the index again") from None
        depends = parse_depends(f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}")
        rows.append((fields["Package"], fields.get("Version", ""), source, short, long, tags, depends))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def stanzas(text: str, place: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Stanzas of a deb822 text: number of the first line, and the fields.

    Continuation lines stay as they are, behind a line break.

    Raises
    ------
    DataError
        If a line is neither "Name: value" nor the continuation of one.

    Examples
    --------
    >>> list(stanzas("A: 1\\nB: 2\\n more\\n\\nA: 3\\n", "example"))
    [(1, {'A': '1', 'B': '2\\n more'}), (5, {'A': '3'})]
    """
    fields: dict[str, str] = {}
    name, first = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.isspace():
            if fields:
                yield first, fields
            fields = {}
        elif line[0] in " \t":
            if not fields:
                raise DataError(
                    f"{place}:{number}: a continuation line without a field; fetch the index again"
                )
            fields[name] += "\n" + line
        else:
            if not fields:
                first = number
            name, colon, value = line.partition(":")
            if not colon:
                raise DataError(
                    f'{place}:{number}: {line[:40]!r} is not "Name: value"; fetch the index again'
                )
            fields[name] = value.strip()
    if fields:
        yield first, fields


def parse_tags(value: str) -> list[str]:
    """Tags of a Tag field, each once, in the field's order.

    Raises
    ------
    ValueError
        If a tag is not of the form facet::tag.

    Examples
    --------
    >>> parse_tags("role::program, works-with::{text,\\n image}")
    ['role::program', 'works-with::text', 'works-with::image']
    """
    tags: dict[str, None] = {}
    for stem, members in _TAG_ITEM.findall(value):
        names = [stem + member.strip() for member in members[1:-1].split(",")] if members else [stem]
        for tag in names:
            if not _TAG_NAME.fullmatch(tag):
                raise ValueError(f"the tag {tag!r} is not of the form facet::tag")
            tags[tag] = None
    return list(tags)


def parse_depends(value: str) -> list[str]:
    """Packages named by a Depends field, all alternatives, without versions and architectures, each once.

    Examples
    --------
    >>> parse_depends("libc6 (>= 2.34), python3:any | python, libc6 (<< 3)")
    ['libc6', 'python3', 'python']
    """
    return list(dict.fromkeys(_DEPENDENCY.findall(value)))


def split_description(description: str) -> tuple[str, str]:
    """Synopsis and long text of a Description field.

    Examples
    --------
    >>> split_description("an editor\\n It edits.\\n .\\n It is small.")
    ('an editor', 'It edits.\\n\\nIt is small.')
    """
    short, *lines = description.split("\n")
    return short, "\n".join("" if line.strip() == "." else line[1:] for line in lines)
