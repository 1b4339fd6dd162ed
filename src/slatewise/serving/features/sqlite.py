"""Feature store in an SQLite file: the embedded default, shared by the worker processes of one machine."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        busy_seconds: how long to wait for another process that writes.
    """

    busy_seconds: float = 1.0


class SqliteStore:
    """The file, through one connection that threads take in turn."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """``connection``: in autocommit mode, with the tables in it."""
        self._connection, self._turn = connection, threading.Lock()

    def get(self, users: Sequence[str], items: Sequence[str], events: int) -> Kept:
        """See :class:`~slatewise.serving.features.Store`."""
        named = json.dumps(list(users))
        with self._errors():
            read = self._connection.execute
            return Kept(
                users=dict(read(f"SELECT id, body FROM users {NAMED}", (named,))),
                items=dict(read(f"SELECT id, body FROM items {NAMED}", (json.dumps(list(items)),))),
                past=dict(read(f"SELECT id, body FROM past {NAMED}", (named,))) if events else {},
                events={user: _oldest_first(read(LAST, (user, events))) for user in users} if events else {},
            )

    def put(self, table: str, rows: Iterable[tuple[str, bytes]]) -> int:
        """See :class:`~slatewise.serving.features.Store`; all rows or none."""
        assert table in TABLES
        with self._errors(), self._transaction():
            done = self._connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", rows)
        return done.rowcount

    def append(self, events: Mapping[str, Sequence[bytes]], keep: int) -> None:
        """See :class:`~slatewise.serving.features.Store`."""
        rows = [(user, body) for user, bodies in events.items() for body in bodies]
        with self._errors(), self._transaction():
            self._connection.executemany("INSERT INTO events (id, body) VALUES (?, ?)", rows)
            self._connection.executemany(TRIM, [(user, user, keep) for user in events])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._turn:
            try:
                yield
            except sqlite3.Error as error:
                raise StoreError(str(error)) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def connect(config: Config, url: Url) -> SqliteStore:
    """Open the file, or make it.

    Raises:
        UnavailableError: it cannot be opened, or is something else.
    """
    try:
        connection = sqlite3.connect(
            url.path or "", timeout=config.busy_seconds, isolation_level=None, check_same_thread=False
        )
        write_ahead(connection, config.busy_seconds)
        connection.execute("PRAGMA synchronous = NORMAL")  # the feedback log is what must survive everything
        connection.executescript(SCHEMA)
    except sqlite3.Error as error:
        raise UnavailableError(f"the feature store {url} cannot be opened: {error}.") from None
    return SqliteStore(connection)


def _oldest_first(rows: Iterable[tuple[bytes]]) -> list[bytes]:
    return [body for (body,) in rows][::-1]
