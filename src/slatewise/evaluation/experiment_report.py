"""An experiment's verdict in words: tables and sentences for the terminal, and the report with its picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from slatewise.evaluation.experiment import MEASURES, Arm, Difference, Sequential, Verdict
from slatewise.evaluation.plots import confidence_sequences
from slatewise.evaluation.provenance import made_by
from slatewise.evaluation.report import Section, write_report
from slatewise.evaluation.results import Row
from slatewise.evaluation.words import written


def write(folder: Path, verdict: Verdict, log: Path) -> Path:
    """Write ``report.html``, ``.md`` and ``.json`` into ``folder``; the page's path."""
    metric, control = verdict.experiment.metric, verdict.control
    return write_report(
        folder,
        title=f"A/B test of {metric}: {', '.join(verdict.experiment.arms)}",
        rows=[_row(verdict, arm) for arm in verdict.arms],
        columns=[f"{metric}/{measure}" for measure in MEASURES],
        meta=made_by(log=log, unit=verdict.experiment.unit_name, control=control),
        notes=list(notes(verdict)),
        sections=[differences(verdict), sequential(verdict)],
        pictures=[confidence_sequences(verdict.walks, f"{metric} a request, minus {control}")],
    )


def arms(verdict: Verdict) -> Section:
    """Each arm's size and means."""
    metric = verdict.experiment.metric
    heads = ["arm", "requests", "units", "share", "planned", *(f"{metric} a {m}, 95 %" for m in MEASURES)]
    rows = [
        [
            one.arm + (" (control)" if one.arm == verdict.control else ""),
            f"{one.requests:,}",
            f"{one.units:,}",
            f"{one.share:.2%}",
            f"{one.expected_share:.2%}",
            *(_interval(metric, one.means[m].mean, one.means[m].low, one.means[m].high) for m in MEASURES),
        ]
        for one in verdict.arms
    ]
    return Section("Arms", heads, rows)


def differences(verdict: Verdict) -> Section:
    """Each arm against the control, in each measure."""
    heads = ["arm", "measure", "difference, 95 %", "relative, 95 %", "p", "p (Holm)"]
    metric = verdict.experiment.metric
    rows = [
        [
            one.arm,
            f"a {one.measure}",
            _interval(metric, one.difference, one.low, one.high),
            _relative(one),
            _p(one.p),
            _p(one.p_holm),
        ]
        for one in verdict.differences
    ]
    return Section(f"Differences from {verdict.control}", heads, rows)


def sequential(verdict: Verdict) -> Section:
    """What may be said at any time."""
    heads = [
        "arm",
        "difference a request, always valid",
        "p, always valid",
        "p (Holm)",
        "told apart",
        "looks",
    ]
    rows = [_sequential(verdict, one) for one in verdict.sequential]
    return Section("However often you look", heads, rows)


def notes(verdict: Verdict) -> Iterator[str]:
    """What a reader must know before he trusts the numbers; the gravest first."""
    ratio, unit = verdict.ratio, verdict.experiment.unit_name
    if ratio.mismatch:
        yield (
            f"Sample ratio mismatch: the arms do not have the shares of units that they should (chi-square "
            f"{ratio.chi2:.1f}, p {_p(ratio.p)}). Something assigns or loses units by arm; do not trust the differences."
        )
    else:
        yield f"Sample ratio: no mismatch (chi-square {ratio.chi2:.2f}, p {_p(ratio.p)})."
    if verdict.shared_units:
        yield (
            f"{verdict.shared_units:,} units ({unit}) stand in more than one arm, so the arms are not independent; "
            "name the unit that was assigned with --unit."
        )
    for arm in verdict.arms:
        if len(arm.versions) > 1:
            yield f"{arm.arm} was served by {len(arm.versions)} model versions: {', '.join(arm.versions)}."
    for reason, count in verdict.experiment.left_out.items():
        yield f"Left out: {count:,} requests {reason}."


def _row(verdict: Verdict, arm: Arm) -> Row:
    named = {f"{verdict.experiment.metric}/{measure}": mean for measure, mean in arm.means.items()}
    return Row(
        policy=arm.arm,
        kind="ranker",
        metrics={name: mean.mean for name, mean in named.items()},
        low={name: mean.low for name, mean in named.items()},
        high={name: mean.high for name, mean in named.items()},
        counts=dict.fromkeys(named, arm.requests),
        requests=arm.requests,
        seeds=1,
    )


def _sequential(verdict: Verdict, one: Sequential) -> list[str]:
    if one.difference is None or one.low is None or one.high is None:
        return [one.arm, "too few units", "–", "–", "–", "0"]
    told = "not yet" if one.crossed is None else f"after {one.crossed:,} requests"
    interval = _interval(verdict.experiment.metric, one.difference, one.low, one.high)
    return [one.arm, interval, _p(one.p), _p(one.p_holm), told, f"{one.looks:,}"]


def _interval(metric: str, middle: float, low: float, high: float) -> str:
    name = f"{metric}/"
    return f"{written(name, middle)} ({written(name, low)} to {written(name, high)})"


def _relative(one: Difference) -> str:
    if one.relative is None or one.relative_low is None or one.relative_high is None:
        return "–"
    return f"{one.relative:+.2%} ({one.relative_low:+.2%} to {one.relative_high:+.2%})"


def _p(p: float) -> str:
    if not math.isfinite(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"
