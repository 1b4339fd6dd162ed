"""Features online: what a store knows of users, items and recent history, brought to a request.

A backend is one file of this room: ``connect(config, url) -> Store``. A store keeps bytes by name and a tail of events
a user; what they mean is the business of :class:`~slatewise.serving.features.online.OnlineFeatures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from slatewise import config as configs
from slatewise.errors import ConfigError
from slatewise.names import plugin
from slatewise.serving.urls import read_url

TABLES = ("users", "items", "past")
BACKENDS = {"sqlite": "sqlite", "redis": "redis", "rediss": "redis", "unix": "redis"}


class StoreError(Exception):
    """A store did not answer, for whatever reason. Never reaches whoever asks for features."""


@dataclass(frozen=True)
class Kept:
    """What a store has of some users and items; what it has not is not in the mappings.

    Attributes:
        users, items: JSON objects of features, by id.   past: interactions that were loaded, by user.
        events: each user's last events, oldest first.
    """

    users: Mapping[str, bytes] = field(default_factory=dict)
    items: Mapping[str, bytes] = field(default_factory=dict)
    past: Mapping[str, bytes] = field(default_factory=dict)
    events: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


class Store(Protocol):
    """What a backend does. Ids are strings; every method raises :class:`StoreError` and nothing else."""

    def get(self, users: Sequence[str], items: Sequence[str], events: int) -> Kept:
        """Users with their past and last ``events`` events, and items: in one round trip."""

    def put(self, table: str, rows: Iterable[tuple[str, bytes]]) -> int:
        """Set rows of one of :data:`TABLES`, and how many there were."""

    def append(self, events: Mapping[str, Sequence[bytes]], keep: int) -> None:
        """Add events to users, of whom only the last ``keep`` stay."""

    def close(self) -> None:
        """Give connections and files back."""


def open_store(store: str, options: dict[str, Any] | None = None) -> Store:
    """Open the feature store at ``store``: a path or ``sqlite:///`` URL, or ``redis://``, ``rediss://``, ``unix://``.

    Args:
        store: where it is; a file is made if it is not there.   options: values for the backend's config.

    Raises:
        ConfigError: another kind of place, an unknown option, or its driver is not installed.
        UnavailableError: a file cannot be opened.
    """
    url = read_url(store, tuple(BACKENDS))
    try:
        backend = plugin("serving.features", BACKENDS[url.scheme])
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"this feature store needs {error.name}; install it with pip install 'slatewise[serve]'."
        ) from None
    config = configs.build(backend.Config, options or {}, where=f"feature store '{BACKENDS[url.scheme]}'")
    opened: Store = backend.connect(config, url)
    return opened
