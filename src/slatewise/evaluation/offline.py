"""Offline evaluation: every policy ranks the same requests, every metric gets one value a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData, Split
from slatewise.errors import ConfigError
from slatewise.evaluation import catalogue_share, true_values
from slatewise.evaluation.catalogue_share import CatalogueShare
from slatewise.evaluation.entrants import Entrant, entrants
from slatewise.evaluation.judging import Bench
from slatewise.evaluation.latency import single_latency, timed_rank
from slatewise.evaluation.ranking import check_ranking
from slatewise.evaluation.results import About, Evaluation, PolicyInfo, Values
from slatewise.evaluation.retrieval import CatalogueMetrics, is_retrieval
from slatewise.evaluation.true_values import TrueValues
from slatewise.evaluation.truth import Truth, searchable
from slatewise.metrics.named import Metric, parse
from slatewise.names import nearest, public_name
from slatewise.types import Ranking

Progress = Callable[[int, int], None]  # requests done, requests in all


class Config(Frozen):
    """Settings of :func:`evaluate`.

    ``batch_size``: requests ranked at once. ``limit``: at most so many requests, spread evenly over the
    split. ``latency``: requests timed one by one on a single thread; 0 = no timing. ``ranked``: requests
    whose rank among all lists is found, where a truth is known.
    """

    batch_size: int = 512
    limit: int | None = None
    latency: int = 40
    ranked: int = 100

    def check(self) -> None:
        """Refuse numbers that make no evaluation.

        Raises:
            ConfigError: naming the field, what came and what is allowed.
        """
        for name, least in (("batch_size", 1), ("limit", 1), ("latency", 0), ("ranked", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}, but must be at least {least}.")


class Grader(Protocol):
    """What knows a list's value: a simulator's truth, or a judge's opinion."""

    def measure(self, batch: ListBatch, rankings: dict[str, Ranking]) -> Mapping[str, Mapping[str, Tensor]]:
        """Its metrics of every policy's ranking of the batch, each (B,) float64."""
        ...


def default_metrics(data: PreparedData, judges: Sequence[Bench] = ()) -> tuple[str, ...]:
    """What a table of this data set shows.

    Metrics over all candidates need a label of each: they are left out where candidates were neither exposed
    nor negatives by the protocol. Within-exposed ones are left out where everything was exposed. Metrics of
    the true value stand in front where a simulator knows it and can find the best list, those of judges behind them, and true hits behind these.
    """
    schema, at = data.schema, data.schema.length
    everything = schema.exposed == schema.candidates
    graded = data.manifest.truth is not None and searchable(schema.candidates, at)
    names: list[str] = list(true_values.DEFAULT) if graded else []
    names += [f"hr@{top}%[{judge.name}]" for judge in judges for top in (1, 3, 10)]
    if judges:
        names.append(f"gain@{at}")
    if everything or data.manifest.unexposed_is_negative:
        listed = ("precision", "recall", "f1", "ndcg", "average-precision")
        names += [f"{name}@{at}" for name in listed] + ["auc"]
    if everything:
        names += [f"hit@{at}", f"reciprocal-rank@{at}"]
    else:
        names += [f"within-ndcg@{at}", "within-auc"]
    if data.manifest.unexposed_is_negative and not everything:
        names.append(f"exposed-share@{at}")
    return tuple(names)


