"""``log-v1``: a log of shown lists as it is, split in time. For the user's own data.

Nothing is sampled: the candidates are those of the log, the feedback that of the shown list. A request is
left out if it has no candidates, if nothing was shown, or if something was shown that is not among its
candidates; a candidate or shown item that comes twice counts once. Each of these is counted.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.config import Frozen
from slatewise.data.clock import seconds
from slatewise.data.history import exposure_interactions
from slatewise.data.log import Lists, Log
from slatewise.data.ragged import Ragged, aligned, keep, numbers, ragged
from slatewise.data.split import check_split, split_by_time, split_by_user
from slatewise.data.vocab import Vocab
from slatewise.errors import ConfigError, DataError
from slatewise.names import nearest


class Config(Frozen):
    """Options of ``log-v1``.

    Attributes:
        length: L, the list to write; None: the longest list that was shown.
        history: H, the interactions of the user that a model sees.
        history_from: what becomes history where the log has neither ``history`` lists nor interactions: every
            ``exposed`` item, or only those with ``positive`` weighted feedback.
        target: weight of each feedback kind in a list's value; None: clicks, else the first kind.
        split: one moment in ``time`` for all, or the last requests of each ``user``.
        validation_share, test_share: of the requests.
        max_candidates: wider requests keep what was shown and then their best scores (or first candidates).
        max_exposed: longer shown lists are cut.
        unexposed_is_negative: label candidates that were not shown 0 instead of leaving them unlabelled.
    """

    length: int | None = None
    history: int = 50
    history_from: Literal["exposed", "positive"] = "exposed"
    target: dict[str, float] | None = None
    split: Literal["time", "user"] = "time"
    validation_share: float = 0.1
    test_share: float = 0.2
    max_candidates: int = 200
    max_exposed: int = 50
    unexposed_is_negative: bool = False


def build(config: Config, log: Log, seed: int) -> Lists:
    """Clean and split the log's requests; ``seed`` is not used, since nothing is drawn.

    Raises:
        DataError: the log has no lists or no feedback, or a split is empty.
        ConfigError: ``target`` names feedback the log has not, or a number is out of range.
    """
    _check(config)
    requests = _lists_of(log)
    target = choose_target(requests, config.target)
    interactions = _interactions(config, log, requests, target)
    counts = {**log.counts, "requests": requests.height}
    requests = usable_requests(requests, counts)
    requests = distinct_entries(requests, counts)
    requests = narrow(requests, config.max_candidates, config.max_exposed, counts)
    split = split_requests(requests, config.split, config.validation_share, config.test_share)
    requests = requests.with_columns(split)
    return Lists(
        requests=requests,
        users=log.users,
        items=log.items,
        interactions=interactions,
        item_vectors=None,
        length=config.length or ragged(requests["exposed"]).width,
        history=config.history,
        target=target,
        unexposed_is_negative=config.unexposed_is_negative,
        counts=counts,
        truth=log.truth,
        training_interactions=_before_held_out(log.interactions, requests, config.split),
    )


def choose_target(requests: pl.DataFrame, target: dict[str, float] | None) -> dict[str, float]:
    """The weights as given, else 1 for clicks, else 1 for the first feedback kind.

    Raises:
        DataError: the requests have no feedback.   ConfigError: a kind is not among theirs.
    """
    kinds = [name.removeprefix("feedback_") for name in requests.columns if name.startswith("feedback_")]
    if not kinds:
        raise DataError("requests have no feedback_<kind> column, so there is nothing to learn from.")
    if target is None:
        return {"click" if "click" in kinds else kinds[0]: 1.0}
    if strange := [name for name in target if name not in kinds]:
        hint = nearest(strange[0], kinds)
        raise ConfigError(f"target names feedback '{strange[0]}'.{hint} The log has: {', '.join(kinds)}.")
    return target


def usable_requests(requests: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    """Requests with candidates and a shown list of them; the others are counted in ``counts``."""
    requests = _leave_out(
        requests, ragged(requests["candidates"]).count > 0, "requests without candidates", counts
    )
    requests = _leave_out(
        requests, ragged(requests["exposed"]).count > 0, "requests without exposure", counts
    )
    shown, _, shown_key, offered_key = _keys(requests)
    lost = shown.row[~np.isin(shown_key, offered_key)]
    inside = np.bincount(lost, minlength=requests.height) == 0
    requests = _leave_out(requests, inside, "requests with an exposed item that is no candidate", counts)
    if requests.is_empty():
        raise DataError(
            f"no request is left: {', '.join(f'{value} {name}' for name, value in counts.items())}."
        )
    return requests


def distinct_entries(requests: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    """Every item once in a request's candidates and once in its shown list (the first place counts)."""
    shown, offered, shown_key, offered_key = _keys(requests)
    for columns, lists, key in (
        (candidate_columns(requests), offered, offered_key),
        (exposed_columns(requests), shown, shown_key),
    ):
        first = pl.Series(key).is_first_distinct().to_numpy()
        if not first.all():
            counts[f"{columns[0]} entries that came twice"] = int((~first).sum())
            requests = keep(requests, columns, lists, first)
    return requests


