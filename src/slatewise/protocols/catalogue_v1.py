"""``catalogue-v1``: the next event of each user in time, out of 30 candidates or the whole catalogue.

A user's *targets* are the items on which his feedback of the kind ``target`` (clicks) was positive, and which are to
be recommended (not ``organic``) and new to him. His last target tests, the one before validates, up to
``train_requests`` before those train the methods that learn from lists; methods of sequences learn from all that he
did before his first held-out target (``training_interactions``). A request's history is everything that its user met
strictly before it. Its candidates are the target and ``candidates - 1`` others in random order, its only exposed item
the target.

The others are the target items of *other* requests of the same split, each as likely as it is often a target
(``negatives = "targets"``): OneRanker samples its candidates "from target items", and popularity then tells nothing.
``"uniform"`` draws from the catalogue instead, and popularity goes far. No candidate is one that the user met before;
where ``repeats`` allows that of targets, all of them may be. The whole catalogue are all items that are not organic,
those too that training never saw: a training request offers only what training interactions have.

Where there are only ratings, ``thresholds`` cut them into the funnel as a proxy: what has 3 stars counts as clicked,
4 as converted, 5 as worth 1. As in the other protocols of ratings their times then become places in the user's order
(unless ``clock``): people rate many films in one second, and both known states of MovieLens-1M give the same numbers.

What it hides: the target is among what a former system showed, so a model is also rewarded for guessing that system;
and one positive among sampled negatives says little of a list.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl

from slatewise.candidates import matrix_factorization
from slatewise.candidates.popularity import log_popularity
from slatewise.candidates.retrieval import Bools, Interactions, Ints, Requests
from slatewise.config import Frozen
from slatewise.data.entities import POPULARITY
from slatewise.data.log import Lists, Log
from slatewise.data.split import check_split
from slatewise.errors import ConfigError, DataError
from slatewise.names import nearest
from slatewise.protocols._chunks import SPLITS
from slatewise.protocols._events import Events, negatives, read_events
from slatewise.protocols._lists import list_column, shuffled
from slatewise.rng import numpy_rng


class Config(Frozen):
    """Options; the defaults are the protocol.

    Attributes:
        target: the kind of feedback whose positive events are predicted.
        train_requests: at most so many training requests a user, the latest.
        history: H, what a request's user met before it.   length: L.
        candidates: N, the target among them.
        negatives: where the others come from: ``targets`` of other requests, or ``uniform`` from the catalogue.
        repeats: an item that the user met before may be a target, and then a candidate.
        thresholds: from which rating on an interaction counts as click, conversion and value, where there are only ratings.
        clock: ratings keep their times, and those of one moment do not see one another.
        vectors: width of the items' start vectors, a matrix factorisation of the positive training events (0: none).
    """

    target: str = "click"
    train_requests: int = 8
    history: int = 100
    length: int = 15
    candidates: int = 30
    negatives: Literal["targets", "uniform"] = "targets"
    repeats: bool = False
    thresholds: tuple[float, ...] = (3.0, 4.0, 5.0)
    clock: bool = False
    vectors: int = 64


def build(config: Config, log: Log, seed: int) -> Lists:
    """Find the targets, split, draw, shuffle.

    Raises:
        DataError: the log has no interactions, or too few targets.
        ConfigError: ``target`` names feedback that is not there, or a number is out of range.
    """
    _check(config)
    counts = dict(log.counts)
    events = read_events(log, config.thresholds, counts, clock=config.clock)
    row_R, split_R = _split(events, _targets(config, events, counts), config.train_requests)
    training_n = _before_held_out(events, row_R, split_R)
    items_RN = _candidates(config, events, row_R, split_R, seed)
    positive = Interactions(
        *_positive(config, events, training_n), num_users=len(events.users), num_items=len(events.items)
    )
    new_I = np.ones(len(events.items), dtype=bool)
    new_I[events.item_n[training_n]] = False
    counts |= _counts(events, row_R, split_R, items_RN, new_I)
    return Lists(
        requests=_requests(events, row_R, split_R, items_RN),
        users=log.users,
        items=_items(log, events, positive),
        interactions=events.frame,
        item_vectors=_vectors(config, events, positive, new_I, seed),
        length=config.length,
        history=config.history,
        target={config.target: 1.0},
        unexposed_is_negative=True,
        counts=counts,
        truth=log.truth,
        training_interactions=events.frame.filter(pl.Series(training_n)),
    )


def _check(config: Config) -> None:
    for name, least in (
        ("train_requests", 1),
        ("history", 0),
        ("length", 1),
        ("candidates", 2),
        ("vectors", 0),
    ):
        if (value := getattr(config, name)) < least:
            raise ConfigError(f"catalogue-v1: {name} is {value}, but must be at least {least}.")
    if config.length > config.candidates:
        raise ConfigError(
            f"catalogue-v1: length is {config.length}, but there are only {config.candidates} candidates."
        )


def _targets(config: Config, events: Events, counts: dict[str, int]) -> Ints:
    """Rows of the targets, by user and time."""
    kinds = [name.removeprefix("feedback_") for name in events.frame.columns if name.startswith("feedback_")]
    if config.target not in kinds:
        hint = nearest(config.target, kinds)
        raise ConfigError(
            f"catalogue-v1: target is '{config.target}', but the log's feedback is {', '.join(kinds)}.{hint}"
        )
    positive_n = (events.frame[f"feedback_{config.target}"] > 0).fill_null(False).to_numpy()
    wanted_n = positive_n & ~events.organic_I[events.item_n]
    if not config.repeats:
        met = int((wanted_n & ~events.first_n()).sum())
        wanted_n = wanted_n & events.first_n()
        if met:
            counts["targets left out: the user met the item before"] = met
    if not wanted_n.any():
        raise DataError(
            f"no interaction has a positive feedback_{config.target} on an item that is not organic and new to its user; "
            "name another target, lower thresholds, or set repeats = true."
        )
    return np.flatnonzero(wanted_n)


def _split(events: Events, row_T: Ints, train_requests: int) -> tuple[Ints, Ints]:
    """The targets that become requests, and the split of each: the last of a user tests, the one before validates, and
    those train that are older than that, the latest of them."""
    user_T, time_T = events.user_n[row_T], events.time_n[row_T]
    left_T = _left(user_T)
    until_U = np.full(len(events.users), np.iinfo(np.int64).max)
    until_U[user_T[left_T == 1]] = time_T[left_T == 1]
    older_T = (left_T > 1) & (time_T < until_U[user_T])
    split_T = np.select(
        [left_T == 0, left_T == 1, older_T], [_place("test"), _place("validation"), _place("train")], -1
    )
    latest_T = np.zeros(len(row_T), dtype=bool)
    latest_T[older_T] = _left(user_T[older_T]) < train_requests
    kept_T = (split_T >= 0) & (~older_T | latest_T)
    return row_T[kept_T], split_T[kept_T]


def _left(user_T: Ints) -> Ints:
    """How many rows of the same user follow each; rows of a user stand together."""
    _, first, total = np.unique(user_T, return_index=True, return_counts=True)
    return np.repeat(first + total, total) - 1 - np.arange(len(user_T))


def _place(split: str) -> int:
    return SPLITS.tolist().index(split)


def _before_held_out(events: Events, row_R: Ints, split_R: Ints) -> Bools:
    """True for what lies before the user's first request to validate or test on."""
    held_R = row_R[split_R != _place("train")]
    until_U = np.full(len(events.users), np.iinfo(np.int64).max)
    np.minimum.at(until_U, events.user_n[held_R], events.time_n[held_R])
    return events.time_n < until_U[events.user_n]


