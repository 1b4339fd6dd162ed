"""Beam search for the most probable list; lists have one length, so there is no length normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.decoding._loop import encode, to_slate
from slatewise.decoding.search import search_generator
from slatewise.generators.base import Generator, Memory
from slatewise.types import Slate


class Config(Frozen):
    """``width`` prefixes are kept at each position (at least as many as lists are asked for)."""

    width: Positive = 8


def propose(
    generator: Generator, memory: Memory, *, length: int, count: int, rng: torch.Generator, config: Config
) -> Tensor:
    """The ``count`` best lists (B, G, L) the beam ends with, most probable first; ``rng`` is not used."""
    width = max(config.width, count)
    return search_generator(generator, memory, length=length, width=width, count=count)[0]


def decode(
    generator: Generator, batch: ListBatch | Memory, *, length: int, rng: torch.Generator, config: Config
) -> Slate:
    """The beam's most probable list of each request."""
    memory = encode(generator, batch)
    lists_BGL, log_prob_BG = search_generator(generator, memory, length=length, width=config.width, count=1)
    return to_slate(memory, lists_BGL[:, 0], log_prob_BG[:, 0])
