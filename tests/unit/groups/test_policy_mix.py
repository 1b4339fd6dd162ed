"""Building a whole group: order, sources, duplicates, subset, randomness."""

from __future__ import annotations

import pytest
import torch
from test_families import make_context

from slatewise.errors import ConfigError
from slatewise.groups.policy_mix import Family, build_group, check_mix, first_copies, spaced_subset
from slatewise.rng import torch_rng
from slatewise.types import Group

MIX = (
    Family(family="greedy"),
    Family(family="autoregressive", count=6),
    Family(family="auxiliary", count=3, options={"policy": "dnn"}),
    Family(family="random", count=2),
    Family(family="substitution", count=4),
    Family(family="autoregressive", count=2, options={"temperature": 3.0}),
)


def test_a_group_has_all_families_in_order_valued_once() -> None:
    context, calls = make_context(fewest=1), []
    reward = context.reward
    object.__setattr__(context, "reward", lambda lists_BGL: calls.append(1) or reward(lists_BGL))
    group = build_group(MIX, context, rng=torch_rng(1))
    assert len(calls) == 1
    assert group.lists_BGL.shape == (8, 18, 4)
    assert group.sources == ("greedy", "autoregressive", "auxiliary:dnn", "random", "substitution")
    wanted = [0] + [1] * 6 + [2] * 3 + [3] * 2 + [4] * 4 + [1] * 2
    assert group.source_BG.tolist() == [wanted] * 8
    assert torch.equal(group.value_BG, reward(group.lists_BGL))


def test_duplicates_are_masked_and_the_first_copy_stays() -> None:
    lists = torch.tensor([[[0, 1], [1, 0], [0, 1], [2, 1], [1, 0], [0, 1]]])
    assert first_copies(lists).tolist() == [[True, True, False, True, False, False]]
    group = build_group(MIX, make_context(fewest=1), rng=torch_rng(1))
    for lists_GL, mask_G in zip(group.lists_BGL.tolist(), group.mask_BG.tolist(), strict=True):
        kept = [tuple(one) for one, keep in zip(lists_GL, mask_G, strict=True) if keep]
        assert len(kept) == len(set(kept)) == len({tuple(one) for one in lists_GL})


def test_the_seed_settles_the_group_and_a_new_family_leaves_the_others_draws_alone() -> None:
    context = make_context()
    group = build_group(MIX, context, rng=torch_rng(1))
    assert torch.equal(group.lists_BGL, build_group(MIX, context, rng=torch_rng(1)).lists_BGL)
    assert not torch.equal(group.lists_BGL, build_group(MIX, context, rng=torch_rng(2)).lists_BGL)
    fewer = build_group((*MIX[:1], *MIX[2:4]), context, rng=torch_rng(1))
    assert torch.equal(fewer.lists_BGL[:, 1:], group.lists_BGL[:, 7:12])
    rng = torch_rng(1)
    twice = [build_group(MIX, context, rng=rng).lists_BGL for _ in range(2)]
    assert not torch.equal(*twice)  # a step's group differs from the step's before


def test_two_entries_of_one_family_draw_different_lists() -> None:
    pair = (Family(family="random", count=3), Family(family="random", count=3))
    group = build_group(pair, make_context(), rng=torch_rng(1))
    assert not torch.equal(group.lists_BGL[:, :3], group.lists_BGL[:, 3:])


def test_subset_by_hand() -> None:
    group = Group(
        lists_BGL=torch.arange(7).view(1, 7, 1).expand(2, -1, -1),
        mask_BG=torch.tensor([[True] * 7, [True, False, True, False, False, False, False]]),
        value_BG=torch.tensor([[3.0, 6.0, 0.0, 5.0, 1.0, 4.0, 2.0], [1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 9.0]]),
        source_BG=torch.tensor([0, 0, 0, 1, 1, 1, 1]).expand(2, -1),
        sources=("a", "b"),
    )
    three = spaced_subset(group, 3)
    assert three.value_BG[0].tolist() == [6.0, 3.0, 0.0]  # best, middle, worst
    assert three.lists_BGL[0].flatten().tolist() == [1, 0, 2]
    assert three.source_BG[0].tolist() == [0, 0, 0]
    assert three.mask_BG[0].all()
    assert three.value_BG[1, :2].tolist() == [9.0, 1.0]
    assert three.mask_BG[1].tolist() == [True, True, False]  # only two distinct lists
    assert spaced_subset(group, 4).value_BG[0].tolist() == [6.0, 4.0, 2.0, 0.0]


def test_subset_keeps_the_extremes_of_every_request() -> None:
    context = make_context(fewest=1)
    whole = build_group(MIX, context, rng=torch_rng(1))
    part = build_group(MIX, context, rng=torch_rng(1), subset=5)
    assert part.lists_BGL.shape == (8, 5, 4)
    assert torch.equal(part.value_BG.amax(1), whole.value_BG.amax(1))
    assert torch.equal(part.value_BG.amin(1), whole.value_BG.amin(1))
    assert torch.equal(part.mask_BG.sum(1), whole.mask_BG.sum(1).clamp_max(5))
    assert torch.equal(part.mask_BG, first_copies(part.lists_BGL))
    assert build_group(MIX, context, rng=torch_rng(1), subset=100).lists_BGL.shape[1] == 18


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [
        ((), "empty"),
        ((Family(family="markow"),), "Did you mean 'markov'"),
        ((Family(family="tree", options={"step": 2}),), "unknown key 'step'.*Did you mean 'steps'"),
        ((Family(family="auxiliary"),), "policy"),
    ],
)
def test_a_wrong_mix_is_told_before_training(mix: tuple[Family, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_mix(mix)


def test_a_subset_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        build_group(MIX, make_context(), rng=torch_rng(1), subset=1)
