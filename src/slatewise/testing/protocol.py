"""The laws of protocols (see ``slatewise/protocols``)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import polars as pl

from slatewise.data.check import examine
from slatewise.data.log import Lists, Log
from slatewise.data.log_faults import errors
from slatewise.data.prepared import JUDGES, SPLITS
from slatewise.testing.laws import LawBroken, find, require, settings


def check_protocol(name: str | ModuleType, log: Log, **options: Any) -> None:
    """A protocol cuts a log into lists that the schema allows, in time order, the same for the same seed.

    The laws: requests keep the log schema (shown items are candidates, no candidate twice, feedback aligned)
    and each has its split; every split has requests; nobody is tested on a time before his training ends, and
    nobody's requests train both rankers and judges; interactions to train on are older than their user's first request
    to validate or test on; the target names feedback that is there; item vectors are of one width, one an item; the
    length can be filled from the candidates; the same seed gives the same requests.

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
    _sequences(called, lists)
    kinds = {name.removeprefix("feedback_") for name in requests.columns if name.startswith("feedback_")}
    known = bool(lists.target) and set(lists.target) <= kinds
    require(known, f"{called}: the target names feedback that is not there.")
    widest = requests.select(pl.col("candidates").list.len().max()).item()
    require(1 <= lists.length <= widest, f"{called}: length is {lists.length}.")
    require(lists.history >= 0 and bool(lists.counts), f"{called}: history or counts are missing.")
    if lists.item_vectors is not None:
        widths = lists.item_vectors["vector"].list.len().unique()
        require(len(widths) == 1, f"{called}: item vectors have several widths.")
        require(lists.item_vectors["item_id"].is_unique().all(), f"{called}: an item has two vectors.")
    again: Lists = module.build(config, log, 1)
    require(again.requests.equals(requests), f"{called}: the same seed gives other requests.")


def _sequences(called: str, lists: Lists) -> None:
    if lists.training_interactions is None:
        return
    held = lists.requests.filter(pl.col("split").is_in(["validation", "test"]))
    first = held.group_by("user_id").agg(pl.col("timestamp").min().alias("first"))
    late = lists.training_interactions.join(first, on="user_id").filter(
        pl.col("timestamp") >= pl.col("first")
    )
    require(
        late.is_empty(),
        f"{called}: {late.height} interactions to train on are not older than their user's first request to validate or test on.",
    )


def _splits(called: str, requests: pl.DataFrame) -> None:
    require("split" in requests.columns, f"{called}: requests have no column 'split'.")
    found = set(requests["split"].unique())
    allowed = ", ".join(SPLITS)
    require(
        found - {JUDGES} == set(SPLITS), f"{called}: splits are {sorted(map(str, found))}, must be {allowed}."
    )
    if not {"user_id", "timestamp"} <= set(requests.columns):
        return
    train = requests.filter(pl.col("split") == "train")
    last = train.group_by("user_id").agg(pl.col("timestamp").max().alias("end"))
    later = requests.filter(pl.col("split") != "train").join(last, on="user_id")
    both = later.filter(pl.col("split") == JUDGES)["user_id"].n_unique()
    require(both == 0, f"{called}: {both} users train both rankers and judges.")
    early = later.filter(pl.col("timestamp") < pl.col("end")).height
    require(
        early == 0,
        f"{called}: {early} requests to test or validate on are older than their user's training data.",
    )