def _candidates(config: Config, events: Events, row_R: Ints, split_R: Ints, seed: int) -> Ints:
    """(R, N) the target and the others of each request, shuffled, -1 behind the end."""
    others_RS = np.full((len(row_R), config.candidates - 1), -1, dtype=np.int64)
    for split in range(3):
        of_R = np.flatnonzero(split_R == split)
        if len(of_R):
            pool, rng = _pool(config, events, row_R, split_R, split), numpy_rng(seed, "negatives", split)
            others_RS[of_R] = negatives(
                events, row_R[of_R], pool, others_RS.shape[1], rng, met=config.repeats
            )
    return shuffled(np.concatenate([events.item_n[row_R][:, None], others_RS], axis=1), None, seed)[0]


def _pool(config: Config, events: Events, row_R: Ints, split_R: Ints, split: int) -> Ints:
    if config.negatives == "targets":
        return events.item_n[row_R[split_R == split]]
    there_I = ~events.organic_I
    if split == _place("train"):  # what training may know: an item met only later must stay new
        seen = np.unique(events.item_n[_before_held_out(events, row_R, split_R)])
        there_I = there_I & np.isin(np.arange(len(there_I)), seen)
    return np.flatnonzero(there_I)


def _positive(config: Config, events: Events, training_n: Bools) -> tuple[Ints, Ints, Ints]:
    """Users and items of the positive training events (of content, too), and that they belong to no request."""
    kept_n = training_n & (events.frame[f"feedback_{config.target}"] > 0).fill_null(False).to_numpy()
    return events.user_n[kept_n], events.item_n[kept_n], np.full(int(kept_n.sum()), -1)


