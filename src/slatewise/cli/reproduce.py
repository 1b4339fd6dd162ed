"""``slatewise reproduce``: run a recipe's rows over its seeds and print them beside floors, ceilings and the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe files.")],
    source: Annotated[
        Path | None, typer.Option(help="Folder of the data set's official files, where it has any.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared data to use instead of preparing it.")] = None,
    out: Annotated[Path, typer.Option(help="Results go to OUT/<recipe>.")] = Path("runs/reproduce"),
    seeds: Annotated[int, typer.Option(help="Use only the first SEEDS seeds of the recipe; 0: all.")] = 0,
    jobs: Annotated[
        int, typer.Option(help="Seeds trained side by side, one CPU thread each; 1: one after the other.")
    ] = 1,
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Train, evaluate and compare with the expectations and the paper; exit code 1 where an expectation fails."""
    import msgspec

    from slatewise.reproduce import reproduce

    results = [
        reproduce(recipe, source=source, data=data, out=out, seeds=seeds, jobs=jobs, quiet=json)
        for recipe in recipes
    ]
    if json:
        print(
            msgspec.json.encode({"rows": [row for result in results for row in result.json_rows()]}).decode()
        )
    else:
        for result in results:
            print(result.markdown())
    if not all(check.passed for result in results for check in result.checks):
        raise typer.Exit(1)
