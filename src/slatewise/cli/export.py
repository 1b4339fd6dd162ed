"""``slatewise export``: a run as an artifact, one folder that a server loads."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slatewise.data.prepared import PreparedData
    from slatewise.export.artifact import Artifact
    from slatewise.export.gate import Worth


def command(
    run: Annotated[Path, typer.Argument(help="A run folder, or a ranker folder.")],
    out: Annotated[
        Path, typer.Option(metavar="ARTIFACT", help="The artifact's folder, which must not be there yet.")
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime (default), aot-inductor or eager; repeat: the first is what a server takes."
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Also weights of 8 bits, if enough lists stay the same; needs --data."),
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="The prepared data of the run: compare on its held-out requests, too.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which of its requests: validation or test.")] = "test",
    requests: Annotated[
        int, typer.Option(min=1, help="At most so many of them, spread over the split.")
    ] = 256,
    max_candidates: Annotated[
        int, typer.Option(min=1, help="The most candidates that a request may have.")
    ] = 1024,
    min_identical: Annotated[
        float, typer.Option(min=0, max=1, help="int8: share of requests that must get the same list.")
    ] = 0.9,
    max_lost: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="int8: share of the lists' value that may be lost, where it is known."
        ),
    ] = 0.005,
    as_json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Write a run as an artifact, and see that each of its forms ranks as the run does."""
    import msgspec

    from slatewise.data.prepared import load_data
    from slatewise.export.gate import Gate
    from slatewise.export.write import DEFAULT, export

    prepared = None if data is None else load_data(data)
    with _status(quiet=as_json) as status:
        artifact = export(
            run,
            out,
            backends=backend or DEFAULT,
            int8=int8,
            data=prepared,
            split=split,
            requests=requests,
            max_candidates=max_candidates,
            gate=Gate(identical=min_identical, lost=max_lost),
            worth=None if prepared is None or not int8 else _worth(run, prepared),
            progress=lambda what: status and status.update(what),
        )
    rows = _rows(artifact)
    if as_json:
        facts = {
            "model": artifact.manifest.model,
            "out": str(out),
            "limits": artifact.manifest.limits,
            "rows": rows,
        }
        print(msgspec.json.encode(facts).decode())
    else:
        _print(artifact, rows)


def _worth(run: Path, data: PreparedData) -> Worth | None:
    """What lists are worth: by the truth where it is known, else by the run's own reward, where it has one."""
    from slatewise.api import open_reward
    from slatewise.errors import RunError
    from slatewise.export.gate import reward_value, true_value

    try:
        return true_value(data) or reward_value(open_reward(run, data)[0])
    except RunError:
        return None


def _status(*, quiet: bool) -> AbstractContextManager[Any]:
    """A line on stderr that says what is being done, where someone is looking."""
    from rich.console import Console

    if quiet or not sys.stderr.isatty():
        return nullcontext()
    return Console(stderr=True).status("opening the run")


def _rows(artifact: Artifact) -> list[dict[str, Any]]:
    """One row a form: its file's size, and how far it agrees with the ranker."""
    from slatewise.config import to_plain

    return [
        {
            "backend": built.name,
            "mib": round(sum((artifact.path / name).stat().st_size for name in built.files) / 2**20, 2),
            **to_plain(built.agreement),
        }
        for built in artifact.manifest.backends
    ]


def _print(artifact: Artifact, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    manifest = artifact.manifest
    table = Table(
        title=f"{manifest.model}: at most {manifest.limits.candidates} candidates to lists of {manifest.limits.length}"
    )
    table.add_column("backend", no_wrap=True)
    for head in ("MiB", "requests", "same list", "undecided", "value lost"):
        table.add_column(head, justify="right")
    for row in rows:
        lost = "" if row["lost"] is None else f"{row['lost']:.2%} ({row['value']})"
        counts = (str(row["requests"]), str(row["identical"]), str(row["undecided"]))
        table.add_row(row["backend"], f"{row['mib']:.2f}", *counts, lost)
    Console().print(table)
    print(f"artifact: {artifact.path}")
