"""The mean of several reward models that differ only in their seed: choosing by it suffers less from any one's errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from slatewise.data.batch import ListBatch
from slatewise.rewards.base import RewardMemory, RewardModel

if TYPE_CHECKING:
    from slatewise.decoding.search import Beam


class Ensemble(RewardModel):
    """Averages the values of its members."""

    def __init__(self, members: list[RewardModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def encode(self, batch: ListBatch) -> RewardMemory:
        """Each member's memory."""
        return RewardMemory(batch.mask_BN, [member.encode(batch) for member in self.members])  # type: ignore[operator]

    def value_of(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Mean value of each list (B, G)."""
        return self._mean("value_of", memory, lists_BGL)

    def prefix_value(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Mean value of every prefix of each list (B, G, L)."""
        return self._mean("prefix_value", memory, lists_BGL)

    def extension_value(self, memory: RewardMemory, prefix_BGT: Tensor) -> Tensor:
        """Mean value of each prefix with each candidate behind it (B, G, N)."""
        return self._mean("extension_value", memory, prefix_BGT)

    def expander(self, memory: RewardMemory) -> Callable[[Beam], Tensor]:
        """The mean of what the members' own expanders say."""
        expanders = [m.expander(part) for m, part in self._pairs(memory)]
        return lambda beam: torch.stack([expand(beam) for expand in expanders]).mean(0)

    def loss(self, memory: RewardMemory, lists_BGL: Tensor, feedback_BGLK: Tensor, mask_BL: Tensor) -> Tensor:
        """The mean of the members' losses."""
        return self._mean("loss", memory, lists_BGL, feedback_BGLK, mask_BL)

    def start_from(self, item_vectors: Tensor, feedback_BEK: Tensor, mask_BE: Tensor) -> None:
        """Every member by itself."""
        for member in self.members:
            member.start_from(item_vectors, feedback_BEK, mask_BE)  # type: ignore[operator]

    def _pairs(self, memory: RewardMemory) -> list[tuple[RewardModel, RewardMemory]]:
        return list(zip(cast(list[RewardModel], list(self.members)), memory.parts, strict=True))

    def _mean(self, question: str, memory: RewardMemory, *told: Tensor) -> Tensor:
        answers = [getattr(member, question)(part, *told) for member, part in self._pairs(memory)]
        return torch.stack(answers).mean(0)
