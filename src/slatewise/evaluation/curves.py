"""Training curves of a run, read from its ``metrics.jsonl`` files whatever they hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

FILE = "metrics.jsonl"
_NO_CURVE = ("step", "stage", "split", "time", "epoch")


@dataclass
class Curve:
    """One number over steps."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Curves:
    """Everything one run logged: stage, then name of the number, then its curve.

    Numbers of a validation line are called ``validation <name>``.
    """

    name: str
    stages: dict[str, dict[str, Curve]]

    def with_prefix(self, prefix: str) -> dict[str, Curve]:
        """Curves of all stages whose name starts with ``prefix`` (``reward/``, ``gap/``), without it."""
        return {
            name.removeprefix(prefix): curve
            for curves in self.stages.values()
            for name, curve in curves.items()
            if name.startswith(prefix)
        }


def read_curves(run: Path, name: str | None = None) -> Curves:
    """Read ``metrics.jsonl`` of a run folder and of its stages.

    Each line is one JSON object; its numbers belong to its ``step`` (its line number where it has none), its
    ``stage`` and, where it has one, its ``split``. Lines that are no JSON object, as a killed run may leave
    at its end, and values that are no finite numbers are passed over. A run without such files has no
    curves.
    """
    stages: dict[str, dict[str, Curve]] = {}
    for path in [run / FILE, *sorted((run / "stages").glob(f"*/{FILE}"))]:
        for number, line in enumerate(logged_lines(path), 1):
            stage = str(line.get("stage", path.parent.name if path.parent != run else "run"))
            step = line.get("step", number)
            _add(stages.setdefault(stage, {}), line, int(step) if _is_number(step) else number)
    return Curves(name or run.name, {stage: curves for stage, curves in stages.items() if curves})


def _add(curves: dict[str, Curve], line: dict[str, Any], step: int) -> None:
    split = line.get("split")
    prefix = f"{split} " if split not in (None, "train") else ""
    for name, value in line.items():
        if name not in _NO_CURVE and _is_number(value):
            curve = curves.setdefault(prefix + name, Curve())
            curve.steps.append(step)
            curve.values.append(float(value))


def logged_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file of them, a line each; what is none is passed over, and a file that is not there is empty."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            found = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(found, dict):
            yield found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
