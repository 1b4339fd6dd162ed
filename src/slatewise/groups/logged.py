"""The list that was shown. Where fewer than L items were shown, the generator finishes it greedily."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.decoding._loop import write
from slatewise.groups._single import require_single
from slatewise.groups.context import Context


class Config(Frozen):
    """The logged list has no settings."""


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """The first L exposed items of each request, in shown order (B, 1, L).

    Raises:
        ConfigError: ``count`` is not 1.
    """
    require_single("logged", count)
    shown_BE, mask_BE = context.batch.exposed_BE, context.batch.exposed_mask_BE

    def choose(position: int, logits_BGN: Tensor) -> Tensor:
        best_B1 = logits_BGN.argmax(-1)
        if position >= shown_BE.shape[1]:
            return best_B1
        return torch.where(mask_BE[:, position, None], shown_BE[:, position, None], best_B1)

    return write(context.generator, context.memory, length=context.length, count=1, choose=choose)[0]
