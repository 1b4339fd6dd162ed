"""What the README shows works as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from slatewise.serving.app import create
from slatewise.serving.settings import ArmSpec, Settings
from slatewise.testing.backend import example_artifact

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


def calls(page: str) -> list[tuple[str, str, str]]:
    """Path, body and shown answer (empty: none is shown) of a page's curl lines."""
    found = re.findall(
        r"^curl -s localhost:8000(\S+) -d '(.*?)'\n(\{[^\n]*\})?", (ROOT / page).read_text(), re.S | re.M
    )
    return [(path, body, shown.splitlines()[0] if shown else "") for path, body, shown in found]


@pytest.mark.parametrize(("page", "count"), [("README.md", 1), ("docs/howto/serve.md", 2)])
def test_what_curl_sends_is_answered_as_it_is_shown(page: str, count: int, tmp_path: Path) -> None:
    found = calls(page)
    assert len(found) == count
    arms = (ArmSpec(name="ARTIFACT", path=str(example_artifact("eager").path)),)
    with TestClient(create(Settings(arms=arms, log=str(tmp_path / "log.db"), watch_seconds=0.0))) as client:
        for path, body, shown in found:
            form = {"content-type": "application/x-www-form-urlencoded"}  # which curl says of every -d
            answer = client.post(path, content=body, headers=form)
            assert answer.status_code == 200, answer.text
            if shown:
                assert list(answer.json()) == re.findall(r'"(\w+)":', shown)
            if path == "/v1/rank":
                assert set(answer.json()["items"]) < set(json.loads(body)["candidates"])
