"""``slatewise bench``: speed and memory as ratios, both sides measured in one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slatewise.benchmarks.results import Result


def command(
    suite: Annotated[str, typer.Argument(help="train-step, decode, mine, retrieve or serve.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the suite's config; repeat for more.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for <suite>_<hardware>_<date>.json and .md.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as torch takes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One object for machines on stdout.")] = False,
) -> None:
    """Measure a suite against its references; benchmarks/README.md says what the rows mean."""
    import msgspec
    import torch

    from slatewise.benchmarks.results import save

    if threads:
        torch.set_num_threads(threads)
    result = _measure(suite, settings or [], quiet=as_json)
    written = save(result, out) if out is not None else []
    if as_json:
        print(msgspec.json.encode(result).decode())
        return
    _print(result)
    for path in written:
        print(f"written: {path}")


def _measure(suite: str, settings: list[str], *, quiet: bool) -> Result:
    from slatewise.benchmarks.neighbours import Neighbours
    from slatewise.benchmarks.results import Result, today
    from slatewise.config import build, parse_overrides, to_plain
    from slatewise.evaluation.provenance import machine, made_by
    from slatewise.names import plugin, public_name
    from slatewise.tensors import check_device

    module = plugin("benchmarks", suite)
    config = build(module.Config, parse_overrides(settings), where="--set")
    check_device(getattr(config, "device", "cpu"))
    beside = Neighbours()
    with _Bar(quiet=quiet) as bar:
        rows = module.run(config, bar)
    return Result(
        suite=public_name(suite),
        hardware=machine(),
        date=today(),
        rows=rows,
        expected=list(module.EXPECTED),
        config=to_plain(config),
        made_by=made_by(what_else_ran=beside.words()),
    )


class _Bar:
    """A bar on stderr, where someone is looking: what is being measured and the share that is done."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        disable = quiet or not sys.stderr.isatty()
        self._bar = Progress(console=Console(stderr=True), disable=disable, transient=True)
        self._task = self._bar.add_task("starting", total=1.0)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, what: str, share: float) -> None:
        self._bar.update(self._task, completed=share, description=what)


def _print(result: Result) -> None:
    from rich.console import Console
    from rich.table import Table

    from slatewise.benchmarks.results import cells
    from slatewise.benchmarks.rows import judged

    table = Table(title=f"{result.suite}, {result.hardware}")
    for head in ("row", "value", "unit", "reference", "ratio"):
        table.add_column(head, justify="left" if head in ("row", "unit") else "right")
    for row in result.rows:
        table.add_row(*cells(row))
    console = Console()
    console.print(table)
    for expected, row in judged(result.rows, result.expected):
        met = "met" if row.ratio is not None and expected.met(row.ratio) else "NOT met"
        console.print(f"{met}: {row.name}: ratio {row.ratio:.3g}, expected {expected.words()}")
