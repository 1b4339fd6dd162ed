"""Greedy decoding: the most probable candidate at each position; what GoalRank serves (Eq. 6, Top-1)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.decoding._loop import encode, to_slate, write
from slatewise.generators.base import Generator, Memory
from slatewise.types import Slate


class Config(Frozen):
    """Greedy decoding has no settings."""


def propose(
    generator: Generator, memory: Memory, *, length: int, count: int, rng: torch.Generator, config: Config
) -> Tensor:
    """The greedy list (B, G, L), the same ``count`` times, since there is only one; ``rng`` is not used."""
    return _write(generator, memory, length)[0].expand(-1, count, -1)


def decode(
    generator: Generator, batch: ListBatch | Memory, *, length: int, rng: torch.Generator, config: Config
) -> Slate:
    """The greedy list of each request."""
    memory = encode(generator, batch)
    lists_BGL, log_prob_BG, first_BGN = _write(generator, memory, length)
    return replace(to_slate(memory, lists_BGL[:, 0], log_prob_BG[:, 0]), first_BN=first_BGN[:, 0])


def _write(generator: Generator, memory: Memory, length: int) -> tuple[Tensor, Tensor, Tensor]:
    first: list[Tensor] = []

    def choose(position: int, logits_BGN: Tensor) -> Tensor:
        if position == 0:
            first.append(logits_BGN)
        return logits_BGN.argmax(-1)

    lists_BGL, log_prob_BG = write(generator, memory, length=length, count=1, choose=choose)
    return lists_BGL, log_prob_BG, first[0]
