"""An always-valid test of the difference between two arms: look as often as you like, stop when you like.

With a fixed test every further look is another chance to be wrong; a user who stops at the first p below 0.05 is wrong
far more often than once in twenty. A mixture sequential probability ratio test is not, at any number of looks.

Source: the mixture SPRT and its always-valid p-values are those of Johari, Pekelis and Walsh, "Always Valid Inference:
Continuous Monitoring of A/B Tests" (Operations Research 70, 2022), after Robbins (1970); with estimated variances its
confidence sequence is Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas's asymptotic one, "Time-uniform central limit
theory and asymptotic confidence sequences" (Annals of Statistics 52, 2024), eq. (4), and ``planned`` is their tuning.

Requests of one unit are dependent, so the variance is that of a ratio over units (Liang and Zeger 1986), kept up with
every request, and never below that of the arms taken together: an arm with few events knows too little of its own
spread, least of all where it has had none. A unit's later requests resemble its earlier ones; that makes the difference's path rougher at no time than
a Brownian motion with the same variances (its correlations over time are higher), so the test only becomes more careful.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slatewise.config import Frozen
from slatewise.errors import ConfigError
from slatewise.evaluation.results import Values

Ints = NDArray[np.int64]
ROUNDING = 1e-12  # of sums of squares: a spread below it is none


class Config(Frozen):
    """Settings; to be chosen before the experiment, and kept while it runs.

    Attributes:
        alpha: chance of ever calling a difference that is none.
        planned: units of both arms at which the intervals are to be tightest.
        burn_in: units that each arm must have before the first look: below, means are not normal.
    """

    alpha: float = 0.05
    planned: int = 10_000
    burn_in: int = 100

    def check(self) -> None:
        """Refuse numbers out of range.

        Raises:
            ConfigError: naming the setting.
        """
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha is {self.alpha}, but must be between 0 and 1.")
        for name, least in (("planned", 1), ("burn_in", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be {least} or more.")


@dataclass(frozen=True)
class Walk:
    """What every look would have seen; T looks, the first as soon as both arms have their units.

    Until the metric has varied nothing is known: ``half_T`` is infinite and ``p_T`` is 1.

    Attributes:
        request_T: how many requests of both arms there were.
        difference_T: treatment minus control, in the metric's mean a request.
        half_T: half the width of the confidence sequence, which covers the true difference at all looks at once.
        fixed_T: half the width of the interval that is right for one look only.
        p_T: always-valid p-value, never rising.
    """

    request_T: Ints
    difference_T: Values
    half_T: Values
    fixed_T: Values
    p_T: Values


def walk(value: Values, unit: Ints, treated: NDArray[np.bool_], config: Config | None = None) -> Walk:
    """Look after every request.

    Args:
        value: (n,) the metric of each request of two arms, in order of time.   unit: (n,) its unit.
        treated: (n,) True where the request is of the treatment.

    Raises:
        ConfigError: a setting is out of range.
    """
    config = config or Config()
    config.check()
    centre = float(value.mean()) if len(value) else 0.0  # for the sums' precision alone
    arms = [_running(value[side] - centre, unit[side]) for side in (~treated, treated)]
    seen = [np.cumsum(side, dtype=np.int64) for side in (~treated, treated)]
    first = _first_look(arms, seen, config.burn_in)
    look_T = np.arange(first, len(value))
    control, treatment = (arm.at(so_far[first:] - 1) for arm, so_far in zip(arms, seen, strict=True))
    return _looked(look_T + 1, control, treatment, config)


@dataclass(frozen=True)
class _Arm:
    """An arm after each of its requests: mean a request, the mean's variance, units so far."""

    mean: Values
    variance: Values
    units: Ints

    def at(self, rows: Ints) -> _Arm:
        return _Arm(self.mean[rows], self.variance[rows], self.units[rows])


def _running(value: Values, unit: Ints) -> _Arm:
    """Sums over units of S², S·N and N², kept up: S is a unit's sum so far and N its number of requests."""
    sum_T, count_T = _before(value, unit)
    total, requests = value.cumsum(), np.arange(1, len(value) + 1)
    squares = (2 * sum_T * value + value**2).cumsum()
    products = (sum_T + (count_T + 1) * value).cumsum()
    counts = (2 * count_T + 1).cumsum()
    units = (count_T == 0).cumsum()
    mean = total / requests
    scale = squares + mean**2 * counts
    spread = scale - 2 * mean * products
    spread = np.where(spread > ROUNDING * scale, spread, 0.0)
    return _Arm(mean, spread / requests**2 * units / np.maximum(units - 1, 1), units)


def _before(value: Values, unit: Ints) -> tuple[Values, Ints]:
    """Sum and number of each request's unit's earlier values."""
    order = np.argsort(unit, kind="stable")
    new = np.diff(unit[order], prepend=np.nan) != 0
    start = np.flatnonzero(new)
    size = np.diff(np.append(start, len(unit)))
    running = np.concatenate([[0.0], value[order].cumsum()])
    sums, counts = np.empty(len(unit)), np.empty(len(unit), np.int64)
    sums[order] = running[:-1] - np.repeat(running[start], size)
    counts[order] = np.arange(len(unit)) - np.repeat(start, size)
    return sums, counts


def _first_look(arms: list[_Arm], seen: list[Ints], burn_in: int) -> int:
    """Row of the first request after which both arms have their units; behind the end where they never have."""
    ready = []
    for arm, so_far in zip(arms, seen, strict=True):
        enough = np.searchsorted(arm.units, burn_in)  # the arm's own request that brings the last unit
        ready.append(int(np.searchsorted(so_far, enough + 1)))
    return max(ready)


def _looked(request_T: Ints, control: _Arm, treatment: _Arm, config: Config) -> Walk:
    difference_T, own_T = treatment.mean - control.mean, treatment.variance + control.variance
    unit_T = control.units + treatment.units
    variance_T = np.maximum(own_T, _pooled(control, treatment))
    flat = variance_T == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mixing = _mixing(variance_T * unit_T, config)
        both_T = variance_T + mixing
        log_ratio_T = 0.5 * np.log(variance_T / both_T) + mixing * difference_T**2 / (2 * variance_T * both_T)
        half_T = np.sqrt(variance_T * both_T / mixing * np.log(both_T / (variance_T * config.alpha**2)))
    log_ratio_T, half_T = np.where(flat, 0.0, log_ratio_T), np.where(flat, np.inf, half_T)
    p_T = np.minimum.accumulate(np.exp(-np.maximum(log_ratio_T, 0.0)))
    fixed_T = _quantile(config.alpha) * np.sqrt(own_T)
    return Walk(request_T, difference_T, half_T, fixed_T, p_T)


def _pooled(control: _Arm, treatment: _Arm) -> Values:
    """The difference's variance if units of both arms spread alike."""
    per_unit = control.variance * control.units**2 + treatment.variance * treatment.units**2
    return per_unit / (control.units * treatment.units)


def _mixing(per_unit_T: Values, config: Config) -> float:
    """Variance of the mixture over effects: fixed at the first look that saw any, so that later data cannot choose it."""
    seen = per_unit_T[per_unit_T > 0]
    level = -2 * np.log(config.alpha)
    return float(seen[0]) / config.planned * float(level + np.log(1 + level)) if len(seen) else 0.0


def _quantile(alpha: float) -> float:
    from scipy import stats

    return float(stats.norm.isf(alpha / 2))
