"""``slatewise mine``: lists and step values for every training request, under a trained reward."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[
        Path,
        typer.Argument(help="A run folder whose reward is the evaluator (reward-search, degre, goalrank …)."),
    ],
    data: Annotated[Path, typer.Option(help="The prepared data the run was trained on.")],
    out: Annotated[
        Path, typer.Option(metavar="MINED", help="Folder of the store; an unfinished one is gone on with.")
    ],
    beam: Annotated[int, typer.Option(help="Width of the beam, 1 to 64.")] = 8,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Another setting: top_k, polish_rounds, keep; repeatable."
        ),
    ] = None,
    requests: Annotated[
        int, typer.Option(min=0, help="Only the first so many training requests; 0: all.")
    ] = 0,
    shard: Annotated[int, typer.Option(min=1, help="Requests a file: what an interruption can cost.")] = 1024,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as torch takes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Mine every training request; interrupt it as you like and run it again to go on."""
    import time

    import msgspec
    import torch

    from slatewise.api import mine
    from slatewise.config import parse_overrides
    from slatewise.data.prepared import load_data
    from slatewise.errors import ConfigError

    if threads:
        torch.set_num_threads(threads)
    started = time.perf_counter()
    quiet = as_json or not sys.stderr.isatty()
    options = parse_overrides(settings or [])
    if "width" in options:
        raise ConfigError("the beam's width is --beam; leave width out of --set.")
    options["width"] = beam
    store = mine(run, load_data(data), out, requests=requests, shard=shard, quiet=quiet, **options)
    size = sum(file.stat().st_size for file in out.iterdir()) / 2**20
    facts = {
        "requests": store.facts.requests,
        "lists": store.facts.lists,
        "key": store.facts.key,
        "mib": round(size, 1),
        "seconds": round(time.perf_counter() - started, 1),
        "out": str(out),
    }
    print(
        msgspec.json.encode({"rows": [facts]}).decode()
        if as_json
        else f"{facts['requests']:,} requests with {facts['lists']} lists each in {out} ({size:,.0f} MiB)"
    )
