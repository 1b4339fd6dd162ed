"""Uniformly random lists (GoalRank App. C: random selection)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.decoding import random
from slatewise.groups.context import Context


class Config(random.Config, frozen=True):
    """Random lists have no settings."""


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """``count`` random lists (B, G, L)."""
    return random.propose(
        context.generator, context.memory, length=context.length, count=count, rng=rng, config=config
    )
