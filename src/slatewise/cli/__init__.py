"""The command line: one file a verb, each with a ``command`` function; errors become one sentence and exit code 2.

A folder is a noun with verbs of its own: ``log/export.py`` is ``slatewise log export``.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable

import typer

from slatewise.errors import SlatewiseError


def build_app() -> typer.Typer:
    """The application with every verb of this folder; a file's name is its verb (``_`` becomes ``-``)."""
    return _group(__name__, __path__, "Generative list rankers: from a log of shown lists to served lists.")


def _group(package: str, path: Iterable[str], summary: str) -> typer.Typer:
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=summary
    )
    for info in pkgutil.iter_modules(path):
        if info.name.startswith("_"):
            continue
        module, verb = importlib.import_module(f"{package}.{info.name}"), info.name.replace("_", "-")
        if info.ispkg:
            app.add_typer(_group(module.__name__, module.__path__, module.__doc__ or ""), name=verb)
        else:
            app.command(verb, no_args_is_help=info.name != "demo")(module.command)
    return app


def main() -> None:
    """Entry point of ``slatewise``: a user's mistake ends in one sentence on stderr and exit code 2."""
    try:
        build_app()()
    except SlatewiseError as error:
        print(f"slatewise: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"slatewise: {error.filename}: {error.strerror}.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "slatewise: interrupted; run the same command again (with --resume where it has one) to go on.",
            file=sys.stderr,
        )
        sys.exit(130)