def _requests(events: Events, row_R: Ints, split_R: Ints, items_RN: Ints) -> pl.DataFrame:
    """One row a request in the log schema, with ``split``; contexts and feedback are the target's."""
    frame, real_RN = events.frame[row_R], items_RN >= 0
    columns: dict[str, Any] = {
        "request_id": np.arange(len(row_R)),
        "user_id": frame["user_id"],
        "timestamp": frame["timestamp"],
        "candidates": list_column(events.items.gather(items_RN[real_RN]), real_RN.sum(axis=1)),
        "exposed": list_column(events.items.gather(events.item_n[row_R]), np.ones(len(row_R), np.int64)),
        "split": SPLITS[split_R].tolist(),
    }
    for name in frame.columns:
        if name.startswith("feedback_"):
            columns[name] = list_column(frame[name].cast(pl.Float32), np.ones(len(row_R), np.int64))
        elif name.startswith("context_"):
            columns[name] = frame[name]
    requests = pl.DataFrame(columns)
    check_split(requests["split"])
    return requests


def _items(log: Log, events: Events, positive: Interactions) -> pl.DataFrame:
    """Every item that there is, with its features and ``log_popularity``: how often it was positive in training."""
    known = pl.DataFrame({"item_id": events.items, POPULARITY: log_popularity(positive)})
    if log.items is None:
        return known
    own = log.items.with_columns(pl.col("item_id").cast(known.schema["item_id"])).drop(
        POPULARITY, strict=False
    )
    return known.join(own, on="item_id", how="left", maintain_order="left")


def _vectors(
    config: Config, events: Events, positive: Interactions, new_I: Bools, seed: int
) -> pl.DataFrame | None:
    """Start vectors of the items that training knows."""
    if not config.vectors:
        return None
    factors = matrix_factorization.Config(factors=config.vectors, fit="in_sample")
    nobody = Requests(np.zeros(0, np.int64), np.zeros((0, 1), np.int64), np.zeros(0, bool))
    vectors_ID = matrix_factorization.fit(factors, positive, nobody, seed).item_vectors_ID[~new_I]
    flat = list_column(pl.Series(vectors_ID.ravel()), np.full(len(vectors_ID), config.vectors))
    return pl.DataFrame({"item_id": events.items.filter(pl.Series(~new_I)), "vector": flat})


def _counts(events: Events, row_R: Ints, split_R: Ints, items_RN: Ints, new_I: Bools) -> dict[str, int]:
    truth_R, test_R = events.item_n[row_R], split_R == _place("test")
    counts = {
        "interactions": len(events.user_n),
        "users": len(events.users),
        "items": len(events.items),
        "items of the catalogue": int((~events.organic_I).sum()),
        "items of the catalogue that training never saw": int((new_I & ~events.organic_I).sum()),
        "test requests whose target training never saw": int(new_I[truth_R[test_R]].sum()),
    }
    if short := int((items_RN < 0).any(axis=1).sum()):
        counts["requests with fewer candidates: no more items to draw"] = short
    return counts
