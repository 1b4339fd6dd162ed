"""The store's tables in the log schema: ids are ``u17`` and ``i204``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
import torch
from torch import Tensor

from slatewise.errors import DataError
from slatewise.simulators._sampling import Requests
from slatewise.simulators._world import Observed


def users(observed: Observed) -> pl.DataFrame:
    """``user_id, taste_0 …, price_sense, variety``."""
    columns = {f"taste_{d}": column.numpy() for d, column in enumerate(observed.taste_UD.T)}
    columns |= {"price_sense": observed.price_sense_U.numpy(), "variety": observed.variety_U.numpy()}
    return pl.DataFrame({"user_id": ids(torch.arange(len(observed.variety_U)), "u"), **columns})


def items(observed: Observed, category_I: Tensor, log_price_I: Tensor) -> pl.DataFrame:
    """``item_id, vector_0 …, quality, log_price, category``."""
    columns = {f"vector_{d}": column.numpy() for d, column in enumerate(observed.item_ID.T)}
    columns |= {"quality": observed.quality_I.numpy(), "log_price": log_price_I.numpy()}
    return pl.DataFrame(
        {"item_id": ids(torch.arange(len(category_I)), "i"), **columns, "category": ids(category_I, "c")}
    )


def requests(drawn: Requests, first: int = 0) -> pl.DataFrame:
    """``request_id, user_id, timestamp, candidates, candidate_scores``: what a ranker is asked."""
    return pl.DataFrame(
        {
            "request_id": ids(torch.arange(first, first + drawn.size), "r"),
            "user_id": ids(drawn.user_B, "u"),
            "timestamp": drawn.timestamp_B.numpy(),
            "candidates": id_lists(drawn.item_BN, "i"),
            "candidate_scores": number_lists(drawn.score_BN),
        }
    )


def shown(item_BL: Tensor, feedback: Mapping[str, Tensor]) -> dict[str, pl.Series]:
    """``exposed`` and one ``feedback_<kind>`` column a kind, to lay beside a requests frame."""
    columns = {f"feedback_{kind}": number_lists(value_BL) for kind, value_BL in feedback.items()}
    return {"exposed": id_lists(item_BL, "i"), **columns}


def ids(row: Tensor, letter: str) -> pl.Series:
    """``[17, 204]`` to ``["u17", "u204"]``."""
    return letter + pl.Series(row.cpu().numpy()).cast(pl.String)


def id_lists(row_BN: Tensor, letter: str) -> pl.Series:
    """A list of ids a row."""
    return ids(row_BN.flatten(), letter).reshape(tuple(row_BN.shape)).arr.to_list()


def number_lists(table_BN: Tensor) -> pl.Series:
    """A list of numbers a row."""
    return pl.Series(table_BN.cpu().numpy().reshape(-1)).reshape(tuple(table_BN.shape)).arr.to_list()


def index(wanted: Sequence[str] | pl.Series, letter: str, count: int, what: str) -> Tensor:
    """Ids to rows.

    Raises:
        DataError: an id that is not one of the store's.
    """
    series = pl.Series(wanted, dtype=pl.String)
    row = series.str.extract(f"^{letter}(\\d+)$").cast(pl.Int64, strict=False)
    bad = series.filter((row.is_null() | (row >= count)).fill_null(True))
    if len(bad):
        raise DataError(f"the store has no {what} '{bad[0]}'; its ids are {letter}0 to {letter}{count - 1}.")
    return torch.from_numpy(row.to_numpy().copy())
