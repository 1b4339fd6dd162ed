"""Scorers: one score for each candidate, whatever stands in the list; DNN and PRM are two settings of it.

As a policy a scorer is Plackett–Luce: at each position a softmax of the scores over what remains. Its greedy list is
the sort by score, and every decoding strategy works on it as on any generator.
"""

from __future__ import annotations

from torch import Tensor, nn

from slatewise.config import Above0, Chance, Count, Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Schema
from slatewise.generators.base import ScoreGenerator
from slatewise.modules.tower import TowerConfig, build_tower
from slatewise.modules.transformer import Encoder


class Config(Frozen):
    """``encoder_layers = 0`` scores each candidate by itself (DNN); more let candidates see each other (PRM)."""

    tower: TowerConfig = TowerConfig()
    encoder_layers: Count = 0
    heads: Positive = 2
    feedforward: Above0 = 2.0
    dropout: Chance = 0.1


class Scorer(ScoreGenerator):
    """Feature tower, candidate Transformer, linear score."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        width, hidden = config.tower.width, int(config.feedforward * config.tower.width)
        self.tower = build_tower(config.tower, schema)
        self.encoder = Encoder(config.encoder_layers, width, config.heads, hidden, config.dropout)
        self.score = nn.Linear(width, 1)

    def score_candidates(self, batch: ListBatch) -> Tensor:
        """Scores (B, N), as logits."""
        x_BND, _ = self.tower(batch)
        return self.score(self.encoder(x_BND, batch.mask_BN)).squeeze(-1).float()


def build(config: Config, schema: Schema) -> Scorer:
    """The scorer for data of this schema, with random weights."""
    return Scorer(config, schema)
