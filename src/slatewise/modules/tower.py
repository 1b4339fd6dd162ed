"""The feature tower: from the columns of a batch to one vector for each candidate and one for the user.

Every generator and every reward model starts here, so that a method's difference to another is never its features.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Schema
from slatewise.modules.transformer import Attention


class TowerConfig(Frozen):
    """Settings of :class:`Tower`.

    ``id_dropout`` hides an id's embedding with this probability in training, which keeps ids from being learnt by
    heart and gives cold users and items a trained fallback (the features alone). ``history`` is how past
    interactions reach a candidate: ``attention`` lets each candidate look at them, ``mean`` averages them.
    """

    width: int = 64
    dropout: float = 0.1
    id_dropout: float = 0.5
    item_ids: bool = True
    user_ids: bool = True
    item_vectors: bool = True
    scores: bool = True
    history: Literal["attention", "mean", "none"] = "attention"


class Features(nn.Module):
    """Sum of an id embedding, embeddings of categories, and a linear map of numeric features and start vectors."""

    def __init__(
        self, entries: int, categories: tuple[int, ...], numeric: int, width: int, id_dropout: float
    ) -> None:
        super().__init__()
        self.id_dropout = id_dropout
        self.id = nn.Embedding(entries, width, padding_idx=0) if entries else None
        self.categories = nn.ModuleList(nn.Embedding(size, width) for size in categories)
        self.numeric = nn.Linear(numeric, width) if numeric else None
        self.base = nn.Parameter(torch.zeros(width))
        for table in (*self.categories, *([self.id] if self.id else [])):
            nn.init.normal_(table.weight, std=0.05)

    def forward(self, index: Tensor, categories: Tensor, numeric: Tensor) -> Tensor:
        """Index (...), categories (..., C), numeric (..., F) to (..., D)."""
        out = (
            self.base.expand(*index.shape, -1) if self.numeric is None else self.base + self.numeric(numeric)
        )
        if self.id is not None:
            known = index * (
                index < self.id.num_embeddings
            )  # an item met after training has features, but no id
            embedded = self.id(known)
            if self.training and self.id_dropout > 0:
                embedded = (
                    embedded * (torch.rand(index.shape, device=index.device) >= self.id_dropout)[..., None]
                )
            out = out + embedded * (known > 0)[..., None]
        for position, table in enumerate(self.categories):
            out = out + table(categories[..., position])
        return out


class Tower(nn.Module):
    """Candidates and user of a batch as vectors of width D.

    Permuting the candidates permutes the output; the tower looks at each candidate by itself, beside the user,
    the context and the history (and the score's place among the others, which is a feature of the data).
    """

    def __init__(self, config: TowerConfig, schema: Schema) -> None:
        super().__init__()
        self.config = config
        width, drop = config.width, config.dropout
        # ids that training never shows would keep random vectors: they have features, but no embedding
        trained_items, trained_users = (
            schema.trained_items or schema.items,
            schema.trained_users or schema.users,
        )
        self.score_columns = [
            i
            for i, name in enumerate(schema.candidate_numeric)
            if config.scores or not name.startswith("score")
        ]
        self.item = Features(
            trained_items if config.item_ids else 0,
            schema.item_categories,
            len(schema.item_numeric),
            width,
            config.id_dropout,
        )
        self.vector = (
            nn.Embedding(schema.items, schema.item_vector)
            if config.item_vectors and schema.item_vector
            else None
        )
        self.vector_map = (
            nn.Linear(schema.item_vector, width, bias=False) if self.vector is not None else None
        )
        self.in_request = (
            nn.Linear(len(self.score_columns), width, bias=False) if self.score_columns else None
        )
        self.user = Features(
            trained_users if config.user_ids else 0,
            schema.user_categories,
            len(schema.user_numeric),
            width,
            config.id_dropout,
        )
        self.context = Features(0, schema.context_categories, len(schema.context_numeric), width, 0.0)
        self.history_length = schema.history if config.history != "none" else 0
        if self.history_length:
            self.recency = nn.Parameter(torch.randn(schema.history, width) * 0.05)
            self.feedback = nn.Linear(1, width)
            self.no_history = nn.Parameter(torch.zeros(width))
            self.history_norm = nn.LayerNorm(width)
        self.attend = (
            Attention(width, max(1, width // 32))
            if self.history_length and config.history == "attention"
            else None
        )
        parts = 3 + (self.attend is not None)
        self.item_norm, self.user_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(parts * width, 2 * width), nn.GELU(), nn.Dropout(drop), nn.Linear(2 * width, width)
        )

    def load_item_vectors(self, vectors: Tensor) -> None:
        """Start the vector table from ``vectors`` (items, V), e.g. the factors of a matrix factorisation."""
        if self.vector is not None:
            with torch.no_grad():
                self.vector.weight.copy_(vectors)

    def forward(self, batch: ListBatch) -> tuple[Tensor, Tensor]:
        """The batch to (candidates_BND, user_BD)."""
        item_BND = self._items(batch.candidates_BN, batch.item_categories_BNC, batch.item_numeric_BNF)
        if self.in_request is not None:
            item_BND = item_BND + self.in_request(batch.candidate_numeric_BNF[..., self.score_columns])
        user_BD = self.user(batch.user_B, batch.user_categories_BC, batch.user_numeric_BF)
        user_BD = user_BD + self.context(batch.user_B, batch.context_categories_BC, batch.context_numeric_BF)
        item_BND = self.item_norm(item_BND)
        parts = [item_BND]
        if self.history_length:
            history_BTD, mask_BT = self._history(batch)
            weight_BT = mask_BT / mask_BT.sum(1, keepdim=True)
            user_BD = user_BD + (weight_BT[..., None] * history_BTD).sum(1)
            if self.attend is not None:
                parts.append(
                    self.attend(item_BND, self.attend.project(history_BTD), mask_BT[:, None, None, :])
                )
        user_BD = self.user_norm(user_BD)
        user_BND = user_BD[:, None].expand_as(item_BND)
        parts += [user_BND, item_BND * user_BND]
        return item_BND + self.mix(torch.cat(parts, -1)), user_BD

    def _items(self, index: Tensor, categories: Tensor, numeric: Tensor) -> Tensor:
        out: Tensor = self.item(index, categories, numeric)
        if self.vector is not None and self.vector_map is not None:
            known = index * (index < self.vector.num_embeddings)
            out = out + self.vector_map(self.vector(known))
        return out

    def _history(self, batch: ListBatch) -> tuple[Tensor, Tensor]:
        """History tokens with an always-there *nothing yet* token in front, so that no attention row is empty."""
        token_BHD = self._items(batch.history_BH, batch.history_categories_BHC, batch.history_numeric_BHF)
        mask_BH = batch.history_mask_BH
        age_BH = (
            mask_BH.sum(1, keepdim=True) - 1 - torch.arange(mask_BH.shape[1], device=mask_BH.device)
        ).clamp_min(0)
        token_BHD = token_BHD + self.recency[age_BH] + self.feedback(batch.history_feedback_BH[..., None])
        nothing_B1D = self.no_history.expand(token_BHD.shape[0], 1, -1)
        token_BTD = self.history_norm(torch.cat([nothing_B1D, token_BHD], 1))
        return token_BTD, torch.cat([torch.ones_like(mask_BH[:, :1]), mask_BH], 1)


def build_tower(config: TowerConfig, schema: Schema) -> Tower:
    """The feature tower for batches of this schema, with random weights."""
    return Tower(config, schema)
