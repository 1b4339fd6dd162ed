"""Group commit: callers share transactions, nobody's fault is another's, and what was acknowledged survives kill -9."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from served import click, exposure
from slatewise.errors import ConfigError, RequestError, UnavailableError
from slatewise.serving.log import open_log
from slatewise.serving.log.commit import CommitConfig, GroupCommit

# Threads that log exposures and clicks as fast as they can, and print each name once it is acknowledged.
WRITER = r"""
import os, sys, threading
from served import click, exposure
from slatewise.errors import UnavailableError
from slatewise.serving.log import open_log
from slatewise.serving.log.commit import GroupCommit

log = GroupCommit(open_log(sys.argv[1]))

def work(writer):
    for step in range(100_000):
        name = f"{sys.argv[2]}-{writer}-{step}"
        try:
            log.write([exposure(name)])
            log.write([click(name)])
        except UnavailableError:
            os.write(1, b"down\n")
            return
        os.write(1, f"{name}\n".encode())  # whole lines, whichever thread writes

for writer in range(8):
    threading.Thread(target=work, args=(writer,)).start()
"""


def start(url: str, name: str) -> subprocess.Popen[str]:
    here = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", WRITER, url, name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here)


def read(process: subprocess.Popen[str], lines: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(lines)]


def rest(process: subprocess.Popen[str]) -> list[str]:
    """What else it printed; a last line that the kill cut short was not acknowledged in full."""
    assert process.stdout is not None
    left = process.stdout.read()
    process.wait()
    return left[: left.rfind("\n") + 1].split()


def logged(url: str) -> tuple[set[str], set[str]]:
    """Names with an exposure, and names with a click."""
    log = open_log(url)
    with log.database.read() as transaction:
        shown = {row["request_id"] for row in transaction.counts("exposures", "request_id")}
        clicked = {row["request_id"] for row in transaction.counts("feedback", "request_id")}
    log.close()
    return shown, clicked


def test_what_was_acknowledged_survives_kill_9_of_a_writer(log_url: str) -> None:
    """Two processes write; one is killed in the middle, the other goes on."""
    killed, other = start(log_url, "killed"), start(log_url, "other")
    acknowledged = read(killed, 60)
    killed.kill()
    acknowledged += rest(killed) + read(other, 60)
    other.kill()
    acknowledged += rest(other)
    shown, clicked = logged(log_url)
    assert len(set(acknowledged)) == len(acknowledged) >= 120
    assert set(acknowledged) <= clicked
    assert clicked <= shown
    assert len(shown) <= len(acknowledged) + 16  # at most one a thread was on its way


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    """SQLite refuses all but one of them at once, whatever its busy timeout."""
    together = threading.Barrier(8)

    def opened(place: int) -> None:
        together.wait()
        open_log(str(tmp_path / f"{place}.db")).close()

    with ThreadPoolExecutor(8) as pool:
        for place in range(20):
            list(pool.map(opened, [place] * 8))


def test_what_was_acknowledged_survives_kill_9_of_postgresql(postgres, postgres_url: str) -> None:
    writer = start(postgres_url, "w")
    acknowledged = read(writer, 60)
    postgres.kill()
    acknowledged += rest(writer)
    postgres.start()
    assert acknowledged.count("down") == 8
    acknowledged = [name for name in acknowledged if name != "down"]
    shown, clicked = logged(postgres_url)
    assert len(acknowledged) >= 60
    assert set(acknowledged) <= clicked <= shown


def test_a_restart_of_postgresql_is_refused_calls_and_no_more(postgres, postgres_url: str) -> None:
    log = GroupCommit(open_log(postgres_url))
    log.write([exposure("r1")])
    postgres.kill()
    with pytest.raises(UnavailableError, match="does not answer"):
        log.write([exposure("r2")])
    postgres.start()
    assert [one.outcome for one in log.write([exposure("r1"), exposure("r2")])] == ["same", "new"]
    log.close()


def test_concurrent_callers_share_commits(log_url: str) -> None:
    log = open_log(log_url)
    commits: list[int] = []
    commit = log.commit
    log.commit = lambda records: (commits.append(len(records)), time.sleep(0.005), commit(records))[2]  # type: ignore[method-assign]
    group = GroupCommit(log)
    futures = [group.submit([exposure(f"r{at}")]) for at in range(300)]
    assert [future.result(30)[0].exposure.request_id for future in futures] == [f"r{at}" for at in range(300)]
    assert sum(commits) == 300
    assert len(commits) < 20
    assert max(commits) <= 256
    group.close()


def test_a_lone_caller_does_not_wait_for_company(tmp_path: Path) -> None:
    log = open_log(str(tmp_path / "log.db"))
    log.commit = lambda records: []  # type: ignore[method-assign]
    group = GroupCommit(log)
    started = time.perf_counter()
    for _ in range(200):
        group.submit([exposure()]).result(5)
    assert time.perf_counter() - started < 2.0
    group.close()


def test_one_callers_bad_record_is_its_own(tmp_path: Path) -> None:
    """A record that breaks the transaction, which no check foresaw, fails its caller alone."""
    log = open_log(str(tmp_path / "log.db"))
    commit, gate = log.commit, threading.Event()

    def breaking(records):
        gate.wait(5)
        if any(record.request_id == "bad" for record in records):
            raise ValueError("cannot be stored")
        return commit(records)

    log.commit = breaking  # type: ignore[method-assign]
    group = GroupCommit(log)
    futures = [group.submit([exposure(name)]) for name in ("a", "b", "bad", "c")]
    gate.set()
    assert isinstance(futures[2].exception(5), ValueError)
    assert [futures[at].result(5)[0].outcome for at in (0, 1, 3)] == ["new"] * 3
    group.close()


def test_waiting_has_bounds(tmp_path: Path) -> None:
    log = open_log(str(tmp_path / "log.db"))
    commit, gate = log.commit, threading.Event()
    log.commit = lambda records: (gate.wait(10), commit(records))[1]  # type: ignore[method-assign]
    group = GroupCommit(log, CommitConfig(pending=2, wait_seconds=0.05))
    with pytest.raises(UnavailableError, match=r"did not commit within 0\.05 s"):
        group.write([exposure("r0")])
    futures = [group.submit([exposure(f"r{at}")]) for at in (1, 2)]
    with pytest.raises(UnavailableError, match="2 callers wait"):
        group.submit([exposure("r3")])
    assert futures[0].cancel()
    gate.set()
    group.close()  # writes what was handed over
    with pytest.raises(UnavailableError, match="closed"):
        group.submit([exposure("r4")])
    log = open_log(str(tmp_path / "log.db"))
    assert sorted(log.find(["r0", "r1", "r2", "r3", "r4"])) == ["r0", "r2"]
    log.close()


def test_a_record_at_fault_is_refused_at_the_door(tmp_path: Path) -> None:
    group = GroupCommit(open_log(str(tmp_path / "log.db")))
    with pytest.raises(RequestError, match="served"):
        group.submit([exposure(served=())])
    with pytest.raises(RequestError, match="10001 records; send at most 10000"):
        group.submit([click()] * 10_001)
    group.close()
    group.close()


@pytest.mark.parametrize("change", [{"group": 0}, {"pending": 0}, {"wait_seconds": 0.0}])
def test_settings_out_of_range(tmp_path: Path, change) -> None:
    log = open_log(str(tmp_path / "log.db"))
    with pytest.raises(ConfigError, match="above 0"):
        GroupCommit(log, CommitConfig(**change))
    log.close()
