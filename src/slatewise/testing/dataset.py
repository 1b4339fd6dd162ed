"""The laws of data sets (see ``slatewise/data/datasets``)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from slatewise.data.check import examine
from slatewise.data.log import Log
from slatewise.data.log_faults import errors
from slatewise.data.log_tables import check_table, ids_of
from slatewise.errors import DataError
from slatewise.testing.laws import LawBroken, find, require, settings


def check_dataset(name: str | ModuleType, source: Path | None = None, **options: Any) -> None:
    """A data set gives a log that the schema allows, the same every time, and says what it counted.

    The laws: requests or interactions are there; every table is without fault under ``slatewise check``;
    counts are whole numbers, none negative; loading twice gives the same tables; a source that is not there
    is a DataError (where the data set reads files).

    Args:
        name: public name or module.   source: its files.   options: its config.

    Raises:
        LawBroken: a law does not hold.
    """
    called, module = find("data.datasets", name, "load")
    config = settings(module, options, called)
    log: Log = module.load(config, source)
    require(
        log.requests is not None or log.interactions is not None,
        f"{called}: has neither requests nor interactions.",
    )
    require(bool(log.counts), f"{called}: counts nothing.")
    for what, count in log.counts.items():
        require(isinstance(count, int) and count >= 0, f"{called}: count '{what}' is {count!r}.")
    _tables(called, log)
    again: Log = module.load(config, source)
    for table in ("requests", "users", "items", "interactions"):
        first, second = getattr(log, table), getattr(again, table)
        same = (first is None) == (second is None) and (first is None or first.equals(second))
        require(same, f"{called}: loading twice gives other {table}.")
    if source is not None:
        _refuses(called, module, config, source)


def _tables(called: str, log: Log) -> None:
    ids: dict[str, pl.DataType] = {}
    if log.requests is not None:
        requests, faults = examine(log.requests, ranking=False, examples=1)
        ids = ids_of(requests)
        for fault in errors(faults):
            raise LawBroken(f"{called}: {fault.sentence}")
    for table in ("users", "items", "interactions"):
        frame = getattr(log, table)
        if frame is not None:
            _, faults = check_table(frame.drop(_lists(frame)), table, ids)
            for fault in errors(faults):
                raise LawBroken(f"{called}: {fault.sentence}")


def _lists(frame: pl.DataFrame) -> list[str]:
    """Columns that only a data set may hand over (a film's genres), not a user's file."""
    return [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]


def _refuses(called: str, module: ModuleType, config: Any, source: Path) -> None:
    for missing in (source.parent / f"no-{source.name}-here", None):
        try:
            module.load(config, missing)
        except DataError:
            continue
        raise LawBroken(f"{called}: a source that is not there must be a DataError.")
