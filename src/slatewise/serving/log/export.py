"""The feedback log as a log: Parquet in the schema of ``docs/log-schema.md``, a page at a time, so memory stays flat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from slatewise.config import Frozen
from slatewise.errors import DataError
from slatewise.files import new_file
from slatewise.serving.combine import Rule, combined, rule_of
from slatewise.serving.log.shape import Shape
from slatewise.serving.log.store import FeedbackLog
from slatewise.serving.moments import written
from slatewise.serving.records import Chosen, Exposure

if TYPE_CHECKING:
    from slatewise.serving.log.sql import Row, Transaction

PAGE = 2000  # exposures in memory at a time
Progress = Callable[[int, int], None]

_read = msgspec.json.Decoder(Exposure).decode


class Exported(Frozen):
    """What an export wrote, and what it left out.

    Attributes:
        requests: rows written.   arms: rows of each arm.   events: of each kind of feedback, before they are combined.
        without_scores: requests left out because they have no candidate scores where others have.
    """

    requests: int
    arms: dict[str, int]
    events: dict[str, int]
    without_scores: int


def export(
    log: FeedbackLog,
    out: Path,
    chosen: Chosen,
    *,
    kinds: Sequence[str] = (),
    rules: Mapping[str, Rule] | None = None,
    progress: Progress = lambda done, total: None,
) -> Exported:
    """Write the chosen exposures with their feedback, in order of time; ``out`` appears whole or not at all.

    Args:
        out: a ``.parquet`` file.   kinds: columns of feedback; default: every kind there is.
        rules: how several events of a kind are combined (see :func:`~slatewise.serving.combine.rule_of`).

    Raises:
        DataError: nothing is chosen, there is no feedback and no kind is named, or ``out`` cannot be written.
        UnavailableError: the database does not answer.
    """
    if out.suffix != ".parquet":
        raise DataError(f"--out is {out.name}, but must end in .parquet.")
    with log.database.read(patient=True) as transaction:
        shape = _shape(transaction, chosen)
        events = {row["kind"]: row["count"] for row in transaction.kinds(chosen)}
        kinds = list(kinds) or list(events)
        _check(transaction, shape, kinds)
        columns = shape.columns(kinds)
        pages = _pages(transaction, chosen, scored=shape.scored > 0)
        frames = (_frame(page, transaction, columns, kinds, rules or {}) for page in pages)
        _write(out, frames, shape.written, progress)
    return Exported(
        requests=shape.written,
        arms=shape.arms,
        events={kind: events.get(kind, 0) for kind in kinds},
        without_scores=shape.requests - shape.written,
    )


def _shape(transaction: Transaction, chosen: Chosen) -> Shape:
    shape = Shape()
    for page in _pages(transaction, chosen):
        shape.see(page)
    return shape


def _check(transaction: Transaction, shape: Shape, kinds: Sequence[str]) -> None:
    if not shape.requests:
        arms = transaction.counts("exposures", "arm")
        known = ", ".join(str(row["arm"]) for row in arms if row["arm"] is not None) or "none"
        first, last = map(written, transaction.span().values())
        raise DataError(
            f"none of the {sum(row['count'] for row in arms)} exposures in the log is chosen; "
            f"its arms: {known}; its times: {first} to {last}."
        )
    if not kinds:
        raise DataError(
            f"none of the {shape.requests} chosen exposures has feedback; name a kind with --kind to write zeros."
        )


def _pages(transaction: Transaction, chosen: Chosen, *, scored: bool = False) -> Iterator[list[Exposure]]:
    """The chosen exposures, some at a time; only those with scores where ``scored``."""
    after = (-(2**63), 0)
    while rows := transaction.page(chosen, after, PAGE):
        page = [_read(row["body"]) for row in rows]
        if page := [one for one in page if one.scores is not None or not scored]:
            yield page
        after = rows[-1]["time"], rows[-1]["seq"]


def _frame(
    page: list[Exposure],
    transaction: Transaction,
    columns: Mapping[str, pl.DataType],
    kinds: Sequence[str],
    rules: Mapping[str, Rule],
) -> pl.DataFrame:
    cells = {name: [_cell(one, name) for one in page] for name in columns if not name.startswith("feedback_")}
    rows = transaction.of_requests("feedback", [one.request_id for one in page])
    cells |= {f"feedback_{kind}": _feedback(page, rows, kind, rule_of(kind, rules)) for kind in kinds}
    return pl.DataFrame({name: _series(name, cells[name], kind) for name, kind in columns.items()})


def _cell(one: Exposure, name: str) -> Any:
    if name.startswith("context_"):
        return one.context.get(name.removeprefix("context_"))
    if name.startswith("candidate_") and name != "candidate_scores":
        return one.features.get(name.removeprefix("candidate_"))
    return getattr(one, {"exposed": "served", "candidate_scores": "scores"}.get(name, name))


def _series(name: str, cells: Sequence[Any], kind: pl.DataType) -> pl.Series:
    inner = kind.inner if isinstance(kind, pl.List) else kind
    if inner == pl.String:
        cells = [_texts(cell) for cell in cells]
    elif isinstance(kind, pl.List):
        cells = [None if cell is None else list(cell) for cell in cells]
    return pl.Series(name, cells, kind, strict=False)


def _texts(cell: Any) -> Any:
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, tuple | list):
        return [str(entry) for entry in cell]
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def _feedback(page: list[Exposure], rows: Sequence[Row], kind: str, rule: Rule) -> list[NDArray[np.float64]]:
    """One array a request, aligned with its list."""
    ends = np.cumsum([len(one.served) for one in page])
    first = dict(zip((one.request_id for one in page), [0, *ends], strict=False))
    found = [row for row in rows if row["kind"] == kind]
    found.sort(key=lambda row: (row["received"] if row["time"] is None else row["time"], row["seq"]))
    place = np.array([first[row["request_id"]] + row["place"] for row in found], np.int64)
    value = np.array([row["value"] for row in found], np.float64)
    return np.split(combined(place, value, int(ends[-1]), rule), ends[:-1])


def _write(out: Path, frames: Iterator[pl.DataFrame], total: int, progress: Progress) -> None:
    try:
        with new_file(out) as partial:
            _write_groups(partial, frames, total, progress)
    except FileNotFoundError:
        raise DataError(f"{out.parent} is not a folder; make it first.") from None


def _write_groups(path: Path, frames: Iterator[pl.DataFrame], total: int, progress: Progress) -> None:
    writer, done = None, 0
    try:
        for frame in frames:
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            done += frame.height
            progress(done, total)
    finally:
        if writer is not None:
            writer.close()
