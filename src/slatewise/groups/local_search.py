"""The best lists of the group so far, polished by local search under the reward. Not in the paper.

On the simulated store local search finds what neither sampling nor a beam does, so the reference policy gets
a list worth moving towards.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from slatewise.config import Frozen, Positive
from slatewise.decoding import greedy
from slatewise.decoding._loop import first_logits
from slatewise.decoding.local_search import polish
from slatewise.errors import ConfigError
from slatewise.groups.context import Context


class Config(Frozen):
    """What is polished, and how long.

    ``start``: the ``best`` lists already in the group, or the generator's ``greedy`` list. ``rounds`` of
    best-improvement search; ``replace_top`` tries only so many outside candidates for each position, the
    likeliest at the generator's first step (``None``: all).
    """

    rounds: Positive = 2
    replace_top: Positive | None = None
    start: Literal["best", "greedy"] = "best"


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """``count`` polished lists (B, G, L).

    Raises:
        ConfigError: there are fewer lists to start from than ``count``.
    """
    start_BGL = _start(config, context, rng)
    if start_BGL.shape[1] < count:
        raise ConfigError(
            f"group family 'local-search' is to polish {count} lists, but has {start_BGL.shape[1]} to start "
            "from; put other families before it or lower its count."
        )
    if start_BGL.shape[1] > 1:
        start_BGL = _best(start_BGL, context.reward(start_BGL), count)
    score_BN = None if config.replace_top is None else first_logits(context.generator, context.memory)
    return polish(
        start_BGL,
        context.mask_BN,
        context.reward,
        rounds=config.rounds,
        replace_top=config.replace_top,
        candidate_score_BN=score_BN,
    )[0]


def _start(config: Config, context: Context, rng: torch.Generator) -> Tensor:
    if config.start == "best":
        return context.earlier_BGL
    settings = greedy.Config()
    return greedy.propose(
        context.generator, context.memory, length=context.length, count=1, rng=rng, config=settings
    )


def _best(lists_BGL: Tensor, value_BG: Tensor, count: int) -> Tensor:
    place_BG = value_BG.topk(count, dim=1).indices
    return lists_BGL.gather(1, place_BG[..., None].expand(-1, -1, lists_BGL.shape[2]))
