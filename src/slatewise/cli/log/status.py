"""``slatewise log status``: what a feedback log holds."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def command(
    store: Annotated[str, typer.Option(metavar="URL", help="A path (SQLite) or postgresql://….")],
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Count exposures by arm, feedback by kind, what waits for its exposure and what waited in vain."""
    import msgspec

    from slatewise.serving.log import open_log

    log = open_log(store, create=False)
    facts = log.status()
    log.close()
    if json:
        print(msgspec.json.encode({"rows": [facts]}).decode())
    else:
        _print(msgspec.to_builtins(facts))


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "value")
    for name, value in facts.items():
        words = (
            "\n".join(f"{key}: {count:,}" for key, count in value.items())
            if isinstance(value, dict)
            else value
        )
        table.add_row(name.replace("_", " "), f"{words:,}" if isinstance(words, int) else words)
    Console().print(table)
