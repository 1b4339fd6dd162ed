"""Candidates from the whole catalogue: a step between a protocol and prepared data, in which a trained model retrieves.

Every request gets N candidates with scores from a *first stage* that was trained before; what a list ranker then learns is
the second stage. The batches that the first stage is asked with are made by its own transform, and histories as
``prepare`` makes them: nothing of the request's own moment or later is in them. An item is offered only from its
``available_from`` on, where the items table says so.

* A request up to the end of what the first stage learnt from is left out and counted: its candidates and scores would be
  those of fitted data, and a ranker that learnt to trust them would be misled.
* A training request keeps the items that were shown, which are what its feedback is of, beside the best others; so does
  one that judges learn from.
* A request to validate or test on has what was retrieved, and nothing else: that is what the second stage will be given.
  A shown item that was not found is no candidate, and its feedback is gone, as it would be for whoever ranks; nothing may
  be left of what was shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.data.clock import seconds
from slatewise.data.features import FeatureTransform
from slatewise.data.history import exposure_interactions
from slatewise.data.log import Lists
from slatewise.data.ragged import ragged
from slatewise.data.schema import Manifest
from slatewise.errors import ConfigError, DataError
from slatewise.types import Retrieved

HELD_OUT = ("validation", "test")

Progress = Callable[[int, int], None]  # requests done, requests in all; each is handled twice


@dataclass(frozen=True)
class FirstStage:
    """A trained model as this step sees it (rankers live above this room, so whoever calls makes one of his).

    Attributes:
        name: what error sentences call it.   method: its method.
        manifest: of the data it was trained on.   transform: that data's, by which its batches are made.
        find: batch and number to the best items of its catalogue.   score: batch to its final scores (B, N).
        facts: what a manifest's ``source`` says of it.
    """

    name: str
    method: str
    manifest: Manifest
    transform: FeatureTransform
    find: Callable[[ListBatch, int], Retrieved]
    score: Callable[[ListBatch], Tensor]
    facts: dict[str, Any]

    def check(self, dataset: str, protocol: str) -> None:
        """Refuse a stage that cannot know this data's items, or reads its histories otherwise.

        Raises:
            DataError: it was trained on other data, under another protocol, or nobody knows until when.
        """
        mine = self.manifest
        if mine.name != dataset:
            raise DataError(
                f"{self.name} was trained on the data set {mine.name}, so it does not know the items of {dataset}; name a "
                f"run that was trained on {dataset}."
            )
        if base_protocol(mine) != protocol:
            raise DataError(
                f"{self.name} was trained under the protocol {base_protocol(mine)}, whose histories may show other feedback "
                f"than those of {protocol}; prepare both under one protocol."
            )
        if not mine.trained_until:
            raise DataError(
                f"{self.name} does not say until when it learnt (its data has no times, or is of an older version), so nobody "
                "can tell which requests it has not seen; prepare its data again and train it on that."
            )


def base_protocol(manifest: Manifest) -> str:
    """The protocol that cut the lists, whoever found their candidates (see :func:`described`)."""
    return manifest.protocol.partition(",")[0]


def described(protocol: str, stage: FirstStage) -> str:
    """What tables call the protocol of a second stage's data."""
    return f"{protocol}, candidates from {stage.method}"


def retrieve_candidates(
    lists: Lists, stage: FirstStage, count: int, seed: int, progress: Progress | None = None
) -> Lists:
    """The lists with ``count`` candidates a request from the stage's catalogue, and its scores of them.

    Args:
        lists: what a protocol handed over.   count: N.   seed: of the order in which candidates stand.

    Raises:
        DataError: no times, another simulated world, nothing left to train or test on, or a retrieved item that the
            data set does not have.
        ConfigError: ``count`` is below the list's length, or what a training request shows does not fit into it.
    """
    from slatewise.protocols._retrieval import Retrieval

    counts = dict(lists.counts)
    lists = replace(_with_interactions(lists), requests=_later(lists, stage, counts), counts=counts)
    _check_count(lists, count)
    requests = Retrieval(lists, stage, progress).requests(count, seed, counts)
    return replace(lists, requests=requests)


def _with_interactions(lists: Lists) -> Lists:
    """Histories and sequences are of all requests, those that are left out included."""
    if lists.interactions is not None:
        return lists
    training = lists.training_interactions
    if training is None:
        training = exposure_interactions(lists.requests.filter(split="train"), lists.target)
    done = exposure_interactions(lists.requests, lists.target)
    return replace(lists, interactions=done, training_interactions=training)


def _later(lists: Lists, stage: FirstStage, counts: dict[str, int]) -> pl.DataFrame:
    """The requests after what the stage learnt from."""
    requests, until = lists.requests, stage.manifest.trained_until
    if lists.truth != stage.manifest.truth:
        raise DataError(
            f"{stage.name} was trained on another simulated store than this one; give the data set the same options."
        )
    later_R = pl.Series(seconds(requests["timestamp"]) > until)
    left_out = requests.filter(~later_R)["split"].value_counts().sort("split")
    for split, number in left_out.iter_rows():
        counts[f"{split} requests left out: the first stage learnt until then"] = number
    later = requests.filter(later_R)
    for split in ("train", *HELD_OUT):
        if (number := requests.filter(split=split).height) and later.filter(split=split).is_empty():
            raise DataError(
                f"{stage.name} learnt from what happened up to {until} (seconds since 1970), and all {number:,} {split} requests "
                "are as old; prepare its data so that it ends earlier, e.g. with --protocol log-v1 --set test_share=0.5, and "
                "train it on that."
            )
    return later


def _check_count(lists: Lists, count: int) -> None:
    train = lists.requests.filter(~pl.col("split").is_in(HELD_OUT))
    widest = max(lists.length, ragged(train["exposed"]).width)
    if count < widest:
        raise ConfigError(
            f"candidates is {count}, but must be at least {widest}: lists have {lists.length} items, and a training request "
            "keeps all that it showed."
        )
