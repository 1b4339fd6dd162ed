"""The report of a reproduced recipe: its table, significance, gaps, curves, expectations, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slatewise.data.prepared import PreparedData
from slatewise.evaluation.curves import read_curves
from slatewise.evaluation.plots import line_plot
from slatewise.evaluation.provenance import made_by
from slatewise.evaluation.report import write_report

if TYPE_CHECKING:
    from slatewise.reproduce import Result


def write(result: Result, recipe_path: Path, data: PreparedData, seeds: Sequence[int], jobs: int) -> None:
    """Write ``report.md``, ``report.json`` and ``report.html`` into the result's folder."""
    recipe = result.recipe
    first_runs = [_run(result, row, seeds[0]) for row in recipe.rows]
    sections = [
        _pairs(result),
        _gaps(result),
        _rewards(result, data, seeds),
        _checks(result),
        *_paper(result),
    ]
    write_report(
        result.out,
        title=recipe.title,
        rows=result.rows,
        columns=result.evaluation.about.metrics,
        curves=[read_curves(result.out / f"seed-{seeds[0]}", name=f"seed {seeds[0]}")] if first_runs else [],
        meta=made_by(
            data,
            recipe=recipe_path,
            seeds=", ".join(map(str, seeds)),
            jobs=jobs,
            time=f"{result.seconds:.0f} s",
        ),
        notes=[recipe.notes] if recipe.notes else [],
        sections=[section for section in sections if section.rows],
        pictures=[
            line_plot(
                curve.name, curve.axis, curve.metric, curve.values, [result.row(row) for row in curve.rows]
            )
            for curve in recipe.curves
        ],
    )
