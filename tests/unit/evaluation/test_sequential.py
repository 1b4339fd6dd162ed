"""The always-valid test: its running sums against the plain computation, its error rate on A/A, its power."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slatewise.errors import ConfigError
from slatewise.evaluation.results import mean_and_error
from slatewise.evaluation.sequential import Config, walk

SMALL = Config(burn_in=2, planned=50)


def experiment(
    seed: int,
    users: int = 2000,
    requests: int = 10_000,
    effect: float = 0.0,
    base: float = 0.1,
    share: float = 0.5,
    money: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users of very different activity and taste, each in one arm; clicks of a list of 6, or money."""
    rng = np.random.default_rng(seed)
    activity = rng.gamma(0.7, 1, users)
    user = rng.choice(users, requests, p=activity / activity.sum())
    rate, treated = rng.beta(base * 20, (1 - base) * 20, users), rng.random(users) < share
    value = rng.binomial(6, np.clip(rate * (1 + effect * treated), 0, 1)[user]).astype(float)
    return value * rng.lognormal(1, 1, requests) if money else value, user, treated[user]  # fmt: skip


@given(st.integers(0, 1000), st.sampled_from([0.0, 1e6]))
def test_every_look_is_what_a_fresh_computation_gives(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(10, 60))
    value, user = rng.normal(size=size) + shift, rng.integers(0, 12, size)
    treated = user % 2 == 0
    path = walk(value, user, treated, SMALL)
    looks = []
    for end in range(1, size + 1):
        sides = [(value[:end][side], user[:end][side]) for side in (~treated[:end], treated[:end])]
        if min(len(np.unique(units)) for _, units in sides) < SMALL.burn_in:
            continue
        (m0, e0, _), (m1, e1, _) = (mean_and_error(*side) for side in sides)
        looks.append((end, m1 - m0, 1.959964 * np.hypot(e0, e1)))
    assert path.request_T.tolist() == [end for end, *_ in looks]
    np.testing.assert_allclose(path.difference_T, [d for _, d, _ in looks], atol=1e-8)
    np.testing.assert_allclose(path.fixed_T, [half for *_, half in looks], rtol=1e-5, atol=1e-8)


def test_interval_and_p_say_the_same_at_every_look() -> None:
    for seed in range(20):
        path = walk(*experiment(seed, 400, 3000, effect=0.4), Config(planned=500))
        assert (np.diff(path.p_T) <= 0).all()
        outside = np.abs(path.difference_T) > path.half_T
        assert (np.maximum.accumulate(outside) == (path.p_T < 0.05)).all()
        assert (path.half_T > path.fixed_T).all()


def test_the_interval_is_tightest_where_it_was_planned() -> None:
    """One request a user, so that the spread is known: of all plans, the right one gives the shortest interval."""
    rng = np.random.default_rng(0)
    value, unit = rng.normal(size=4000), np.arange(4000)
    plans = (500, 1000, 2000, 4000, 8000, 16_000)
    widths = [walk(value, unit, unit % 2 == 0, Config(planned=plan)).half_T[-1] for plan in plans]
    assert int(np.argmin(widths)) == plans.index(4000)
    assert widths[plans.index(4000)] < 1.7 * walk(value, unit, unit % 2 == 0).fixed_T[-1]


def test_what_later_data_says_changes_no_earlier_look() -> None:
    value, user, treated = experiment(1)
    whole, half = walk(value, user, treated), walk(value[:5000], user[:5000], treated[:5000])
    size = len(half.p_T)
    np.testing.assert_allclose(whole.half_T[:size], half.half_T, rtol=1e-6)
    np.testing.assert_allclose(whole.p_T[:size], half.p_T, rtol=1e-6)


