"""The user's own logs: requests in the log schema (``docs/log-schema.md``), as Parquet, CSV or JSON lines.

``source`` is a file of requests, or a folder with ``requests.*`` and, where there are any, ``users.*``,
``items.*`` (an id and its features) and ``interactions.*`` (``user_id, item_id, timestamp`` and optionally
``feedback``, for the users' history).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slatewise.config import Frozen
from slatewise.data.log import Log
from slatewise.data.log_columns import feedback_columns
from slatewise.data.log_faults import errors, summary
from slatewise.data.log_report import counts, exposed_requests
from slatewise.data.log_tables import Source, read_source
from slatewise.errors import ConfigError, DataError
from slatewise.names import nearest

DEFAULT_PROTOCOL = "log-v1"


class Config(Frozen):
    """How to read the logs.

    Attributes:
        feedback: kinds of feedback to keep (``click`` for the column ``feedback_click``); empty keeps all.
    """

    feedback: tuple[str, ...] = ()


def load(config: Config, source: Path | None) -> Log:
    """Read and check logs; requests without exposure are left out and counted.

    Raises:
        DataError: no source was named, it cannot be read, or a table has a fault.
        ConfigError: ``feedback`` names a kind that the requests do not have.
    """
    if source is None:
        raise DataError(
            "the data set 'parquet' needs --source: a file of requests, or a folder with requests.parquet."
        )
    read = read_source(source, examples=1)
    if errors(read.faults):
        raise DataError(summary(read.faults, str(source)))
    return _log(Source(_select(read.requests, config.feedback), read.others, read.faults), source)


def _select(requests: pl.DataFrame, kinds: tuple[str, ...]) -> pl.DataFrame:
    have = [name.removeprefix("feedback_") for name in feedback_columns(requests)]
    for kind in kinds:
        if kind not in have:
            raise ConfigError(
                f"there is no feedback '{kind}'; the requests have: {', '.join(have)}.{nearest(kind, have)}"
            )
    return requests.drop(f"feedback_{name}" for name in have if kinds and name not in kinds)


def _log(read: Source, source: Path) -> Log:
    kept = exposed_requests(read.requests)
    if not kept.height:
        raise DataError(f"{source}: no request has an exposed item; at least one is needed to learn from.")
    others = read.others
    return Log(kept, others.get("users"), others.get("items"), others.get("interactions"), counts(read))
