"""Beam search over any scores of prefixes: a generator's log-probabilities or a reward model's values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.decoding._loop import quiet
from slatewise.generators.base import CLOSED, Generator, Memory, list_mask


@dataclass(frozen=True)
class Beam:
    """K prefixes of T items for each request.

    Attributes:
        lists_BKT: the prefixes, best first (at T = 0: K = 1 and empty).
        score_BK: their scores; -inf for a place that no prefix fills.
        parent_BK: which prefix of the beam before each one extends (0 at T = 0), to reorder a cache.
    """

    lists_BKT: Tensor
    score_BK: Tensor
    parent_BK: Tensor

    @property
    def length(self) -> int:
        """T."""
        return self.lists_BKT.shape[2]


Expand = Callable[[Beam], Tensor]


@torch.no_grad()
def beam_search(
    expand: Expand, mask_BN: Tensor, *, length: int, width: int, branches: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Keep the ``width`` best prefixes at each position.

    Exact if ``width`` is at least the number of prefixes of length L - 1 times the candidates left.

    Args:
        expand: gives the scores (B, K, N) of all one-item extensions of a :class:`Beam`: totals of the prefix
            with the item, not increments; ``CLOSED`` for an extension that must not be. Taken and unreal
            candidates are closed here already. It is called once a position, in order, so it may keep a cache
            and follow ``parent_BK``. What it says of unfilled places and behind the end of a short request is
            not looked at.
        mask_BN: real candidates.
        branches: at each position, how many extensions of one prefix may be kept (default: no limit).

    Returns:
        Lists (B, K, L) and their scores (B, K), best first, K <= width. Where a request has fewer lists than
        K, its best list is repeated. A request with N < L candidates keeps the scores it had when they ran
        out.
    """
    beam = Beam(
        mask_BN.new_zeros(mask_BN.shape[0], 1, 0, dtype=torch.long),
        torch.zeros(mask_BN.shape[0], 1, device=mask_BN.device),
        mask_BN.new_zeros(mask_BN.shape[0], 1, dtype=torch.long),
    )
    for position in range(length):
        total_BKN = _possible(beam, expand(beam).float(), mask_BN)
        beam = _extend(beam, total_BKN, width, width if branches is None else branches[position])
    return _filled(beam, mask_BN)


def _possible(beam: Beam, total_BKN: Tensor, mask_BN: Tensor) -> Tensor:
    """Totals with -inf for what cannot be; a request that ran out of candidates keeps its prefixes."""
    taken_BKN = torch.zeros_like(total_BKN, dtype=torch.bool)
    if beam.length:
        taken_BKN = taken_BKN.scatter(2, beam.lists_BKT, True)
    closed_BKN = (
        taken_BKN | ~mask_BN[:, None] | (total_BKN <= CLOSED / 2) | beam.score_BK[..., None].isneginf()
    )
    total_BKN = total_BKN.masked_fill(closed_BKN, -torch.inf)
    stay_BKN = torch.full_like(total_BKN, -torch.inf)
    stay_BKN[:, :, 0] = beam.score_BK
    ended_B = mask_BN.sum(1) <= beam.length
    return torch.where(ended_B[:, None, None], stay_BKN, total_BKN)


def _extend(beam: Beam, total_BKN: Tensor, width: int, branch: int) -> Beam:
    kept = (
        branch if branch <= total_BKN.shape[2] else total_BKN.shape[2]
    )  # decided while a graph is traced: no min()
    total_BKb, item_BKb = total_BKN.topk(kept, dim=2)
    score_BK, place_BK = total_BKb.flatten(1).topk(min(width, total_BKb.shape[1] * kept), dim=1)
    parent_BK = place_BK // kept
    item_BK1 = item_BKb.flatten(1).gather(1, place_BK)[..., None]
    if not beam.length:
        return Beam(item_BK1, score_BK, parent_BK)
    prefix_BKT = beam.lists_BKT.gather(1, parent_BK[..., None].expand(-1, -1, beam.length))
    return Beam(torch.cat([prefix_BKT, item_BK1], 2), score_BK, parent_BK)


def _filled(beam: Beam, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
    empty_BK = beam.score_BK.isneginf()
    lists_BKL = torch.where(empty_BK[..., None], beam.lists_BKT[:, :1], beam.lists_BKT)
    score_BK = torch.where(empty_BK, beam.score_BK[:, :1], beam.score_BK)
    return lists_BKL * list_mask(mask_BN, beam.length)[:, None], score_BK


def search_generator(
    generator: Generator,
    memory: Memory,
    *,
    length: int,
    width: int,
    count: int,
    branches: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Beam search under a generator, one cached step a position.

    Returns:
        ``count`` lists (B, G, L) and their log-probabilities (B, G) in nats, best first; the best is repeated
        where there are fewer.
    """
    with quiet(generator):
        lists_BKL, score_BK = beam_search(
            _LogProbs(generator, memory), memory.mask_BN, length=length, width=width, branches=branches
        )
    return best_lists(lists_BKL, score_BK, count)


def best_lists(lists_BKL: Tensor, score_BK: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``count`` of K lists that stand best first (B, G, L), and their scores (B, G); the best again where K is fewer."""
    place_G = torch.arange(count, device=score_BK.device)
    place_G = place_G * (place_G < score_BK.shape[1])
    return lists_BKL[:, place_G], score_BK[:, place_G]


class _LogProbs:
    """Expansion by a generator's log-probabilities; its cache follows the beam."""

    def __init__(self, generator: Generator, memory: Memory) -> None:
        self.generator, self.memory = generator, memory
        self.state = generator.start(memory, 1)

    def __call__(self, beam: Beam) -> Tensor:
        if beam.length:
            state = self.generator.select(self.state, beam.parent_BK)
            self.state = self.generator.advance(self.memory, state, beam.lists_BKT[:, :, -1])
        logits_BKN, self.state = self.generator.step(self.memory, self.state)
        return beam.score_BK[..., None] + logits_BKN.log_softmax(-1)
