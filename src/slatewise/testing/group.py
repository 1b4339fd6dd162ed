"""The laws of group families (see :mod:`slatewise.groups`)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.groups.context import Context
from slatewise.names import plugin
from slatewise.rewards import build_reward
from slatewise.rng import torch_rng
from slatewise.testing.fixtures import example_batch, example_data, example_generator, short_batch
from slatewise.testing.laws import find, require, require_lists, settings


def check_group(name: str | ModuleType, *, count: int = 3, **options: Any) -> None:
    """A family writes as many lists as it is asked for, of distinct real candidates, by its ``rng`` alone.

    It is given requests with few and with many candidates, four lists of an earlier family, and a
    trained-looking auxiliary policy called ``dnn``.

    Args:
        name: public name or module.   count: lists to ask for (1 for a family that has only one).
        options: its config.

    Raises:
        LawBroken: a law does not hold.
    """
    called, module = find("groups", name, "build")
    config = settings(module, options, called)
    for batch in (example_batch(), short_batch()):
        context = example_context(batch)
        before_BGL = context.earlier_BGL.clone()

        def write(seed: int, context: Context = context) -> Tensor:
            lists_BGL: Tensor = module.build(config, context, count=count, rng=torch_rng(seed))
            return lists_BGL

        lists_BGL = write(0)
        wanted = (batch.size, count, context.length)
        require(lists_BGL.shape == wanted, f"{called}: wrote {tuple(lists_BGL.shape)}, asked were {wanted}.")
        require_lists(lists_BGL, batch.mask_BN, called)
        require(not lists_BGL.requires_grad, f"{called}: lists carry a gradient.")
        require(torch.equal(write(0), lists_BGL), f"{called}: one rng, two answers.")
        require(torch.equal(context.earlier_BGL, before_BGL), f"{called}: it changes the lists before it.")


def example_context(batch: ListBatch) -> Context:
    """A context with a generator, an auxiliary scorer, a reward, and four random earlier lists."""
    generator, scorer = example_generator(), example_generator("scorer")
    torch.manual_seed(6)
    reward = build_reward("listwise", plugin("rewards", "listwise").Config(), example_data().manifest).eval()
    with torch.no_grad():
        memory, other, valued = generator.encode(batch), scorer.encode(batch), reward.encode(batch)
    context = Context(
        batch=batch,
        memory=memory,
        generator=generator,
        reward=lambda lists_BGL: reward.value_of(valued, lists_BGL).detach(),
        length=example_data().schema.length,
        auxiliaries={"dnn": (scorer, other)},
    )
    random = plugin("groups", "random")
    return context.with_lists(random.build(random.Config(), context, count=4, rng=torch_rng(7)))
