"""What verbs that grade share: opening data and rankers that belong together, a progress bar, tables of a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slatewise.data.prepared import PreparedData
    from slatewise.evaluation.report import Section
    from slatewise.ranker import Ranker


def open_all(data: Path, runs: list[Path], device: str = "cpu") -> tuple[PreparedData, list[Ranker]]:
    """The data and the rankers of the runs; the data is graded by the rankers' target, where they share one.

    Raises:
        RunError: a ranker was trained on other data, so that its indices mean other items.
        ConfigError: the rankers were trained for different targets, or there is no such device.
    """
    from slatewise.data.prepared import load_data
    from slatewise.errors import ConfigError, RunError
    from slatewise.ranker import Ranker
    from slatewise.tensors import check_device

    check_device(device)
    prepared, rankers = load_data(data), [Ranker.load(run, device=device) for run in runs]
    for run, ranker in zip(runs, rankers, strict=True):
        if ranker.card.manifest.fingerprint != prepared.manifest.fingerprint:
            raise RunError(
                f"{run} was trained on other data than {data}; evaluate it on the data it was trained on."
            )
    targets = [ranker.card.manifest.target for ranker in rankers]
    if any(target != targets[0] for target in targets):
        raise ConfigError(f"the runs were trained for different targets, {targets}; evaluate them apart.")
    return prepared.with_target(targets[0]) if targets else prepared, rankers


def print_section(section: Section) -> None:
    """A section of a report as a table on the terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*section.heads, title=section.title, title_justify="left")
    for row in section.rows:
        table.add_row(*map(escape, row))
    Console().print(table)


class Bar:
    """A bar on stderr while requests are graded, where someone is looking; ``with Bar(...) as step``."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(
            console=Console(stderr=True), disable=quiet or not sys.stderr.isatty(), transient=True
        )
        self._task = self._bar.add_task("evaluating", total=None)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
