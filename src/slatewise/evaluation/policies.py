"""Floors and ceilings: the rows without a trained model that every table prints beside the rankers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.data.entities import POPULARITY
from slatewise.data.prepared import PreparedData
from slatewise.evaluation.ranking import rank_by_score, uniform_BN
from slatewise.evaluation.truth import Truth, searchable
from slatewise.types import Ranking, full_order_scores

Kind = Literal["floor", "ceiling", "ranker"]
Score = Callable[[ListBatch], Tensor]


class Policy(Protocol):
    """Anything that ranks: a floor, a ceiling, or a trained ranker."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def rank(self, batch: ListBatch) -> Ranking:
        """The list of every request of the batch, and a score of every candidate."""
        ...


@dataclass(frozen=True)
class ScorePolicy:
    """Sorts the candidates by a score (B, N), the best first."""

    name: str
    score: Score
    length: int
    kind: Kind = "floor"

    def rank(self, batch: ListBatch) -> Ranking:
        """See :func:`slatewise.evaluation.ranking.rank_by_score`."""
        return rank_by_score(self.score(batch), batch.mask_BN, self.length)


@dataclass(frozen=True)
class Optimum:
    """The list of the highest true value, where a simulator knows it. The ceiling of ``true-value``."""

    truth: Truth
    split: str
    name: str = "optimum"
    kind: Kind = "ceiling"

    def rank(self, batch: ListBatch) -> Ranking:
        """The best list; the candidates behind it in their own order."""
        return _first(self.truth.optimum(batch, self.split).order_BL, batch)


@dataclass(frozen=True)
class BestFound:
    """The best list that a search under the true value finds: near the optimum where that takes too long."""

    truth: Truth
    name: str = "best-found"
    kind: Kind = "ceiling"

    def rank(self, batch: ListBatch) -> Ranking:
        """The best list found; the candidates behind it in their own order."""
        return _first(self.truth.found(batch).order_BL, batch)


@dataclass(frozen=True)
class TrueItemSort:
    """Sorts by the true value of each item alone: the ceiling of all that looks at one item at a time."""

    truth: Truth
    name: str = "true-item-sort"
    kind: Kind = "ceiling"

    def rank(self, batch: ListBatch) -> Ranking:
        """See :meth:`slatewise.evaluation.truth.Truth.item_sort`."""
        return self.truth.item_sort(batch)


def _first(order_BL: Tensor, batch: ListBatch) -> Ranking:
    """The ranking that begins with given lists."""
    mask_BL = batch.mask_BN.gather(1, order_BL) & (
        torch.arange(order_BL.shape[1], device=order_BL.device) < batch.mask_BN.sum(1, keepdim=True)
    )
    rest_BN = torch.zeros(batch.mask_BN.shape, device=order_BL.device)
    score_BN = full_order_scores(order_BL, mask_BL, rest_BN, batch.mask_BN)
    return Ranking(order_BL * mask_BL, mask_BL, score_BN)


# every name that a floor or ceiling can have, so that a recipe can be checked before anything is trained
NAMES = (
    "random",
    "retriever",
    "inverted-retriever",
    "popularity",
    "geometry",
    "cooccurrence",
    "logged",
    "exposed-random",
    "oracle",
    "true-item-sort",
    "best-found",
    "optimum",
)


def floors_and_ceilings(
    data: PreparedData,
    split: str = "test",
    *,
    seed: int = 0,
    fitted: bool = True,
    truth: Truth | None = None,
    exact: bool = True,
) -> list[Policy]:
    """Every floor and ceiling that the data set allows, floors first.

    Args:
        data: the data set.   split: the split that will be evaluated.
        seed: of the random rows.
        fitted: also the rows that first fit something to the training split (score geometry, co-occurrence);
            they exist where unexposed candidates count as negatives, because that is what they expose.
        truth: the data's simulator, if it was built already.
        exact: False gives the best list that a search finds instead of the optimum, which a first stage's candidates, all
            of them good, make slow.
    """
    length, negatives = data.schema.length, data.manifest.unexposed_is_negative
    rows: list[Policy] = [ScorePolicy("random", _random(seed), length), *_by_features(data, length)]
    if negatives and fitted:
        rows += _fitted(data, length, seed)
    # Where only exposed candidates can be positive, knowing what was exposed is knowing most of the answer.
    if not data.manifest.second_stage:
        rows.append(ScorePolicy("logged", _logged(seed), length, "ceiling" if negatives else "floor"))
    if negatives:
        rows.append(ScorePolicy("exposed-random", _exposed_first(seed), length, "ceiling"))
    if negatives or data.schema.exposed == data.schema.candidates:
        weights = data.manifest.target_weights()
        rows.append(ScorePolicy("oracle", lambda batch: batch.label_BN(weights), length, "ceiling"))
    if truth is None and data.manifest.truth is not None:
        truth = Truth(data)
    if truth is None:
        return rows
    if not exact:
        return [*rows, TrueItemSort(truth), BestFound(truth)]
    best = [Optimum(truth, split)] if searchable(data.schema.candidates, length) else []
    return [*rows, TrueItemSort(truth), *best]


def _fitted(data: PreparedData, length: int, seed: int) -> list[Policy]:
    from slatewise.candidates import cooccurrence, geometry  # scikit-learn is slow to import

    train, rows = data.split("train"), list[Policy]()
    if geometry.score_columns(train):
        trees = geometry.fit(train, data.manifest.target_weights(), seed)
        rows.append(ScorePolicy("geometry", trees.score, length))
    return [*rows, ScorePolicy("cooccurrence", cooccurrence.fit(train).score, length)]


def _by_features(data: PreparedData, length: int) -> list[Policy]:
    schema, rows = data.schema, list[Policy]()
    if "score" in schema.candidate_numeric:
        score = schema.candidate_numeric.index("score")
        rows += [
            ScorePolicy("retriever", lambda batch: batch.candidate_numeric_BNF[:, :, score], length),
            ScorePolicy(
                "inverted-retriever", lambda batch: -batch.candidate_numeric_BNF[:, :, score], length
            ),
        ]
    if POPULARITY in schema.item_numeric:
        popularity = schema.item_numeric.index(POPULARITY)
        rows.append(ScorePolicy("popularity", lambda batch: batch.item_numeric_BNF[:, :, popularity], length))
    return rows


def _random(seed: int) -> Score:
    return lambda batch: uniform_BN(seed, batch.request_B, batch.num_candidates)


def _exposed_first(seed: int) -> Score:
    return lambda batch: batch.observed_BN() + uniform_BN(seed + 1, batch.request_B, batch.num_candidates)


def _logged(seed: int) -> Score:
    """Exposed items in shown order, the others behind them at random."""

    def score(batch: ListBatch) -> Tensor:
        width = batch.exposed_BE.shape[1]
        place_E = torch.arange(width, 0, -1, device=batch.exposed_BE.device, dtype=torch.float64)
        rest_BN = uniform_BN(seed + 2, batch.request_B, batch.num_candidates)
        return rest_BN.scatter_add(1, batch.exposed_BE, place_E * batch.exposed_mask_BE)

    return score
