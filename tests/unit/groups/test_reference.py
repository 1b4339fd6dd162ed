"""The reference policy by hand (GoalRank Eq. 3 and 4)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from slatewise.config import build
from slatewise.errors import ConfigError
from slatewise.groups.reference import ReferenceConfig, reference_policy
from slatewise.rng import torch_rng
from slatewise.types import Group


def make_group(values: list[list[float]], mask: list[list[bool]] | None = None) -> Group:
    value_BG = torch.tensor(values)
    b, g = value_BG.shape
    return Group(
        lists_BGL=torch.arange(g).view(1, g, 1).expand(b, -1, -1),
        mask_BG=torch.ones(b, g, dtype=torch.bool) if mask is None else torch.tensor(mask),
        value_BG=value_BG,
        source_BG=torch.tensor([0] + [1] * (g - 1)).expand(b, -1),
        sources=("greedy", "random"),
    )


def weights(group: Group, **settings: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    return reference_policy(group, ReferenceConfig(**settings), torch_rng(0))


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_equation_4_by_hand(temperature: float) -> None:
    weight_BG, keep_B, _ = weights(make_group([[1.0, 2.0, 6.0]]), temperature=temperature)
    std = math.sqrt((4 + 1 + 9) / 2)  # mean 3, unbiased
    mass = [math.exp((value - 3) / std / temperature) for value in (1, 2, 6)]
    assert weight_BG[0].tolist() == pytest.approx([m / sum(mass) for m in mass], abs=1e-6)
    assert keep_B.tolist() == [True]


def test_scale_and_shift_of_the_reward_do_not_matter() -> None:
    plain, *_ = weights(make_group([[1.0, 2.0, 6.0]]))
    moved, *_ = weights(make_group([[1000.1, 1000.2, 1000.6]]))
    assert torch.allclose(plain, moved, atol=1e-3)


def test_masked_lists_count_for_nothing() -> None:
    whole, *_ = weights(make_group([[1.0, 2.0, 6.0]]))
    masked, keep_B, _ = weights(
        make_group([[1.0, 50.0, 2.0, 6.0, -50.0]], [[True, False, True, True, False]])
    )
    assert masked[0, [1, 4]].tolist() == [0.0, 0.0]
    assert masked[0, [0, 2, 3]].tolist() == pytest.approx(whole[0].tolist())
    assert keep_B.all()


def test_groups_without_a_sufficient_gap_are_dropped() -> None:
    values = [[1.0, 1.0, 1.0], [1.0, 1.5, 1.2], [0.0, 3.0, 1.0], [7.0, 8.0, 9.0]]
    mask = [[True] * 3, [True] * 3, [True] * 3, [True, False, False]]
    group = make_group(values, mask)
    weight_BG, keep_B, stats = weights(group)
    assert keep_B.tolist() == [False, True, True, False]  # no spread; a lone list
    assert weight_BG.sum(1).tolist() == pytest.approx([0.0, 1.0, 1.0, 0.0])
    assert float(stats["dropped"]) == 0.5
    assert weights(group, gap=0.5)[1].tolist() == [False, False, True, False]  # Eq. 3 wants more than the gap
    assert torch.isfinite(weight_BG).all()


def test_rounding_is_no_spread() -> None:
    _, keep_B, _ = weights(make_group([[5.0, 5.0 + 1e-6, 5.0], [5.0, 5.001, 5.0]]))
    assert keep_B.tolist() == [False, True]


def test_bias_mixes_noise_into_the_raw_reward() -> None:
    values = torch.zeros(1, 4000)
    values[:, 2000:] = 3.0
    group = make_group(values.tolist())
    clean, _, clean_stats = weights(group)
    noisy, _, noisy_stats = weights(group, bias=0.5)
    # z-scores undo scale, so look at the shape: each half has std 0.5, and their means are 1.5 apart
    log = noisy[0].log()
    ratio = (log[2000:].mean() - log[:2000].mean()) / log[:2000].std()
    assert float(ratio) == pytest.approx(3.0, abs=0.15)
    assert clean[0, :2000].unique().numel() == 1
    assert noisy_stats["reward"] == clean_stats["reward"]
    only_noise, *_ = weights(group, bias=1.0)
    assert abs(float(only_noise[0, 2000:].sum()) - 0.5) < 0.05


def test_statistics_by_hand() -> None:
    # the second request's last list is a duplicate of its first: same value, masked
    group = make_group([[9.0, 1.0, 3.0], [2.0, 1.0, 2.0]], [[True, True, True], [True, True, False]])
    weight_BG, _, stats = weights(group)
    number = {name: float(value) for name, value in stats.items()}
    assert number["reward"] == pytest.approx((13 / 3 + 3 / 2) / 2)
    assert number["best"] == pytest.approx((9 + 2) / 2)
    assert number["gap"] == pytest.approx((8 + 1) / 2)
    assert number["duplicates"] == pytest.approx(1 / 6)
    assert number["dropped"] == 0.0
    assert number["reward/greedy"] == pytest.approx((9 + 2) / 2)
    assert number["reward/random"] == pytest.approx((1 + 3 + 1 + 2) / 4)
    assert number["gap/greedy"] == pytest.approx(((8 - 2) + (1 - 1)) / 2)  # random wrote that list as well
    assert number["gap/random"] == pytest.approx((8 + 1) / 2)
    assert number["weight/greedy"] == pytest.approx(float(weight_BG[:, 0].mean()))
    assert number["weight/greedy"] + number["weight/random"] == pytest.approx(1.0)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"bias": 1.5}, {"gap": -1.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        build(ReferenceConfig, settings)
