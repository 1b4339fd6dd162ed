"""The feedback log: exposures and feedback, durable and each once, and back out in the log schema.

``open_log`` opens it (SQLite by path, PostgreSQL by URL), :class:`~slatewise.serving.log.commit.GroupCommit` lets
concurrent callers share its commits, ``export`` writes the log that ``slatewise prepare`` reads.
"""

from __future__ import annotations

from slatewise.errors import ConfigError
from slatewise.serving.log.outcomes import Exposed, Received
from slatewise.serving.log.store import FeedbackLog, LogConfig
from slatewise.serving.urls import read_url

__all__ = ["Exposed", "FeedbackLog", "LogConfig", "Received", "open_log"]

SCHEMES = ("sqlite", "postgresql")


def open_log(store: str, config: LogConfig | None = None, *, create: bool = True) -> FeedbackLog:
    """Open the feedback log at ``store``: a path or ``sqlite:///`` URL, or ``postgresql://``.

    Args:
        store: where it is.   config: its settings.   create: make it if it is not there.

    Raises:
        ConfigError: another kind of place, or its driver is not installed.
        DataError: it is not there, or of a newer version.   UnavailableError: it does not answer.
    """
    url = read_url(store, SCHEMES)
    try:
        from slatewise.serving.log.sql import Database

        database = Database(url, create=create)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the feedback log needs {error.name}; install it with pip install 'slatewise[serve]'."
        ) from None
    return FeedbackLog(database, config or LogConfig())
