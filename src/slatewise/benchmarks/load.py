"""A load generator that is cheaper than what it measures: keep-alive connections, each sends when it was answered."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

import numpy as np

LENGTH = re.compile(rb"content-length: *(\d+)", re.I)


@dataclass
class Load:
    """What came back.

    Attributes:
        seconds: from each request to its answer.   statuses: how often each status came.   wall: how long it all took.
    """

    wall: float = 0.0
    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall

    def percentile(self, share: float) -> float:
        """Milliseconds that so many percent of the answers took at most."""
        return float(np.percentile(self.seconds, share)) * 1e3


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request, until the time is over."""

    def __init__(
        self, messages: Sequence[bytes], until: float, load: Load, done: asyncio.Future[None]
    ) -> None:
        self.messages, self.until, self.load, self.done = cycle(messages), until, load, done
        self.buffer, self.started = b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first request."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Part of an answer, or all of it."""
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        found = LENGTH.search(self.buffer, 0, head)
        if len(self.buffer) < head + 4 + (int(found[1]) if found else 0):
            return
        ended = time.perf_counter()
        self.load.seconds.append(ended - self.started)
        status = int(self.buffer[9:12])
        self.load.statuses[status] = self.load.statuses.get(status, 0) + 1
        self.buffer = b""
        if ended < self.until:
            self._send()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The end, or the server's."""
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(next(self.messages))


def message(path: str, body: bytes) -> bytes:
    """A POST request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _itself(connection: Connection) -> Connection:
    return connection


async def drive(port: int, messages: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Keep so many requests under way for so long."""
    loop, load = asyncio.get_running_loop(), Load()
    started = time.perf_counter()
    ends = []
    for place in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        own = [*messages[place % len(messages) :], *messages[: place % len(messages)]]
        one = Connection(own, started + seconds, load, done)
        await loop.create_connection(partial(_itself, one), "127.0.0.1", port)
        ends.append(done)
    await asyncio.gather(*ends)
    load.wall = time.perf_counter() - started
    return load


def run(port: int, messages: Sequence[bytes], connections: int, seconds: float) -> Load:
    """:func:`drive` in a loop of its own."""
    return asyncio.run(drive(port, messages, connections, seconds))
