"""Lists that differ from one another: greedy decoding with a penalty on what earlier lists already use.

One list after the other, each seeing those before it (GoalRank App. C: diversity-oriented generation; the
penalty is that of diverse beam search, Vijayakumar et al. 2018). No item embeddings are needed: it counts
items, not likeness. Each list costs L cached steps of its own: many of them are dearer than as many samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen, Positive, Weight
from slatewise.data.batch import ListBatch
from slatewise.decoding._loop import encode, scored_slate, write
from slatewise.generators.base import Generator, Memory, list_mask
from slatewise.types import Slate


class Config(Frozen):
    """How strongly lists are kept apart.

    The penalties are in nats for a candidate that *all* earlier lists use, and in proportion for one that
    some use: ``strength`` at this very position, ``overlap`` anywhere. ``place`` is the list that ``decode``
    gives: 1 would be the greedy list, 2 the one that differs from it, and so on.
    """

    strength: Weight = 2.0
    overlap: Weight = 1.0
    place: Positive = 2


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
    uses_BLN = torch.zeros(memory.size, length, memory.mask_BN.shape[1], device=memory.mask_BN.device)
    lists = [] if earlier_BGL is None else list(earlier_BGL.unbind(1))
    earlier = len(lists)
    for list_BL in lists:
        uses_BLN = uses_BLN + _uses(list_BL, memory)
    while len(lists) < earlier + count:
        apart_BLN = config.strength * uses_BLN + config.overlap * uses_BLN.sum(1, keepdim=True)
        lists.append(_write(generator, memory, length, apart_BLN / max(len(lists), 1)))
        uses_BLN = uses_BLN + _uses(lists[-1], memory)
    return torch.stack(lists[earlier:], 1)


def decode(
    generator: Generator, batch: ListBatch | Memory, *, length: int, rng: torch.Generator, config: Config
) -> Slate:
    """The list number ``place`` of each request: probable, and unlike the ones before it."""
    memory = encode(generator, batch)
    lists_BGL = propose(generator, memory, length=length, count=config.place, rng=rng, config=config)
    return scored_slate(generator, memory, lists_BGL[:, -1])


def _uses(list_BL: Tensor, memory: Memory) -> Tensor:
    """1 where the list has the candidate at the position (B, L, N)."""
    at_BLN = torch.nn.functional.one_hot(list_BL, memory.mask_BN.shape[1]).float()
    return at_BLN * list_mask(memory.mask_BN, list_BL.shape[1])[..., None]


def _write(generator: Generator, memory: Memory, length: int, penalty_BLN: Tensor) -> Tensor:
    def choose(position: int, logits_B1N: Tensor) -> Tensor:
        return (logits_B1N - penalty_BLN[:, position, None]).argmax(-1)

    return write(generator, memory, length=length, count=1, choose=choose)[0][:, 0]
