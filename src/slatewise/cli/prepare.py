"""``slatewise prepare``: from a data set's files to prepared data, ready to train on."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slatewise.data.schema import Manifest


def command(
    dataset: Annotated[str, typer.Argument(help="Name of the data set, e.g. movielens-1m, store, parquet.")],
    out: Annotated[Path, typer.Option(metavar="DATA", help="Folder to make; must not be there yet.")],
    source: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the data set's files.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="How lists are cut; default: the data set's own.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of the protocol; repeatable."),
    ] = None,
    dataset_settings: Annotated[
        list[str] | None,
        typer.Option("--dataset-set", metavar="KEY=VALUE", help="Option of the data set; repeatable."),
    ] = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Fetch missing files into the source folder, where it is allowed."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything the protocol draws.")] = 0,
    candidates_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Take candidates and scores from the whole catalogue, as this run retrieves them.",
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(min=1, help="How many candidates a request gets from that run; default: 50."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Read a data set, cut it into lists by a protocol, and write prepared data."""
    from rich.console import Console

    from slatewise.api import prepare
    from slatewise.config import parse_overrides

    dataset_options = parse_overrides(dataset_settings or [])
    if download:
        dataset_options["download"] = True
    started = time.perf_counter()
    with Console(stderr=True).status(f"preparing {dataset} …") as status:
        data = prepare(
            dataset,
            out,
            source=source,
            protocol=protocol,
            seed=seed,
            dataset_options=dataset_options,
            protocol_options=parse_overrides(settings or []),
            candidates_from=candidates_from,
            candidates=candidates,
            progress=lambda done, total: status.update(f"retrieving candidates: {done / total:.0%} …"),
        )
    _report(data.manifest, out, time.perf_counter() - started, as_json)


def _report(manifest: Manifest, out: Path, seconds: float, as_json: bool) -> None:
    report = summary(manifest, out, seconds)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(report).decode())
        return
    _print(manifest, report)


def summary(manifest: Manifest, out: Path, seconds: float) -> dict[str, Any]:
    """What ``--json`` prints: a row a split, the counts, the schema, and what it cost."""
    from slatewise.config import to_plain
    from slatewise.data.prepared import SPLITS

    return {
        "rows": [{"split": name, "requests": manifest.counts[name]} for name in SPLITS],
        "counts": manifest.counts,
        "data": str(out),
        "name": manifest.name,
        "protocol": manifest.protocol,
        "target": manifest.target,
        "schema": to_plain(manifest.schema),
        "fingerprint": manifest.fingerprint,
        "seconds": round(seconds, 3),
        "peak_mib": peak_mib(),
    }


def peak_mib() -> float | None:
    """Largest resident memory of this process so far in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def _print(manifest: Manifest, report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console, schema = Console(), manifest.schema
    table = Table("count", "", title=f"{manifest.name}, {manifest.protocol}", title_justify="left")
    table.columns[1].justify = "right"
    for name, count in manifest.counts.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    console.print(
        f"N = {schema.candidates} candidates, L = {schema.length}, H = {schema.history}; "
        f"{schema.users - 1:,} users, {schema.items - 1:,} items; feedback: "
        f"{', '.join(kind.name for kind in schema.feedback) or 'none'}."
    )
    peak = f", peak memory {report['peak_mib']:,.0f} MiB" if report["peak_mib"] is not None else ""
    console.print(f"{report['data']} written in {report['seconds']:.1f} s{peak}.", soft_wrap=True)
