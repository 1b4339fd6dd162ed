"""``slatewise serve``: what it hands to the server, and what cannot be served is said in one sentence before it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import call
from slatewise.serving.settings import read_arm
from slatewise.testing.backend import example_artifact


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--log", "nowhere/log.db"), "feedback log"),
        (("--log", "mysql://host/log"), "mysql"),
        (("--features", "nowhere/features.db"), "feature store"),
        (("--backend", "onnxruntime"), "it was exported for: eager"),
        (("--backend", "onyx"), "onnxruntime"),
        (("--keys", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_is_said_before_a_worker_starts(
    monkeypatch, capsys, tmp_path: Path, workers: int, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: pytest.fail("it was started"))
    artifact = example_artifact("eager").path
    code, _, err = call(monkeypatch, capsys, "serve", artifact, "--workers", workers, *options)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_one_worker_computes_on_one_thread() -> None:
    """Also what torch itself computes; it reads the number when it is loaded."""
    artifact = example_artifact("eager").path
    script = (
        "import sys, uvicorn\n"
        f"sys.argv = ['slatewise', 'serve', {str(artifact)!r}]\n"
        "uvicorn.run = lambda *_, **__: print(sys.modules['torch'].get_num_threads())\n"
        "from slatewise.cli import main; main()"
    )
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == "1"


def test_an_arm_has_the_name_of_the_link_and_not_of_what_it_leads_to(tmp_path: Path, monkeypatch) -> None:
    """So it keeps its name when the link is turned and the server starts again."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    monkeypatch.chdir(tmp_path)
    assert read_arm("current").name == read_arm(f"{tmp_path}/current/").name == "current"
