"""Mining under an evaluator (DeGRe §4.2): beam search over prefixes, and the value of every alternative on the way.

Beside the paper's: rounds of local search after the beam, which mend what a prefix's value cannot see (what an early
item does to the positions behind it), keeping only the best list, and other lists, such as a generator's own, beside
the beam's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor

from slatewise.config import Count, Frozen
from slatewise.decoding.local_search import polish
from slatewise.decoding.search import Beam, Expand, beam_search, best_lists
from slatewise.generators.base import CLOSED
from slatewise.groups.policy_mix import first_copies
from slatewise.modules.gather import list_mask, open_candidates
from slatewise.rewards.base import RewardMemory, RewardModel

NO_VALUE = -65504.0  # the least that float16 has
LEAST = -60000.0  # of a value, counted from the best: so a value is never taken for none


class MiningConfig(Frozen):
    """The paper: ``width`` 1 to 8 (B), all lists kept, no local search.

    Attributes:
        width: prefixes kept at each position, and lists mined for a request.
        top_k: at each position only so many of the candidates that remain are tried, those with the highest value as
            the only item of a list (the paper's top-K pre-truncation); 0: all. The others get no step value, unless
            lists are polished or stand beside the beam's: then all of a list's alternatives are valued anew. Local
            search is bound by it, too.
        keep: learn from ``all`` lists of the beam, or from the ``best`` alone.
        polish_rounds: rounds of local search on every list that is kept (not in the paper).
    """

    width: Annotated[int, Meta(ge=1, le=64)] = 8
    top_k: Count = 0
    keep: Literal["all", "best"] = "all"
    polish_rounds: Count = 0


@dataclass(frozen=True)
class Mined:
    """Lists found for a batch of requests, best first, and what the evaluator says of them.

    Attributes:
        lists_BGL: the lists; where a request has fewer than G, its best is repeated.
        value_BG: their values, in units of feedback.
        step_value_BGLN: float16; for each candidate that remains at position t, the value of the list's first t items
            with it behind them, counted from the best such value (so 0 is the best: a softmax does not see the
            difference, and float16 is exact where it matters). ``NO_VALUE`` for candidates that are taken, not real,
            or were cut by ``top_k`` in a beam alone; behind the end of a short request it means nothing.
    """

    lists_BGL: Tensor
    value_BG: Tensor
    step_value_BGLN: Tensor


@torch.no_grad()
def mine(
    reward: RewardModel,
    memory: RewardMemory,
    config: MiningConfig,
    *,
    length: int,
    own_BGL: Tensor | None = None,
) -> Mined:
    """Mine all requests of an encoded batch at once.

    Args:
        own_BGL: lists that are to stand beside the beam's, such as the generator's own.

    Returns:
        G = ``width`` + own lists for each request (1 with ``keep = "best"``).
    """
    mask_BN = memory.mask_BN
    single_BN = None
    if config.top_k:
        empty_B10 = mask_BN.new_zeros(mask_BN.shape[0], 1, 0, dtype=torch.long)
        single_BN = reward.extension_value(memory, empty_B10)[:, 0]
    beams = _Search(reward, memory, config.top_k, single_BN, length)
    lists_BGL, value_BG = beams.run(config.width)
    if own_BGL is not None:
        lists_BGL = torch.cat([lists_BGL, own_BGL], 1)
        value_BG = torch.cat([value_BG, reward.value_of(memory, own_BGL)], 1)
    lists_BGL, value_BG = _best_first(lists_BGL, value_BG, 1 if config.keep == "best" else lists_BGL.shape[1])
    if config.polish_rounds:
        polished = polish(
            lists_BGL,
            mask_BN,
            lambda lists: reward.value_of(memory, lists),
            rounds=config.polish_rounds,
            replace_top=config.top_k or None,
            candidate_score_BN=single_BN,
        )
        lists_BGL, value_BG = _best_first(*polished, lists_BGL.shape[1])
    unchanged = own_BGL is None and not config.polish_rounds
    total_BGLN = beams.on_the_way(lists_BGL) if unchanged else step_totals(reward.expander(memory), lists_BGL)
    return Mined(lists_BGL, value_BG, _compact(total_BGLN, lists_BGL, mask_BN))


def step_totals(expand: Expand, lists_BGL: Tensor) -> Tensor:
    """Values (B, G, L, N) of each list's prefixes with each candidate behind them, by walking along the lists."""
    b, g, length = lists_BGL.shape
    totals = []
    for t in range(length):
        parent_BG = torch.arange(g, device=lists_BGL.device).expand(b, g)
        prefix_BGT = lists_BGL[:, : g if t else 1, :t]
        score_BG = torch.zeros(prefix_BGT.shape[:2], device=lists_BGL.device)
        beam = Beam(prefix_BGT, score_BG, parent_BG[:, : prefix_BGT.shape[1]] * (t > 1))
        totals.append(expand(beam).expand(-1, g, -1))
    return torch.stack(totals, 2)


class _Search:
    """Beam search that remembers every expansion, on the candidates that ``top_k`` leaves."""

    def __init__(
        self, reward: RewardModel, memory: RewardMemory, top_k: int, single_BN: Tensor | None, length: int
    ) -> None:
        self.mask_BN, self.length, self.top_k = memory.mask_BN, length, top_k
        self.steps: list[tuple[Tensor, Tensor]] = []
        self.index_BM: Tensor | None = None
        if single_BN is not None and top_k < memory.mask_BN.shape[1]:
            # behind L - 1 taken ones there are still top_k left to try
            most = min(top_k + length - 1, memory.mask_BN.shape[1])
            self.index_BM = single_BN.masked_fill(~memory.mask_BN, -torch.inf).topk(most, dim=1).indices
            memory = memory.take(self.index_BM)
        self.memory = memory
        self.expand = reward.expander(memory)

    def run(self, width: int) -> tuple[Tensor, Tensor]:
        """``width`` lists and their values; a request that has fewer gets its best again."""
        found = beam_search(self._expand, self.memory.mask_BN, length=self.length, width=width)
        lists_BGL, value_BG = best_lists(*found, width)
        if self.index_BM is not None:
            lists_BGL = torch.take_along_dim(self.index_BM[:, None], lists_BGL, 2)
            lists_BGL = lists_BGL * list_mask(self.mask_BN, self.length)[:, None]
        return lists_BGL, value_BG

    def _expand(self, beam: Beam) -> Tensor:
        total_BKM = self.expand(beam)
        if self.index_BM is not None:
            open_BKM = self.memory.mask_BN[:, None].expand_as(total_BKM).scatter(2, beam.lists_BKT, False)
            total_BKM = total_BKM.masked_fill(open_BKM.cumsum(2) > self.top_k, CLOSED)  # best first along M
        self.steps.append((beam.lists_BKT, total_BKM))
        return total_BKM

    def on_the_way(self, lists_BGL: Tensor) -> Tensor:
        """Totals (B, G, L, N) of the expansions of each list's prefixes, ``CLOSED`` where none was tried."""
        total_BGLN = torch.full((*lists_BGL.shape, self.mask_BN.shape[1]), CLOSED, device=lists_BGL.device)
        for t, (prefix_BKt, total_BKM) in enumerate(self.steps):
            if self.index_BM is not None:
                prefix_BKt = torch.take_along_dim(self.index_BM[:, None], prefix_BKt, 2)
            parent_BG = (prefix_BKt[:, None] == lists_BGL[:, :, None, :t]).all(-1).int().argmax(2)
            total_BGM = torch.take_along_dim(total_BKM, parent_BG[..., None], 1)
            if self.index_BM is None:
                total_BGLN[:, :, t] = total_BGM
            else:
                total_BGLN[:, :, t].scatter_(2, self.index_BM[:, None].expand_as(total_BGM), total_BGM)
        return total_BGLN


def _best_first(lists_BGL: Tensor, value_BG: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` best lists; copies come last."""
    order_BG = value_BG.masked_fill(~first_copies(lists_BGL), -torch.inf).argsort(
        dim=1, descending=True, stable=True
    )
    order_BG = order_BG[:, :count]
    return torch.take_along_dim(lists_BGL, order_BG[..., None], 1), value_BG.gather(1, order_BG)


def _compact(total_BGLN: Tensor, lists_BGL: Tensor, mask_BN: Tensor) -> Tensor:
    valued_BGLN = open_candidates(lists_BGL, mask_BN) & (total_BGLN > CLOSED / 2)
    best_BGL1 = total_BGLN.masked_fill(~valued_BGLN, -torch.inf).amax(-1, keepdim=True)
    return torch.where(valued_BGLN, (total_BGLN - best_BGL1).clamp_min(LEAST), NO_VALUE).half()
