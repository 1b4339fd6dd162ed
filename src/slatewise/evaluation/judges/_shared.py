"""Lists that many requests share, folded so that a common beginning or ending is read once.

The candidate axis is shuffled for each request, so the same index lists are for each request random lists of their
own: drawing them once serves all, and what a recurrent judge does along them is planned once. Shapes, besides the
legend in :mod:`slatewise.types`: P distinct beginnings of one length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations

import torch
from torch import Tensor

from slatewise.errors import ConfigError
from slatewise.rng import torch_rng

LIMIT = 1_000_000  # lists of a request that are still enumerated


@dataclass(frozen=True)
class Level:
    """The distinct beginnings of one length.

    Attributes:
        item_P: their last item.   parent_P: their place among the beginnings one shorter.
        place_G: for each list, the place of its own beginning.
    """

    item_P: Tensor
    parent_P: Tensor
    place_G: Tensor


@dataclass(frozen=True)
class SharedLists:
    """G lists of indices into a candidate axis of ``candidates``."""

    lists_GL: Tensor
    candidates: int

    @property
    def length(self) -> int:
        """L."""
        return self.lists_GL.shape[1]

    @cached_property
    def beginnings(self) -> tuple[Level, ...]:
        """The lists read from the front: one level a length, 1 to L."""
        return self._levels(self.lists_GL)

    @cached_property
    def endings(self) -> tuple[Level, ...]:
        """The lists read from the back: one level a length, 1 to L."""
        return self._levels(self.lists_GL.flip(1))

    def _levels(self, lists_GL: Tensor) -> tuple[Level, ...]:
        levels, place_G = list[Level](), torch.zeros(len(lists_GL), dtype=torch.long)
        for item_G in lists_GL.unbind(1):
            key_P, own_G = torch.unique(place_G * self.candidates + item_G, return_inverse=True)
            levels.append(Level(key_P % self.candidates, key_P // self.candidates, own_G))
            place_G = own_G
        return tuple(levels)


@lru_cache(maxsize=8)
def random_lists(candidates: int, length: int, count: int, seed: int) -> SharedLists:
    """``count`` uniformly random lists of ``length`` of ``candidates``, drawn independently (DeGRe §5.1.3)."""
    key_GN = torch.rand(count, candidates, generator=torch_rng(seed, "random-lists", candidates))
    return SharedLists(key_GN.argsort(dim=1)[:, :length].contiguous(), candidates)


@lru_cache(maxsize=8)
def all_sets(candidates: int, length: int) -> SharedLists:
    """Every set of ``length`` of ``candidates`` as one list, (C(N, L), L).

    Raises:
        ConfigError: there are more than a million.
    """
    _check_few(math.comb(candidates, length), candidates, length, "sets")
    return SharedLists(torch.tensor(list(combinations(range(candidates), length))), candidates)


@lru_cache(maxsize=2)
def all_lists(candidates: int, length: int) -> tuple[SharedLists, ...]:
    """Every ordered list, in one part for each first item, so that a part's states stay small.

    Raises:
        ConfigError: there are more than a million lists.
    """
    _check_few(math.perm(candidates, length), candidates, length, "lists")
    lists_GL, used_GN = torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, candidates, dtype=torch.bool)
    for _ in range(length):
        row_M, item_M = (~used_GN).nonzero(as_tuple=True)
        lists_GL = torch.cat([lists_GL[row_M], item_M[:, None]], dim=1)
        used_GN = used_GN[row_M].scatter(1, item_M[:, None], True)
    return tuple(SharedLists(part_GL, candidates) for part_GL in lists_GL.chunk(candidates))


def _check_few(count: int, candidates: int, length: int, what: str) -> None:
    if count > LIMIT:
        raise ConfigError(
            f"{candidates} candidates have {count:,} {what} of {length}, but a judge enumerates at most {LIMIT:,}; "
            "grade by hr@K% on random lists, with exact = 0."
        )
