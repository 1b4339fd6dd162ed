"""Feature store in Redis: shared by the servers of several machines.

Keys: ``<prefix>:users:<id>``, ``<prefix>:items:<id>`` and ``<prefix>:past:<id>`` hold JSON, ``<prefix>:events:<id>`` is
a list. The only file that imports redis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from slatewise.config import Frozen
from slatewise.errors import ConfigError
from slatewise.serving.features import Kept, StoreError
from slatewise.serving.urls import Url

BATCH = 1000  # rows a pipeline


class Config(Frozen):
    """Settings.

    Attributes:
        timeout_seconds: of connecting and of each answer; a request goes on without features after it.
        prefix: of every key, so that several stores share one Redis.
    """

    timeout_seconds: float = 0.1
    prefix: str = "slatewise"


class RedisStore:
    """A Redis, or what behaves as one."""

    def __init__(self, client: redis.Redis, prefix: str = "slatewise") -> None:
        """``client``: answers in bytes.   ``prefix``: of every key."""
        self._client, self._prefix = client, prefix

    def get(self, users: Sequence[str], items: Sequence[str], events: int) -> Kept:
        """See :class:`~slatewise.serving.features.Store`."""
        wanted = {"users": users, "items": items, "past": users if events else []}
        keys = [self._key(table, name) for table, names in wanted.items() for name in names]
        with _errors():
            pipeline = self._client.pipeline(transaction=False)
            if keys:
                pipeline.mget(keys)
            for user in users if events else []:
                pipeline.lrange(self._key("events", user), -events, -1)
            answers = iter(pipeline.execute())
        values = iter(next(answers) if keys else [])
        found = {table: _there(names, values) for table, names in wanted.items()}
        return Kept(**found, events=_there(users, answers) if events else {})

    def put(self, table: str, rows: Iterable[tuple[str, bytes]]) -> int:
        """See :class:`~slatewise.serving.features.Store`; an error leaves the rows before it."""
        count, rows = 0, iter(rows)
        while part := {self._key(table, name): body for name, body in _take(rows)}:
            with _errors():
                self._client.mset(part)
            count += len(part)
        return count

    def append(self, events: Mapping[str, Sequence[bytes]], keep: int) -> None:
        """See :class:`~slatewise.serving.features.Store`."""
        with _errors():
            pipeline = self._client.pipeline(transaction=False)
            for user, bodies in events.items():
                pipeline.rpush(self._key("events", user), *bodies)
                pipeline.ltrim(self._key("events", user), -keep, -1)
            pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _key(self, table: str, name: str) -> str:
        return f"{self._prefix}:{table}:{name}"


def connect(config: Config, url: Url) -> RedisStore:
    """A client for the Redis at ``url``; connects when it is first asked.

    Raises:
        ConfigError: the URL or a setting is none.
    """
    if not config.timeout_seconds > 0:
        raise ConfigError(f"feature store: timeout_seconds is {config.timeout_seconds}, but must be above 0.")
    try:
        client = redis.Redis.from_url(
            url.full,
            socket_timeout=config.timeout_seconds,
            socket_connect_timeout=config.timeout_seconds,
            retry=Retry(NoBackoff(), 1),  # once more, for a connection that a restart cut
        )
    except ValueError as error:
        raise ConfigError(f"'{url}' is no URL of a Redis: {error}.") from None
    return RedisStore(client, config.prefix)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise StoreError(str(error)) from error


def _there(names: Sequence[str], values: Iterator[Any]) -> dict[str, Any]:
    """The values of the names that have one; takes one from ``values`` for each name."""
    pairs = [(name, next(values)) for name in names]
    return {name: value for name, value in pairs if value}


def _take(rows: Iterator[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return list(islice(rows, BATCH))
