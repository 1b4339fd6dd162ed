"""Greedy decoding: the most probable candidate at each position; what GoalRank serves (Eq. 6, Top-1)."""

from __future__ import annotations

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
    lists_BGL, log_prob_BG = _write(generator, memory, length)
    return to_slate(memory, lists_BGL[:, 0], log_prob_BG[:, 0])


def _write(generator: Generator, memory: Memory, length: int) -> tuple[Tensor, Tensor]:
    return write(
        generator, memory, length=length, count=1, choose=lambda _, logits_BGN: logits_BGN.argmax(-1)
    )
