"""A run that is killed and resumed ends in the very weights of a run that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slatewise.api import prepare
from slatewise.tensors import load_tensors

RECIPE = """
title = "resume"
seeds = [5]
[data]
dataset = "store"
[shared.reward.train]
max_steps = 10
[shared.scorers.dnn.train]
max_steps = 3
[shared.scorers.prm.train]
max_steps = 3
[rows.goalrank]
method = "goalrank"
[rows.goalrank.config.train]
epochs = 4
batch_size = 32
checkpoint_seconds = 0.3
"""


def command(folder: Path, out: str, *more: str) -> list[str]:
    arguments = [
        "train",
        str(folder / "recipe.toml"),
        "--data",
        str(folder / "data"),
        "--out",
        str(folder / out),
    ]
    return [
        sys.executable,
        "-c",
        "from slatewise.cli import main; main()",
        *arguments,
        "--threads",
        "1",
        *more,
    ]


def killed_in_the_middle(folder: Path, out: str) -> None:
    """Start training and kill -9 it as soon as GoalRank's second checkpoint is there."""
    process = subprocess.Popen(command(folder, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline, seen = time.monotonic() + 120, set[int]()
    while len(seen) < 2 and time.monotonic() < deadline and process.poll() is None:
        for path in (folder / out / "stages").glob("goalrank-*/checkpoint.safetensors"):
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.02)
    assert process.poll() is None, "training ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(seen) == 2, "no second checkpoint within two minutes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    prepare("store", folder / "data", dataset_options={"requests": 1000, "validation": 64, "test": 32})
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def test_kill_and_resume_gives_the_weights_of_an_uninterrupted_run(folder: Path) -> None:
    subprocess.run(command(folder, "whole"), check=True, capture_output=True)
    killed_in_the_middle(folder, "killed")
    refused = subprocess.run(command(folder, "killed"), capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    subprocess.run(command(folder, "killed", "--resume"), check=True, capture_output=True)
    whole, _ = load_tensors(folder / "whole" / "ranker" / "model.safetensors")
    resumed, _ = load_tensors(folder / "killed" / "ranker" / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(whole[name].equal(resumed[name]) for name in whole)
    steps = [
        [line for line in path.read_text().splitlines() if '"stage":"goalrank"' in line and '"loss"' in line]
        for out in ("whole", "killed")
        for path in (folder / out / "stages").glob("goalrank-*/metrics.jsonl")
    ]
    assert [line.split('"requests')[0] for line in steps[0]] == [
        line.split('"requests')[0] for line in steps[1]
    ]
    assert not list(folder.glob("**/*.partial"))


def test_resuming_with_another_config_is_refused(folder: Path) -> None:
    changed = command(folder, "whole", "--resume", "--set", "train.batch_size=16")
    answer = subprocess.run(changed, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "another" in answer.stderr
    assert "Traceback" not in answer.stderr
