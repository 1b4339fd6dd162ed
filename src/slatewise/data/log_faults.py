"""What is wrong with a table: a :class:`Fault` names table, row, column, and what is allowed instead."""

from __future__ import annotations

from typing import Literal

import msgspec

MAX_ID_CHARS = 60

Level = Literal["error", "warning"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a table.

    Attributes:
        row: position of the row, counted from 0 (so that ``frame[row]`` shows it); None where no single row
            is at fault.
        column: name of the column; empty where no single column is at fault.
        kind: a short fixed name, listed in ``docs/log-schema.md``.
        message: column, what came, what is allowed, what to do; without table and row.
        count: how many rows have this fault in this column.
        table: ``requests``, ``users``, ``items`` or ``interactions``; empty where nothing could be read.
        level: an ``error`` keeps the table from being used, a ``warning`` does not.
        key: the row's own id (``request_id 'a7'``), where it has one.
    """

    row: int | None
    column: str
    kind: str
    message: str
    count: int = 1
    table: str = "requests"
    level: Level = "error"
    key: str = ""

    @property
    def sentence(self) -> str:
        """Place and message as one sentence."""
        row = "" if self.row is None else f", row {self.row}" + (f" ({self.key})" if self.key else "")
        return f"{self.table}{row}: {self.message}" if self.table else self.message


def errors(faults: list[Fault]) -> list[Fault]:
    """The faults that keep a table from being used."""
    return [fault for fault in faults if fault.level == "error"]


def show(value: object) -> str:
    """A value as an error sentence quotes it: strings in quotes, long ones cut."""
    text = repr(value)
    return text if len(text) <= MAX_ID_CHARS else text[: MAX_ID_CHARS - 1] + "…"


def summary(faults: list[Fault], source: str) -> str:
    """The first error as one sentence, how many more there are, and what to do.

    Raises:
        ValueError: there is no error among the faults.
    """
    first, *more = errors(faults)
    same = f" The same in {first.count - 1} more rows." if first.count > 1 else ""
    others = len({(f.table, f.column, f.kind) for f in more} - {(first.table, first.column, first.kind)})
    other = f" Other faults: {others}." if others else ""
    return f"{source}: {first.sentence}{same}{other} See them all with `slatewise check {source}`."