def test_without_units_or_variation_there_is_no_verdict() -> None:
    ones, users = np.ones(400), np.arange(400)
    treated = users % 2 == 0
    assert len(walk(ones[:150], users[:150], treated[:150]).p_T) == 0
    assert len(walk(ones, users, np.zeros(400, bool)).p_T) == 0
    assert len(walk(ones[:0], users[:0], treated[:0]).p_T) == 0
    path = walk(ones, users, treated)
    assert (path.p_T == 1).all()
    assert np.isinf(path.half_T).all()


def test_a_burn_in_without_an_event_does_not_end_the_test() -> None:
    """What came before the first event decides nothing: neither the intervals' width nor what is found."""
    rng = np.random.default_rng(0)
    users, treated = np.arange(40_000), rng.random(40_000) < 0.5
    value = (rng.random(40_000) < np.where(treated, 0.005, 0.002)).astype(float)
    value[:400] = 0.0
    path = walk(value, users, treated)
    first = int(np.flatnonzero(value)[0]) + 1
    before = path.request_T < first
    assert before.sum() > 100
    assert np.isinf(path.half_T[before]).all()
    assert (path.p_T[before] == 1).all()
    assert np.isfinite(path.half_T[~before]).all()
    assert path.half_T[-1] < 3 * path.fixed_T[-1]
    assert path.p_T[-1] < 1e-4


def test_an_arm_without_any_event_is_told_apart() -> None:
    value, users = np.zeros(8000), np.arange(8000)
    treated = users % 2 == 0
    value[1::50] = 1.0  # of the control alone
    path = walk(value, users, treated, Config(planned=8000))
    assert path.p_T[-1] < 1e-6
    assert path.difference_T[-1] + path.half_T[-1] < 0


def shares_of_calls(count: int, **how) -> tuple[float, float]:
    """Of so many A/A experiments: how many the sequential test calls at any look, and how many a fixed one."""
    calls = []
    for seed in range(count):
        path = walk(*experiment(seed, **how), Config(planned=how.get("users", 2000)))
        calls.append((path.p_T[-1] < 0.05, (np.abs(path.difference_T) > path.fixed_T).any()))
    always, fixed = np.mean(calls, axis=0)
    return float(always), float(fixed)


def test_looking_all_the_time_at_no_difference() -> None:
    always, fixed = shares_of_calls(200, users=800, requests=4000)
    assert always <= 0.05
    assert fixed > 0.15  # what looking does to a test that is made for one look


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_rare_events_in_arms_of_any_share(share: float) -> None:
    """A thousand A/A experiments with 10 to 40 events, most of them with none in the burn-in."""
    calls = []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        treated, value = rng.random(12_000) < share, (rng.random(12_000) < 0.002).astype(float)
        path = walk(value, np.arange(12_000), treated)
        calls.append((path.p_T[-1] < 0.05, (np.abs(path.difference_T) > path.fixed_T).any()))
    always, fixed = np.mean(calls, axis=0)
    print(f"always-valid {always:.1%}, fixed {fixed:.1%}")
    assert always <= 0.05
    assert fixed > 0.2


KINDS = {
    "clicks": {},
    "money": {"money": True},
    "rare clicks": {"base": 0.01},
    "30 % in the arm": {"share": 0.3},
    "30 requests a user": {"requests": 60_000},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_false_positives_of_a_thousand_experiments(kind: str) -> None:
    always, fixed = shares_of_calls(1000, **KINDS[kind])
    print(f"{kind}: always-valid {always:.1%}, fixed {fixed:.1%}")
    assert always <= 0.05
    assert fixed > 0.2


def test_a_difference_is_found() -> None:
    found = [walk(*experiment(seed, effect=0.3), Config(planned=2000)).p_T[-1] < 0.05 for seed in range(20)]
    assert np.mean(found) >= 0.9


@pytest.mark.parametrize("change", [{"alpha": 0.0}, {"alpha": 1.0}, {"planned": 0}, {"burn_in": 1}])
def test_settings_out_of_range(change) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        walk(np.ones(3), np.arange(3), np.ones(3, bool), Config(**change))
