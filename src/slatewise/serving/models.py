"""A ranker that is loaded and warm: requests in, lists out, in the caller's own ids."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slatewise.data.columns import CategoryColumn
from slatewise.data.direct import Past, Row
from slatewise.data.fields import Drawn
from slatewise.errors import SlatewiseError
from slatewise.export.artifact import Artifact
from slatewise.export.backends import Backend, Served, load_backend
from slatewise.export.feed import Feed, feed_of
from slatewise.names import plugin
from slatewise.serving import combine
from slatewise.serving.features.online import OnlineFeatures, Reading
from slatewise.serving.features.reader import Reader
from slatewise.serving.moments import MICRO
from slatewise.serving.records import Id
from slatewise.serving.rules import Plan, Rule, plan_of
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
        dropped: rules that no full list can keep.
    """

    items: list[Id]
    scores: list[float] | None = None
    log_prob: float | None = None
    fallback: str | None = None
    dropped: tuple[str, ...] = ()


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

    def fallback(self, asked: Asked, why: str) -> Listed | Exception:
        """The candidates in the order of their own scores, or as they came, under the request's rules; or why not."""
        try:
            return self._fallback(asked, why)
        except SlatewiseError as error:
            return error

    def _fallback(self, asked: Asked, why: str) -> Listed:
        request, scores = asked.request, asked.request.scores
        order: Sequence[int] = range(len(request.candidates))
        if scores is not None:
            order = sorted(order, key=lambda at: -scores[at])
        length, dropped = request.length or self.longest, list[str]()
        if request.rules:
            plan, dropped = self._plan(asked, lambda: self._draw([asked]).items.features("categories")[0])
            order = plan.greedy(order)
        items = [request.candidates[at] for at in order[:length]]
        return Listed(items, fallback=why, dropped=tuple(dropped))

    def _rank(self, asked: Sequence[Asked]) -> list[Listed]:
        with self.lock:
            drawn = self._draw(asked)
            manifest = self.artifact.manifest
            feed = feed_of(drawn, manifest.inputs, manifest.limits)
            ruled = [at for at, one in enumerate(asked) if one.request.rules]
            served = None if len(ruled) == len(asked) else self.backend.rank(feed)
            own = {at: self._under_rules(asked[at], drawn, feed, at) for at in ruled}
        return [own[at] if at in own else _listed(one.request, served, at) for at, one in enumerate(asked)]

    def _under_rules(self, asked: Asked, drawn: Drawn, feed: Feed, row: int) -> Listed:
        """The list of one request of a batch under its rules."""
        request, limits = asked.request, self.artifact.manifest.limits
        plan, dropped = self._plan(asked, lambda: drawn.items.features("categories")[row])
        alone = {name: values[row : row + 1] for name, values in feed.items()}
        if not self.artifact.manifest.ruled:  # it writes no list position by position: the best by its scores
            served = self.backend.rank(alone)
            score_N = served.score_BN[0, : len(request.candidates)]
            order = plan.greedy(np.argsort(-score_N, kind="stable").tolist())
            return Listed(
                [request.candidates[at] for at in order], score_N[order].tolist(), dropped=tuple(dropped)
            )
        width = drawn.items.index.shape[1]
        rules = {
            "group_BRN": np.pad(plan.groups, ((0, 0), (0, width - plan.groups.shape[1])))[None],
            "most_BR": np.array([plan.most]),
            "window_BR": np.array([plan.window]),
        }
        while True:  # at most once a position
            allowed = plan.allowed(limits.length, width)[None]
            served = self.backend.rank_ruled(alone | rules | {"allowed_BLN": allowed})
            written = plan.repaired(served.order_BL[0, : plan.length].tolist())
            if written is not None:
                order = written
                break
        score_N, log_prob = served.score_BN[0], float(served.log_prob_B[0])
        whole = plan.length == min(limits.length, len(request.candidates))
        return Listed(
            [request.candidates[at] for at in order],
            score_N[order].tolist(),
            log_prob if whole else None,
            dropped=tuple(dropped),
        )

    def _plan(self, asked: Asked, categories: Callable[[], NDArray[Any]]) -> tuple[Plan, list[str]]:
        """``categories`` gives (N, C) those of the candidates, and is asked where a rule is about one."""
        request, count = asked.request, len(asked.request.candidates)
        groups: dict[str, Sequence[Any]] = dict(request.groups)
        if any(rule.of is not None and rule.of not in groups for rule in request.rules):
            for name, code_N in zip(self._categories, categories()[:count].T.tolist(), strict=True):
                groups.setdefault(name, [code or None for code in code_N])
        length = min(request.length or self.longest, self.longest)
        return plan_of(request.rules, request.candidates, groups, length)

    @cached_property
    def _categories(self) -> list[str]:
        """Names of the items' features that are categories, in their order."""
        columns = self.features.transform.items.features.columns
        return [column.column for column in columns if isinstance(column, CategoryColumn)]

    def _draw(self, asked: Sequence[Asked]) -> Drawn:
        given = [one.request for one in asked]
        return self.features.draw(
            [one.row for one in asked],
            [one.moment for one in asked],
            self.artifact.manifest.limits.fewest,
            given=given if any(one.user or one.items for one in given) else None,
        )

    def warm(self, sizes: Sequence[int], widest: int) -> None:
        """Rank made-up requests, a few times each: batches of every size, the widest request, and both widths under a rule."""
        most = self.artifact.manifest.limits.candidates
        usual, widest = min(self.features.transform.num_candidates, most), min(widest, most)
        plain, wide = _made_up(usual), _made_up(widest)
        ruled = [_made_up(width, Rule(pin=0, position=1)) for width in (usual, widest)]
        for batch in [*([plain] * size for size in sizes), [wide], *([one] for one in ruled)]:
            for _ in range(3):
                self._rank(batch)


def _made_up(width: int, *rules: Rule) -> Asked:
    """A request of so many candidates that nobody knows."""
    request = RankRequest(candidates=list(range(width)), rules=list(rules))
    return Asked(request, "", 0, row_of(request, 0))


def _listed(request: RankRequest, served: Served | None, row: int) -> Listed:
    assert served is not None
    order = served.order_BL[row][served.mask_BL[row]].tolist()
    chosen, log_prob = order[: request.length or len(order)], float(served.log_prob_B[row])
    # the probability is of the whole list: a shorter one has another
    whole = len(chosen) == len(order) and log_prob == log_prob
    items = [request.candidates[at] for at in chosen]
    return Listed(items, served.score_BN[row][chosen].tolist(), log_prob if whole else None)


def load_model(
    name: str,
    path: Path,
    *,
    backend: str | None = None,
    threads: int = 1,
    reader: Reader | None = None,
    sizes: Sequence[int] = (1,),
    widest: int = 1,
    rules: Mapping[str, combine.Rule] | None = None,
) -> Model:
    """Open an artifact, see that it answers its golden requests, and warm it up.

    Args:
        name: of the arm.   backend: see :func:`load_backend`.   threads: that one call computes on, for backends that
            have the setting.   reader: of the feature store.   sizes: of batches to come.   widest: request to come, in candidates.
        rules: how several events of a kind become one number in histories.

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
    model.warm(sizes, widest)
    return model
