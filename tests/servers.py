"""Real PostgreSQL and Redis for tests, where the machine has their programs; each lives in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

WAIT = 60.0


class Server:
    """A server process that can be killed and started again."""

    def __init__(
        self, url: str, command: list[str], ready: Callable[[], bool], user: str | None = None
    ) -> None:
        self.url, self._command, self._ready, self._user = url, command, ready, user
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers; after a kill PostgreSQL first waits for its children's end."""
        deadline = time.monotonic() + WAIT
        self._launch()
        while not self._ready():
            assert time.monotonic() < deadline, f"{self._command[0]} did not start"
            time.sleep(0.05)
            if self._process.poll() is not None:
                self._launch()

    def kill(self) -> None:
        """kill -9 (PostgreSQL's children end with their parent)."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _launch(self) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, user=self._user, stdout=quiet, stderr=quiet)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Children of a server that serve, without the one that multiprocessing keeps for itself."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def folder_for(user: str | None) -> Path:
    """A new folder that belongs to ``user``; not pytest's own, which others may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="slatewise-"))
    if user is not None:
        shutil.chown(folder, user)
    return folder


def postgres() -> tuple[Server, Path]:
    """A PostgreSQL that answers on a socket in its folder; skips the test where there is none."""
    initdb, server = _program("initdb"), _program("postgres")
    user = None
    if os.geteuid() == 0:  # which PostgreSQL refuses to run as
        user = "postgres"
        if subprocess.run(["id", user], capture_output=True, check=False).returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres.")
    folder = folder_for(user)
    data = str(folder / "data")
    made = [initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"]
    subprocess.run(made, check=True, capture_output=True, user=user)
    command = [server, "-D", data, "-k", str(folder), "-c", "listen_addresses="]
    probe = [_program("pg_isready"), "-h", str(folder), "-q"]
    url = f"postgresql://postgres@/postgres?host={folder}"
    return Server(url, command, lambda: subprocess.run(probe, check=False).returncode == 0, user), folder


def redis() -> tuple[Server, Path]:
    """A Redis that answers on a socket in its folder and keeps nothing; skips the test where there is none."""
    server = _program("redis-server")
    folder = folder_for(None)
    socket = folder / "redis.sock"
    command = [server, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]

    def ready() -> bool:
        import redis

        try:
            return bool(redis.Redis(unix_socket_path=str(socket)).ping())
        except redis.ConnectionError:
            return False

    return Server(f"unix://{socket}", command, ready), folder


def _program(name: str) -> str:
    """Where it is: on the path, or where Debian keeps PostgreSQL's."""
    places = [str(place) for place in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"there is no {name} on this machine; install Debian's postgresql or redis-server.")
    return found
