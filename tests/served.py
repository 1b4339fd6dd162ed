"""Exposures and feedback for tests of serving."""

from __future__ import annotations

from typing import Any

import polars as pl

from slatewise.data.clock import seconds
from slatewise.data.direct import Past, Row
from slatewise.serving.moments import micros
from slatewise.serving.records import Exposure, Feedback

START = 1_700_000_000_000_000  # microseconds


def exposure(request: str = "r1", **changes: Any) -> Exposure:
    """A served request with every field; any of them can be changed."""
    values: dict[str, Any] = {
        "request_id": request,
        "user_id": "u7",
        "timestamp": START,
        "candidates": ("a", "b", "c", "d"),
        "served": ("c", "a"),
        "scores": (0.4, 0.3, 0.2, 0.1),
        "features": {"price": (1.0, None, 3.0, 4.0)},
        "context": {"device": "phone", "hour": 7, "load": 0.5, "member": True},
        "propensity": 0.25,
        "arm": "goalrank",
        "model_version": "v1",
    }
    return Exposure(**(values | changes))


def click(request: str = "r1", item: Any = "c", **changes: Any) -> Feedback:
    """A click a second after the exposure."""
    values = {"request_id": request, "kind": "click", "item_id": item, "timestamp": START + 1_000_000}
    return Feedback(**(values | changes))


def rows_of(requests: pl.DataFrame) -> list[Row]:
    """Requests of a table as a server reads them, one by one."""
    times = seconds(requests["timestamp"]) if "timestamp" in requests.columns else [0] * requests.height
    return [_row(row, int(time)) for row, time in zip(requests.iter_rows(named=True), times, strict=True)]


def moments_of(requests: pl.DataFrame) -> list[int]:
    """Their moments in microseconds."""
    if "timestamp" not in requests.columns:
        return [0] * requests.height
    return micros(requests["timestamp"]).tolist()


def _row(row: dict[str, Any], time: int) -> Row:
    def named(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}

    features = {name: values for name, values in named("candidate_").items() if name != "scores"}
    past = None
    if row.get("history") is not None:
        contexts = named("history_context_")
        context = [dict(zip(contexts, one, strict=True)) for one in zip(*contexts.values(), strict=True)]
        past = Past(
            row["history"], row.get("history_feedback") or (), row.get("history_timestamp") or (), context
        )
    return Row(
        candidates=row["candidates"],
        scores=row.get("candidate_scores"),
        features=features,
        user=row.get("user_id"),
        time=time,
        context=named("context_"),
        past=past,
    )
