"""Branches over the generator's first choices (GoalRank App. C: parallel tree-structured generation)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen, Positive
from slatewise.decoding import tree
from slatewise.groups.context import Context


class Config(Frozen):
    """``steps`` is the paper's K: the first positions, at which the lists branch."""

    steps: Positive = 2


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """``count`` branches (B, G, L), the most probable first."""
    return tree.propose(
        context.generator,
        context.memory,
        length=context.length,
        count=count,
        rng=rng,
        config=tree.Config(steps=config.steps),
    )
