"""The check that families with only one list share."""

from __future__ import annotations

from slatewise.errors import ConfigError


def require_single(family: str, count: int) -> None:
    """Refuse a count above 1.

    Raises:
        ConfigError: ``count`` is not 1.
    """
    if count != 1:
        raise ConfigError(
            f"group family '{family}' has one list a request, got count = {count}; set count = 1."
        )
