"""Statistics of independent arms whose requests hang together by unit: means, differences, the split between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from slatewise.config import Frozen
from slatewise.evaluation.results import Values, mean_and_error

MISMATCH = 0.001  # p of the sample ratio below which an experiment is not to be trusted


class Mean(Frozen):
    """A mean with its standard error, 95 % interval, and the units behind it."""

    mean: float
    error: float
    low: float
    high: float
    units: int


class Ratio(Frozen):
    """Chi-square test of the arms' units against their shares; ``mismatch`` where p is below 0.001."""

    chi2: float
    p: float
    mismatch: bool


def mean_of(value: Values, unit: NDArray[np.int64]) -> Mean:
    """Mean of (n,) values; those of one ``unit`` (n,) are dependent."""
    mean, error, units = mean_and_error(value, unit)
    half = float(stats.t.ppf(0.975, units - 1)) * error if units > 1 else float("nan")
    return Mean(mean=mean, error=error, low=mean - half, high=mean + half, units=units)


def welch(a: Mean, b: Mean) -> tuple[float, float, float]:
    """Interval of a minus b, and p; Satterthwaite's degrees of freedom over units."""
    change, error = a.mean - b.mean, float(np.hypot(a.error, b.error))
    if not error > 0:  # nothing varies, or there is one unit alone
        return change, change, float("nan") if np.isnan(error) else float(change == 0)
    freedom = error**4 / (a.error**4 / (a.units - 1) + b.error**4 / (b.units - 1))
    half = float(stats.t.ppf(0.975, freedom)) * error
    return change - half, change + half, float(2 * stats.t.sf(abs(change) / error, freedom))


def relative_to(a: Mean, b: Mean) -> tuple[float | None, float | None, float | None]:
    """a over b minus 1 with its 95 % interval (delta method); None where b is 0."""
    if b.mean == 0:
        return None, None, None
    ratio = a.mean / b.mean
    half = float(stats.norm.ppf(0.975)) * float(np.hypot(a.error, ratio * b.error)) / abs(b.mean)
    return ratio - 1, ratio - 1 - half, ratio - 1 + half


def holm(p: Values) -> Values:
    """p-values of several tests, each right where all are looked at (Holm 1979).

    Args:
        p: (tests, ...) of each test; what stands behind the first axis is adjusted place by place.
    """
    order = np.argsort(p, axis=0, kind="stable")
    ranked = (np.take_along_axis(p, order, axis=0).T * (len(p) - np.arange(len(p)))).T
    adjusted = np.minimum(np.maximum.accumulate(ranked, axis=0), 1.0)
    return np.take_along_axis(adjusted, np.argsort(order, axis=0, kind="stable"), axis=0)


def sample_ratio(units: Sequence[int], shares: Sequence[float]) -> Ratio:
    """Chi-square test of the units of each arm against the shares that they should have."""
    expected = np.asarray(shares) * sum(units)
    test = stats.chisquare(units, expected)
    return Ratio(chi2=float(test.statistic), p=float(test.pvalue), mismatch=bool(test.pvalue < MISMATCH))
