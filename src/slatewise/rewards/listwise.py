"""A Transformer over the list in the user's context (GoalRank App. B), with two heads by config.

``head = "list"`` is the paper's: one output, trained by squared error on the list's total feedback.
``head = "position"`` predicts each position's feedback, and the list's value is their (discounted) sum: many more
labels a list, which on simulated data with a known truth is worth several points of the optimum.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from slatewise.config import Above0, Chance, Count, Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.losses import list_mse
from slatewise.modules.gather import gather_candidates
from slatewise.modules.list_layer import Interaction
from slatewise.modules.list_reader import ListReader
from slatewise.modules.tower import TowerConfig, build_tower
from slatewise.modules.transformer import Encoder
from slatewise.rewards._reading import Reading
from slatewise.rewards.base import Discount, FeedbackHead, RewardMemory


class Config(Frozen):
    """``candidate_layers`` lets candidates see each other before the list is read (a list's value then depends on what
    was not shown, too). ``additive`` adds an item's own output to its position's, so that the list layers only have
    to learn the difference that the list makes. ``causal`` lets a position see only what stands before it, which
    makes prefixes valuable and beam search exact. The paper: ``head = "list"``, width 128.
    """

    tower: TowerConfig = TowerConfig()
    head: Literal["position", "list"] = "position"
    candidate_layers: Count = 0
    list_layers: Count = 2
    heads: Positive = 2
    feedforward: Above0 = 2.0
    dropout: Chance = 0.1
    interaction: Interaction = "both"
    additive: bool = True
    causal: bool = True
    discount: Discount = "none"


class Listwise(Reading):
    """The reward model of GoalRank."""

    def __init__(self, config: Config, manifest: Manifest) -> None:
        super().__init__()
        schema, width = manifest.schema, config.tower.width
        hidden = int(config.feedforward * width)
        self.config = config
        self.tower = build_tower(config.tower, schema)
        self.encoder = Encoder(config.candidate_layers, width, config.heads, hidden, config.dropout)
        self.reader = ListReader(
            width,
            schema.length,
            layers=config.list_layers,
            heads=config.heads,
            hidden=hidden,
            dropout=config.dropout,
            interaction=config.interaction,
            causal=config.causal,
        )
        self.head = FeedbackHead(width, manifest, config.discount)
        self.item_out = nn.Linear(width, len(schema.feedback)) if config.additive else None
        self.total = nn.Linear(width, 1) if config.head == "list" else None

    def encode(self, batch: ListBatch) -> RewardMemory:
        """The candidates' vectors."""
        x_BND, _ = self.tower(batch)
        return RewardMemory(batch.mask_BN, self.encoder(x_BND, batch.mask_BN))

    def step(self, hidden: Tensor, item: Tensor, place: Tensor) -> Tensor:
        """Each place's expected value, or its hidden state where the head reads their mean."""
        return (
            hidden if self.total is not None else self.head.gain(self._logits(hidden, item), place)[..., None]
        )

    def read_value(self, total: Tensor, place: Tensor) -> Tensor:
        """The sum itself, or what the head makes of the mean."""
        if self.total is None:
            return total.squeeze(-1)
        return self.head.level * self.total(total / (place + 1)[:, None]).squeeze(-1)

    def loss(self, memory: RewardMemory, lists_BGL: Tensor, feedback_BGLK: Tensor, mask_BL: Tensor) -> Tensor:
        """The paper's squared error on a list's total (App. B), or each place's own by the per-position head."""
        if self.total is not None:
            value_BG = self.value_within(memory, lists_BGL, mask_BL)[:, :, -1]
            target_BG = self.head.target(feedback_BGLK, mask_BL)
            return list_mse.loss(value_BG, target_BG, torch.ones_like(target_BG).bool())
        item_BGLD = gather_candidates(memory.parts, lists_BGL)
        hidden_BGLD, _ = self.reader(item_BGLD, mask_BL)
        return self.head.loss(self._logits(hidden_BGLD, item_BGLD), feedback_BGLK, mask_BL)

    def start_from(self, item_vectors: Tensor, feedback_BEK: Tensor, mask_BE: Tensor) -> None:
        """Start vectors of the tower, scale of the amounts."""
        self.tower.load_item_vectors(item_vectors)
        self.head.set_scale(feedback_BEK, mask_BE)

    def _logits(self, hidden: Tensor, item: Tensor) -> Tensor:
        logits: Tensor = self.head.out(hidden)
        return logits if self.item_out is None else logits + self.item_out(item)


def build(config: Config, manifest: Manifest) -> Listwise:
    """The reward model for data of this manifest, with random weights."""
    return Listwise(config, manifest)
