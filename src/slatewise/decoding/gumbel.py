"""Plackett–Luce sampling from the first step's scores (GoalRank App. C: softmax-based stochastic sampling).

The decoder runs once; noise on the scores and a sort give any number of lists (Gumbel-top-k, Kool et al.
2019; Efraimidis and Spirakis 2006). For a generator whose scores do not depend on the list (``scorer``) this
is exact sampling of its policy; for others it is a cheap, more diverse stand-in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Above0, Frozen
from slatewise.data.batch import ListBatch
from slatewise.decoding._loop import encode, first_logits, gumbel, scored_slate, top_lists
from slatewise.generators.base import Generator, Memory
from slatewise.types import Slate


class Config(Frozen):
    """``temperature`` divides the scores before the noise is added."""

    temperature: Above0 = 1.0


def propose(
    generator: Generator, memory: Memory, *, length: int, count: int, rng: torch.Generator, config: Config
) -> Tensor:
    """``count`` independent Plackett–Luce samples (B, G, L) of the first step's softmax."""
    mask_BN = memory.mask_BN
    noise_BGN = gumbel((memory.size, count, mask_BN.shape[1]), rng, mask_BN.device)
    return perturbed(generator, memory, noise_BGN, length=length, config=config)


def perturbed(
    generator: Generator, memory: Memory, noise_BGN: Tensor, *, length: int, config: Config
) -> Tensor:
    """The lists (B, G, L) that given noise makes; the noise may be one for all requests (1, G, N)."""
    score_B1N = first_logits(generator, memory)[:, None] / config.temperature
    return top_lists(score_B1N + noise_BGN, memory.mask_BN, length)


def decode(
    generator: Generator, batch: ListBatch | Memory, *, length: int, rng: torch.Generator, config: Config
) -> Slate:
    """One Plackett–Luce sample for each request."""
    memory = encode(generator, batch)
    lists_BGL = propose(generator, memory, length=length, count=1, rng=rng, config=config)
    return scored_slate(generator, memory, lists_BGL[:, 0])
