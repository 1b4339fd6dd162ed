"""Lists that differ from one another: greedy decoding with a penalty on what earlier lists already use.

All lists are written side by side, and at each position list after list chooses, seeing the choices of the
lists before it: diverse beam search (Vijayakumar et al. 2018) with groups of one; GoalRank App. C calls it
diversity-oriented generation. No item embeddings are needed; the penalty counts items, not likeness.
"""

from __future__ import annotations

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.decoding._loop import encode, scored_slate, write
from slatewise.generators.base import Generator, Memory, list_mask
from slatewise.types import Slate


class Config(Frozen, frozen=True):
    """How strongly lists are kept apart.

    The penalties are in nats for a candidate that *all* earlier lists use, and in proportion for one that
    some use: ``strength`` at this very position, ``overlap`` anywhere (so far). ``place`` is the list that
    ``decode`` gives: 1 would be the greedy list, 2 the one that differs from it, and so on.
    """

    strength: Annotated[float, Meta(ge=0)] = 2.0
    overlap: Annotated[float, Meta(ge=0)] = 1.0
    place: Annotated[int, Meta(ge=1)] = 2


def propose(
    generator: Generator,
    memory: Memory,
    *,
    length: int,
    count: int,
    rng: torch.Generator,
    config: Config,
    earlier_BGL: Tensor | None = None,
) -> Tensor:
    """``count`` lists (B, G, L), each unlike those before it and unlike ``earlier_BGL``; ``rng`` is not used.

    Without earlier lists the first is the greedy list.
    """
    mask_BL = list_mask(memory.mask_BN, length)
    if earlier_BGL is None:
        earlier_BGL = mask_BL.new_zeros(memory.size, 0, length, dtype=torch.long)
    choose = _Chooser(earlier_BGL, mask_BL, memory.mask_BN.shape[1], count, config)
    return write(generator, memory, length=length, count=count, choose=choose)[0]


def decode(
    generator: Generator, batch: ListBatch, *, length: int, rng: torch.Generator, config: Config
) -> Slate:
    """The list number ``place`` of each request: probable, and unlike the ones before it."""
    memory = encode(generator, batch)
    lists_BGL = propose(generator, memory, length=length, count=config.place, rng=rng, config=config)
    return scored_slate(generator, memory, lists_BGL[:, -1])


class _Chooser:
    """Chooses for list after list, and keeps count of what each one uses."""

    def __init__(
        self, earlier_BGL: Tensor, mask_BL: Tensor, candidates: int, count: int, config: Config
    ) -> None:
        b, self.earlier, length = earlier_BGL.shape
        self.config = config
        weight_BGL = mask_BL.float()[:, None].expand_as(earlier_BGL)
        at_BLN = torch.zeros(b, length, candidates, device=mask_BL.device)
        self.at_BLN = at_BLN.scatter_add_(
            2, earlier_BGL.transpose(1, 2), weight_BGL.transpose(1, 2).contiguous()
        )
        self.anywhere_BN = self.at_BLN.sum(1)
        self.used_BGN = torch.zeros(b, count, candidates, device=mask_BL.device)

    def __call__(self, position: int, logits_BGN: Tensor) -> Tensor:
        before_BGN = self.used_BGN.cumsum(1) - self.used_BGN + self.anywhere_BN[:, None]
        now_BN, choices = torch.zeros_like(self.anywhere_BN), list[Tensor]()
        for place in range(logits_BGN.shape[1]):
            at_BN = self.config.strength * (self.at_BLN[:, position] + now_BN)
            overlap_BN = self.config.overlap * (before_BGN[:, place] + now_BN)
            penalty_BN = (at_BN + overlap_BN) / max(self.earlier + place, 1)
            choices.append((logits_BGN[:, place] - penalty_BN).argmax(-1))
            now_BN = now_BN.scatter_add(1, choices[-1][:, None], torch.ones_like(now_BN[:, :1]))
        choice_BG = torch.stack(choices, 1)
        self.used_BGN.scatter_(2, choice_BG[..., None], 1.0)
        return choice_BG
