"""Lists of another policy, a lightweight model of the paper's set M (GoalRank §3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Above0, Frozen
from slatewise.decoding import greedy, sample
from slatewise.errors import ConfigError
from slatewise.groups.context import Context
from slatewise.names import nearest


class Config(Frozen):
    """``policy`` is the auxiliary's name.

    Its first list is its greedy one (for a scorer the sort by score), any further ones are samples at
    ``temperature`` (for a scorer Plackett–Luce).
    """

    policy: str
    temperature: Above0 = 1.0


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """The policy's greedy list and ``count - 1`` samples (B, G, L).

    Raises:
        ConfigError: the context has no policy of this name.
    """
    if config.policy not in context.auxiliaries:
        allowed = sorted(context.auxiliaries)
        raise ConfigError(
            f"group family 'auxiliary': there is no policy '{config.policy}'."
            f"{nearest(config.policy, allowed)} Allowed: {', '.join(allowed) or 'none was trained'}."
        )
    generator, memory = context.auxiliaries[config.policy]
    best_B1L = greedy.propose(
        generator, memory, length=context.length, count=1, rng=rng, config=greedy.Config()
    )
    if count == 1:
        return best_B1L
    settings = sample.Config(temperature=config.temperature)
    more_BGL = sample.propose(
        generator, memory, length=context.length, count=count - 1, rng=rng, config=settings
    )
    return torch.cat([best_B1L, more_BGL], 1)
