"""What else the machine did during a measurement."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")


class Neighbours:
    """Counts from its making on how many cores other processes kept busy (Linux)."""

    def __init__(self) -> None:
        self._start = _now()
        self._load = os.getloadavg()[0]

    def words(self) -> str:
        """One sentence for the report."""
        load = f"load average {self._load:.1f} at the start"
        if not STAT.exists():
            return load
        wall, own, busy = (now - then for now, then in zip(_now(), self._start, strict=True))
        others = max(0.0, busy - own) / max(wall, 1e-9)
        mean = own / max(wall, 1e-9)
        cores = f"other processes kept {others:.1f} of {os.cpu_count()} cores busy, this one {mean:.1f}"
        return f"{load}; on average {cores}"


def _now() -> tuple[float, float, float]:
    """Seconds: wall, processor time of this process and its ended children, busy time of all cores."""
    busy = 0.0
    if STAT.exists():
        user, nice, system, _, _, irq, soft, *_ = map(int, STAT.read_text().splitlines()[0].split()[1:])
        busy = (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), sum(os.times()[:4]), busy
