"""Plackett–Luce samples of the first step (GoalRank App. C: softmax-based stochastic sampling)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.decoding import gumbel
from slatewise.groups.context import Context


class Config(gumbel.Config, frozen=True):
    """As :class:`slatewise.decoding.gumbel.Config`: temperature."""


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """``count`` samples (B, G, L)."""
    return gumbel.propose(
        context.generator, context.memory, length=context.length, count=count, rng=rng, config=config
    )
