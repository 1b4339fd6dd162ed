"""Paired comparison: agreement with scipy where units are requests, honest where users repeat."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slatewise.errors import ConfigError
from slatewise.evaluation.compare import combine_seeds, paired


def two(seed: int = 0, shift: float = 0.1, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=count)
    return base + shift + 0.5 * rng.normal(size=count), base


def test_without_users_it_is_scipys_test() -> None:
    a, b = two()
    found = paired(a, b)
    assert found.p_t == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert found.difference == pytest.approx((a - b).mean())
    half = 1.96 * (a - b).std(ddof=1) / np.sqrt(len(a))
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert found.wins + found.ties + found.losses == found.requests == found.units == 200


def test_the_other_way_round_is_the_opposite() -> None:
    a, b = two()
    one, other = paired(a, b), paired(b, a)
    assert one.difference == -other.difference
    assert (one.wins, one.losses) == (other.losses, other.wins)
    assert one.p_t == pytest.approx(other.p_t)


def test_repeating_each_users_requests_adds_no_certainty() -> None:
    a, b = two(count=60)
    once = paired(a, b)
    often = paired(np.repeat(a, 20), np.repeat(b, 20), clusters=np.repeat(np.arange(60), 20))
    assert often.units == 60
    assert often.p_t == pytest.approx(once.p_t)
    assert often.p_wilcoxon == pytest.approx(once.p_wilcoxon)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=1e-9)
    assert paired(np.repeat(a, 20), np.repeat(b, 20)).p_t < once.p_t


def test_no_difference_is_found_where_there_is_none_about_one_time_in_twenty() -> None:
    found = sum(paired(*two(seed, shift=0.0, count=60), resamples=50).p_t < 0.05 for seed in range(200))
    assert 2 <= found <= 22


def test_the_same_values_differ_by_nothing() -> None:
    a, _ = two()
    same = paired(a, a)
    assert (same.p_t, same.p_wilcoxon, same.difference, same.low, same.high) == (1.0, 1.0, 0.0, 0.0, 0.0)
    always = paired(a + 1, a)
    assert always.p_t < 1e-100


def test_the_sign_test_is_mcnemars_for_yes_and_no() -> None:
    a, b = np.array([1, 1, 1, 1, 1, 1, 0, 0.0]), np.array([0, 0, 0, 0, 0, 1, 1, 0.0])
    assert paired(a, b).p_sign == pytest.approx(stats.binomtest(5, 6).pvalue)
    assert paired(a * 0.3, b * 0.2).p_sign == pytest.approx(stats.binomtest(6, 7).pvalue)
    assert paired(a, a).p_sign == 1.0


def test_undefined_requests_are_left_out_of_both() -> None:
    a, b = np.array([1.0, np.nan, 3.0, 4.0]), np.array([0.0, 5.0, np.nan, 1.0])
    found = paired(a, b)
    assert (found.requests, found.mean_a, found.mean_b) == (2, 2.5, 0.5)


def test_the_bootstrap_follows_its_seed() -> None:
    a, b = two()
    assert paired(a, b, seed=1) == paired(a, b, seed=1)
    assert paired(a, b, seed=1).low != paired(a, b, seed=2).low


def test_too_little_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        paired(np.array([1.0]), np.array([2.0]))
    with pytest.raises(ConfigError, match="same requests, got 2 and 3"):
        paired(np.zeros(2), np.zeros(3))


def test_seeds() -> None:
    assert combine_seeds([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert np.isnan(combine_seeds([1.0])[1])
    with pytest.raises(ConfigError, match="at least one seed"):
        combine_seeds([])
