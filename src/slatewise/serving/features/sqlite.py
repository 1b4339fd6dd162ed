"""Feature store in an SQLite file: the embedded default, shared by the worker processes of one machine."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from slatewise.config import Frozen
from slatewise.errors import UnavailableError
from slatewise.serving.features import TABLES, Kept, StoreError
from slatewise.serving.urls import Url
from slatewise.serving.wal import write_ahead

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS past (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS events_id ON events (id, seq);
"""
NAMED = "WHERE id IN (SELECT value FROM json_each(?))"
LAST = "SELECT body FROM events WHERE id = ? ORDER BY seq DESC LIMIT ?"
TRIM = """
DELETE FROM events WHERE id = ? AND seq <= (
    SELECT seq FROM events WHERE id = ? ORDER BY seq DESC LIMIT 1 OFFSET ?
)
"""


class Config(Frozen):
    """Settings.

    Attributes:
        busy_seconds: how long a writer waits for another process that writes.
    """

    busy_seconds: float = 1.0


class SqliteStore:
    """The file. Threads write through one connection in turn; each read has a connection to itself, and waits for no writer."""

    def __init__(self, url: Url, busy_seconds: float) -> None:
        """Open the file, or make it.

        Raises:
            sqlite3.Error: it cannot be opened, or is something else.
        """
        self._url, self._busy_seconds = url, busy_seconds
        self._writer, self._turn = self._connect(), threading.Lock()
        write_ahead(self._writer, busy_seconds)
        self._writer.execute(
            "PRAGMA synchronous = NORMAL"
        )  # the feedback log is what must survive everything
        self._writer.executescript(SCHEMA)
        self._idle: list[sqlite3.Connection] = []  # as many as threads ever read at once

    def get(self, users: Sequence[str], items: Sequence[str], events: int) -> Kept:
        """See :class:`~slatewise.serving.features.Store`."""
        named = json.dumps(list(users))
        with self._reading() as read:
            return Kept(
                users=dict(read(f"SELECT id, body FROM users {NAMED}", (named,))),
                items=dict(read(f"SELECT id, body FROM items {NAMED}", (json.dumps(list(items)),))),
                past=dict(read(f"SELECT id, body FROM past {NAMED}", (named,))) if events else {},
                events={user: _oldest_first(read(LAST, (user, events))) for user in users} if events else {},
            )

    def put(self, table: str, rows: Iterable[tuple[str, bytes]]) -> int:
        """See :class:`~slatewise.serving.features.Store`; all rows or none."""
        assert table in TABLES
        with self._writing() as write:
            return write(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", rows).rowcount

    def append(self, events: Mapping[str, Sequence[bytes]], keep: int) -> None:
        """See :class:`~slatewise.serving.features.Store`."""
        rows = [(user, body) for user, bodies in events.items() for body in bodies]
        with self._writing() as write:
            write("INSERT INTO events (id, body) VALUES (?, ?)", rows)
            write(TRIM, [(user, user, keep) for user in events])

    def close(self) -> None:
        """Close the file."""
        for connection in (self._writer, *self._idle):
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._url.path or "", timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )

    @contextmanager
    def _reading(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        with _errors():
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection.execute
            finally:
                self._idle.append(connection)

    @contextmanager
    def _writing(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """All statements in one transaction."""
        with _errors(), self._turn:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer.executemany
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")


def connect(config: Config, url: Url) -> SqliteStore:
    """Open the file, or make it.

    Raises:
        UnavailableError: it cannot be opened, or is something else.
    """
    try:
        return SqliteStore(url, config.busy_seconds)
    except sqlite3.Error as error:
        raise UnavailableError(f"the feature store {url} cannot be opened: {error}.") from None


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(str(error)) from error


def _oldest_first(rows: Iterable[tuple[bytes]]) -> list[bytes]:
    return [body for (body,) in rows][::-1]
