"""Asking a feature store without ever failing: what it does not answer is cold, and counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from slatewise.config import Frozen, to_plain
from slatewise.errors import ConfigError
from slatewise.serving.features import Kept, Store, StoreError


class ReaderConfig(Frozen):
    """Settings.

    Attributes:
        events: how many of a user's last events are read.
        retry_seconds: after a failure the store is left alone for so long, so that an outage costs one time-out and
            not one a request.
    """

    events: int = 500
    retry_seconds: float = 1.0


class Counts(Frozen):
    """What was asked of the store since the start.

    Attributes:
        calls: of the store's ``get``.   failures: calls that failed.
        skipped: calls that were not made, because the store had just failed; like failures they end cold.
        users, items: ids asked for in calls that were answered.   users_missing, items_missing: those without features.
        damaged: rows that could not be read, taken as missing.
    """

    calls: int = 0
    failures: int = 0
    skipped: int = 0
    users: int = 0
    users_missing: int = 0
    items: int = 0
    items_missing: int = 0
    damaged: int = 0


class Reader:
    """A store with a fuse: one for all rankers of a process, used by any thread."""

    def __init__(self, store: Store, config: ReaderConfig | None = None) -> None:
        """``store``: open; not closed with the reader.

        Raises:
            ConfigError: a setting is out of range.
        """
        self.store, self.config = store, config or ReaderConfig()
        if self.config.events < 0 or not self.config.retry_seconds >= 0:
            raise ConfigError(f"events and retry_seconds must be 0 or more, got {self.config}.")
        self._lock = threading.Lock()
        self._counts: dict[str, int] = to_plain(Counts())
        self._resume = 0.0

    @property
    def counts(self) -> Counts:
        """What was asked so far."""
        with self._lock:
            return Counts(**self._counts)

    def get(self, users: Sequence[str], items: Sequence[str], *, history: bool = True) -> Kept:
        """What the store has of these users and items; nothing where it does not answer.

        Args:
            history: bring the users' past and events, too.
        """
        if not self._admitted():
            return Kept()
        try:
            kept = self.store.get(users, items, self.config.events if history else 0)
        except StoreError:
            self._resume = time.monotonic() + self.config.retry_seconds
            self.count(calls=1, failures=1)
            return Kept()
        self.count(
            calls=1, users=len(users), users_missing=len(users) - len(kept.users),
            items=len(items), items_missing=len(items) - len(kept.items),
        )  # fmt: skip
        return kept

    def count(self, **more: int) -> None:
        """Add to the counts."""
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number

    def _admitted(self) -> bool:
        if time.monotonic() >= self._resume:
            return True
        self.count(skipped=1)
        return False
