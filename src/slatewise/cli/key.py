"""``slatewise key``: a new API key for a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[str, typer.Argument(help="Whom it is for.")],
    file: Annotated[Path, typer.Option(help="The server's file of keys; made if it is not there.")],
) -> None:
    """Make a key, print it once, and append its digest to a file that `slatewise serve --keys` reads."""
    from slatewise.serving.keys import add_key

    print(add_key(file, name))
