"""What a judge reads of a request: features of its own, so that it shares neither code nor weights with any ranker.

No user id (judges of disjoint users would not know it) and no popularity from the data's items (it comes from the
rankers' half): a judge counts popularity in the lists that it learns from itself.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from slatewise.data.batch import ListBatch
from slatewise.data.entities import lasting
from slatewise.data.prepared import Split
from slatewise.data.schema import Schema

START = 0.05  # standard deviation of what is not yet learnt
VECTOR = 64  # width of the items' start vectors


class JudgeFeatures(nn.Module):
    """Candidates in the user's context (B, N, D): the item, the user, and what of the history is near the item."""

    log_count_I: Tensor

    def __init__(self, schema: Schema, width: int, dropout: float) -> None:
        super().__init__()
        self.columns = lasting(schema.item_numeric).nonzero()[0].tolist()
        self.register_buffer("log_count_I", torch.zeros(schema.items))
        self.item = nn.Embedding(schema.items, width)
        self.vector, self.vector_map = (
            nn.Embedding(schema.items, VECTOR),
            nn.Linear(VECTOR, width, bias=False),
        )
        self.item_categories = nn.ModuleList(nn.Embedding(size, width) for size in schema.item_categories)
        self.item_numeric = nn.Linear(len(self.columns) + 1, width)
        self.user_categories = nn.ModuleList(nn.Embedding(size, width) for size in schema.user_categories)
        numbers = len(schema.user_numeric) + len(schema.context_numeric)
        self.user_numeric = nn.Linear(numbers, width) if numbers else None
        self.context_categories = nn.ModuleList(
            nn.Embedding(size, width) for size in schema.context_categories
        )
        scores = len(schema.candidate_numeric)
        self.scores = nn.Linear(scores, width) if scores else None
        self.liked, self.recency = nn.Linear(1, width), nn.Parameter(torch.zeros(schema.history + 1))
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.mix = nn.Sequential(
            nn.Linear(5 * width, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=START)

    def learn_items(self, split: Split) -> None:
        """What the lists that this judge learns from say of items alone: how often each was shown, and start vectors.

        The vectors are the leading singular ones of who was shown what, degree-normalised: items that came to the same
        users start close together, so that a history says something of a candidate from the first step on.
        """
        names = ("user", "candidates", "exposed", "num_exposed")
        user_R, item_RN, place_RE, real_R = (np.asarray(split.columns[name], np.int64) for name in names)
        shown_RE = np.take_along_axis(item_RN, place_RE, axis=1)
        real_RE = np.arange(shown_RE.shape[1]) < real_R[:, None]
        user_M, item_M = np.broadcast_to(user_R[:, None], shown_RE.shape)[real_RE], shown_RE[real_RE]
        items = len(self.item.weight)
        count_I = np.bincount(item_M, minlength=items)
        log_count_I = torch.from_numpy(np.log1p(count_I).astype(np.float32))
        self.log_count_I.copy_((log_count_I - log_count_I.mean()) / log_count_I.std().clamp_min(1e-6))
        seen_UI = sparse.csr_matrix((np.ones(len(item_M)), (user_M, item_M)), (user_R.max() + 1, items))
        if min(seen_UI.shape) <= VECTOR:
            return  # fewer users or items than directions: the random start is as good
        scale_U, scale_I = (
            sparse.diags(1 / np.sqrt(np.maximum(np.asarray(seen_UI.sum(axis)).ravel(), 1))) for axis in (1, 0)
        )
        start = np.random.default_rng(0).standard_normal(min(seen_UI.shape))
        _, strength_D, vector_DI = svds(scale_U @ seen_UI @ scale_I, k=VECTOR, v0=start)
        vector_ID = torch.from_numpy((vector_DI.T * strength_D).astype(np.float32).copy())
        with torch.no_grad():
            self.vector.weight.copy_(vector_ID / vector_ID.std().clamp_min(1e-12))

    def forward(self, batch: ListBatch) -> Tensor:
        """The batch to (B, N, D)."""
        item_BND = self._items(batch.candidates_BN, batch.item_categories_BNC, batch.item_numeric_BNF)
        if self.scores is not None:
            item_BND = item_BND + self.scores(batch.candidate_numeric_BNF)
        past_BHD = self._items(batch.history_BH, batch.history_categories_BHC, batch.history_numeric_BHF)
        past_BHD = past_BHD + self.liked(batch.history_feedback_BH[..., None])
        mask_BH = batch.history_mask_BH
        user_BD = (past_BHD * mask_BH[..., None]).sum(1) / mask_BH.sum(1, keepdim=True).clamp_min(1)
        if self.user_numeric is not None:
            numbers_BF = torch.cat([batch.user_numeric_BF, batch.context_numeric_BF], 1)
            user_BD = user_BD + self.user_numeric(numbers_BF)
        for place, table in enumerate(self.user_categories):
            user_BD = user_BD + table(batch.user_categories_BC[:, place])
        for place, table in enumerate(self.context_categories):
            user_BD = user_BD + table(batch.context_categories_BC[:, place])
        user_BND = user_BD[:, None].expand_as(item_BND)
        near_BND = self._near(item_BND, past_BHD, mask_BH)
        return self.mix(
            torch.cat([item_BND, user_BND, near_BND, item_BND * user_BND, item_BND * near_BND], 2)
        )

    def _items(self, index: Tensor, categories: Tensor, numeric: Tensor) -> Tensor:
        known = index * (index < self.item.num_embeddings)
        out = (
            self.item(known)
            + self.vector_map(self.vector(known))
            + self.item_numeric(
                torch.cat([numeric[..., self.columns], self.log_count_I[known][..., None]], -1)
            )
        )
        for place, table in enumerate(self.item_categories):
            out = out + table(categories[..., place])
        return out

    def _near(self, item_BND: Tensor, past_BHD: Tensor, mask_BH: Tensor) -> Tensor:
        """Each candidate's look at the history, beside an empty token that is always there."""
        age_BH = (mask_BH.sum(1, keepdim=True) - torch.arange(mask_BH.shape[1], device=mask_BH.device)).clamp(
            min=0
        )
        score_BNH = self.query(item_BND) @ self.key(past_BHD).transpose(1, 2) / item_BND.shape[2] ** 0.5
        score_BNH = (score_BNH + self.recency[age_BH][:, None]).masked_fill(~mask_BH[:, None], -torch.inf)
        empty_BN1 = self.recency[:1].expand(*score_BNH.shape[:2], 1)
        weight_BNH = torch.cat([score_BNH, empty_BN1], 2).softmax(2)[..., :-1]
        return weight_BNH @ past_BHD
