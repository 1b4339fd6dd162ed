"""Lists of the generator unlike those in the group (GoalRank App. C: diversity-oriented generation)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen, Weight
from slatewise.decoding import diverse
from slatewise.groups.context import Context


class Config(Frozen):
    """Penalties in nats, as in :class:`slatewise.decoding.diverse.Config`."""

    strength: Weight = 2.0
    overlap: Weight = 1.0


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """``count`` lists (B, G, L), each unlike the group so far and the ones before it."""
    return diverse.propose(
        context.generator,
        context.memory,
        length=context.length,
        count=count,
        rng=rng,
        config=diverse.Config(strength=config.strength, overlap=config.overlap),
        earlier_BGL=context.earlier_BGL,
    )
