"""``slatewise truth``: what lists that know the truth reach in a simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slatewise.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from slatewise.simulators.reference import Reference


def command(
    simulator: Annotated[str, typer.Argument(help="The simulator, e.g. store-v1.")],
    candidates: Annotated[int, typer.Option(help="Candidates of a request.")] = 12,
    requests: Annotated[int, typer.Option(help="Requests to average over.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the requests.")] = 0,
    kind: Annotated[
        str, typer.Option(help="What a list's value counts: click, conversion or value.")
    ] = "click",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the simulator, key=value; repeat for more."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Print what random, logged, sorted and searched lists reach in a simulator, in % of the optimum."""
    import msgspec
    from rich.console import Console

    from slatewise.config import build, merge, parse_overrides
    from slatewise.names import plugin
    from slatewise.simulators.reference import references

    if requests < 2:
        raise ConfigError(f"--requests is {requests}, but a mean with its error needs at least 2.")
    module = plugin("simulators", simulator)
    config = build(
        module.Config, merge({"candidates": candidates}, parse_overrides(settings or [])), where="--set"
    )
    rows, exact = references(module.create(config), requests, seed=seed, kind=kind)
    among = "all lists" if exact else "10,000 random lists"
    if as_json:
        answer = {
            "simulator": simulator,
            "requests": requests,
            "kind": kind,
            "ranked_among": among,
            "rows": rows,
        }
        typer.echo(msgspec.json.encode(answer).decode())
        return
    Console().print(
        _table(
            rows, f"{simulator}, {config.candidates} → {config.length}, {requests} requests, {kind}", among
        )
    )


def _table(rows: list[Reference], title: str, among: str) -> Table:
    from rich.table import Table

    table = Table(
        title=title, caption=f"% of the exact optimum ± standard error; top 1 % and .1 % of {among}"
    )
    table.add_column("policy", no_wrap=True)
    for name in ("value", "share %", "±", "regret %", "top 1 %", "top .1 %"):
        table.add_column(name, justify="right")
    for row in rows:
        shown = (f"{row.value:.3f}", f"{row.share:.2f}", f"{row.error:.2f}")
        table.add_row(row.policy, *shown, f"{row.regret:.1f}", f"{row.top_1:.1f}", f"{row.top_01:.1f}")
    return table
