"""The loop with a server in it: serve, feedback, log export, check, prepare, train, export, swap; workers may be killed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import polars as pl
import pytest

from commands import call
from servers import free_port, workers_of
from slatewise.simulators.store_v1 import Config, Store

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "goalrank" / "own-log.toml"
STEPS = "--set scorer.train.max_steps=3 --set scorer.train.batch_size=32 --set scorer.train.validations=1"
SLATEWISE = [sys.executable, "-c", "from slatewise.cli import main; main()"]
REQUESTS = 200


def done(monkeypatch, capsys, line: str) -> str:
    """What a command that ends well prints."""
    code, out, err = call(monkeypatch, capsys, *shlex.split(line))
    assert code == 0, err
    return out


def post(port: int, path: str, body: Any) -> Any:
    sent = Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return json.loads(urlopen(sent, timeout=20).read())


def get(port: int, path: str) -> Any:
    return json.loads(urlopen(f"http://127.0.0.1:{port}{path}", timeout=20).read())


def wait_for(happened: Any, seconds: float = 60.0) -> Any:
    until = time.monotonic() + seconds
    while True:
        try:
            if found := happened():
                return found
        except (URLError, ConnectionError):
            pass
        assert time.monotonic() < until
        time.sleep(0.1)


@contextmanager
def served(folder: Path, options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = free_port()
    with (folder / "server.log").open("wb") as said:
        command = [*SLATEWISE, "serve", *shlex.split(options), "--port", str(port)]
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        try:
            wait_for(lambda: get(port, "/readyz"))
            yield port, process
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")
def test_a_served_loop_closes_and_survives_a_kill(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(Config(users=60, items=120, candidates=10, length=4, bias=0.0))
    first, later = store.requests(300, seed=1), store.requests(REQUESTS, seed=2)
    logged = store.requests_frame(first)
    clicks = store.sample(first.user_B, first.item_BN, first.logged_BL, seed=3).click
    shown = pl.Series(logged["candidates"].to_list()).list.gather(pl.Series(first.logged_BL.tolist()))
    (tmp_path / "old").mkdir()
    old = logged.with_columns(exposed=shown, feedback_click=pl.Series(clicks.tolist()))
    old.write_parquet("old/requests.parquet")
    done(monkeypatch, capsys, "prepare parquet --source old --protocol log-v1 --out OLD")
    train = f"train {shlex.quote(str(RECIPE))} --row dnn --threads 1 {STEPS}"
    done(monkeypatch, capsys, f"{train} --data OLD --out RUN1")
    done(monkeypatch, capsys, "export RUN1 --out ART1 --data OLD")
    Path("current").symlink_to("ART1")

    with served(
        tmp_path,
        "dnn=current --workers 2 --log log.db --features features.db --wait-for-log --watch-seconds 0.2",
    ) as (port, process):
        asked = store.requests_frame(later)
        lists: dict[str, list[str]] = {}
        for at, row in enumerate(asked.iter_rows(named=True)):
            body = {
                "request_id": f"q{at}",
                "user_id": row["user_id"],
                "timestamp": 1_700_000_000 + at,
                "candidates": row["candidates"],
                "scores": row["candidate_scores"],
            }
            if at == REQUESTS // 2:
                victim = workers_of(process)[0]
                os.kill(victim, signal.SIGKILL)
            answer = wait_for(lambda body=body: post(port, "/v1/rank", body))
            assert answer["recorded"] == "yes"
            lists[f"q{at}"] = answer["items"]
            event = {"request_id": f"q{at}", "kind": "click", "item_id": answer["items"][0], "event_id": "1"}
            if at % 2:
                said = wait_for(lambda event=event: post(port, "/v1/feedback", event))
                assert said["outcome"] in ("accepted", "duplicate")
        wait_for(lambda: len(workers_of(process)) == 2)
        assert victim not in workers_of(process)

        Path("new").mkdir()
        done(monkeypatch, capsys, "log export --store log.db --out new/requests.parquet")
        exported = pl.read_parquet("new/requests.parquet")
        assert dict(zip(exported["request_id"], exported["exposed"].to_list(), strict=True)) == lists
        assert exported["feedback_click"].list.sum().sum() == REQUESTS // 2  # no acknowledged event is lost
        assert json.loads(done(monkeypatch, capsys, "check new --json"))["rows"] == []
        done(monkeypatch, capsys, "prepare parquet --source new --protocol log-v1 --out NEW")
        done(monkeypatch, capsys, f"{train} --data NEW --out RUN2")
        done(monkeypatch, capsys, "export RUN2 --out ART2 --data NEW")
        told = get(port, "/v1/info")["rankers"][0]
        before = told["model"]
        assert told["backend"] == "onnxruntime"
        Path("next").symlink_to("ART2")
        Path("next").replace("current")

        def swapped() -> bool:
            return all(get(port, "/v1/info")["rankers"][0]["model"] != before for _ in range(20))

        wait_for(swapped)  # both workers answer with the new one
