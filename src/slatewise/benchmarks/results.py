"""A suite's answer as files: ``<suite>_<hardware>_<date>.json`` and ``.md``."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from slatewise.benchmarks.rows import Expectation, Row, judged
from slatewise.files import new_file


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What is written: the rows, the bounds set beforehand, the settings, and how it was made."""

    suite: str
    hardware: str
    date: str
    rows: list[Row]
    expected: list[Expectation]
    config: dict[str, Any]
    made_by: dict[str, str]


def today() -> str:
    """The date of a result's file name."""
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()


def slug(hardware: str) -> str:
    """A machine's description as part of a file name."""
    bare = re.sub(r"\((?:R|TM|tm)\)", "", hardware)
    return re.sub(r"[^a-z0-9.]+", "-", bare.lower()).strip("-")


def save(result: Result, folder: Path) -> list[Path]:
    """Write both files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{result.suite}_{slug(result.hardware)}_{result.date}"
    encoded = msgspec.json.format(msgspec.json.encode(result), indent=2)
    texts = {f"{stem}.json": encoded.decode() + "\n", f"{stem}.md": page(result)}
    for name, text in texts.items():
        with new_file(folder / name) as partial:
            partial.write_text(text)
    return [folder / name for name in texts]


def page(result: Result) -> str:
    """The result as Markdown: what was expected and what came, every row, how it was made."""
    found = judged(result.rows, result.expected)
    parts = [f"# {result.suite}, {result.hardware}, {result.date}"]
    if found:
        parts.append(
            "## Expected and found\n\n" + _table(("row", "expected", "found", "met"), map(_verdict, found))
        )
    parts.append(
        "## Rows\n\n" + _table(("row", "value", "unit", "reference", "ratio"), map(cells, result.rows))
    )
    facts = result.made_by | {"config": msgspec.json.encode(result.config).decode()}
    parts.append("## How it was made\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items()))
    return "\n\n".join(parts) + "\n"


def cells(row: Row) -> tuple[str, ...]:
    """A row as text."""
    return (row.name, number(row.value), row.unit, number(row.reference), number(row.ratio))


def number(value: float | None) -> str:
    """Four digits are what a timing is worth."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _verdict(pair: tuple[Expectation, Row]) -> tuple[str, ...]:
    expected, row = pair
    assert row.ratio is not None
    return (
        row.name,
        f"ratio {expected.words()}",
        number(row.ratio),
        "yes" if expected.met(row.ratio) else "no",
    )


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
