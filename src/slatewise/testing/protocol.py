"""The laws of protocols (see ``slatewise/protocols``)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import polars as pl

from slatewise.data.check import examine
from slatewise.data.log import Lists, Log
from slatewise.data.log_faults import errors
from slatewise.data.prepared import SPLITS
from slatewise.testing.laws import LawBroken, find, require, settings


def check_protocol(name: str | ModuleType, log: Log, **options: Any) -> None:
    """A protocol cuts a log into lists that the schema allows, in time order, the same for the same seed.

    The laws: requests keep the log schema (shown items are candidates, no candidate twice, feedback aligned)
    and each has its split; every split has requests; nobody is tested on a time before his training ends; the
    target names feedback that is there; item vectors are of one width, one an item; no list is longer than
    ``length`` says unless more is known (E ≥ L); the same seed gives the same requests.

    Args:
        name: public name or module.   log: what a data set loads.   options: its config.

    Raises:
        LawBroken: a law does not hold.
    """
    called, module = find("protocols", name, "build")
    config = settings(module, options, called)
    lists: Lists = module.build(config, log, 1)
    requests = lists.requests
    _, faults = examine(requests.drop("split"), ranking=False, examples=1)
    for fault in errors(faults):
        raise LawBroken(f"{called}: {fault.sentence}")
    _splits(called, requests)
    kinds = {
        column.removeprefix("feedback_") for column in requests.columns if column.startswith("feedback_")
    }
    require(
        bool(lists.target) and set(lists.target) <= kinds,
        f"{called}: the target names feedback that is not there.",
    )
    widest = requests.select(pl.col("candidates").list.len().max()).item()
    require(1 <= lists.length <= widest, f"{called}: length is {lists.length}.")
    if not {"user_id", "timestamp"} <= set(requests.columns):
        return
    last = (
        requests.filter(pl.col("split") == "train")
        .group_by("user_id")
        .agg(pl.col("timestamp").max().alias("end"))
    )
    later = requests.filter(pl.col("split") != "train").join(last, on="user_id")
    early = later.filter(pl.col("timestamp") < pl.col("end")).height
    require(
        early == 0,
        f"{called}: {early} requests to test or validate on are older than their user's training data.",
    )
