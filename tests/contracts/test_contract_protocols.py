"""Every protocol of the library is under the public laws, on a tiny store's log or on tiny ratings."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from slatewise.data.log import Log
from slatewise.names import available
from slatewise.protocols import log_v1
from slatewise.testing import LawBroken, check_protocol
from slatewise.testing.fixtures import ratings_log, store_log

FEW = {"cut": {"core": 5}, "retriever": {"factors": 8}, "history": 12}
OPTIONS: dict[str, dict[str, Any]] = {
    "goalrank-v1": {**FEW, "candidates": 20},
    "matched-v1": {**FEW, "candidates": 20},
    "rated-v1": {**FEW, "candidates": 8},
    "store-v1": {"length": 4},
}


@pytest.mark.parametrize("name", available("protocols"))
def test_keeps_the_laws(name: str) -> None:
    log = ratings_log() if "cut" in OPTIONS.get(name, {}) else store_log()
    check_protocol(name, log, **OPTIONS.get(name, {}))


def test_the_laws_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(config: log_v1.Config, log: Log, seed: int):
        lists = plain(config, log, seed)
        object.__setattr__(lists, "requests", lists.requests.with_columns(-pl.col("timestamp")))
        return lists

    plain = log_v1.build
    monkeypatch.setattr(log_v1, "build", backwards)
    with pytest.raises(LawBroken, match="older than their user's training data"):
        check_protocol("log-v1", store_log())