def narrow(requests: pl.DataFrame, candidates: int, exposed: int, counts: dict[str, int]) -> pl.DataFrame:
    """At most ``exposed`` shown items and ``candidates`` candidates, those shown among them."""
    shown = ragged(requests["exposed"])
    if shown.width > exposed:
        kept = _place(shown) < exposed
        counts["exposed entries cut"] = int((~kept).sum())
        requests = keep(requests, exposed_columns(requests), shown, kept)
    _, offered, shown_key, offered_key = _keys(requests)
    if offered.width <= candidates:
        return requests
    wanted = np.isin(offered_key, shown_key)
    order = np.lexsort((_place(offered), -_scores(requests, offered), ~wanted, offered.row))
    rank = np.empty(len(order), np.int64)
    rank[order] = _place(offered)
    counts["candidates cut"] = int((rank >= candidates).sum())
    return keep(requests, candidate_columns(requests), offered, rank < candidates)


def split_requests(
    requests: pl.DataFrame, by: Literal["time", "user"], validation_share: float, test_share: float
) -> pl.Series:
    """The column ``split``; without timestamps the order of the rows is the order in time.

    Raises:
        DataError: a split that has a share is empty.
    """
    timed = "timestamp" in requests.columns
    time = requests["timestamp"] if timed else pl.Series("timestamp", np.arange(requests.height))
    if by == "user":
        split = split_by_user(requests["user_id"], time, validation_share, test_share)
    else:
        split = split_by_time(time, validation_share, test_share)
    shares = {"train": 1.0, "validation": validation_share, "test": test_share}
    check_split(split, tuple(name for name, share in shares.items() if share > 0))
    return split


def candidate_columns(requests: pl.DataFrame) -> list[str]:
    """The list columns with one entry a candidate, ``candidates`` first."""
    return ["candidates", *(name for name in requests.columns if name.startswith("candidate_"))]


def exposed_columns(requests: pl.DataFrame) -> list[str]:
    """The list columns with one entry a shown item, ``exposed`` first."""
    names = [name for name in requests.columns if name.startswith("feedback_")]
    nested = "propensity" in requests.columns and requests["propensity"].dtype.is_nested()
    return ["exposed", *names, *(["propensity"] if nested else [])]


def _check(config: Config) -> None:
    for name in ("length", "max_candidates", "max_exposed"):
        if (value := getattr(config, name)) is not None and value < 1:
            raise ConfigError(f"{name} = {value} must be 1 or more.")
    if config.history < 0:
        raise ConfigError(f"history = {config.history} must be 0 or more.")
    if config.max_exposed > config.max_candidates:
        raise ConfigError(
            f"max_exposed = {config.max_exposed} must not be above max_candidates = {config.max_candidates}."
        )


def _lists_of(log: Log) -> pl.DataFrame:
    if log.requests is None:
        raise DataError(
            "log-v1 needs requests with shown lists, but this data set has only interactions; "
            "name another protocol."
        )
    for name in ("candidates", "exposed"):
        if name not in log.requests.columns:
            raise DataError(
                f"requests have no column '{name}'; they have: {', '.join(log.requests.columns)}."
            )
    return log.requests


def _interactions(
    config: Config, log: Log, requests: pl.DataFrame, target: dict[str, float]
) -> pl.DataFrame | None:
    """The log's own, else all exposures, those of requests left out as well: the user did see them."""
    if log.interactions is not None or not {"user_id", "timestamp"} <= set(requests.columns):
        return log.interactions
    return exposure_interactions(requests, target, positive=config.history_from == "positive")


def _before_held_out(
    interactions: pl.DataFrame | None, requests: pl.DataFrame, by: Literal["time", "user"]
) -> pl.DataFrame | None:
    """Of the log's own interactions those that may be trained on; None where it has none, or no users and times.

    They lie before the user's first request to validate or test on or, split by ``time``, before anybody's.
    """
    placed = {"user_id", "timestamp"}
    if interactions is None or not placed <= set(interactions.columns) or not placed <= set(requests.columns):
        return None
    held = requests.filter(pl.col("split") != "train")
    users = Vocab.of(interactions["user_id"], held["user_id"])
    until_U = np.full(len(users), np.iinfo(np.int64).max)
    np.minimum.at(until_U, users.encode(held["user_id"]), seconds(held["timestamp"]))
    if by == "time":
        until_U[:] = until_U.min()
    return interactions.filter(
        pl.Series(seconds(interactions["timestamp"]) < until_U[users.encode(interactions["user_id"])])
    )


def _leave_out(
    requests: pl.DataFrame, good: NDArray[np.bool_], name: str, counts: dict[str, int]
) -> pl.DataFrame:
    if good.all():
        return requests
    counts[name] = int((~good).sum())
    return requests.filter(pl.Series(good))


def _keys(requests: pl.DataFrame) -> tuple[Ragged, Ragged, NDArray[np.int64], NDArray[np.int64]]:
    """Shown and offered lists, and for each entry a number that stands for its request and item together."""
    shown, offered = ragged(requests["exposed"]), ragged(requests["candidates"])
    items = Vocab.of(offered.flat.unique(), shown.flat.unique())
    keys = [lists.row * len(items) + items.encode(lists.flat) for lists in (shown, offered)]
    return shown, offered, keys[0], keys[1]


def _place(lists: Ragged) -> NDArray[np.int64]:
    """(m,) place of each entry in its list, from 0."""
    return np.arange(len(lists.flat)) - np.repeat(lists.count.cumsum() - lists.count, lists.count)


def _scores(requests: pl.DataFrame, offered: Ragged) -> NDArray[np.float64]:
    """(m,) the retriever's scores; equal where there are none, lowest where one is missing."""
    if "candidate_scores" not in requests.columns:
        return np.zeros(len(offered.flat))
    lists = aligned(requests, "candidate_scores", offered, "candidates")
    return np.nan_to_num(numbers(lists.flat), nan=-np.inf)
