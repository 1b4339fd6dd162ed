"""What each family puts into a group."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import Tensor

from batches import list_reward, make_batch, make_generator, well_formed
from slatewise.config import build
from slatewise.errors import ConfigError
from slatewise.groups.context import Context
from slatewise.names import available
from slatewise.rng import torch_rng

ALONE = {"greedy", "logged"}  # families of one list


def make_context(rows: int = 8, *, fewest: int | None = None, earlier: int = 0) -> Context:
    batch, generator, other = make_batch(rows, fewest=fewest), make_generator(), make_generator("scorer")
    context = Context(
        batch=batch,
        memory=generator.encode(batch),
        generator=generator,
        reward=list_reward(batch.mask_BN, 4),
        length=4,
        auxiliaries={"dnn": (other, other.encode(batch))},
    )
    return context.with_lists(lists("random", context, count=earlier)) if earlier else context


def lists(family: str, context: Context, *, count: int = 1, seed: int = 0, **options) -> Tensor:
    module = import_module(f"slatewise.groups.{family.replace('-', '_')}")
    config = build(module.Config, options)
    return module.build(config, context, count=count, rng=torch_rng(seed))


def test_the_folder_has_the_papers_seven_and_the_others() -> None:
    paper = {
        "autoregressive",
        "tree",
        "softmax-sampling",
        "markov",
        "random",
        "substitution",
        "diverse",
    }
    assert set(available("groups")) == paper | {"greedy", "auxiliary", "logged", "local-search"}


@pytest.mark.parametrize("family", available("groups"))
def test_every_family_writes_well_formed_lists(family: str) -> None:
    context = make_context(fewest=1, earlier=6)
    count = 1 if family in ALONE else 5
    options = {"policy": "dnn"} if family == "auxiliary" else {}
    first = lists(family, context, count=count, **options)
    assert first.shape == (8, count, 4)
    assert well_formed(first, context.mask_BN)
    assert torch.equal(first, lists(family, context, count=count, **options))


@pytest.mark.parametrize("family", sorted(ALONE))
def test_families_of_one_list_refuse_a_count(family: str) -> None:
    with pytest.raises(ConfigError, match="count = 3"):
        lists(family, make_context(), count=3)


def test_auxiliary_sorts_first_and_names_what_there_is() -> None:
    context = make_context()
    _, memory = context.auxiliaries["dnn"]
    sorted_BL = memory.parts.topk(4, dim=1).indices
    wanted = lists("auxiliary", context, count=30, policy="dnn")
    assert torch.equal(wanted[:, 0], sorted_BL)
    assert (wanted[:, 1:] != wanted[:, :1]).any()
    with pytest.raises(ConfigError, match=r"'dmn'.*Did you mean 'dnn'.*Allowed: dnn"):
        lists("auxiliary", context, policy="dmn")


def test_logged_is_the_exposed_list_and_the_generator_finishes_a_short_one() -> None:
    context = make_context()
    shown_BL = context.batch.exposed_BE[:, :4]
    assert torch.equal(lists("logged", context)[:, 0], shown_BL)
    two_B4 = (torch.arange(4) < 2).expand(8, -1)
    cut = replace(context, batch=replace(context.batch, exposed_mask_BE=two_B4))
    finished = lists("logged", cut)
    assert torch.equal(finished[:, 0, :2], shown_BL[:, :2])
    assert well_formed(finished, context.mask_BN)
    other = finished.clone()  # the third item is the generator's best: no other third item is more probable
    score = context.generator.log_prob(context.memory, finished)[:, :, 2]
    for item in range(context.batch.num_candidates):
        fits_B1 = (shown_BL[:, :2] != item).all(1, keepdim=True)
        other[:, :, 2] = item
        assert (context.generator.log_prob(context.memory, other)[:, :, 2] <= score + 1e-5)[fits_B1].all()


@pytest.mark.parametrize("replacements", [1, 2, 3])
def test_substitution_changes_at_most_so_many_positions_of_an_earlier_list(replacements: int) -> None:
    context = make_context(earlier=3)
    changed = lists("substitution", context, count=60, replacements=replacements)
    differs = (changed[:, :, None] != context.earlier_BGL[:, None]).sum(-1)
    closest = differs.amin(2)
    assert closest.max() == replacements
    assert closest.min() == 1
    assert well_formed(changed, context.mask_BN)
    nearest = differs.argmin(2)
    assert all(len(set(row)) == 3 for row in nearest.tolist())  # every earlier list is started from


def test_substitution_alone_starts_from_the_greedy_list() -> None:
    context = make_context()
    changed = lists("substitution", context, count=5)
    differs = (changed != lists("greedy", context)).sum(-1)
    assert differs.min() >= 1
    assert differs.max() <= 2


def test_substitution_with_nothing_outside_copies_or_swaps() -> None:
    context = make_context(fewest=1, earlier=2)
    full_B = context.mask_BN.sum(1) <= 4
    assert 0 < full_B.sum() < 8
    copies = lists("substitution", context, count=4)[full_B]
    assert (copies[:, :, None] == context.earlier_BGL[full_B][:, None]).all(-1).any(2).all()
    swapped = lists("substitution", context, count=4, swap=True)
    differs = (swapped[:, :, None] != context.earlier_BGL[:, None]).sum(-1)[full_B]
    lone_B = (context.mask_BN.sum(1) == 1)[full_B]
    assert (differs[~lone_B] > 0).any()
    assert well_formed(swapped, context.mask_BN)


def test_swap_alone_exchanges_two() -> None:
    context = make_context(earlier=1)
    plain = lists("substitution", context, count=20)
    swapped = lists("substitution", context, count=20, swap=True)
    assert torch.equal(plain.sort(-1).values, swapped.sort(-1).values)  # same items
    assert ((plain != swapped).sum(-1) == 2).all()


def test_diverse_avoids_the_group_so_far() -> None:
    context = make_context()
    context = context.with_lists(lists("greedy", context))
    apart = lists("diverse", context, strength=0.0, overlap=1000.0)
    shared = (apart[:, 0, :, None] == context.earlier_BGL[:, 0, None]).any()
    assert not shared


def test_local_search_starts_from_the_best_and_does_not_worsen_it() -> None:
    context = make_context(fewest=2, earlier=6)
    value_BG = context.reward(context.earlier_BGL)
    polished = lists("local-search", context, count=2, rounds=2)
    start_B2 = value_BG.topk(2, dim=1).values
    assert (context.reward(polished) >= start_B2).all()
    assert (context.reward(polished) > start_B2).any()
    own = lists("local-search", context, start="greedy", replace_top=2)
    assert (context.reward(own) >= context.reward(lists("greedy", context))).all()


def test_local_search_needs_something_to_start_from() -> None:
    with pytest.raises(ConfigError, match="has 0 to start from"):
        lists("local-search", make_context())
    with pytest.raises(ConfigError, match="has 1 to start from"):
        lists("local-search", make_context(), count=2, start="greedy")
