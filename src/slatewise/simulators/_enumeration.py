"""Every list of a request, as a prefix tree: a beginning's state is computed once for all its lists."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.errors import ConfigError
from slatewise.rng import numpy_rng
from slatewise.simulators._prefix import Prefixes, empty, extend, next_gains
from slatewise.simulators._response import Response

LIMIT = 1_000_000  # lists a request that are still enumerated
ROWS = 8192  # beginnings handled at once: small enough to stay in cache
TIE = 1e-9  # values closer than this are one value reached by other additions


@dataclass(frozen=True)
class Standing:
    """Where values stand among the lists of their request.

    Attributes:
        rank_BM: 1 + the number of better lists.
        mean_B, best_B: over the lists compared with.
        total: how many lists that is.
        exact: True where these are all lists, False where they are a random sample.
    """

    rank_BM: Tensor
    mean_B: Tensor
    best_B: Tensor
    total: int
    exact: bool

    def in_top(self, share: float) -> Tensor:
        """1.0 where a value is in the best ``share`` of the lists, (B, M): DeGRe §5.1, HR@K%."""
        return (self.rank_BM <= share * self.total).double()


def count_lists(candidates: int, length: int) -> int:
    """P(N, L)."""
    return math.perm(candidates, length)


def all_values(response: Response, length: int) -> Tensor:
    """Values of all lists of a response's one request, (P(N, L),), as ``itertools.permutations`` orders them.

    Raises:
        ConfigError: there are more than a million.
    """
    candidates, count = response.num_candidates, count_lists(response.num_candidates, length)
    if count > LIMIT:
        raise ConfigError(
            f"{candidates} candidates have {count:,} lists of {length}, but at most {LIMIT:,} are "
            "enumerated; use optimum, or standing on random lists."
        )
    return _leaves(response, empty(response), length)


def _leaves(response: Response, state: Prefixes, length: int) -> Tensor:
    """Values of all lists that begin as ``state``'s rows do, row by row."""
    if len(state.value_M) > ROWS:
        parts = [state.rows(slice(start, start + ROWS)) for start in range(0, len(state.value_M), ROWS)]
        return torch.cat([_leaves(response, part, length) for part in parts])
    total_MN = state.value_M[:, None] + next_gains(response, state)
    free_MN = ~state.used_MN
    if state.length == length - 1:
        return total_MN[free_MN]
    parent_M, item_M = free_MN.nonzero(as_tuple=True)
    return _leaves(response, extend(response, state.rows(parent_M), item_M, total_MN[free_MN]), length)


def standing(response: Response, length: int, value_BM: Tensor, samples: int, seed: int) -> Standing:
    """See :meth:`slatewise.simulators.store_v1.Store.standing`."""
    exact = count_lists(response.num_candidates, length) <= LIMIT
    rank, mean, best = [], [], []
    for b in range(response.size):
        one = response.rows(slice(b, b + 1))
        values = (
            all_values(one, length) if exact else one.values(_random_lists(one, length, samples, seed, b))[0]
        )
        rank.append(1 + (values > value_BM[b, :, None] + TIE).sum(dim=1))
        mean.append(values.mean())
        best.append(values.max())
    total = count_lists(response.num_candidates, length) if exact else samples
    return Standing(torch.stack(rank), torch.stack(mean), torch.stack(best), total, exact)


def _random_lists(response: Response, length: int, samples: int, seed: int, row: int) -> Tensor:
    draw = numpy_rng(seed, "standing", row).random((1, samples, response.num_candidates))
    return torch.from_numpy(draw.argsort(axis=2)[..., :length].copy()).to(response.base_BN.device)
