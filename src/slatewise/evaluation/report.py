"""Reports: one table as Markdown, as JSON and as a self-contained page with pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from slatewise.evaluation.curves import Curves
from slatewise.evaluation.page import page
from slatewise.evaluation.results import Row
from slatewise.evaluation.words import base, label, lower_is_better, written
from slatewise.files import new_file

KINDS = {
    "floor": "Floors: no trained model",
    "ranker": "Rankers",
    "ceiling": "Ceilings: they know the answer",
}
NOTE = (
    "± is the standard deviation over seeds where there are several, else half the 95 % interval of the mean "
    "over requests (requests of one user count as dependent). Bold is the best ranker of a column."
)
F1_NOTE = "F1 comes from mean precision and mean recall."


class Section(msgspec.Struct):
    """A further table below the main one: a title, column heads, and rows of text."""

    title: str
    heads: list[str]
    rows: list[list[str]]

    def markdown(self) -> list[str]:
        """The section's lines."""
        head = "| " + " | ".join(self.heads) + " |"
        body = [
            "| " + " | ".join(cell.replace("|", chr(92) + "|") for cell in row) + " |" for row in self.rows
        ]
        return ["", f"## {self.title}", "", head, "|---" * len(self.heads) + "|", *body, ""]


def write_report(
    folder: Path,
    *,
    title: str,
    rows: Sequence[Row],
    columns: Sequence[str],
    curves: Sequence[Curves] = (),
    meta: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    sections: Sequence[Section] = (),
    pictures: Sequence[str] = (),
) -> Path:
    """Write ``report.md``, ``report.json`` and ``report.html`` into ``folder``, each whole or not at all.

    Args:
        rows: a row a policy; floors, rankers and ceilings are set apart by ``kind``.
        columns: metrics to show, in order.   curves: training curves of runs, for the page.
        meta: the box "how this was made", e.g. from :func:`slatewise.evaluation.provenance.made_by`.
        notes: sentences below the table.   sections: further tables.   pictures: inline SVG for the page.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ordered = in_kinds(rows)
    notes = [NOTE, *_own_notes(ordered, columns), *notes]
    meta = dict(meta or {})
    answer = {
        "title": title,
        "columns": list(columns),
        "rows": ordered,
        "meta": meta,
        "sections": list(sections),
    }
    _write(folder / "report.json", msgspec.json.format(msgspec.json.encode(answer)))
    _write(folder / "report.md", markdown(title, ordered, columns, meta, notes, sections).encode())
    html = page(title, table(ordered, columns), ordered, columns, curves, meta, notes, sections, pictures)
    _write(folder / "report.html", html.encode())
    return folder / "report.html"


def _own_notes(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    notes = [F1_NOTE] if any(base(column) == "f1" for column in columns) else []
    requests = max((row.requests for row in rows), default=0)
    fewer: dict[int, list[str]] = {}
    for column in columns:
        # a policy has a metric on all requests that define it, or cannot have it at all
        count = max((row.counts.get(column, row.requests) for row in rows), default=0)
        if 0 < count < requests:
            fewer.setdefault(count, []).append(column)
    notes += [f"Over {count:,} of {requests:,} requests: {', '.join(c)}." for count, c in fewer.items()]
    return notes


def in_kinds(rows: Sequence[Row]) -> list[Row]:
    """Floors, rankers, ceilings; inside each as given."""
    order = list(KINDS)
    return sorted(rows, key=lambda row: order.index(row.kind) if row.kind in order else 1)


class Line(msgspec.Struct):
    """A table's line ready to be written: a kind's heading (no cells) or a policy."""

    head: str
    kind: str
    cells: list[tuple[str, str, bool]]  # value, spread, best of the rankers


def table(rows: Sequence[Row], columns: Sequence[str]) -> list[Line]:
    """Lines of the table, a heading before each kind."""
    lines: list[Line] = []
    best = {column: _best(rows, column) for column in columns}
    for row in in_kinds(rows):
        if not lines or lines[-1].kind != row.kind:
            lines.append(Line(KINDS.get(row.kind, row.kind), row.kind, []))
        cells = [
            (
                written(c, row.metrics.get(c)),
                _spread(row, c),
                row.kind == "ranker" and row.metrics.get(c) == best[c],
            )
            for c in columns
        ]
        seeds = f" ({row.seeds} seeds)" if row.seeds > 1 else ""
        lines.append(Line(row.policy + seeds, row.kind, [*cells, (_milliseconds(row.ms_single), "", False)]))
        if row.paper:
            paper = [(written(c, row.paper.get(c)), "", False) for c in columns]
            lines.append(Line(f"{row.policy}, in the paper", row.kind, [*paper, ("–", "", False)]))
    return lines


def markdown(
    title: str,
    rows: Sequence[Row],
    columns: Sequence[str],
    meta: Mapping[str, str],
    notes: Sequence[str],
    sections: Sequence[Section] = (),
) -> str:
    """The report as Markdown."""
    heads = [*map(label, columns), "ms"]
    text = [f"# {title}", "", "| policy | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for line in table(rows, columns):
        if not line.cells:
            text.append(f"| *{line.head}* |" + " |" * len(heads))
            continue
        cells = [_cell(*cell) for cell in line.cells]
        text.append(f"| {line.head.replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |")
    text += ["", *[f"{note}\n" for note in notes], *[line for part in sections for line in part.markdown()]]
    text += ["## How this was made", ""]
    return "\n".join([*text, *[f"- {name}: {value}" for name, value in meta.items()], ""])


def _cell(value: str, spread: str, best: bool) -> str:
    return (f"**{value}**" if best else value) + (f" ± {spread}" if spread else "")


def _best(rows: Sequence[Row], column: str) -> float | None:
    values = [row.metrics[column] for row in rows if row.kind == "ranker" and column in row.metrics]
    values = [value for value in values if math.isfinite(value)]
    if len(values) < 2:  # alone is not best
        return None
    return min(values) if lower_is_better(column) else max(values)


def _spread(row: Row, column: str) -> str:
    if row.std is not None:
        spread = row.std.get(column)
    else:
        low, high = row.low.get(column), row.high.get(column)
        spread = (high - low) / 2 if low is not None and high is not None else None
    return "" if spread is None or not math.isfinite(spread) else written(column, spread)


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _write(path: Path, content: bytes) -> None:
    with new_file(path) as partial:
        partial.write_bytes(content)
