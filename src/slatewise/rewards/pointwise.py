"""A DNN that values each item by itself; a list is worth the (discounted) sum of its items, in any order.

The yardstick of every listwise reward: what it cannot see is exactly what a list adds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.modules.gather import gather_candidates, list_mask
from slatewise.modules.tower import Tower, TowerConfig
from slatewise.rewards.base import Discount, FeedbackHead, RewardMemory, RewardModel


class Config(Frozen):
    """Settings of the pointwise reward."""

    tower: TowerConfig = TowerConfig()
    discount: Discount = "none"


class Pointwise(RewardModel):
    """Feature tower and one output a feedback kind."""

    def __init__(self, config: Config, manifest: Manifest) -> None:
        super().__init__()
        self.tower = Tower(config.tower, manifest.schema)
        self.head = FeedbackHead(config.tower.width, manifest, config.discount)

    def encode(self, batch: ListBatch) -> RewardMemory:
        """Each candidate's outputs (B, N, K)."""
        x_BND, _ = self.tower(batch)
        return RewardMemory(batch.mask_BN, self.head.out(x_BND))

    def position_logits(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """The items' outputs, position by position (B, G, L, K)."""
        return gather_candidates(memory.parts, lists_BGL)

    def value_of(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Value of each list (B, G)."""
        return self.head.value(
            self.position_logits(memory, lists_BGL), list_mask(memory.mask_BN, lists_BGL.shape[2])
        )

    def extension_value(self, memory: RewardMemory, prefix_BGT: Tensor) -> Tensor:
        """Value of each prefix with each candidate behind it (B, G, N)."""
        t = prefix_BGT.shape[2]
        gain_BN = self.head.expected(memory.parts) @ self.head.weight_K
        before_BG = (
            self.value_of(memory, prefix_BGT)
            if t
            else torch.zeros(prefix_BGT.shape[:2], device=gain_BN.device)
        )
        return before_BG[..., None] + (gain_BN * self.head.position_weight(t + 1)[t])[:, None]


def build(config: Config, manifest: Manifest) -> Pointwise:
    """The reward model for data of this manifest, with random weights."""
    return Pointwise(config, manifest)
