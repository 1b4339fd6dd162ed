"""Which requests train, validate and test: by one moment in time, or by each user's own order."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.errors import ConfigError, DataError

_NAMES = np.array(["train", "validation", "test"])


def split_by_time(timestamp: pl.Series, validation_share: float, test_share: float) -> pl.Series:
    """The latest ``test_share`` of the requests test, the ``validation_share`` before them validate.

    Requests of one moment keep the order of their rows; a request without timestamp counts as the earliest.

    Returns:
        Series ``split`` with ``train``, ``validation`` or ``test`` a row.

    Raises:
        ConfigError: a share is negative, or nothing is left to train on.
    """
    total = len(timestamp)
    place = np.empty(total, np.int64)
    place[
        timestamp.to_frame("t").with_row_index("row").sort("t", "row", nulls_last=False)["row"].to_numpy()
    ] = np.arange(total)
    return _split(place, np.full(total, total), validation_share, test_share)


def split_by_user(
    user: pl.Series, timestamp: pl.Series, validation_share: float, test_share: float
) -> pl.Series:
    """The latest ``test_share`` of each user's requests test, the ``validation_share`` before them validate.

    Shares are rounded down in sum, so a user with few requests only trains; ties keep the order of their
    rows.

    Returns:
        Series ``split`` with ``train``, ``validation`` or ``test`` a row.

    Raises:
        ConfigError: a share is negative, or nothing is left to train on.
    """
    frame = (
        pl.DataFrame({"user": user, "t": timestamp}).with_row_index("row").sort("t", "row", nulls_last=False)
    )
    frame = frame.select(
        "row", pl.int_range(pl.len()).over("user").alias("place"), pl.len().over("user").alias("total")
    )
    frame = frame.sort("row")
    return _split(frame["place"].to_numpy(), frame["total"].to_numpy(), validation_share, test_share)


def check_split(split: pl.Series, needed: tuple[str, ...] = ("train", "validation", "test")) -> None:
    """Refuse a split without requests.

    Raises:
        DataError: one of the ``needed`` splits is empty.
    """
    counts = dict(split.value_counts().iter_rows())
    if empty := [name for name in needed if not counts.get(name)]:
        raise DataError(
            f"the {empty[0]} split has none of the {len(split)} requests; give more data or another share."
        )


def _split(
    place: NDArray[np.int64], total: NDArray[np.int64], validation_share: float, test_share: float
) -> pl.Series:
    if min(validation_share, test_share) < 0 or validation_share + test_share >= 1:
        raise ConfigError(
            f"validation_share = {validation_share} and test_share = {test_share} must be 0 or more and "
            "leave a share to train on."
        )
    held = np.floor(total * (validation_share + test_share) + 1e-9)
    test = np.floor(total * test_share + 1e-9)
    return pl.Series("split", _NAMES[(place >= total - held).astype(int) + (place >= total - test)])
