"""Ten minutes of breaking things, in twenty seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

import endurance


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")
def test_nothing_that_was_acknowledged_is_lost_whatever_breaks() -> None:
    found = endurance.run(20.0, share=0.3)
    assert found["5xx other than 503"] == 0, found
    assert found["503 without Retry-After"] == 0, found
    assert found["acknowledged events lost"] == 0, found
    assert found["acknowledged events"] > 100, found
    assert found["statuses"]["/v1/rank"][200] > 300, found
    assert found["statuses"]["/v1/feedback"].get(503, 0) > 0, found  # while PostgreSQL was away
    assert len(found["lists by model"]) == 2, found
    assert found["ended"] == 0, found
