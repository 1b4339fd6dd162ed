"""Who graded, and what each judge is worth, as a table of a report."""

from __future__ import annotations

from collections.abc import Sequence

from slatewise.data.prepared import PreparedData
from slatewise.evaluation.judge_quality import judge_quality
from slatewise.evaluation.judge_training import SELF
from slatewise.evaluation.judging import Bench
from slatewise.evaluation.report import Section
from slatewise.evaluation.words import number

HEADS = [
    "judge",
    "who",
    "agreement with self",
    "with the labels",
    "predicted / true",
    "order share %",
    "ties %",
]


def judges(benches: Sequence[Bench], data: PreparedData, split: str = "test") -> Section:
    """A row a judge that has graded; the evaluator's own mark says only what search and distillation lose."""
    evaluator = next((bench.judge for bench in benches if bench.config.kind == SELF), None)
    rows = []
    for bench in benches:
        found, config = judge_quality(bench.judge, data, evaluator=evaluator, split=split), bench.config
        learnt = f"reward of {config.row}" if config.kind == SELF else f"{config.kind}, {config.users} users"
        shares = (found.order_share, bench.ties())
        figures = [number(value) for value in (found.agreement, found.truth, found.pcoc)]
        rows.append([bench.name, learnt, *figures, *[f"{100 * share:.2f}" for share in shares]])
    return Section("Judges: rank agreement on random lists (Spearman), and what moves them", HEADS, rows)
