"""A run that is killed and resumed ends in the very weights of a run that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import call
from slatewise.api import prepare
from slatewise.tensors import load_tensors

RECIPE = """
title = "resume"
seeds = [5]
[data]
dataset = "store"
[shared.reward.train]
max_steps = 10
[rows.goalrank]
method = "goalrank"
[rows.goalrank.config]
warm_start = "none"
mix = [{ family = "greedy" }, { family = "autoregressive", count = 2 }, { family = "random", count = 1 }]
[rows.goalrank.config.generator.tower]
width = 16
[rows.goalrank.config.train]
epochs = 2
batch_size = 32
validations = 1
checkpoint_seconds = 0.1
"""


def arguments(folder: Path, out: str, *more: str) -> list[str]:
    recipe, data = str(folder / "recipe.toml"), str(folder / "data")
    return ["train", recipe, "--data", data, "--out", str(folder / out), "--threads", "1", *more]


def killed_in_the_middle(folder: Path, out: str) -> None:
    """Start training and kill -9 it as soon as GoalRank's second checkpoint is there."""
    command = [sys.executable, "-c", "from slatewise.cli import main; main()", *arguments(folder, out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
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
    prepare("store", folder / "data", dataset_options={"requests": 1024, "validation": 64, "test": 32})
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def test_kill_and_resume_gives_the_weights_of_an_uninterrupted_run(folder: Path, monkeypatch, capsys) -> None:
    assert call(monkeypatch, capsys, *arguments(folder, "whole"))[0] == 0
    killed_in_the_middle(folder, "killed")
    code, _, error = call(monkeypatch, capsys, *arguments(folder, "killed"))
    assert code == 2
    assert "--resume" in error
    assert call(monkeypatch, capsys, *arguments(folder, "killed", "--resume"))[0] == 0
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


def test_resuming_with_another_config_is_refused(folder: Path, monkeypatch, capsys) -> None:
    code, _, error = call(
        monkeypatch, capsys, *arguments(folder, "whole", "--resume", "--set", "train.batch_size=16")
    )
    assert code == 2
    assert "another" in error
    assert "Traceback" not in error
