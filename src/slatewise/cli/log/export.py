"""``slatewise log export``: the feedback log as a log that ``slatewise prepare`` reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slatewise.serving.log.export import Exported


def command(
    store: Annotated[str, typer.Option(metavar="URL", help="A path (SQLite) or postgresql://….")],
    out: Annotated[Path, typer.Option(metavar="LOG", help="The file to write; ends in .parquet.")],
    since: Annotated[
        str | None, typer.Option(help="Requests from this time on: ISO 8601 (UTC), or seconds since 1970.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Requests before this time.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Requests of this arm only; repeatable.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="This kind of feedback only; repeatable. Default: all.")
    ] = None,
    combine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=RULE",
            help="How events of a kind on one item become one number: max (clicks, conversions), "
            "sum (all others) or last; repeatable.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Write exposures with their feedback in the log schema, in order of time."""
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from slatewise.serving.combine import read_rules
    from slatewise.serving.log import open_log
    from slatewise.serving.log.export import export
    from slatewise.serving.moments import moment
    from slatewise.serving.records import Chosen

    chosen = Chosen(since=moment(since, "--since"), until=moment(until, "--until"), arms=tuple(arm or ()))
    rules = read_rules(combine or [])
    log = open_log(store, create=False)
    quiet = json or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("exporting", total=None)
        done = export(
            log, out, chosen, kinds=kind or (), rules=rules,
            progress=lambda at, total: bar.update(task, completed=at, total=total),
        )  # fmt: skip
    log.close()
    facts = msgspec.to_builtins(done) | {"out": str(out)}
    print(msgspec.json.encode({"rows": [facts]}).decode() if json else _words(done, out))


def _words(done: Exported, out: Path) -> str:
    events = ", ".join(f"{count:,} {kind}" for kind, count in done.events.items())
    arms = "".join(f"; {name} {count:,}" for name, count in done.arms.items())
    left = f" Left out: {done.without_scores:,} requests without scores." if done.without_scores else ""
    return f"{done.requests:,} requests{arms} in {out}; events: {events}.{left}"