def evaluate(
    policies: Sequence[Any],
    data: PreparedData,
    split: str = "test",
    *,
    metrics: Sequence[str] | None = None,
    config: Config | None = None,
    truth: Truth | None = None,
    judges: Sequence[Bench] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Grade the policies on a split.

    Args:
        policies: rankers, and anything else with ``name`` and ``rank(batch)``
            (see :func:`slatewise.evaluation.entrants.entrants`).
        data: the prepared data; its target weighs the feedback into labels.   split: which requests.
        metrics: names such as ``ndcg@6``; None = :func:`default_metrics`.
        truth: the data's simulator, if it was built already.
        judges: who grades beside the labels; their metrics are written ``hr@1%[name of the judge]``.
        progress: called after each batch.

    Raises:
        ConfigError: policies that cannot be told apart, an unknown metric, or a number that is not allowed.
        DataError: a policy's ranking is not one, or the split cannot be read or is empty.
    """
    config = config or Config()
    config.check()
    plan = _plan(default_metrics(data, judges) if metrics is None else metrics, data, judges)
    field_of, opened = entrants(policies), data.split(split)
    rows = _spread(len(opened), config.limit)
    if truth is None and data.manifest.truth is not None and (plan.true or plan.share or plan.retrieval):
        truth = Truth(data)
    graders: list[Grader] = []
    if plan.true and truth is not None:
        graders.append(TrueValues(truth, split, config.ranked))
    if plan.share and truth is not None:
        graders.append(CatalogueShare(truth))
    if plan.retrieval:
        graders.append(CatalogueMetrics(plan.retrieval, field_of, data, truth))
    run = _Run(plan, data.manifest.target_weights(), data.schema.length, [*graders, *plan.judges])
    for start in range(0, len(rows), config.batch_size):
        run.add(field_of, opened.batch(rows[start : start + config.batch_size]))
        if progress:
            progress(min(start + config.batch_size, len(rows)), len(rows))
    infos = tuple(
        _info(one, run.seconds[one.name] / len(rows), opened, rows, config.latency) for one in field_of
    )
    return Evaluation(_about(data, split, plan, infos), rows, _users(opened, rows), run.finish())


@dataclass(frozen=True)
class _Plan:
    names: tuple[str, ...]  # what was asked for, in order
    listed: tuple[Metric, ...]  # computed request by request
    pooled: tuple[Metric, ...]  # made of the former's means at the end
    true: bool
    share: bool  # of the whole catalogue's best list
    retrieval: tuple[str, ...]
    judges: tuple[Bench, ...]


def _plan(metrics: Sequence[str], data: PreparedData, judges: Sequence[Bench]) -> _Plan:
    if not metrics:
        raise ConfigError("name at least one metric, e.g. ndcg@6.")
    names = tuple(dict.fromkeys(_canonical(name) for name in metrics))
    true = [name for name in names if name in true_values.NAMES]
    share = catalogue_share.NAME in names
    known_truth = [*true, *([catalogue_share.NAME] if share else [])]
    if known_truth and data.manifest.truth is None:
        raise ConfigError(
            f"metric '{known_truth[0]}' needs data from a simulator; this data's true values are not known."
        )
    judged = [name for name in names if name.endswith("]")]
    known = [name for judge in judges for name in judge.names]
    if strange := next((name for name in judged if name not in known), None):
        allowed = ", ".join(known) or "none, there is no judge"
        raise ConfigError(
            f"unknown metric '{strange}'.{nearest(strange, known)} Judges' metrics here: {allowed}."
        )
    retrieval = tuple(name for name in names if is_retrieval(name))
    chosen = [parse(name) for name in names if name not in (*known_truth, *judged, *retrieval)]
    pooled = [metric for metric in chosen if metric.parts]
    plain = [metric for metric in chosen if not metric.parts] + [part for m in pooled for part in m.parts]
    asked = tuple(judge.asked(judged) for judge in judges if set(judge.names) & set(judged))
    listed = tuple({m.name: m for m in plain}.values())
    return _Plan(names, listed, tuple(pooled), bool(true), share, retrieval, asked)


def _canonical(name: str) -> str:
    """The name as tables have it: ``within_ndcg@6`` is ``within-ndcg@6``."""
    if name.strip().endswith("]"):  # a judge's, checked by its own names
        return name.strip()
    head, colon, options = name.strip().partition(":")
    name = public_name(head) + colon + options
    names = [*true_values.NAMES, catalogue_share.NAME]
    near = nearest(name, names)
    if near and name.startswith(("true-", "oracle-", "regret", "catalogue-s")) and name not in names:
        raise ConfigError(f"unknown metric '{name}'.{near} Allowed: {', '.join(names)}.")
    return name


def _spread(count: int, limit: int | None) -> NDArray[np.int64]:
    """Rows to use: all, or ``limit`` of them at even distances, so that no user or time is preferred."""
    if limit is None or limit >= count:
        return np.arange(count, dtype=np.int64)
    return (np.arange(limit, dtype=np.int64) * count) // limit


@dataclass
class _Run:
    """Collects values batch by batch."""

    plan: _Plan
    weights: list[float]
    length: int
    graders: Sequence[Grader]
    parts: dict[str, dict[str, list[Tensor]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, field_of: Sequence[Entrant], batch: ListBatch) -> None:
        rankings = {entrant.name: self._rank(entrant, batch) for entrant in field_of}
        label_BN, observed_BN = batch.label_BN(self.weights), batch.observed_BN()
        graded = [grader.measure(batch, rankings) for grader in self.graders]
        for name, ranking in rankings.items():
            columns = {
                m.name: m.compute(ranking, label_BN, observed_BN, batch.mask_BN) for m in self.plan.listed
            }
            for found in graded:
                columns |= found[name]
            for metric, value_B in columns.items():
                self.parts.setdefault(name, {}).setdefault(metric, []).append(value_B)

    def _rank(self, entrant: Entrant, batch: ListBatch) -> Ranking:
        ranking, seconds = timed_rank(entrant.rank, batch)
        check_ranking(entrant.name, ranking, batch.mask_BN, self.length)
        self.seconds[entrant.name] = self.seconds.get(entrant.name, 0.0) + seconds
        return ranking

    def finish(self) -> dict[str, dict[str, Values]]:
        values: dict[str, dict[str, Values]] = {}
        for policy, columns in self.parts.items():
            whole = {metric: torch.cat(parts).numpy() for metric, parts in columns.items()}
            whole |= {metric.name: pooled_values(metric, whole) for metric in self.plan.pooled}
            values[policy] = {name: whole[name] for name in self.plan.names}
        return values


def pooled_values(metric: Metric, columns: dict[str, Values]) -> Values:
    """One value a request whose mean is exactly the pooled metric, and whose spread gives its standard error.

    A pooled metric is a function f of its parts' means (F1 of mean precision and mean recall). The value of
    request i is f + ∇f · (parts of i - means): the linearisation that the delta method uses, so that
    intervals and paired tests work on it as on any other metric. NaN where a part is undefined; means are
    over the other requests.
    """
    part_PB = torch.from_numpy(np.stack([columns[part.name] for part in metric.parts]))
    defined_B = ~part_PB.isnan().any(0)
    mean_P = part_PB[:, defined_B].mean(1).requires_grad_()
    pooled = metric.pool(*mean_P)
    (slope_P,) = torch.autograd.grad(pooled, mean_P)
    value_B: Values = (pooled + slope_P @ (part_PB - mean_P[:, None])).detach().numpy()
    return value_B


def _about(data: PreparedData, split: str, plan: _Plan, infos: tuple[PolicyInfo, ...]) -> About:
    manifest = data.manifest
    return About(
        data=manifest.name,
        protocol=manifest.protocol,
        fingerprint=manifest.fingerprint,
        split=split,
        metrics=plan.names,
        policies=infos,
    )


def _users(split: Split, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(split.columns["user"])[rows].astype(np.int64)


def _info(
    entrant: Entrant, seconds: float, split: Split, rows: NDArray[np.int64], latency: int
) -> PolicyInfo:
    timed = [split.batch(np.array([row])) for row in rows[_spread(len(rows), latency)]] if latency else []
    return PolicyInfo(
        name=entrant.name,
        group=entrant.group,
        kind=entrant.kind,
        ms_single=single_latency(entrant.rank, timed) if timed else None,
        ms_batch=1000 * seconds,
        paper=entrant.paper,
    )
