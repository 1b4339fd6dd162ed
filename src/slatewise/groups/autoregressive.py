"""Samples of the generator, item by item (GoalRank App. C: autoregressive list generation)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.decoding import sample
from slatewise.groups.context import Context


class Config(sample.Config, frozen=True):
    """As :class:`slatewise.decoding.sample.Config`: temperature, top-k, top-p."""


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """``count`` samples (B, G, L)."""
    return sample.propose(
        context.generator, context.memory, length=context.length, count=count, rng=rng, config=config
    )
