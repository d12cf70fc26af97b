"""The command `evenhand`."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from evenhand import __version__
from evenhand.grpo.commands import app as grpo
from evenhand.multilabel.commands import app as multilabel


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
            except ValueError as error:
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


def main() -> None:
    """Run the command line."""
    app()


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):  # other kinds are for developers
        _complain("warning", "yellow", str(message))


def _complain(kind: str, colour: str, message: str) -> None:
    line = Text.assemble((f"{kind}: ", f"bold {colour}"), (" ".join(message.split()), colour))
    Console(file=sys.stderr, soft_wrap=True).print(line)
