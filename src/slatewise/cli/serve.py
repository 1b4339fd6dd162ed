"""``slatewise serve``: rankers behind HTTP, with feedback log, feature store, arms and shadows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def command(
    artifacts: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTIFACT...", help="Artifacts of `slatewise export`: PATH, NAME=PATH or NAME=PATH:SHARE."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; beyond this machine --keys is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; one that dies is started again.")] = 1,
    log: Annotated[
        str, typer.Option(metavar="STORE", help="The feedback log: a path (SQLite) or postgresql://…")
    ] = "",
    features: Annotated[
        str, typer.Option(metavar="STORE", help="The feature store: a path (SQLite) or redis://…")
    ] = "",
    combine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=RULE",
            help="How a user's events of a kind on one item become one number in his history: as `slatewise log "
            "export` wrote the log that the rankers learnt from; repeatable.",
        ),
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="A file of keys (`slatewise key`).")] = None,
    shadow: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Ranks along, and nobody sees its lists.")
    ] = None,
    unit: Annotated[
        str, typer.Option(help="What always gets the same ranker: user_id or request_id.")
    ] = "user_id",
    salt: Annotated[str, typer.Option(help="Another salt draws the arms anew.")] = "",
    backend: Annotated[str, typer.Option(help="Of the artifacts; default: their own.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads that one ranking computes on.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Requests ranked at once, at most.")] = 32,
    pending: Annotated[
        int, typer.Option(min=1, help="Requests that may wait; one more is answered 503.")
    ] = 512,
    window_ms: Annotated[
        float, typer.Option(min=0, help="How long a busy server waits for a fuller batch.")
    ] = 0.0,
    deadline_ms: Annotated[float, typer.Option(min=0, help="Of requests that name none; 0: none.")] = 0.0,
    max_candidates: Annotated[int, typer.Option(min=1, help="Of one request.")] = 1024,
    max_body_kib: Annotated[int, typer.Option(min=1, help="Of one call.")] = 1024,
    wait_for_log: Annotated[
        bool, typer.Option("--wait-for-log", help="Answer a list when it is on disk, or its deadline comes.")
    ] = False,
    studio: Annotated[
        bool,
        typer.Option("--studio", help="A page at /studio: lists side by side, steps, rules, live traffic."),
    ] = False,
    watch_seconds: Annotated[
        float, typer.Option(min=0, help="How often to look for new artifacts; 0: never.")
    ] = 2.0,
) -> None:
    """Serve rankers over HTTP until a signal ends it; a new artifact at a path is taken without a pause."""
    # read when torch is loaded, by the lines below; beside a busy neighbour two threads wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from slatewise.errors import ConfigError
    from slatewise.serving.batcher import BatchConfig
    from slatewise.serving.keys import LOOPBACK
    from slatewise.serving.run import run
    from slatewise.serving.settings import Settings, read_arm
    from slatewise.serving.wire import Limits

    if host not in LOOPBACK and keys is None:
        raise ConfigError(
            f"--host {host} is open to other machines, so keys are needed: make one with `slatewise key NAME --file keys.txt` "
            "and serve with --keys keys.txt."
        )
    settings = Settings(
        arms=tuple(
            [read_arm(text) for text in artifacts] + [read_arm(text, shadow=True) for text in shadow or ()]
        ),
        unit=unit,
        salt=salt,
        backend=backend,
        threads=threads,
        batch=BatchConfig(batch=batch, pending=pending, window_ms=window_ms),
        limits=Limits(candidates=max_candidates),
        body_kib=max_body_kib,
        deadline_ms=deadline_ms,
        log=log,
        features=features,
        combine=tuple(combine or ()),
        wait_for_log=wait_for_log,
        keys=str(keys or ""),
        watch_seconds=watch_seconds,
        studio=studio,
    )
    run(settings, host, port, workers)
