"""The mean of several reward models that differ only in their seed: choosing by it suffers less from any one's errors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slatewise.data.batch import ListBatch
from slatewise.rewards.base import RewardMemory, RewardModel


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
        values = [m.value_of(part, lists_BGL) for m, part in zip(self.members, memory.parts, strict=True)]  # type: ignore[operator]
        return torch.stack(values).mean(0)

    def extension_value(self, memory: RewardMemory, prefix_BGT: Tensor) -> Tensor:
        """Mean value of each prefix with each candidate behind it (B, G, N)."""
        values = [
            m.extension_value(part, prefix_BGT)  # type: ignore[operator]
            for m, part in zip(self.members, memory.parts, strict=True)
        ]
        return torch.stack(values).mean(0)
