"""The command line: one file a verb, each with a ``command`` function; errors become one sentence and exit code 2."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import typer

from slatewise.errors import SlatewiseError


def build_app() -> typer.Typer:
    """The application with every verb of this folder; a file's name is its verb (``_`` becomes ``-``)."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Generative list rankers: from a log of shown lists to served lists.",
    )
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"{__name__}.{info.name}")
            app.command(info.name.replace("_", "-"), no_args_is_help=info.name != "demo")(module.command)
    return app


def main() -> None:
    """Entry point of ``slatewise``: a user's mistake ends in one sentence on stderr and exit code 2."""
    try:
        build_app()()
    except SlatewiseError as error:
        print(f"slatewise: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "slatewise: interrupted; run the same command again (with --resume where it has one) to go on.",
            file=sys.stderr,
        )
        sys.exit(130)
