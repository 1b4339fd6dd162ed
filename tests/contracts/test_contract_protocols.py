"""Every protocol of the library is under the public laws, on a tiny store's log or on tiny ratings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from slatewise.candidates.retrieval import Bools, Ints
from slatewise.data.log import Log
from slatewise.names import available
from slatewise.protocols import catalogue_v1, degre_v1, log_v1
from slatewise.protocols._chunks import SPLITS
from slatewise.protocols._events import Events
from slatewise.testing import LawBroken, check_protocol
from slatewise.testing.fixtures import events_log, ratings_log, store_log

FEW = {"cut": {"core": 5}, "retriever": {"factors": 8}, "history": 12}
OPTIONS: dict[str, dict[str, Any]] = {
    "catalogue-v1": {"vectors": 8, "candidates": 12, "length": 5, "history": 12},
    "degre-v1": {"core": 5, "vectors": 8, "history": 12},
    "goalrank-v1": {**FEW, "candidates": 20},
    "matched-v1": {**FEW, "candidates": 20},
    "rated-v1": {**FEW, "candidates": 8},
    "store-v1": {"length": 4},
}


@pytest.mark.parametrize("name", available("protocols"))
def test_keeps_the_laws(name: str) -> None:
    log = ratings_log() if {"cut", "core"} & set(OPTIONS.get(name, {})) else store_log()
    check_protocol(name, log, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("log", [events_log, ratings_log])
@pytest.mark.parametrize("negatives", ["targets", "uniform"])
def test_catalogue_v1_keeps_them_on_events_and_on_ratings(log: Callable[[], Log], negatives: str) -> None:
    check_protocol("catalogue-v1", log(), **OPTIONS["catalogue-v1"], negatives=negatives)


def test_training_on_what_is_held_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(events: Events, row_R: Ints, split_R: Ints) -> Bools:
        return np.ones(len(events.user_n), dtype=bool)

    monkeypatch.setattr(catalogue_v1, "_before_held_out", everything)
    with pytest.raises(LawBroken, match="are not older than their user's first request"):
        check_protocol("catalogue-v1", events_log(), **OPTIONS["catalogue-v1"])


def test_judges_that_share_users_with_rankers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degre_v1, "_drawn_users", lambda users, share, seed: np.zeros(users, bool))
    plain = degre_v1.leave_one_out

    def shared(user_R):
        split_R = plain(user_R)
        split_R[1] = SPLITS.tolist().index("judges")
        return split_R

    monkeypatch.setattr(degre_v1, "leave_one_out", shared)
    with pytest.raises(LawBroken, match="train both rankers and judges"):
        check_protocol("degre-v1", ratings_log(), **OPTIONS["degre-v1"])


def test_the_laws_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(config: log_v1.Config, log: Log, seed: int):
        lists = plain(config, log, seed)
        object.__setattr__(lists, "requests", lists.requests.with_columns(-pl.col("timestamp")))
        return lists

    plain = log_v1.build
    monkeypatch.setattr(log_v1, "build", backwards)
    with pytest.raises(LawBroken, match="older than their user's training data"):
        check_protocol("log-v1", store_log())
