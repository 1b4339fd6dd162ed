"""Pictures of a report, as SVG text to be put into a page: readable on light and on dark, no outside files.

Text and lines that would be black take the page's own colour (``currentColor``). The only file that imports
matplotlib.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slatewise.evaluation.curves import Curve, Curves
from slatewise.evaluation.regression import CalibrationBin
from slatewise.evaluation.results import Row
from slatewise.evaluation.sequential import Walk
from slatewise.evaluation.words import label, scaled

INK = "#010203"  # stands for the page's text colour and is replaced in the SVG
KIND_COLOUR = {"floor": "#8d99a6", "ranker": "#2f7ed8", "ceiling": "#c98b1b"}
LINES = ("#2f7ed8", "#e0662b", "#2e9d5b", "#b455c4", "#c98b1b", "#0e9aa7", "#d6446f", "#7d8793")
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "slatewise",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.linewidth": 0.6,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def metric_bars(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """One panel a metric: a bar a policy, with its 95 % interval; floors, rankers, ceilings in turn."""
    shown = [column for column in columns if any(_defined(row.metrics.get(column)) for row in rows)]
    if not shown or not rows:
        return ""
    across = min(3, len(shown))
    down = math.ceil(len(shown) / across)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, down * (0.75 + 0.24 * len(rows))), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, sharey=True).flatten()
        for axis, column in zip(axes, shown, strict=False):
            _bars(axis, rows, column)
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        return _svg(figure, "Bars of " + ", ".join(shown) + " for " + ", ".join(row.policy for row in rows))


def _bars(axis: Axes, rows: Sequence[Row], column: str) -> None:
    place = range(len(rows))
    value = [scaled(column, row.metrics.get(column, math.nan)) for row in rows]
    low = [scaled(column, row.low.get(column, math.nan)) for row in rows]
    high = [scaled(column, row.high.get(column, math.nan)) for row in rows]
    axis.barh(
        place, value, color=[KIND_COLOUR.get(row.kind, KIND_COLOUR["ranker"]) for row in rows], height=0.7
    )
    for at, (mean, start, end) in enumerate(zip(value, low, high, strict=True)):
        if _defined(start) and _defined(end):
            axis.plot([start, end], [at, at], color=INK, linewidth=1.2, solid_capstyle="butt")
        if _defined(mean):
            far = max(mean, end if _defined(end) else mean)
            axis.annotate(
                _number(mean), (far, at), (4, 0), textcoords="offset points", va="center", fontsize=8.5
            )
    axis.set_yticks(list(place), [row.policy for row in rows])
    axis.set_title(label(column))
    axis.tick_params(length=0)
    axis.grid(axis="x")
    axis.set_axisbelow(True)
    axis.margins(x=0.16, y=0.02)
    if all(mean >= 0 for mean in value if _defined(mean)):
        axis.set_xlim(left=0)  # an interval may reach below what the metric can be
    if not axis.yaxis_inverted():  # panels share the axis: turn it once
        axis.invert_yaxis()


def training_curves(runs: Sequence[Curves]) -> str:
    """Loss and validation value of every stage over steps, a line a run."""
    panels: dict[tuple[str, str], dict[str, Curve]] = {}
    for run in runs:
        for stage, curves in run.stages.items():
            for name, curve in curves.items():
                if name == "loss" or name.startswith("validation "):
                    panels.setdefault((stage, name), {})[run.name] = curve
    titles = {key: f"{key[0]}: {key[1].replace('validation value', 'validation')}" for key in panels}
    return _line_panels({titles[key]: lines for key, lines in sorted(panels.items())}, "Training curves")


def group_rewards(runs: Sequence[Curves]) -> str:
    """Reward of group lists by who wrote them, and the spread that each source adds, over steps."""
    panels = {}
    for run in runs:
        for prefix, title in (("reward/", "reward by source"), ("gap/", "spread that the source adds")):
            if lines := run.with_prefix(prefix):
                panels[f"{run.name}: {title}"] = lines
    return _line_panels(panels, "Group rewards by source")


def calibration_curves(curves: Mapping[str, Sequence[CalibrationBin]]) -> str:
    """Observed against predicted value in bins of logged lists, a line a reward model, with two standard errors;
    on the dashed line a model is calibrated."""
    if not curves:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 4.6), layout="constrained")
        axis = figure.subplots()
        ends = [end for bins in curves.values() for part in bins for end in (part.predicted, part.observed)]
        axis.plot([min(ends), max(ends)], [min(ends), max(ends)], color=INK, linewidth=0.8, linestyle="--")
        for place, (name, bins) in enumerate(curves.items()):
            axis.errorbar(
                [part.predicted for part in bins],
                [part.observed for part in bins],
                yerr=[2 * part.error for part in bins],
                label=name, color=LINES[place % len(LINES)], marker="o", markersize=3, linewidth=1.3, capsize=2,
            )  # fmt: skip
        axis.set_title("Calibration on logged lists")
        axis.set_xlabel("predicted value")
        axis.set_ylabel("observed value")
        axis.grid()
        axis.legend(fontsize=8)
        return _svg(figure, "Calibration of " + ", ".join(curves))


def sweep(
    title: str, axis_label: str, metric: str, values: Sequence[float], rows: Sequence[Row], png: Path
) -> str:
    """A metric against a setting, with the standard deviation over seeds (else the 95 % interval) as bars.

    Also written to ``png``, for documents that cannot hold the page's inline picture.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axis = figure.subplots()
        middle = [scaled(metric, row.metrics[metric]) for row in rows]
        spread = [scaled(metric, _half_width(row, metric)) for row in rows]
        axis.errorbar(values, middle, yerr=spread, marker="o", markersize=4, capsize=3, color=LINES[0])
        if len(values) > 2 and min(values) > 0 and max(values) / min(values) > 8:
            axis.set_xscale("log")
        axis.set_xticks(list(values), [f"{value:g}" for value in values])
        axis.minorticks_off()
        axis.set_title(title)
        axis.set_xlabel(axis_label)
        axis.set_ylabel(label(metric))
        axis.grid()
        figure.savefig(png, dpi=120, facecolor="white")
        return _svg(figure, title)


