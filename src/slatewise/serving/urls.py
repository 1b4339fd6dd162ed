"""Where a store is: a URL, or the path of an SQLite file."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from slatewise.errors import ConfigError
from slatewise.names import nearest


@dataclass(frozen=True)
class Url:
    """A store's place.

    Attributes:
        scheme: ``sqlite``, ``postgresql``, ``redis`` ….   full: the URL as drivers take it.
        path: of the file, for SQLite; else None.
    """

    scheme: str
    full: str
    path: str | None = None

    def __str__(self) -> str:
        """The place as a sentence may name it: without a password."""
        if self.path is not None:
            return self.path
        parts = urlsplit(self.full)
        place = parts.netloc.rpartition("@")[2]
        return urlunsplit((self.scheme, place, parts.path, "", ""))


def read_url(text: str, allowed: tuple[str, ...]) -> Url:
    """``sqlite:///log.db``, ``sqlite:////var/log.db``, ``log.db``, ``postgresql://host/name``, ``redis://host``.

    Args:
        text: the URL, or a path.   allowed: schemes, the first of which is not ``sqlite`` only if there is no file.

    Raises:
        ConfigError: another scheme, or an SQLite URL without a file; says what is allowed.
    """
    scheme, found, rest = text.partition("://")
    scheme = {"postgres": "postgresql"}.get(scheme.partition("+")[0], scheme.partition("+")[0])
    if not found:
        scheme, rest = "sqlite", "/" + text
    if scheme not in allowed:
        hint = nearest(scheme, list(allowed))
        raise ConfigError(f"'{text}' is no place for this store.{hint} Allowed: {_forms(allowed)}.")
    if scheme != "sqlite":
        return Url(scheme, text)
    if not rest.startswith("/") or rest == "/" or rest == "/:memory:":
        raise ConfigError(
            f"'{text}' names no file; write a path, sqlite:///relative.db or sqlite:////absolute.db."
        )
    return Url(scheme, text, rest[1:])


def _forms(allowed: tuple[str, ...]) -> str:
    return ", ".join(["a path", *(f"{scheme}://…" for scheme in allowed)])
