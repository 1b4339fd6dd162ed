"""``slatewise demo``: the whole story on the simulated store, in minutes, ending in a report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[
        Path, typer.Option(help="The demo's folder; what is trained there already is kept.")
    ] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Simulate a store's log, train reward, DNN, PRM and GoalRank, and say how near each comes to the optimum."""
    import msgspec

    from slatewise.files import new_file
    from slatewise.reproduce import reproduce

    result = reproduce(Path(__file__).parent.parent / "demo.toml", out=out, quiet=json)
    answer = {"rows": [_row(row) for row in sorted(result.rows, key=lambda row: row.metrics["true-value"])]}
    with new_file(result.out / "report.json") as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(answer)))
    for row, run in result.runs.items():
        _link(result.out / row, run)
    _link(result.out / "data", result.data["goalrank"])
    print(
        msgspec.json.encode(answer).decode()
        if json
        else f"{result.markdown()}\nthe page: {result.out / 'report.html'}\n"
        f"serve it: slatewise export {result.out / 'goalrank'} --data {result.out / 'data'} --out ARTIFACT && slatewise serve ARTIFACT"
    )
    if not all(check.passed for check in result.checks):
        raise typer.Exit(1)


def _link(path: Path, folder: Path) -> None:
    """A name for a folder that does not change with the config, where the file system has links."""
    from contextlib import suppress

    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(folder, path.parent))


def _row(row: object) -> dict[str, object]:
    """``policy, value, oracle_share, ci95, latency_ms``; ci95 is half the interval of ``oracle_share``."""
    from slatewise.evaluation.results import Row

    assert isinstance(row, Row)
    share = "oracle-share"
    return {
        "policy": row.policy,
        "value": row.metrics["true-value"],
        "oracle_share": row.metrics[share],
        "ci95": (row.high[share] - row.low[share]) / 2,
        "latency_ms": row.ms_single,
    }
