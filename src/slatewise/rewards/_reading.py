"""Rewards that read a list with a :class:`~slatewise.modules.list_reader.ListReader`: tower, reader, head.

A model says what the head makes of a place (:meth:`Reading.step`), whether a prefix is worth the sum of its places'
steps or what its last place says (``sums``), and how a value is read from that. The rest follows here: values of whole
lists and of all their prefixes in one pass, and of the extensions of prefixes from what was read before.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slatewise.modules.gather import gather_candidates, list_mask
from slatewise.modules.list_reader import ListReader, Prefixes
from slatewise.rewards.base import RewardMemory, RewardModel, places

if TYPE_CHECKING:
    from slatewise.decoding.search import Beam


class Reading(RewardModel):
    """A reward with a reader. Its memory's ``parts`` are the candidates' vectors (B, N, D)."""

    reader: ListReader
    sums: bool = True

    @abstractmethod
    def step(self, hidden: Tensor, item: Tensor, place: Tensor) -> Tensor:
        """What the head makes (..., S) of hidden states (..., D) of items (..., D) at ``place`` (counted from 0)."""

    def read_value(self, total: Tensor, place: Tensor) -> Tensor:
        """Value (...) of prefixes that end at ``place``, from the steps' sum or the last step (..., S)."""
        return total.squeeze(-1)

    def value_of(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Value of each list (B, G)."""
        return self.value_within(memory, lists_BGL, list_mask(memory.mask_BN, lists_BGL.shape[2]))[:, :, -1]

    def prefix_value(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Value of every prefix (B, G, L); one pass if the reader is causal."""
        if not self.reader.causal:
            return super().prefix_value(memory, lists_BGL)
        return self.value_within(memory, lists_BGL, list_mask(memory.mask_BN, lists_BGL.shape[2]))

    def value_within(self, memory: RewardMemory, lists_BGL: Tensor, mask_BL: Tensor) -> Tensor:
        """Values (B, G, L) as of :meth:`prefix_value`, of lists that end where ``mask_BL`` says. Of a reader that is
        not causal only the last one means something."""
        item_BGLD, place_L = (
            gather_candidates(memory.parts, lists_BGL),
            places(mask_BL.shape[1], mask_BL.device),
        )
        step_BGLS = self.step(self.reader(item_BGLD, mask_BL)[0], item_BGLD, place_L)
        value_BGL = self.read_value(step_BGLS.cumsum(2) if self.sums else step_BGLS, place_L)
        last_BL = torch.minimum(place_L, mask_BL.sum(1, keepdim=True) - 1).clamp_min(0)
        return value_BGL.gather(2, last_BL[:, None].expand_as(value_BGL)) * mask_BL[:, None, :1]

    def extension_value(self, memory: RewardMemory, prefix_BGT: Tensor) -> Tensor:
        """Value of each prefix with each candidate behind it (B, G, N); a causal reader reads the prefix once."""
        if not self.reader.causal:
            return super().extension_value(memory, prefix_BGT)
        return _Extensions(self, memory, prefix_BGT).value_BKN

    def expander(self, memory: RewardMemory) -> Callable[[Beam], Tensor]:
        """Values of a beam's extensions; a causal reader computes nothing of a prefix again."""
        if not self.reader.causal:
            return super().expander(memory)
        empty_BKT = memory.mask_BN.new_zeros(memory.mask_BN.shape[0], 1, 0, dtype=torch.long)
        return _Extensions(self, memory, empty_BKT)


class _Extensions:
    """Prefixes that have been read, and the value of each with each candidate behind it."""

    def __init__(self, model: Reading, memory: RewardMemory, prefix_BKT: Tensor) -> None:
        self.model, self.memory = model, memory
        item_BKTD, (_, k, t) = gather_candidates(memory.parts, prefix_BKT), prefix_BKT.shape
        hidden_BKTD, prefixes = model.reader(item_BKTD, list_mask(memory.mask_BN, t))
        sum_BKS = None
        if t:
            sum_BKS = model.step(hidden_BKTD, item_BKTD, places(t, prefix_BKT.device)).sum(2)
        self._extend(prefixes, k, sum_BKS)

    def __call__(self, beam: Beam) -> Tensor:
        """Values (B, K, N) of a beam's extensions; the beam must be the next one."""
        if beam.length:
            parent_BK, item_BK = beam.parent_BK, beam.lists_BKT[:, :, -1]
            row_B1 = torch.arange(item_BK.shape[0], device=item_BK.device)[:, None]
            prefixes = self.model.reader.follow(self.prefixes, self.rivals, parent_BK, item_BK)
            self._extend(prefixes, parent_BK.shape[1], self.total_BKNS[row_B1, parent_BK, item_BK])
        return self.value_BKN

    def _extend(self, prefixes: Prefixes, count: int, sum_BKS: Tensor | None) -> None:
        """``count`` is K; ``sum_BKS`` the steps of the prefixes, None where they are empty."""
        item_BND = self.memory.parts
        place = torch.tensor([prefixes.length], device=item_BND.device)
        hidden_BKND, self.rivals = self.model.reader.extend(prefixes, item_BND)
        step_BKNS = self.model.step(hidden_BKND, item_BND[:, None], place).expand(-1, count, -1, -1)
        self.prefixes, self.total_BKNS = prefixes, step_BKNS
        if self.model.sums and sum_BKS is not None:
            self.total_BKNS = sum_BKS[:, :, None] + step_BKNS
        self.value_BKN = self.model.read_value(self.total_BKNS, place)
