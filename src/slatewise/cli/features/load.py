"""``slatewise features load``: tables of users, items and interactions into a feature store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl


def command(
    store: Annotated[
        str, typer.Option(metavar="URL", help="A path (SQLite, made if it is not there) or redis://….")
    ],
    users: Annotated[
        Path | None, typer.Option(metavar="FILE", help="user_id and features, one row a user.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(metavar="FILE", help="item_id and features, one row an item.")
    ] = None,
    interactions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="user_id, item_id, timestamp, feedback: the history.")
    ] = None,
    keep: Annotated[
        int, typer.Option(min=1, help="Interactions of a user that are kept, the last ones.")
    ] = 500,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Setting of the store (redis: prefix, timeout_seconds)."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Fill the feature store; a user or item that is there is replaced whole, others stay."""
    import msgspec

    from slatewise.config import parse_overrides
    from slatewise.errors import ConfigError
    from slatewise.serving.features import open_store
    from slatewise.serving.features.load import load_interactions, load_table

    paths = {"users": users, "items": items, "interactions": interactions}
    tables = {name: _checked(name, path) for name, path in paths.items() if path is not None}
    if not tables:
        raise ConfigError("there is nothing to load; name --users, --items or --interactions.")
    opened = open_store(store, parse_overrides(settings or []))
    loaded = {}
    for name, frame in tables.items():
        if name == "interactions":
            loaded["histories"] = load_interactions(opened, frame, keep=keep)
        else:
            loaded[name] = load_table(opened, name, frame)
    opened.close()
    facts = {**loaded, "store": store}
    words = ", ".join(f"{count:,} {name}" for name, count in loaded.items())
    print(msgspec.json.encode({"rows": [facts]}).decode() if json else f"{words} loaded.")


def _checked(table: str, path: Path) -> pl.DataFrame:
    """The table in canonical types, before anything is loaded."""
    from slatewise.data.log_faults import errors, summary
    from slatewise.data.log_files import read_frame
    from slatewise.data.log_tables import check_table
    from slatewise.errors import DataError

    frame, faults = check_table(read_frame(path), table)
    if errors(faults):
        raise DataError(summary(faults, str(path)))
    return frame
