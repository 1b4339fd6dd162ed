"""A Transformer over the list in the user's context (GoalRank App. B), with two heads by config.

``head = "list"`` is the paper's: one output, trained by squared error on the list's total feedback.
``head = "position"`` predicts each position's feedback, and the list's value is their (discounted) sum: many more
labels a list, which on simulated data with a known truth is worth several points of the optimum.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.modules.gather import gather_candidates, list_mask
from slatewise.modules.list_layer import Interaction, ListLayer
from slatewise.modules.tower import Tower, TowerConfig
from slatewise.modules.transformer import Encoder
from slatewise.rewards.base import Discount, FeedbackHead, RewardMemory, RewardModel


class Config(Frozen):
    """``candidate_layers`` lets candidates see each other before the list is read (a list's value then depends on what
    was not shown, too). ``additive`` adds an item's own output to its position's, so that the list layers only have
    to learn the difference that the list makes. ``causal`` lets a position see only what stands before it, which
    makes prefixes valuable and beam search exact. The paper: ``head = "list"``, width 128.
    """

    tower: TowerConfig = TowerConfig()
    head: Literal["position", "list"] = "position"
    candidate_layers: int = 0
    list_layers: int = 2
    heads: int = 2
    feedforward: float = 2.0
    dropout: float = 0.1
    interaction: Interaction = "both"
    additive: bool = True
    causal: bool = True
    discount: Discount = "none"


class Listwise(RewardModel):
    """The reward model of GoalRank."""

    def __init__(self, config: Config, manifest: Manifest) -> None:
        super().__init__()
        schema, width = manifest.schema, config.tower.width
        hidden = int(config.feedforward * width)
        self.config = config
        self.tower = Tower(config.tower, schema)
        self.encoder = Encoder(config.candidate_layers, width, config.heads, hidden, config.dropout)
        self.position = nn.Parameter(torch.randn(schema.length, width) * 0.05)
        self.layers = nn.ModuleList(
            ListLayer(width, config.heads, hidden, config.dropout, schema.length, config.interaction)
            for _ in range(config.list_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = FeedbackHead(width, manifest, config.discount)
        self.item_out = nn.Linear(width, len(schema.feedback)) if config.additive else None
        self.total = nn.Linear(width, 1) if config.head == "list" else None

    def encode(self, batch: ListBatch) -> RewardMemory:
        """The candidates' vectors."""
        x_BND, _ = self.tower(batch)
        return RewardMemory(batch.mask_BN, self.encoder(x_BND, batch.mask_BN))

    def position_logits(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Outputs of the per-position head (B, G, L, K), before :meth:`FeedbackHead.expected`."""
        item_BGLD = gather_candidates(memory.parts, lists_BGL)
        hidden_BGLD, _ = self._read(memory, item_BGLD)
        return self._logits(hidden_BGLD, item_BGLD)

    def value_of(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Value of each list (B, G)."""
        mask_BL = list_mask(memory.mask_BN, lists_BGL.shape[2])
        if self.total is None:
            return self.head.value(self.position_logits(memory, lists_BGL), mask_BL)
        hidden_BGLD, _ = self._read(memory, gather_candidates(memory.parts, lists_BGL))
        return self._total(hidden_BGLD, mask_BL)

    def extension_value(self, memory: RewardMemory, prefix_BGT: Tensor) -> Tensor:
        """Value of each prefix with each candidate behind it (B, G, N); the prefix is read once for all N.

        A model whose positions see what follows has no such shortcut, nor has the empty prefix: there the lists are
        valued one by one.
        """
        b, g, t = prefix_BGT.shape
        n = memory.mask_BN.shape[1]
        if t == 0 or not self.config.causal:
            index = torch.arange(n, device=prefix_BGT.device).expand(b, g, n)
            lists = torch.cat([prefix_BGT[:, :, None].expand(b, g, n, t), index[..., None]], 3)
            return self.value_of(memory, lists.flatten(1, 2)).view(b, g, n)
        item_BGTD = gather_candidates(memory.parts, prefix_BGT)
        prefix_hidden, inputs = self._read(memory, item_BGTD)
        rows_RND = (memory.parts + self.position[t])[:, None].expand(b, g, n, -1).flatten(0, 1)
        for layer, earlier in zip(self.layers, inputs, strict=True):
            rows_RND = layer.extend(earlier, rows_RND)  # type: ignore[operator]
        hidden_BGND = rows_RND.view(b, g, n, -1)
        if self.total is not None:
            summed = (prefix_hidden.sum(2)[:, :, None] + self.norm(hidden_BGND)) / (t + 1)
            return self.total(summed).squeeze(-1)
        gain_BGN = (
            self.head.expected(self._logits(self.norm(hidden_BGND), memory.parts[:, None]))
            @ self.head.weight_K
        )
        before_BG = self.head.value(self._logits(prefix_hidden, item_BGTD), list_mask(memory.mask_BN, t))
        return before_BG[..., None] + gain_BGN * self.head.position_weight(t + 1)[t]

    def _read(self, memory: RewardMemory, item_BGLD: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The list layers' output (B, G, L, D) and each layer's normalised input, for extending prefixes."""
        b, g, length, _ = item_BGLD.shape
        allowed = torch.ones(length, length, dtype=torch.bool, device=item_BGLD.device)
        if self.config.causal:
            allowed = allowed.tril()
        else:
            real_RL = list_mask(memory.mask_BN, length).repeat_interleave(g, 0)
            allowed = allowed & real_RL[:, None]
        x_RLD, inputs = (item_BGLD + self.position[:length]).flatten(0, 1), []
        for layer in self.layers:
            x_RLD, y = layer(x_RLD, allowed)
            inputs.append(y)
        return self.norm(x_RLD).view(b, g, length, -1), inputs

    def _logits(self, hidden: Tensor, item: Tensor) -> Tensor:
        logits: Tensor = self.head.out(hidden)
        return logits if self.item_out is None else logits + self.item_out(item)

    def _total(self, hidden_BGLD: Tensor, mask_BL: Tensor) -> Tensor:
        weight_BL = mask_BL / mask_BL.sum(1, keepdim=True).clamp_min(1)
        pooled_BGD = (hidden_BGLD * weight_BL[:, None, :, None]).sum(2)
        assert self.total is not None
        return self.total(pooled_BGD).squeeze(-1)


def build(config: Config, manifest: Manifest) -> Listwise:
    """The reward model for data of this manifest, with random weights."""
    return Listwise(config, manifest)