def profile(
    title: str, metric: str, places: Sequence[int], lines: Mapping[str, Sequence[float]], png: Path
) -> str:
    """A metric against the number of places, a line a row. Also written to ``png``, as :func:`sweep`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axis = figure.subplots()
        for number, (name, values) in enumerate(lines.items()):
            shown = [scaled(metric, value) for value in values]
            axis.plot(places, shown, marker="o", markersize=4, color=LINES[number % len(LINES)], label=name)
        axis.set_xticks(list(places))
        axis.set_title(title)
        axis.set_xlabel("places")
        axis.set_ylabel(label(metric))
        axis.grid()
        axis.legend(fontsize=8)
        figure.savefig(png, dpi=120, facecolor="white")
        return _svg(figure, f"{title}: {', '.join(lines)}")


def confidence_sequences(walks: Mapping[str, Walk], what: str) -> str:
    """The difference of each arm over the requests, with the band that holds at every look at once (wide) and the
    interval that is right for one look only (dark); 0 is dashed. ``what`` names the difference."""
    shown = {arm: walk for arm, walk in walks.items() if len(walk.request_T)}
    if not shown:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 2.9 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), 1, squeeze=False).flatten()
        for axis, (arm, walk), colour in zip(axes, shown.items(), itertools.cycle(LINES), strict=False):
            _band(axis, walk, colour)
            axis.set_title(f"{arm}: {what}")
        axes[-1].set_xlabel("requests of both arms")
        return _svg(figure, f"{what} with its confidence sequence, for {', '.join(shown)}")


def _band(axis: Axes, walk: Walk, colour: str) -> None:
    """A few hundred looks of it, evenly spread and the last one."""
    at = np.unique(np.linspace(0, len(walk.request_T) - 1, 400).astype(int))
    request, middle = walk.request_T[at], walk.difference_T[at]
    for half, alpha in ((walk.half_T[at], 0.18), (walk.fixed_T[at], 0.35)):
        axis.fill_between(request, middle - half, middle + half, color=colour, alpha=alpha, linewidth=0)
    axis.plot(request, middle, color=colour, linewidth=1.4)
    axis.axhline(0.0, color=INK, linewidth=0.8, linestyle="--")
    late = walk.half_T[len(walk.half_T) // 20 :]  # the first looks are too wide to be shown whole
    reach = float(np.max(late[np.isfinite(late)], initial=0.0)) + float(np.abs(middle).max())
    if reach > 0:
        axis.set_ylim(-reach, reach)
    axis.tick_params(length=0)
    axis.grid()


def _half_width(row: Row, metric: str) -> float:
    if row.std is not None:
        return row.std[metric]
    return (row.high[metric] - row.low[metric]) / 2


def _line_panels(panels: dict[str, dict[str, Curve]], what: str) -> str:
    if not panels:
        return ""
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.0 * down), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).flatten()
        for axis, (title, lines) in zip(axes, panels.items(), strict=False):
            _lines(axis, title, lines)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        return _svg(figure, f"{what}: {', '.join(panels)}")


def _lines(axis: Axes, title: str, lines: dict[str, Curve]) -> None:
    for place, (name, curve) in enumerate(lines.items()):
        marker = "o" if len(curve.steps) < 12 else None
        axis.plot(
            curve.steps, curve.values, label=name, color=LINES[place % len(LINES)], linewidth=1.3,
            marker=marker, markersize=3, linestyle="-" if place < len(LINES) else "--",
        )  # fmt: skip
    axis.set_title(title)
    axis.set_xlabel("step")
    axis.tick_params(length=0)
    axis.grid()
    if len(lines) > 1:
        axis.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.24), columnspacing=1.0)


def _svg(figure: Figure, alternative: str) -> str:
    """The figure as an inline ``<svg>`` element that scales with the page and says what it shows."""
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = sink.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # matplotlib writes no fill for black text only; INK is written out and becomes the page's colour
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    title = alternative.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _defined(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
