"""Chains over the generator's pair scores (GoalRank App. C: Markov process approximation)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.decoding import markov
from slatewise.groups.context import Context


class Config(markov.Config, frozen=True):
    """As :class:`slatewise.decoding.markov.Config`: sampled or best chain, temperature."""


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """Chains (B, G, L) from the ``count`` best pairs."""
    return markov.propose(
        context.generator, context.memory, length=context.length, count=count, rng=rng, config=config
    )
