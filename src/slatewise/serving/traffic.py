"""What went over the wire in the last minute."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MINUTE = 60


@dataclass
class Traffic:
    """The answers of the last minute."""

    seen: deque[tuple[float, float, int]] = field(default_factory=lambda: deque(maxlen=100_000))

    def add(self, seconds: float, status: int) -> None:
        """An answer, and how long it took."""
        self.seen.append((time.monotonic(), seconds, status))

    def last(self) -> dict[str, Any]:
        """Rate, milliseconds and faults of the last minute, and the answers of each second."""
        ended = time.monotonic()
        recent = [one for one in list(self.seen) if one[0] > ended - MINUTE]
        taken = sorted(seconds for _, seconds, _ in recent)
        bars = [0] * MINUTE
        for at, _, _ in recent:
            bars[MINUTE - 1 - min(int(ended - at), MINUTE - 1)] += 1
        return {
            "answers": len(recent),
            "faults": sum(status >= 500 for _, _, status in recent),
            **{f"p{share}": _percentile(taken, share) for share in (50, 95, 99)},
            "bars": bars,
        }


def _percentile(taken: Sequence[float], share: int) -> float | None:
    return round(1e3 * taken[min(len(taken) - 1, len(taken) * share // 100)], 2) if taken else None
