"""Exposures and feedback for tests of serving."""

from __future__ import annotations

from typing import Any

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
