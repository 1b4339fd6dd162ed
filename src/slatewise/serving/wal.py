"""SQLite files that several processes open at once."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

PAUSE_SECONDS = 0.005


def write_ahead(connection: Any, seconds: float) -> str:
    """Put the file into WAL mode, and say which mode it is in then.

    The first to open a new file rewrites its header under the exclusive lock. Who comes at that moment holds a lock
    that must grow, and SQLite answers "locked" at once, whatever its busy timeout: so the waiting is ours.

    Args:
        connection: of ``sqlite3``, or what SQLAlchemy hands out for it.   seconds: how long others are waited for.

    Raises:
        sqlite3.OperationalError: it stays locked for longer, or cannot be opened.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(PAUSE_SECONDS)
