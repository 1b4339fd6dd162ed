"""``slatewise check``: is this file what the log schema says? Every fault with its row and column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slatewise.data.log_faults import Fault


def command(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="Requests (.parquet, .csv, .jsonl), or a folder of tables.")
    ],
    ranking: Annotated[
        bool, typer.Option("--ranking", help="Requests still to be ranked: no exposure needed.")
    ] = False,
    examples: Annotated[int, typer.Option(min=1, help="Rows shown for each kind of fault.")] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout: rows, counts, schema.")
    ] = False,
) -> None:
    """Check a log against the schema; exit code 2 if it has a fault."""
    from slatewise.data.log_faults import errors

    faults, counts, schema = _look(source, ranking, examples)
    if as_json:
        _print_json(faults, counts, schema)
    else:
        _print_tables(faults, counts, schema)
    wrong = errors(faults)
    if wrong:
        typer.echo(f"slatewise: {wrong[0].sentence}", err=True)
        raise typer.Exit(2)


def _look(source: Path, ranking: bool, examples: int) -> tuple[list[Fault], dict[str, int], dict[str, Any]]:
    from slatewise.data.log_faults import Fault
    from slatewise.data.log_report import counts, schema
    from slatewise.data.log_tables import read_source
    from slatewise.errors import DataError

    try:
        read = read_source(source, ranking=ranking, examples=examples)
    except DataError as error:
        return [Fault(row=None, column="", kind="unreadable", message=str(error), table="")], {}, {}
    return read.faults, counts(read), schema(read)


def _print_json(faults: list[Fault], counts: dict[str, int], schema: dict[str, Any]) -> None:
    import msgspec

    rows = msgspec.to_builtins(faults)
    typer.echo(msgspec.json.encode({"rows": rows, "counts": counts, "schema": schema}).decode())


def _print_tables(faults: list[Fault], counts: dict[str, int], schema: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from slatewise.data.log_faults import errors

    console = Console()
    table = Table("table", "row", "kind", "rows", "what is wrong", caption="Rows count from 0.")
    for f in faults:
        row, kind = (
            "" if f.row is None else str(f.row),
            f.kind if f.level == "error" else f"{f.kind} (warning)",
        )
        table.add_row(f.table, row, kind, f"{f.count:,}", escape(f.message))
    facts = Table("what", "value")
    for name, value in [*_count_lines(counts), *_schema_lines(schema)]:
        facts.add_row(name, escape(value))
    for shown, wanted in ((table, faults), (facts, counts)):
        if wanted:
            console.print(shown)
    console.print(_verdict(len(_kinds(errors(faults))), len(_kinds(faults))), highlight=False)


def _kinds(faults: list[Fault]) -> set[tuple[str, str, str]]:
    return {(f.table, f.column, f.kind) for f in faults}


def _verdict(wrong: int, found: int) -> str:
    warnings = f" Warnings: {found - wrong}." if found > wrong else ""
    return (f"Faults: {wrong}, counting each kind once a column." if wrong else "No faults.") + warnings


def _count_lines(counts: dict[str, int]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), f"{value:,}") for name, value in counts.items()]


def _schema_lines(schema: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), _words(value))
        for name, value in schema.items()
        if value not in (None, [], {})
    ]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return "\n".join(_kind(entry) if isinstance(entry, dict) else str(entry) for entry in value)
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _kind(feedback: dict[str, Any]) -> str:
    mean = "" if feedback["mean"] is None else f", mean {feedback['mean']:.4g}"
    return f"{feedback['name']} ({'binary' if feedback['binary'] else 'amount'}{mean})"
