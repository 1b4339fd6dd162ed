"""A network that reads a list as a set (Zaheer et al. 2017): an item's chance depends on what else is in the list, never
on the order.

Where the labels carry no effect of order (MovieLens), a judge that sees order can only learn one that is not there: the
recurrent judge's small preference among the orders of a set decides which lists are among its best 1 %. This one knows
that there is none, and every one of a request's sets can be enumerated.
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
    """``width`` of features and of what an item hears of the others."""

    width: Positive = 32
    dropout: Chance = 0.1


class Sets(TrainedJudge):
    """Features, the mean of the other items and its product with the item's own, one output an item."""

    order_free = True

    def __init__(self, config: Config, manifest: Manifest) -> None:
        super().__init__()
        width = config.width
        self.features = JudgeFeatures(manifest.schema, width, config.dropout)
        self.own, self.other = nn.Linear(width, width), nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.out = nn.Sequential(
            nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def item_states(self, batch: ListBatch) -> Tensor:
        """The candidates' vectors (B, N, D)."""
        return self.features(batch)

    def place_logits(self, memory: Tensor, lists_BGL: Tensor) -> Tensor:
        """The items' logits beside the others of their list (B, G, L); an item alone hears nothing of others."""
        own_BGLD = gather_candidates(self.own(memory), lists_BGL)
        heard_BGLD = gather_candidates(self.other(memory), lists_BGL)
        others = max(1, lists_BGL.shape[2] - 1)
        mean_BGLD = (heard_BGLD.sum(2, keepdim=True) - heard_BGLD) / others
        return self.out(own_BGLD + mean_BGLD + own_BGLD * mean_BGLD).squeeze(3)


def build(config: Config, manifest: Manifest) -> Sets:
    """The judge for data of this manifest, with random weights."""
    return Sets(config, manifest)
