"""A page of text, tables and plots that needs nothing beside itself: as HTML, and as Markdown.

The HTML is one file for light and dark screens, wide and narrow ones. Plots are SVG; the numbers that one
shows stand in a table under it, for those who cannot see it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from evenhand.files import replacing


@dataclass(frozen=True)
class Text:
    """Paragraphs.

    Parameters
    ----------
    paragraphs : sequence of str
    """

    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Points:
    """A list of statements.

    Parameters
    ----------
    points : sequence of str
    """

    points: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """A table.

    Parameters
    ----------
    caption : str
        What to see in it.
    columns : sequence of str
    rows : sequence of sequence of str
        As long as the columns.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Plot:
    """A figure with what it shows in numbers.

    Parameters
    ----------
    caption : str
        What to see in it.
    figure : Figure
    numbers : Grid
    """

    caption: str
    figure: Figure
    numbers: Grid


Block = Text | Points | Grid | Plot


@dataclass(frozen=True)
class Section:
    """Blocks under a heading; plots that follow each other stand side by side where there is room.

    Parameters
    ----------
    heading : str
    blocks : sequence of Text, Points, Grid or Plot
    """

    heading: str
    blocks: Sequence[Block]


def write_html(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page as one HTML file, which appears when it is complete.

    Parameters
    ----------
    path : Path
    title : str
    sections : sequence of Section
    """
    body = "\n".join(
        f"<section><h2>{escape(section.heading)}</h2>\n{_html_blocks(section.blocks)}</section>"
        for section in sections
    )
    with replacing(path) as file:
        file.write(_PAGE.format(title=escape(title), body=body))


def write_markdown(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page as Markdown: of plots, the caption and the numbers.

    Parameters
    ----------
    path : Path
    title : str
    sections : sequence of Section
    """
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.heading}")
        parts += [_markdown(block) for block in section.blocks]
    with replacing(path) as file:
        file.write("\n\n".join(parts) + "\n")


def as_svg(figure: Figure) -> str:
    """A figure as SVG in the colours of the page around it; the same text each time.

    Parameters
    ----------
    figure : Figure
        What is drawn in black takes the colour of the page's text.

    Returns
    -------
    str
    """
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "evenhand"}):  # text as text
        figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    text = out.getvalue()
    return text[text.index("<svg") :].replace("#000000", "currentColor")


def _html_blocks(blocks: Sequence[Block]) -> str:
    parts: list[str] = []
    for number, block in enumerate(blocks):
        is_plot = isinstance(block, Plot)
        before = number and isinstance(blocks[number - 1], Plot)
        if is_plot and not before:
            parts.append('<div class="plots">')
        if not is_plot and before:
            parts.append("</div>")
        parts.append(_html(block))
    if blocks and isinstance(blocks[-1], Plot):
        parts.append("</div>")
    return "\n".join(parts)


def _html(block: Block) -> str:
    if isinstance(block, Text):
        return "\n".join(f"<p>{escape(one)}</p>" for one in block.paragraphs)
    if isinstance(block, Points):
        return "<ul>" + "\n".join(f"<li>{escape(one)}</li>" for one in block.points) + "</ul>"
    if isinstance(block, Grid):
        return _html_table(block)
    return (
        f'<figure><div role="img" aria-label="{escape(block.caption)}">{as_svg(block.figure)}</div>'
        f"<figcaption>{escape(block.caption)}</figcaption>"
        f"<details><summary>The numbers</summary>{_html_table(block.numbers)}</details></figure>"
    )


def _html_table(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in grid.columns)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in grid.rows
    )
    caption = escape(grid.caption)
    return (
        f'<p class="caption">{caption}</p><div class="wide" tabindex="0"><table aria-label="{caption}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )


def _markdown(block: Block) -> str:
    if isinstance(block, Text):
        return "\n\n".join(block.paragraphs)
    if isinstance(block, Points):
        return "\n".join(f"- {one}" for one in block.points)
    if isinstance(block, Plot):
        return f"{block.caption}\n\n{_markdown(block.numbers)}"
    rows = [block.columns, ["---", *["---:"] * (len(block.columns) - 1)], *block.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([block.caption, "", *lines])


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --line: #ccc; --soft: #555; }}
@media (prefers-color-scheme: dark) {{ :root {{ --line: #444; --soft: #aaa; }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }}
p, ul {{ max-width: 48rem; }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid var(--line); }}
.wide {{ overflow-x: auto; margin: .3rem 0 1.5rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }}
.caption {{ margin-bottom: 0; font-size: .9rem; }}
th, td {{ padding: .2rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }}
th:first-child {{ text-align: left; font-weight: normal; }} thead th {{ font-weight: 600; }}
.plots {{ display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(28rem, 100%), 1fr)); }}
figure {{ margin: 0; min-width: 0; }} svg {{ width: 100%; height: auto; }} svg text {{ fill: currentColor; }}
figcaption, summary, .caption {{ color: var(--soft); }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
