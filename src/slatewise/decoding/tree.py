"""Tree decoding: branch over the top choices in the first K positions, finish each branch greedily.

GoalRank App. C, "parallel tree-structured generation". All branches are written at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from slatewise.config import Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.decoding._loop import encode, to_slate
from slatewise.decoding.search import search_generator
from slatewise.generators.base import Generator, Memory
from slatewise.types import Slate


class Config(Frozen):
    """``steps`` is the paper's K; ``leaves`` is how many branches ``decode`` looks at for its one list."""

    steps: Positive = 2
    leaves: Positive = 8


def propose(
    generator: Generator, memory: Memory, *, length: int, count: int, rng: torch.Generator, config: Config
) -> Tensor:
    """``count`` lists (B, G, L) with distinct beginnings, most probable first; ``rng`` is not used."""
    return _grow(generator, memory, length, count, config)[0]


def decode(
    generator: Generator, batch: ListBatch | Memory, *, length: int, rng: torch.Generator, config: Config
) -> Slate:
    """The most probable of ``leaves`` finished branches of each request."""
    memory = encode(generator, batch)
    lists_BGL, log_prob_BG = _grow(generator, memory, length, config.leaves, config)
    return to_slate(memory, lists_BGL[:, 0], log_prob_BG[:, 0])


def branching(count: int, steps: int, candidates: int) -> list[int]:
    """Branches at each of the first ``steps`` positions so that at least ``count`` prefixes come out.

    As even as can be: each position takes the fewest branches with which the positions left still suffice.
    A position cannot have more branches than candidates left.
    """
    prefixes, branches = 1, list[int]()
    for position in range(min(steps, candidates)):
        need, left, branch = math.ceil(count / prefixes), min(steps, candidates) - position, 1
        while branch**left < need:
            branch += 1
        branches.append(min(branch, candidates - position))
        prefixes *= branches[-1]
    return branches


def _grow(
    generator: Generator, memory: Memory, length: int, count: int, config: Config
) -> tuple[Tensor, Tensor]:
    branches = branching(count, min(config.steps, length), memory.mask_BN.shape[1])
    branches += [1] * (length - len(branches))
    return search_generator(generator, memory, length=length, width=count, count=count, branches=branches)
