"""A server under load while things break, one after the other: a worker is killed, the artifact is swapped twice, Redis and then
PostgreSQL are stopped and started. Counts what came back, and holds the log against what was acknowledged.

``python tests/endurance.py --seconds 600`` runs it in full; ``tests/e2e/test_endurance.py`` in miniature.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import polars as pl

import servers
from slatewise.benchmarks import load
from slatewise.export.write import export
from slatewise.serving.features import open_store
from slatewise.serving.features.load import load_table
from slatewise.serving.log import open_log
from slatewise.serving.log.export import export as export_log
from slatewise.serving.records import Chosen
from slatewise.testing.backend import example_ranker

SERVE = [sys.executable, "-c", "from slatewise.cli import main; main()", "serve"]
CONNECTIONS = 16


@dataclass
class Seen:
    """What came back.

    Attributes:
        statuses: by path.   without_retry: 503 that named no time to wait.
        acknowledged: requests whose event was taken.   waiting: those of them whose list was not in the log yet.
        fallbacks, recorded: what lists said of themselves.   lost: connections that ended without an answer.
    """

    statuses: dict[str, Counter[int]] = field(
        default_factory=lambda: {"/v1/rank": Counter(), "/v1/feedback": Counter()}
    )
    without_retry: int = 0
    acknowledged: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    recorded: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    seconds: list[float] = field(default_factory=list)


class Caller:
    """One connection that asks at its pace, and opens another when it is lost."""

    def __init__(self, port: int, seen: Seen, name: int, gap: float, until: float) -> None:
        self.port, self.seen, self.name, self.gap, self.until = port, seen, name, gap, until
        self.rng, self.count = random.Random(name), 0
        self.reader: asyncio.StreamReader | None = None

    async def run(self) -> None:
        """Ask until the time is over."""
        due = time.monotonic() + self.rng.random() * self.gap
        while due < self.until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.once()
            due = max(due + self.gap, time.monotonic() - self.gap)

    async def once(self) -> None:
        """A list, and for every second one an event on it."""
        self.count += 1
        request = f"c{self.name}-{self.count}"
        items = [f"i{at}" for at in self.rng.sample(range(90), 10)]
        scores = [self.rng.random() for _ in items]
        started = time.perf_counter()
        body = {
            "request_id": request,
            "user_id": f"u{self.rng.randrange(40)}",
            "candidates": items,
            "scores": scores,
        }
        answer = await self.post("/v1/rank", body)
        if answer is None or "items" not in answer:
            return
        self.seen.seconds.append(time.perf_counter() - started)
        self.seen.recorded[answer["recorded"]] += 1
        self.seen.models[answer["model"]] += 1
        if self.count % 2:
            event = {
                "request_id": request,
                "kind": "seconds",
                "item_id": answer["items"][0],
                "value": 1.0,
                "event_id": "1",
            }
            said = await self.post("/v1/feedback", event)
            if said is not None and "outcome" in said:
                self.seen.outcomes[said["outcome"]] += 1
                self.seen.acknowledged.add(request)
                if said["outcome"] == "waiting":
                    self.seen.waiting.add(request)

    async def post(self, path: str, body: Any) -> Any:
        """The answer, None where the connection was lost."""
        try:
            if self.reader is None:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writer.write(load.message(path, json.dumps(body).encode()))
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = int(head.split("content-length:")[1].split("\r\n")[0])
            found = json.loads(await self.reader.readexactly(size))
        except (OSError, asyncio.IncompleteReadError):
            self.seen.lost += 1
            self.reader = None
            await asyncio.sleep(0.05)
            return None
        status = int(head[9:12])
        self.seen.statuses[path][status] += 1
        self.seen.without_retry += status == 503 and "retry-after:" not in head
        return found


@dataclass
class Site:
    """What is served from, and what can break."""

    folder: Path
    redis: servers.Server
    postgres: servers.Server
    port: int = 0
    process: Any = None

    def start(self, workers: int) -> None:
        """The server, ready."""
        self.port = servers.free_port()
        stores = ["--log", self.postgres.url, "--features", self.redis.url]
        options = [
            "--workers",
            str(workers),
            "--watch-seconds",
            "0.5",
            "--port",
            str(self.port),
            "--backend",
            "eager",
        ]
        said = (self.folder / "server.log").open("wb")
        command = [*SERVE, f"main={self.folder / 'current'}", *stores, *options]
        self.process = subprocess.Popen(
            command, stdout=said, stderr=said, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        until = time.monotonic() + 60
        while True:
            try:
                urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < until, (self.folder / "server.log").read_text()
                time.sleep(0.1)

    def mib(self) -> float:
        """Resident memory of all workers."""
        pages = [
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in servers.workers_of(self.process)
        ]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def turn(self, name: str) -> None:
        """Another artifact at the same path."""
        (self.folder / "next").symlink_to(name)
        (self.folder / "next").replace(self.folder / "current")

    def kill_worker(self) -> None:
        """kill -9."""
        os.kill(servers.workers_of(self.process)[0], signal.SIGKILL)


def make_site(folder: Path) -> Site:
    """Two artifacts, a feature store with users and items in it, an empty log."""
    ranker = example_ranker()
    export(ranker, folder / "a", backends=["eager"])
    for weight in ranker.policy.parameters():
        weight.data *= 1.05
    export(ranker, folder / "b", backends=["eager"])
    (folder / "current").symlink_to("a")
    redis, _ = servers.redis()
    postgres, _ = servers.postgres()
    store = open_store(redis.url)
    load_table(
        store, "items", pl.DataFrame({"item_id": [f"i{at}" for at in range(90)], "quality": [0.5] * 90})
    )
    store.close()
    return Site(folder, redis, postgres)


def run(seconds: float, workers: int = 2, share: float = 0.7) -> dict[str, Any]:
    """All of it; gives the counts."""
    folder = Path(tempfile.mkdtemp(prefix="slatewise-endurance-"))
    site = make_site(folder)
    try:
        site.start(workers)
        capacity = _capacity(site, min(5.0, seconds / 4))
        seen, memory = Seen(), list[tuple[float, float]]()
        asyncio.run(_drive(site, seen, memory, seconds, share * capacity))
        site.process.send_signal(signal.SIGTERM)
        ended = site.process.wait(60)
        return _report(site, seen, memory, seconds, capacity, ended)
    finally:
        if site.process:
            site.process.kill()
        site.redis.kill()
        site.postgres.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _capacity(site: Site, seconds: float) -> float:
    """Calls a second with all connections busy: lists, and an event for every second one."""
    seen, until = Seen(), time.monotonic() + seconds

    async def full() -> None:
        await asyncio.gather(
            *(Caller(site.port, seen, 10_000 + at, 0.0, until).run() for at in range(CONNECTIONS))
        )

    asyncio.run(full())
    return sum(sum(statuses.values()) for statuses in seen.statuses.values()) / seconds


async def _drive(
    site: Site, seen: Seen, memory: list[tuple[float, float]], seconds: float, rate: float
) -> None:
    started = time.monotonic()
    gap = 1.5 * CONNECTIONS / rate  # a turn is a list and half an event
    callers = [Caller(site.port, seen, at, gap, started + seconds).run() for at in range(CONNECTIONS)]
    loop = asyncio.get_running_loop()
    breaks: list[tuple[float, Callable[[], None]]] = [
        (0.10, site.kill_worker),
        (0.25, lambda: site.turn("b")),
        (0.40, lambda: site.turn("a")),
        (0.52, site.redis.kill),
        (0.60, site.redis.start),
        (0.70, site.postgres.kill),
        (0.78, site.postgres.start),
    ]

    async def break_things() -> None:
        for at, what in breaks:
            await asyncio.sleep(max(0.0, started + at * seconds - time.monotonic()))
            await loop.run_in_executor(None, what)

    async def watch() -> None:
        while time.monotonic() < started + seconds:
            memory.append((time.monotonic() - started, site.mib()))
            await asyncio.sleep(seconds / 60)

    await asyncio.gather(break_things(), watch(), *callers)


def _report(
    site: Site, seen: Seen, memory: list[tuple[float, float]], seconds: float, capacity: float, ended: int
) -> dict[str, Any]:
    log = open_log(site.postgres.url)
    export_log(log, site.folder / "log.parquet", Chosen())
    kept = log.status().waiting
    log.close()
    frame = pl.read_parquet(site.folder / "log.parquet", columns=["request_id", "feedback_seconds"])
    there = set(frame.filter(pl.col("feedback_seconds").list.sum() > 0)["request_id"])
    early = seen.waiting - there  # the log keeps them, but not by name
    lost = len(seen.acknowledged - there - early) + max(0, len(early) - kept)
    taken = sorted(seen.seconds)
    after_kill = [mib for at, mib in memory if at > 0.2 * seconds]
    return {
        "seconds": seconds,
        "capacity, calls a second": round(capacity),
        "statuses": {path: dict(statuses) for path, statuses in seen.statuses.items()},
        "5xx other than 503": sum(
            n
            for statuses in seen.statuses.values()
            for status, n in statuses.items()
            if status >= 500 and status != 503
        ),
        "503 without Retry-After": seen.without_retry,
        "connections lost": seen.lost,
        "lists by how they were recorded": dict(seen.recorded),
        "lists by model": dict(seen.models),
        "events by outcome": dict(seen.outcomes),
        "acknowledged events": len(seen.acknowledged),
        "of these kept for a list that the log never got": len(early),
        "acknowledged events lost": lost,
        "p50, p99 of a list, ms": [round(1e3 * taken[len(taken) * share // 100], 2) for share in (50, 99)],
        "workers' memory at a fifth, at the end, MiB": [round(after_kill[0], 1), round(after_kill[-1], 1)],
        "ended": ended,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.7)
    print(json.dumps(run(**vars(parser.parse_args())), indent=2))
