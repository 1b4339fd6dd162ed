"""``slatewise mine``: killed in the middle and run again, it ends in the store of a run that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import call
from slatewise.api import fit, prepare

STEPS = {"max_steps": 2, "batch_size": 32, "validations": 1}


def arguments(folder: Path, out: str, *more: str) -> list[str]:
    run, data = str(folder / "run"), str(folder / "data")
    store = [
        "--out",
        str(folder / out),
        "--beam",
        "4",
        "--set",
        "top_k=6",
        "--requests",
        "320",
        "--shard",
        "8",
    ]
    return ["mine", run, "--data", data, *store, "--threads", "1", *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    sizes = {"requests": 320, "validation": 32, "test": 16}
    data = prepare("store", folder / "data", dataset_options=sizes)
    fit("reward-search", data, out=folder / "run", reward={"train": STEPS})
    fit("dnn", data, out=folder / "dnn", scorer={"train": STEPS})
    return folder


def killed_in_the_middle(folder: Path, out: str) -> int:
    """Start mining and kill -9 it when a few files are there; how many it leaves."""
    command = [sys.executable, "-c", "from slatewise.cli import main; main()", *arguments(folder, out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(list((folder / out).glob("[!.]*.arrow"))) >= 3:
            break
        time.sleep(0.005)
    assert process.poll() is None, "mining ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return len(list((folder / out).glob("[!.]*.arrow")))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_kill_and_run_again_gives_the_store_of_an_uninterrupted_run(
    folder: Path, monkeypatch, capsys
) -> None:
    code, out, _ = call(monkeypatch, capsys, *arguments(folder, "whole", "--json"))
    assert code == 0
    (facts,) = json.loads(out)["rows"]
    assert (facts["requests"], facts["lists"]) == (320, 4)
    assert 3 <= killed_in_the_middle(folder, "killed") < 40
    code, out, _ = call(monkeypatch, capsys, *arguments(folder, "killed"))
    assert code == 0
    assert "320 requests with 4 lists each" in out
    whole = contents(folder / "whole")
    assert contents(folder / "killed") == whole
    assert len(whole) == 41


MISTAKES = [
    ("dnn", [], "method 'dnn' trains none"),
    ("run", ["--beam", "65"], "65|<= 64"),
    ("run", ["--set", "top=3"], "Did you mean 'top_k'"),
    ("data", [], "not a run folder"),
]


@pytest.mark.parametrize(("run", "more", "said"), MISTAKES)
def test_mistakes_are_one_sentence(
    folder: Path, monkeypatch, capsys, run: str, more: list[str], said: str
) -> None:
    options = ["--data", str(folder / "data"), "--out", str(folder / "new"), *more]
    code, _, error = call(monkeypatch, capsys, "mine", str(folder / run), *options)
    assert code == 2
    assert any(part in error for part in said.split("|"))
    assert "Traceback" not in error
    assert not (folder / "new").exists()


def test_a_run_without_its_reward_is_not_trained_by_mining(
    folder: Path, tmp_path, monkeypatch, capsys
) -> None:
    (tmp_path / "config.json").write_bytes((folder / "run" / "config.json").read_bytes())
    options = ["--data", str(folder / "data"), "--out", str(tmp_path / "new")]
    code, _, error = call(monkeypatch, capsys, "mine", str(tmp_path), *options)
    assert code == 2
    assert "no trained reward" in error
