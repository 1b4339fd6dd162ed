"""Inner products of a vector a user and a vector an item: popularity and matrix factorisation, as floors of retrieval."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.policies import Policy
from slatewise.policies._found import best
from slatewise.policies.decode import sort_by_score
from slatewise.types import Ranking, Retrieved


class Config(Frozen):
    """``width`` of the vectors; ``repeats``: items of the request's history may be recommended again."""

    width: Positive = 1
    repeats: bool = False


class Factors(Policy):
    """Sorts by the inner product; a user of no vector (index 0) has the mean one.

    Attributes:
        user_UV, item_IV: the vectors.   catalogue_I: items that may be recommended.
    """

    user_UV: Tensor
    item_IV: Tensor
    catalogue_I: Tensor

    def __init__(self, config: Config, users: int, items: int) -> None:
        super().__init__()
        self.repeats = config.repeats
        # parameters, so that a ranker on an accelerator knows where it is; nothing trains them
        self.user_UV = torch.nn.Parameter(torch.zeros(users, config.width), requires_grad=False)
        self.item_IV = torch.nn.Parameter(torch.zeros(items, config.width), requires_grad=False)
        self.register_buffer("catalogue_I", torch.zeros(items, dtype=torch.bool))

    @torch.no_grad()
    def rank(self, batch: ListBatch, length: int) -> Ranking:
        """The sort of the candidates."""
        known_BN = batch.candidates_BN * (batch.candidates_BN < len(self.item_IV))
        score_BN = torch.einsum("bv,bnv->bn", self._users(batch), self.item_IV[known_BN])
        return sort_by_score(score_BN, batch, length)

    @torch.no_grad()
    def retrieve(self, batch: ListBatch, count: int) -> Retrieved:
        """The best items of the catalogue for each request."""
        score_BI = self._users(batch) @ self.item_IV.T
        return best(score_BI, self.catalogue_I, batch, count, self.repeats)

    def _users(self, batch: ListBatch) -> Tensor:
        return self.user_UV[batch.user_B * (batch.user_B < len(self.user_UV))]


def build(config: Config, manifest: Manifest) -> Factors:
    """The policy with vectors of zeros."""
    return Factors(config, manifest.schema.users, manifest.schema.items)
