"""A ranker that is loaded and warm: requests in, lists out, in the caller's own ids."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slatewise.data.direct import Past, Row
from slatewise.data.fields import Drawn
from slatewise.export.artifact import Artifact
from slatewise.export.backends import Backend, load_backend
from slatewise.export.feed import feed_of
from slatewise.names import plugin
from slatewise.serving.combine import Rule
from slatewise.serving.features.online import OnlineFeatures, Reading
from slatewise.serving.features.reader import Reader
from slatewise.serving.moments import MICRO
from slatewise.serving.records import Id
from slatewise.serving.wire import RankRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that passed its checks, ready to be ranked.

    Attributes:
        request_id: the caller's or the server's.   moment: microseconds since 1970.
    """

    request: RankRequest
    request_id: str
    moment: int
    row: Row


@dataclass(frozen=True, slots=True)
class Listed:
    """The list of one request.

    Attributes:
        scores: of the items at the first position.   log_prob: of the list in nats; None where it has none.
        fallback: why it is the candidates' own order; None: the ranker wrote it.
    """

    items: list[Id]
    scores: list[float] | None = None
    log_prob: float | None = None
    fallback: str | None = None


def row_of(request: RankRequest, moment: int) -> Row:
    """A request as the feature transform reads it."""
    past = None
    if request.history is not None:
        past = Past(request.history, request.history_feedback or (), request.history_timestamp or ())
    return Row(
        candidates=request.candidates,
        scores=request.scores,
        features=request.features,
        user=request.user_id,
        time=moment // MICRO,
        context=request.context,
        past=past,
    )


def fallback(request: RankRequest, longest: int, why: str) -> Listed:
    """The candidates in the order of their own scores, or as they came."""
    length = min(request.length or longest, longest)
    items: Sequence[Id] = request.candidates
    if request.scores is not None:
        order = sorted(range(len(items)), key=lambda at: -request.scores[at])  # type: ignore[index]
        items = [items[at] for at in order]
    return Listed(list(items[:length]), fallback=why)


@dataclass
class Model:
    """One ranker of a server. :meth:`rank` is called by one thread at a time.

    Attributes:
        name: of the arm.   artifact: what it was loaded from.
    """

    name: str
    artifact: Artifact
    backend: Backend
    features: OnlineFeatures
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def version(self) -> str:
        """The name of what ranks: method, and a digest of config and weights."""
        return self.artifact.manifest.model

    @property
    def longest(self) -> int:
        """L, the longest list that it writes."""
        return self.artifact.manifest.limits.length

    def rank(self, asked: Sequence[Asked]) -> list[Listed | Exception]:
        """The list of each request, or why it has none; what one request has wrong does not touch the others."""
        try:
            return list(self._rank(asked))
        except Exception as error:  # whatever it is, it is that of one request
            if len(asked) == 1:
                return [error]
            return [answer for one in asked for answer in self.rank([one])]

    def _rank(self, asked: Sequence[Asked]) -> list[Listed]:
        with self.lock:
            drawn = self._draw(asked)
            manifest = self.artifact.manifest
            served = self.backend.rank(feed_of(drawn, manifest.inputs, manifest.limits))
        orders, counts = served.order_BL.tolist(), served.mask_BL.sum(axis=1).tolist()
        return [
            _listed(one.request, order[:count], score_N, log_prob)
            for one, order, count, score_N, log_prob in zip(
                asked, orders, counts, served.score_BN, served.log_prob_B.tolist(), strict=True
            )
        ]

    def _draw(self, asked: Sequence[Asked]) -> Drawn:
        given = [one.request for one in asked]
        return self.features.draw(
            [one.row for one in asked],
            [one.moment for one in asked],
            self.artifact.manifest.limits.fewest,
            given=given if any(one.user or one.items for one in given) else None,
        )

    def warm(self, sizes: Sequence[int]) -> float:
        """Rank made-up requests of every batch size, and give the seconds that a lone one takes."""
        lone = 0.0
        width = self.features.transform.num_candidates
        for size in sorted(sizes, reverse=True):
            request = RankRequest(
                candidates=list(range(min(width, self.artifact.manifest.limits.candidates)))
            )
            asked = [Asked(request, "", 0, row_of(request, 0))] * size
            for _ in range(3):
                started = time.perf_counter()
                self._rank(asked)
                lone = time.perf_counter() - started
        return lone


def _listed(request: RankRequest, order: list[int], score_N: Any, log_prob: float) -> Listed:
    length = request.length or len(order)
    chosen = order[:length]
    # the probability is of the whole list: a shorter one has another
    whole = len(chosen) == len(order) and not np.isnan(log_prob)
    return Listed(
        [request.candidates[at] for at in chosen], score_N[chosen].tolist(), log_prob if whole else None
    )


def load_model(
    name: str,
    path: Path,
    *,
    backend: str | None = None,
    threads: int = 1,
    reader: Reader | None = None,
    rules: Mapping[str, Rule] | None = None,
    sizes: Sequence[int] = (1,),
) -> Model:
    """Open an artifact, see that it answers its golden requests, and warm it up.

    Args:
        name: of the arm.   backend: see :func:`load_backend`.   threads: that one call computes on, where the backend says so itself.   reader: of the feature store.
        rules: how several events of a kind are combined in histories.   sizes: of batches to come.

    Raises:
        ConfigError, RunError: as :func:`load_backend`.
    """
    artifact = Artifact.open(path)
    manifest = artifact.manifest
    named = backend or manifest.backends[0].backend
    fields = plugin("export.backends", named).Config.__struct_fields__
    options = {"threads": threads} if "threads" in fields else {}
    reading = Reading(manifest.target, manifest.positive_history, rules or {})
    model = Model(
        name,
        artifact,
        load_backend(artifact, backend, options),
        OnlineFeatures(reader, artifact.transform, reading),
    )
    model.warm(sizes)
    return model
