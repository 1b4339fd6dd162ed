"""Paired comparison of two policies on the same requests, and means over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from slatewise.config import Frozen
from slatewise.errors import ConfigError
from slatewise.evaluation.results import Evaluation, Values, clusters_of, mean_and_error
from slatewise.rng import numpy_rng

__all__ = ["Comparison", "clusters_of", "combine_seeds", "compare", "paired"]

_BLOCK = 8_000_000  # resampled values held at once


class Comparison(Frozen):
    """a against b on the requests where both have a value.

    ``difference`` is a minus b with its 95 % interval ``low`` to ``high`` (bootstrap over ``units``).
    ``units`` are users where users are known, else requests: requests of one user are not independent.
    ``p_t`` is the paired t-test of the mean difference over units, ``p_wilcoxon`` the signed-rank test of
    the units' mean differences, both two-sided. ``p_sign`` is the exact sign test of wins against losses over
    requests; for values that are only 0 and 1 it is McNemar's exact test. ``wins``, ``ties`` and ``losses`` count
    requests.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    p_sign: float
    wins: int
    ties: int
    losses: int
    requests: int
    units: int


def paired(
    a: Values,
    b: Values,
    *,
    clusters: NDArray[np.int64] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> Comparison:
    """Compare two columns of values (n,), request by request.

    Args:
        a, b: values of one metric; requests where either is NaN are left out.
        clusters: (n,) the user of each request; None = every request stands for itself.
        seed: of the bootstrap.   resamples: bootstrap samples.

    Raises:
        ConfigError: the columns differ in length, or fewer than two units have both values.
    """
    if a.shape != b.shape:
        raise ConfigError(f"both policies must have ranked the same requests, got {len(a)} and {len(b)}.")
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    units = np.arange(len(a)) if clusters is None else clusters[both]
    units = np.unique(units, return_inverse=True)[1]
    count = int(units.max(initial=-1)) + 1
    if count < 2:
        raise ConfigError(f"a comparison needs at least 2 users or requests with both values, got {count}.")
    change = a - b
    low, high = _bootstrap(change, units, seed, resamples)
    return Comparison(
        mean_a=float(a.mean()), mean_b=float(b.mean()), difference=float(change.mean()), low=low, high=high,
        p_t=_t_test(change, units), p_wilcoxon=_wilcoxon(change, units), p_sign=_sign_test(change),
        wins=int((change > 0).sum()), ties=int((change == 0).sum()), losses=int((change < 0).sum()),
        requests=len(change), units=count,
    )  # fmt: skip


def compare(evaluation: Evaluation, a: str, b: str, metric: str, *, seed: int = 0) -> Comparison:
    """Compare two policies of an evaluation on one metric; users are the units."""
    clusters = clusters_of(evaluation.user)
    return paired(evaluation.value(a, metric), evaluation.value(b, metric), clusters=clusters, seed=seed)


def combine_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds; the latter is NaN for a single seed.

    Raises:
        ConfigError: there is no value.
    """
    if not len(values):
        raise ConfigError("a mean over seeds needs at least one seed.")
    column = np.asarray(values, np.float64)
    return float(column.mean()), float(column.std(ddof=1)) if len(column) > 1 else float("nan")


def _t_test(change: Values, units: NDArray[np.int64]) -> float:
    mean, error, count = mean_and_error(change, units)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, count - 1))


def _wilcoxon(change: Values, units: NDArray[np.int64]) -> float:
    mean_U = np.bincount(units, weights=change) / np.bincount(units)
    mean_U = mean_U[mean_U != 0]
    return float(stats.wilcoxon(mean_U).pvalue) if len(mean_U) else 1.0


def _sign_test(change: Values) -> float:
    wins, losses = int((change > 0).sum()), int((change < 0).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _bootstrap(change: Values, units: NDArray[np.int64], seed: int, resamples: int) -> tuple[float, float]:
    """Percentile interval of the mean difference; whole units are drawn, each with all its requests."""
    rng = numpy_rng(seed, "bootstrap")
    sum_U, size_U = np.bincount(units, weights=change), np.bincount(units).astype(np.float64)
    block = max(1, _BLOCK // len(sum_U))
    means = []
    for start in range(0, resamples, block):
        drawn = rng.integers(0, len(sum_U), (min(block, resamples - start), len(sum_U)))
        means.append(sum_U[drawn].sum(1) / size_U[drawn].sum(1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)
