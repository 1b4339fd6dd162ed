"""The generator's own best list, l^θ of the paper (GoalRank Eq. 6, §3.3), as greedy decoding finds it."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.decoding import greedy
from slatewise.groups._single import require_single
from slatewise.groups.context import Context


class Config(Frozen):
    """The greedy list has no settings."""


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """The greedy list (B, 1, L).

    Raises:
        ConfigError: ``count`` is not 1.
    """
    require_single("greedy", count)
    return greedy.propose(
        context.generator, context.memory, length=context.length, count=1, rng=rng, config=greedy.Config()
    )
