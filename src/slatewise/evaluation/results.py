"""What an evaluation leaves behind: one value a request, metric and policy; tables are made from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

from slatewise.config import Frozen, replace
from slatewise.errors import ConfigError, DataError
from slatewise.files import new_file
from slatewise.names import nearest, public_name

Values = NDArray[np.float64]


class PolicyInfo(Frozen):
    """A row's policy.

    ``group``: runs of one group are seeds of one method and share a row. ``kind``: floor, ceiling or ranker.
    ``ms_single``: median milliseconds a request at batch 1 on one thread (None: not measured). ``ms_batch``:
    milliseconds a request in the evaluation's batches. ``paper``: the paper's numbers, if known.
    """

    name: str
    group: str
    kind: str
    ms_single: float | None = None
    ms_batch: float | None = None
    paper: dict[str, float] | None = None


class Row(Frozen):
    """A row of a table: one policy, or several seeds of one method.

    ``low`` and ``high``: 95 % interval of each mean over requests, requests of one user counted as
    dependent. ``std``: standard deviation over seeds (None for one seed). ``counts``: requests for which a
    metric is defined.
    """

    policy: str
    kind: str
    metrics: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    counts: dict[str, int]
    requests: int
    seeds: int
    std: dict[str, float] | None = None
    paper: dict[str, float] | None = None
    ms_single: float | None = None
    ms_batch: float | None = None


class About(Frozen):
    """Where the values come from."""

    data: str
    protocol: str
    fingerprint: str
    split: str
    metrics: tuple[str, ...]
    policies: tuple[PolicyInfo, ...]
    format: int = 1


@dataclass(frozen=True)
class Evaluation:
    """Values of every metric for every policy and request.

    Attributes:
        about: data set, split, metrics, policies.
        request: (n,) row of each request in its split.   user: (n,) its user's index, 0 = unknown.
        values: policy, then metric, then (n,) float64; NaN where the metric is undefined.
    """

    about: About
    request: NDArray[np.int64]
    user: NDArray[np.int64]
    values: dict[str, dict[str, Values]]

    def value(self, policy: str, metric: str) -> Values:
        """(n,) values of one metric.

        Raises:
            ConfigError: there is no such policy or metric; names what there is.
        """
        metric = public_name(metric)
        if policy not in self.values:
            raise ConfigError(f"there is no policy '{policy}'.{_there(policy, list(self.values))}")
        if metric not in self.values[policy]:
            raise ConfigError(f"'{metric}' was not measured.{_there(metric, list(self.about.metrics))}")
        return self.values[policy][metric]

    def table(self) -> list[Row]:
        """One row a group of policies, in the order in which they were evaluated."""
        groups: dict[str, list[PolicyInfo]] = {}
        for policy in self.about.policies:
            groups.setdefault(policy.group, []).append(policy)
        clusters = clusters_of(self.user)
        return [self._row(name, members, clusters) for name, members in groups.items()]

    def _row(self, name: str, members: list[PolicyInfo], clusters: NDArray[np.int64]) -> Row:
        columns = {m: np.stack([self.values[p.name][m] for p in members]) for m in self.about.metrics}
        estimates = {m: estimate(column.mean(axis=0), clusters) for m, column in columns.items()}
        return Row(
            policy=name,
            kind=members[0].kind,
            metrics={m: e.mean for m, e in estimates.items()},
            low={m: e.low for m, e in estimates.items()},
            high={m: e.high for m, e in estimates.items()},
            counts={m: e.count for m, e in estimates.items()},
            requests=len(self.request),
            seeds=len(members),
            std={m: _std_over_seeds(column) for m, column in columns.items()} if len(members) > 1 else None,
            paper=members[0].paper,
            ms_single=_mean([p.ms_single for p in members]),
            ms_batch=_mean([p.ms_batch for p in members]),
        )

    def save(self, path: Path) -> None:
        """Write as one Arrow file, all or nothing."""
        columns: dict[str, NDArray[np.generic]] = {"request": self.request, "user": self.user}
        for policy, metrics in self.values.items():
            columns |= {f"{policy}\n{metric}": column for metric, column in metrics.items()}
        table = pa.table({name: pa.array(column) for name, column in columns.items()})
        table = table.replace_schema_metadata({b"slatewise": msgspec.json.encode(self.about)})
        with (
            new_file(path) as partial,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing, damaged, or something else.
        """
        try:
            with pa.OSFile(str(path), "rb") as source:
                table = pa.ipc.open_file(source).read_all()
            about = msgspec.json.decode((table.schema.metadata or {})[b"slatewise"], type=About)
            column = {name: table[name].to_numpy() for name in table.schema.names}
            values = {p.name: {m: column[f"{p.name}\n{m}"] for m in about.metrics} for p in about.policies}
            return cls(about, column["request"], column["user"], values)
        except (OSError, KeyError, pa.ArrowException, msgspec.MsgspecError) as error:
            raise DataError(f"{path} cannot be read as the values of an evaluation: {error}.") from None


def joined(parts: Sequence[Evaluation]) -> Evaluation:
    """Several evaluations of the same requests by the same metrics as one; the first says what the data is."""
    first = parts[0]
    policies = tuple(policy for part in parts for policy in part.about.policies)
    values = {name: metrics for part in parts for name, metrics in part.values.items()}
    about = replace(first.about, policies=policies)
    return Evaluation(about, first.request, first.user, values)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval and the number of requests that have a value."""

    mean: float
    low: float
    high: float
    count: int


def clusters_of(user: NDArray[np.int64]) -> NDArray[np.int64]:
    """A cluster for each request: its user; unknown users are clusters of their own."""
    unknown = np.flatnonzero(user == 0)
    cluster = user.astype(np.int64).copy()
    cluster[unknown] = -1 - unknown
    return np.unique(cluster, return_inverse=True)[1].astype(np.int64)


def mean_and_error(value: Values, clusters: NDArray[np.int64]) -> tuple[float, float, int]:
    """Mean, its standard error with dependent values inside a cluster, and how many clusters; no NaN inside.

    With one value a cluster this is the usual standard error (Liang and Zeger 1986, with C / (C - 1)).
    """
    mean = float(value.mean())
    sums = np.bincount(np.unique(clusters, return_inverse=True)[1], weights=value - mean)
    count = len(sums)
    spread = float(np.sqrt((sums**2).sum() * count / max(count - 1, 1))) / len(value)
    return mean, spread if count > 1 else float("nan"), count


def estimate(value: Values, clusters: NDArray[np.int64]) -> Estimate:
    """Mean of the defined values with a 95 % interval (Student's t over clusters)."""
    defined = ~np.isnan(value)
    if not defined.any():
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    mean, error, count = mean_and_error(value[defined], clusters[defined])
    half = float(stats.t.ppf(0.975, count - 1)) * error if count > 1 else float("nan")
    return Estimate(mean, mean - half, mean + half, int(defined.sum()))


def _std_over_seeds(column: Values) -> float:
    defined = ~np.isnan(column).any(axis=0)
    return float(column[:, defined].mean(axis=1).std(ddof=1)) if defined.any() else float("nan")


def _mean(numbers: list[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None


def _there(name: str, allowed: list[str]) -> str:
    return f"{nearest(name, allowed)} There is: {', '.join(allowed)}."
