"""How metrics are written for people: shares in percent, counts as they are, and which way is better."""

from __future__ import annotations

import math

# Metrics in units of feedback or places; all others are shares and are shown in percent.
PLAIN = ("true-value", "regret", "true-rank", "rank", "gain", "item-value", "catalogue-value")
LOWER_IS_BETTER = ("regret", "true-rank", "rank", "regret-share", "ties")


def base(metric: str) -> str:
    """``ndcg@6:gains=linear`` to ``ndcg``, ``regret[gru]`` to ``regret``."""
    return metric.partition(":")[0].partition("[")[0].partition("@")[0]


def is_share(metric: str) -> bool:
    """Whether tables show the metric in percent; an amount for each of something (``click/request``) is none."""
    return base(metric) not in PLAIN and "/" not in metric


def lower_is_better(metric: str) -> bool:
    """Whether less of it is better."""
    return base(metric) in LOWER_IS_BETTER


def label(metric: str) -> str:
    """The column's head: name, ``%`` for shares, an arrow where less is better."""
    percent = " %" if is_share(metric) and "%" not in metric else ""
    return metric + percent + (" ↓" if lower_is_better(metric) else "")


def scaled(metric: str, value: float) -> float:
    """The value in the unit that :func:`label` names."""
    return 100 * value if is_share(metric) else value


def number(value: float | None, digits: int = 3) -> str:
    """A plain number as tables write it; a dash where it is undefined."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def written(metric: str, value: float | None) -> str:
    """The value as tables write it; a dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    shown = scaled(metric, value)
    if is_share(metric):
        return f"{shown:.2f}"
    if "/" in metric:
        return f"{shown:,.4g}" if abs(shown) < 1000 else f"{shown:,.0f}"
    return f"{shown:,.0f}" if abs(shown) >= 1000 else f"{shown:.1f}" if abs(shown) >= 100 else f"{shown:.3f}"
