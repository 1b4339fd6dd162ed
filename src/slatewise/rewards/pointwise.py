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
from slatewise.modules.tower import TowerConfig, build_tower
from slatewise.rewards.base import Discount, FeedbackHead, RewardMemory, RewardModel


class Config(Frozen):
    """Settings of the pointwise reward."""

    tower: TowerConfig = TowerConfig()
    discount: Discount = "none"


class Pointwise(RewardModel):
    """Feature tower and one output a feedback kind."""

    def __init__(self, config: Config, manifest: Manifest) -> None:
        super().__init__()
        self.tower = build_tower(config.tower, manifest.schema)
        self.head = FeedbackHead(config.tower.width, manifest, config.discount)

    def encode(self, batch: ListBatch) -> RewardMemory:
        """Each candidate's outputs (B, N, K)."""
        x_BND, _ = self.tower(batch)
        return RewardMemory(batch.mask_BN, self.head.out(x_BND))

    def value_of(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Value of each list (B, G)."""
        return self.head.value(
            gather_candidates(memory.parts, lists_BGL), list_mask(memory.mask_BN, lists_BGL.shape[2])
        )

    def extension_value(self, memory: RewardMemory, prefix_BGT: Tensor) -> Tensor:
        """Value of each prefix with each candidate behind it (B, G, N)."""
        place = torch.tensor(prefix_BGT.shape[2], device=prefix_BGT.device)
        gain_B1N = self.head.gain(memory.parts, place)[:, None]
        if prefix_BGT.shape[2] == 0:
            return gain_B1N.expand(-1, prefix_BGT.shape[1], -1)
        return self.value_of(memory, prefix_BGT)[..., None] + gain_B1N

    def loss(self, memory: RewardMemory, lists_BGL: Tensor, feedback_BGLK: Tensor, mask_BL: Tensor) -> Tensor:
        """Each item's own."""
        return self.head.loss(gather_candidates(memory.parts, lists_BGL), feedback_BGLK, mask_BL)

    def start_from(self, item_vectors: Tensor, feedback_BEK: Tensor, mask_BE: Tensor) -> None:
        """Start vectors of the tower, scale of the amounts."""
        self.tower.load_item_vectors(item_vectors)
        self.head.set_scale(feedback_BEK, mask_BE)


def build(config: Config, manifest: Manifest) -> Pointwise:
    """The reward model for data of this manifest, with random weights."""
    return Pointwise(config, manifest)
