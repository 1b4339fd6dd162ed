"""The report's page: one HTML file without outside assets, for light and dark screens and for print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from slatewise.evaluation.curves import Curves
from slatewise.evaluation.plots import group_rewards, metric_bars, training_curves
from slatewise.evaluation.results import Row
from slatewise.evaluation.words import label

if TYPE_CHECKING:
    from slatewise.evaluation.report import Line, Section

STYLE = """
:root { color-scheme: light dark; --ink: #1b2733; --soft: #5d6b78; --paper: #ffffff; --band: #f2f5f8; --line:
#d8dfe6;
  --floor: #8d99a6; --ranker: #2f7ed8; --ceiling: #c98b1b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #9aa7b3; --paper: #14191f; --band: #1d242c; --line: #323c46; } }
* { box-sizing: border-box; } body { margin: 0 auto; padding: 2.2rem 1.2rem 4rem; max-width: 72rem;
background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1.4rem; } h2 { font-size: 1.1rem; margin: 2.4rem 0
.7rem; } .scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums;
white-space: nowrap; } th, td { padding: .32rem .8rem; text-align: right; border-bottom: 1px solid
var(--line); } th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background:
inherit; } thead th { font-size: .85rem; color: var(--soft); font-weight: 600; } thead, tbody tr {
background: var(--paper); } tr.kind td { font-size: .8rem; color: var(--soft); padding-top: 1rem;
letter-spacing: .02em; } tr.floor td:first-child, tr.ceiling td:first-child { box-shadow: inset 3px 0
var(--mark); } tr.ranker td:first-child { box-shadow: inset 3px 0 var(--ranker); font-weight: 600; } tr.floor
{ --mark: var(--floor); color: var(--soft); } tr.ceiling { --mark: var(--ceiling); color: var(--soft); }
tr.ranker { background: var(--band); } tr.kind td:first-child { box-shadow: none; font-weight: 400; } tr.kind
{ background: var(--paper); } small { color: var(--soft); } svg { width: 100%; height: auto; color:
var(--ink); } p.note { color: var(--soft); font-size: .88rem; max-width: 60rem; margin: .5rem 0; } dl {
display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; background: var(--band);
  border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1.1rem; margin: 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { max-width: none; } .scroll { overflow: visible; } }
"""


def page(
    title: str,
    lines: Sequence[Line],
    rows: Sequence[Row],
    columns: Sequence[str],
    curves: Sequence[Curves],
    meta: Mapping[str, str],
    notes: Sequence[str],
    sections: Sequence[Section] = (),
    pictures: Sequence[str] = (),
) -> str:
    """The whole page."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        _table(lines, columns),
        *[f'<p class="note">{escape(note)}</p>' for note in notes],
        *[_section(part.title, _plain_table(part)) for part in sections],
        _section("Curves", "\n".join(pictures)),
        _section("Metrics, with 95 % intervals", metric_bars(rows, columns)),
        _section("Training", training_curves(curves)),
        _section("What the groups held", group_rewards(curves)),
        _section("How this was made", _facts(meta)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _plain_table(part: Section) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in part.heads)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in part.rows
    )
    return f'<div class="scroll"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def _table(lines: Sequence[Line], columns: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in ["policy", *map(label, columns), "ms"])
    body = "\n".join(_line(line, len(columns) + 2) for line in lines)
    head = f"<thead><tr>{heads}</tr></thead>"
    return f'<div class="scroll"><table>\n{head}\n<tbody>\n{body}\n</tbody></table></div>'


def _line(line: Line, width: int) -> str:
    if not line.cells:
        return f'<tr class="kind"><td colspan="{width}">{escape(line.head)}</td></tr>'
    cells = "".join(f"<td>{_cell(*cell)}</td>" for cell in line.cells)
    return f'<tr class="{escape(line.kind)}"><td>{escape(line.head)}</td>{cells}</tr>'


def _cell(value: str, spread: str, best: bool) -> str:
    return (f"<strong>{value}</strong>" if best else value) + (
        f" <small>± {spread}</small>" if spread else ""
    )


def _facts(meta: Mapping[str, str]) -> str:
    if not meta:
        return ""
    return (
        "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in meta.items()) + "</dl>"
    )
