"""An A/B test read from a log: what each arm brought, whether arms differ, and whether the split can be trusted.

Units (users) were assigned to arms, so units are what is independent: every error is over units, every difference is
a Welch test of two independent arms. Two means are told apart: *a request* (a ratio: all feedback over all requests)
and *a unit* (which also sees users who come back more often).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.config import Frozen
from slatewise.errors import ConfigError, DataError
from slatewise.evaluation import sequential
from slatewise.evaluation.arms import Mean, Ratio, holm, mean_of, relative_to, sample_ratio, welch
from slatewise.evaluation.results import Values
from slatewise.evaluation.sequential import Config, Walk
from slatewise.names import nearest

MEASURES = ("request", "unit")


@dataclass(frozen=True)
class Experiment:
    """The requests of an experiment, in order of time.

    Attributes:
        metric: the feedback that is counted.   unit_name: the column of the units.   arms: names, sorted.
        arm, unit: (n,) index of each request's arm and unit.   value: (n,) its feedback, summed over the list.
        left_out: requests that are not in it, by reason.   versions: model versions that served each arm.
    """

    metric: str
    unit_name: str
    arms: tuple[str, ...]
    arm: NDArray[np.int64]
    unit: NDArray[np.int64]
    value: Values
    left_out: dict[str, int]
    versions: dict[str, tuple[str, ...]]


class Arm(Frozen):
    """An arm: ``means`` a request and a unit, and its share of the units beside the one it should have."""

    arm: str
    requests: int
    units: int
    share: float
    expected_share: float
    means: dict[str, Mean]
    versions: tuple[str, ...]


class Difference(Frozen):
    """An arm minus the control, in one measure.

    ``p`` is Welch's two-sided test over units, ``p_holm`` the same where all differences of the measure are looked at
    (Holm). ``relative`` is the difference over the control's mean, its interval by the delta method; None where the
    control's mean is 0.
    """

    arm: str
    measure: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None


class Sequential(Frozen):
    """The always-valid verdict on an arm's mean a request against the control's.

    ``low`` and ``high`` cover the true difference at every look at once, ``p`` is this arm's alone. ``p_holm`` is right
    where all arms are looked at, and ``crossed`` is the request (of both arms) at which it first said that they differ,
    None: not yet. ``looks`` 0: the arms do not have their units yet.
    """

    arm: str
    difference: float | None
    low: float | None
    high: float | None
    p: float
    p_holm: float
    crossed: int | None
    looks: int


@dataclass(frozen=True)
class Verdict:
    """All that is to be said of an experiment; ``walks`` are for the picture."""

    experiment: Experiment
    control: str
    arms: list[Arm]
    differences: list[Difference]
    ratio: Ratio
    sequential: list[Sequential]
    shared_units: int
    walks: dict[str, Walk]


def read_experiment(requests: pl.DataFrame, metric: str, unit: str) -> Experiment:
    """The requests of a log (checked, canonical types) that have an arm, a unit and a list.

    Raises:
        DataError: the log has no arms, or fewer than two.   ConfigError: it has no such metric or unit.
    """
    if "arm" not in requests.columns:
        raise DataError(
            "the log has no column 'arm', so there is nothing to compare; see docs/log-schema.md."
        )
    kinds = [name.removeprefix("feedback_") for name in requests.columns if name.startswith("feedback_")]
    known("metric", metric, kinds)
    allowed = [n for n in requests.columns if n in ("user_id", "request_id") or n.startswith("context_")]
    known("unit", unit, allowed)
    reasons = {
        "without arm": pl.col("arm").is_null(),
        f"without {unit}": pl.col(unit).is_null(),
        "without exposure": pl.col("exposed").list.len().fill_null(0) == 0,
    }
    left_out: dict[str, int] = {}
    kept = requests
    for reason, wrong in reasons.items():
        before, kept = kept.height, kept.filter(~wrong)
        left_out |= {reason: before - kept.height} if kept.height < before else {}
    kept = kept.sort("timestamp", maintain_order=True)
    arm = kept["arm"].cast(pl.String)
    names = sorted(arm.unique())
    if len(names) < 2:
        raise DataError(f"an experiment needs two arms or more; the log has: {', '.join(names) or 'none'}.")
    return Experiment(
        metric=metric,
        unit_name=unit,
        arms=tuple(names),
        arm=np.searchsorted(names, arm.to_numpy()),
        unit=np.unique(kept[unit].rank("dense").to_numpy(), return_inverse=True)[1],
        value=kept[f"feedback_{metric}"].list.sum().to_numpy().astype(np.float64),
        left_out=left_out,
        versions=_versions(kept),
    )


def judge(
    experiment: Experiment,
    *,
    control: str | None = None,
    shares: Mapping[str, float] | None = None,
    config: Config | None = None,
) -> Verdict:
    """Everything about an experiment.

    Args:
        control: the arm that others are compared with; default: the one with the most requests.
        shares: of the units that each arm should have; default: equal.   config: of the sequential test.

    Raises:
        ConfigError: no such control, shares that are none, or a setting out of range.
    """
    config = config or Config()
    check_settings(experiment.arms, control, shares or {}, config)
    sizes = np.bincount(experiment.arm, minlength=len(experiment.arms))
    base = experiment.arms.index(control) if control is not None else int(sizes.argmax())
    wanted = _shares(experiment.arms, shares or {})
    units = [np.unique(experiment.unit[experiment.arm == at]) for at in range(len(experiment.arms))]
    arms = [
        _arm(experiment, at, len(units[at]), sum(map(len, units)), wanted[at]) for at in range(len(units))
    ]
    others = [at for at in range(len(arms)) if at != base]
    rows = {experiment.arms[at]: np.flatnonzero(np.isin(experiment.arm, (at, base))) for at in others}
    walks = {experiment.arms[at]: _walk(experiment, rows[experiment.arms[at]], at, config) for at in others}
    return Verdict(
        experiment=experiment,
        control=experiment.arms[base],
        arms=arms,
        differences=_differences([arms[at] for at in others], arms[base]),
        ratio=sample_ratio([len(one) for one in units], wanted),
        sequential=_verdicts(walks, rows, config),
        shared_units=int((np.unique(np.concatenate(units), return_counts=True)[1] > 1).sum()),
        walks=walks,
    )


def check_settings(
    arms: Sequence[str], control: str | None, shares: Mapping[str, float], config: Config
) -> None:
    """What :func:`judge` asks of its settings, before there is an experiment.

    Raises:
        ConfigError: no such control, shares that are none, or a setting out of range.
    """
    config.check()
    if control is not None:
        known("control", control, list(arms))
    _shares(arms, shares)


def known(what: str, name: str, allowed: list[str]) -> None:
    """Refuse a name that a log does not have.

    Raises:
        ConfigError: with the nearest of those that it has.
    """
    if name not in allowed:
        raise ConfigError(
            f"there is no {what} '{name}'.{nearest(name, allowed)} The log has: {', '.join(allowed)}."
        )


def _versions(requests: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    if "model_version" not in requests.columns:
        return {}
    pairs = (
        requests.select(pl.col("arm", "model_version").cast(pl.String)).drop_nulls().unique().sort(pl.all())
    )
    grouped = pairs.group_by("arm", maintain_order=True).agg("model_version")
    return {arm: tuple(versions) for arm, versions in grouped.iter_rows()}


def _shares(arms: Sequence[str], shares: Mapping[str, float]) -> list[float]:
    if not shares:
        return [1 / len(arms)] * len(arms)
    for name in shares:
        known("arm", name, list(arms))
    missing = [name for name in arms if name not in shares]
    if missing or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ConfigError(
            f"shares are {dict(shares)}; they must be above 0, add up to 1, and name every arm: {', '.join(arms)}."
        )
    return [shares[name] for name in arms]


def _arm(experiment: Experiment, at: int, units: int, all_units: int, wanted: float) -> Arm:
    mine = experiment.arm == at
    value, unit = experiment.value[mine], np.unique(experiment.unit[mine], return_inverse=True)[1]
    total_U = np.bincount(unit, weights=value).astype(np.float64)
    name = experiment.arms[at]
    return Arm(
        arm=name,
        requests=len(value),
        units=units,
        share=units / all_units,
        expected_share=wanted,
        means={
            "request": mean_of(value, unit),
            "unit": mean_of(total_U, np.arange(len(total_U), dtype=np.int64)),
        },
        versions=experiment.versions.get(name, ()),
    )


def _differences(others: Sequence[Arm], control: Arm) -> list[Difference]:
    found = []
    for measure in MEASURES:
        base = control.means[measure]
        tests = [welch(arm.means[measure], base) for arm in others]
        adjusted = holm(np.array([p for *_, p in tests])).tolist()
        for arm, (low, high, p), p_holm in zip(others, tests, adjusted, strict=True):
            mean = arm.means[measure]
            relative, relative_low, relative_high = relative_to(mean, base)
            found.append(Difference(
                arm=arm.arm, measure=measure, difference=mean.mean - base.mean, low=low, high=high, p=p,
                p_holm=p_holm, relative=relative, relative_low=relative_low, relative_high=relative_high,
            ))  # fmt: skip
    return found


def _walk(experiment: Experiment, rows: NDArray[np.int64], at: int, config: Config) -> Walk:
    return sequential.walk(experiment.value[rows], experiment.unit[rows], experiment.arm[rows] == at, config)


def _verdicts(
    walks: Mapping[str, Walk], rows: Mapping[str, NDArray[np.int64]], config: Config
) -> list[Sequential]:
    """``rows``: of each arm, the requests of the experiment that are its own or the control's."""
    requests = max(int(own[-1]) + 1 for own in rows.values())
    p_AT = np.ones((len(walks), requests))
    for own_T, (arm, walk) in zip(p_AT, walks.items(), strict=True):
        own_T[rows[arm][walk.request_T - 1]] = walk.p_T
    holm_AT = holm(np.minimum.accumulate(p_AT, axis=1))
    return [
        _verdict(arm, walk, rows[arm], holm_T, config)
        for (arm, walk), holm_T in zip(walks.items(), holm_AT, strict=True)
    ]


def _verdict(arm: str, walk: Walk, rows: NDArray[np.int64], holm_T: Values, config: Config) -> Sequential:
    if not len(walk.p_T):
        return Sequential(
            arm=arm, difference=None, low=None, high=None, p=1.0, p_holm=1.0, crossed=None, looks=0
        )
    crossed = np.flatnonzero(holm_T < config.alpha)  # another arm's request may be what tells this one apart
    last, half = float(walk.difference_T[-1]), float(walk.half_T[-1])
    return Sequential(
        arm=arm,
        difference=last,
        low=last - half,
        high=last + half,
        p=float(walk.p_T[-1]),
        p_holm=float(holm_T[-1]),
        crossed=int(np.searchsorted(rows, crossed[0], side="right")) if len(crossed) else None,
        looks=len(walk.p_T),
    )
