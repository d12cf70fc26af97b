"""The command `evenhand`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from evenhand import __version__
from evenhand.grpo.commands import app as grpo
from evenhand.multilabel.commands import app as multilabel
from evenhand.terminal import tell


class _Group(TyperGroup):
    """Turns what a user can mend into one line and exit code 2; what is our fault keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise  # the reader of our output has seen enough: typer ends quietly
            except OSError as error:
                place = "" if error.filename is None else f"{error.filename}: "
                _complain("error", "red", f"{place}{error.strerror or error}")
            except (ValueError, FloatingPointError) as error:
                _complain("error", "red", str(error))
        raise typer.Exit(2)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"evenhand {__version__}")
        raise typer.Exit


app = typer.Typer(cls=_Group, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.add_typer(multilabel, name="multilabel")
app.add_typer(grpo, name="grpo")


@app.callback()
def _evenhand(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Even-handed learning signals: the training decides how its gradient is shared out, and shows it."""


@app.command(epilog="Example:\n\nevenhand report runs/tags --baseline ensemble --out tags.html")
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", show_default=False, help="Run folders, or folders with some below."),
    ],
    out: Annotated[Path, typer.Option(metavar="PAGE.html", help="The page; beside it PAGE.md.")] = Path(
        "report.html"
    ),
    title: Annotated[str, typer.Option(help="Of the page.")] = "What the runs come to",
    baseline: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="What the others are compared with.", show_default=False),
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Figure to show; repeat for several. (default: all)"),
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Record to draw; repeat for several. (default: what is known)"),
    ] = None,
) -> None:
    """Make one page of runs: figures, paired differences, what they allow to say, and curves."""
    from evenhand.experiments.report import write_report
    from evenhand.experiments.runs import find_runs

    write_report(
        find_runs(*runs), out, title=title, baseline=baseline, figures=figure or None, curves=curve or None
    )
    tell(f"Wrote {out} and {out.with_suffix('.md')}.")


def main() -> None:
    """Run the command line."""
    app()


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):  # other kinds are for developers
        _complain("warning", "yellow", str(message))


def _complain(kind: str, colour: str, message: str) -> None:
    line = Text.assemble((f"{kind}: ", f"bold {colour}"), (" ".join(message.split()), colour))
    Console(file=sys.stderr, soft_wrap=True).print(line)
