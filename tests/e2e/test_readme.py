"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def example() -> str:
    """The Python between the README's markers."""
    between = (ROOT / "README.md").read_text().split("<!-- example -->")[1].split("<!-- /example -->")[0]
    return between.split("```python\n")[1].split("```")[0]


def test_the_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", example()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ},
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    shares = dict(
        line.split(maxsplit=1) for line in done.stdout.splitlines() if line.endswith("of the optimum")
    )
    assert shares["optimum"].startswith("100.0%")
    assert 50 < float(shares["random"].split("%")[0]) < float(shares["goalrank"].split("%")[0]) < 100
    assert all(item in done.stdout for item in ("request_id", "r1", "i358"))
    assert (tmp_path / "runs" / "first" / "ranker" / "ranker.json").exists()


def test_the_example_is_ten_lines() -> None:
    lines = [
        line for line in example().splitlines() if line and not line.startswith(("import", "candidates ="))
    ]
    assert len(lines) <= 10
