"""``slatewise log prune``: what is older than a time is deleted from a feedback log."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    store: Annotated[str, typer.Option(metavar="URL", help="A path (SQLite) or postgresql://….")],
    before: Annotated[
        str, typer.Option(help="Requests before this time: ISO 8601 (UTC), or seconds since 1970.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it nothing is, only counted.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Delete exposures before a time, and all feedback on them; export what you want to keep first."""
    import msgspec
    from rich.console import Console

    from slatewise.serving.log import open_log
    from slatewise.serving.moments import moment
    from slatewise.serving.records import Chosen

    at = moment(before, "--before")
    assert at is not None
    log = open_log(store, create=False)
    if yes:
        with Console(stderr=True).status("deleting …") as status:
            count = log.prune(at, lambda done: status.update(f"{done:,} deleted …"))
    else:
        count = log.count(Chosen(until=at))
    log.close()
    if json:
        print(msgspec.json.encode({"rows": [{"exposures": count, "deleted": yes}]}).decode())
    else:
        print(f"{count:,} requests " + ("deleted." if yes else "would be deleted; say --yes to delete them."))
