"""``slatewise refresh``: a trained ranker learns of items that came after its training, without being trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="A run of oneranker, gpr or hstu, or a ranker folder.")],
    items: Annotated[
        Path,
        typer.Option(
            help="Items with features, one row an item_id: Parquet, CSV or JSONL; old ones may be in it."
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="RUN2", help="Folder of the new ranker; must not be there yet.")
    ],
    keep_clusters: Annotated[
        bool,
        typer.Option(
            "--keep-clusters",
            help="Leave the fake items: not a bit of what it answers about old items changes.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Give a ranker the items of a file that it does not know; it can then rank and retrieve them."""
    import msgspec

    from slatewise.api import refresh

    found = refresh(run, items, out, keep_clusters=keep_clusters)
    facts = {
        "new": found.new,
        "known": found.known,
        "missing": found.missing,
        "items": len(found.ranker.transform.items.vocab) - 1,
        "out": str(out),
    }
    if as_json:
        print(msgspec.json.encode({"rows": [facts]}).decode())
        return
    print(
        f"{found.new:,} new items in {out}; {found.known:,} of the file were known, {facts['items']:,} are in all"
    )
    if found.missing:
        print(f"not given, so unknown of the new items: {', '.join(found.missing)}")
