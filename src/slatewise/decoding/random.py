"""Uniformly random lists, blind to the generator (GoalRank App. C: random selection)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.decoding._loop import encode, scored_slate, top_lists
from slatewise.generators.base import Generator, Memory
from slatewise.types import Slate


class Config(Frozen):
    """Random lists have no settings."""


def propose(
    generator: Generator, memory: Memory, *, length: int, count: int, rng: torch.Generator, config: Config
) -> Tensor:
    """``count`` independent uniform draws (B, G, L) from the ordered lists of distinct candidates."""
    shape = (memory.size, count, memory.mask_BN.shape[1])
    key_BGN = torch.rand(shape, device=rng.device, generator=rng).to(memory.mask_BN.device)
    return top_lists(key_BGN, memory.mask_BN, length)


def decode(
    generator: Generator, batch: ListBatch | Memory, *, length: int, rng: torch.Generator, config: Config
) -> Slate:
    """One random list for each request (with its log-probability under the generator, as everywhere)."""
    memory = encode(generator, batch)
    lists_BGL = propose(generator, memory, length=length, count=1, rng=rng, config=config)
    return scored_slate(generator, memory, lists_BGL[:, 0])
