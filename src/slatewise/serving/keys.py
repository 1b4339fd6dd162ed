"""API keys: a file of names and digests, compared in constant time. The keys themselves are nowhere.

A line is ``name sha256-hex``; empty lines and those that begin with # are passed over. Keys are random and long, so a plain
digest is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from slatewise.errors import ConfigError

PREFIX = "sw_"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def digest_of(key: str) -> str:
    """What a file keeps of a key."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def new_key() -> str:
    """A fresh key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


class Keys:
    """The keys that open a server; none: it is open."""

    def __init__(self, digests: dict[str, str]) -> None:
        """``digests``: by the name of whom a key was given to."""
        self._digests = digests

    @classmethod
    def load(cls, path: Path | None) -> Keys:
        """Read a file of keys; no path: no keys.

        Raises:
            ConfigError: it is not there, has no key in it, or a line is none.
        """
        if path is None:
            return cls({})
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise ConfigError(f"the file of keys {path} cannot be read: {error.strerror}.") from None
        digests: dict[str, str] = {}
        for number, line in enumerate(map(str.strip, lines), 1):
            if not line or line.startswith("#"):
                continue
            name, _, digest = line.partition(" ")
            digest = digest.strip().lower()
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ConfigError(
                    f"{path}, line {number}: not a name and a SHA-256 digest; make one with `slatewise key NAME --file {path}`."
                )
            digests[name] = digest
        if not digests:
            raise ConfigError(f"{path} has no keys; make one with `slatewise key NAME --file {path}`.")
        return cls(digests)

    @property
    def open(self) -> bool:
        """No key is asked for."""
        return not self._digests

    def who(self, key: str | None) -> str | None:
        """The name that a key belongs to, None if to none; every digest is compared, whichever fits."""
        given, found = digest_of(key or ""), None
        for name, digest in self._digests.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found


def add_key(path: Path, name: str) -> str:
    """Append a new key's digest to a file, which is made for the owner alone, and give the key.

    Raises:
        ConfigError: a name that is none, or is there already.
    """
    if not name or any(char.isspace() for char in name) or name.startswith("#"):
        raise ConfigError(f"'{name}' cannot name a key; use letters and digits without spaces.")
    if path.exists() and any(line.split(" ")[0] == name for line in path.read_text().splitlines()):
        raise ConfigError(f"{path} has a key of the name '{name}' already; take another, or delete its line.")
    key = new_key()
    path.touch(mode=0o600)
    with path.open("a") as file:
        file.write(f"{name} {digest_of(key)}\n")
    return key
