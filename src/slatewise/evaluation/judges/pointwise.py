"""A network that looks at one item at a time: a list is worth the sum of its items' chances, in any order.

Where feedback does not depend on order or neighbours (MovieLens), it knows all there is to know, and every one of a
request's sets can be enumerated.
"""

from __future__ import annotations

from torch import Tensor, nn

from slatewise.config import Chance, Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.evaluation.judges import TrainedJudge
from slatewise.evaluation.judges._features import JudgeFeatures
from slatewise.modules.gather import gather_candidates


class Config(Frozen):
    """``width`` of the features."""

    width: Positive = 32
    dropout: Chance = 0.1


class Pointwise(TrainedJudge):
    """Features and one output an item."""

    order_free = alone = True

    def __init__(self, config: Config, manifest: Manifest) -> None:
        super().__init__()
        self.features = JudgeFeatures(manifest.schema, config.width, config.dropout)
        self.out = nn.Sequential(nn.ReLU(), nn.Linear(config.width, 1))

    def item_states(self, batch: ListBatch) -> Tensor:
        """Each candidate's logit (B, N, 1)."""
        return self.out(self.features(batch))

    def place_logits(self, memory: Tensor, lists_BGL: Tensor) -> Tensor:
        """The items' logits, wherever they stand (B, G, L)."""
        return gather_candidates(memory, lists_BGL).squeeze(3)


def build(config: Config, manifest: Manifest) -> Pointwise:
    """The judge for data of this manifest, with random weights."""
    return Pointwise(config, manifest)
