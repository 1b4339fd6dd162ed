"""The feature tower: from the columns of a batch to one vector for each candidate and one for the user.

Every generator and every reward model starts here, so that a method's difference to another is never its features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from slatewise.config import Chance, Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Schema
from slatewise.modules.transformer import Attention


class TowerConfig(Frozen):
    """Settings of a feature tower.

    ``form`` says how features become a candidate's vector: ``sum`` adds up embeddings of the full width, ``fields``
    is DeGRe's (§4.1): fields of ``field_width`` (of ``fields`` alone), normalised by group, attending to each other.
    ``id_dropout`` hides an id's embedding with this probability in training, which keeps ids from being learnt by
    heart and gives cold users and items a trained fallback (the features alone). ``history`` is how past
    interactions reach a candidate: ``attention`` lets each candidate look at them, ``mean`` averages them.
    """

    form: Literal["sum", "fields"] = "sum"
    width: Positive = 64
    field_width: Positive = 16
    dropout: Chance = 0.1
    id_dropout: Chance = 0.5
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
        return reduce(torch.add, self.parts(index, categories, numeric))

    @property
    def count(self) -> int:
        """How many :meth:`parts` there are."""
        return 1 + (self.id is not None) + len(self.categories)

    def parts(self, index: Tensor, categories: Tensor, numeric: Tensor) -> list[Tensor]:
        """The embeddings by themselves, each (..., D): all numbers together, the id, each category."""
        base = (
            self.base.expand(*index.shape, -1) if self.numeric is None else self.base + self.numeric(numeric)
        )
        parts = [base]
        if self.id is not None:
            # an item met after training has features, but no id
            known = index * (index < self.id.num_embeddings)
            embedded = self.id(known)
            if self.training and self.id_dropout > 0:
                hidden = torch.rand(index.shape, device=index.device) < self.id_dropout
                embedded = embedded * ~hidden[..., None]
            parts.append(embedded * (known > 0)[..., None])
        return parts + [table(categories[..., place]) for place, table in enumerate(self.categories)]


class Tower(nn.Module, ABC):
    """Candidates and user of a batch as vectors of width D.

    Permuting the candidates permutes the output; the tower looks at each candidate by itself, beside the user,
    the context and the history (and the score's place among the others, which is a feature of the data).
    Here are the embeddings, of ``width``; how a candidate's become its vector is the form's.
    """

    def __init__(self, config: TowerConfig, schema: Schema, width: int) -> None:
        super().__init__()
        self.config = config
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
        has_vector = config.item_vectors and schema.item_vector
        self.vector = nn.Embedding(schema.items, schema.item_vector) if has_vector else None
        self.vector_map = nn.Linear(schema.item_vector, width, bias=False) if has_vector else None
        # a norm that sees one number times a vector would leave its sign: fields have a bias to stand against
        columns, bias = len(self.score_columns), config.form == "fields"
        self.in_request = nn.Linear(columns, width, bias=bias) if columns else None
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
        attends = self.history_length and config.history == "attention"
        self.attend = Attention(width, max(1, width // 32)) if attends else None

    @abstractmethod
    def forward(self, batch: ListBatch) -> tuple[Tensor, Tensor]:
        """The batch to (candidates_BND, user_BD)."""

    def load_item_vectors(self, vectors: Tensor) -> None:
        """Start the vector table from ``vectors`` (items, V), e.g. the factors of a matrix factorisation."""
        if self.vector is not None:
            with torch.no_grad():
                self.vector.weight.copy_(vectors)

    def _items(self, index: Tensor, categories: Tensor, numeric: Tensor) -> list[Tensor]:
        parts = self.item.parts(index, categories, numeric)
        if self.vector is not None and self.vector_map is not None:
            known = index * (index < self.vector.num_embeddings)
            parts.append(self.vector_map(self.vector(known)))
        return parts

    def _candidates(self, batch: ListBatch) -> list[Tensor]:
        return self._items(batch.candidates_BN, batch.item_categories_BNC, batch.item_numeric_BNF)

    def _scores(self, batch: ListBatch) -> list[Tensor]:
        used = batch.candidate_numeric_BNF[..., self.score_columns]
        return [] if self.in_request is None else [self.in_request(used)]

    def _history(self, batch: ListBatch) -> tuple[Tensor, Tensor, Tensor]:
        """History tokens with an always-there *nothing yet* token in front, so that no attention row is empty; their
        mask; their mean (B, D)."""
        parts = self._items(batch.history_BH, batch.history_categories_BHC, batch.history_numeric_BHF)
        token_BHD, mask_BH = reduce(torch.add, parts), batch.history_mask_BH
        newest_B1 = mask_BH.sum(1, keepdim=True) - 1
        age_BH = (newest_B1 - torch.arange(mask_BH.shape[1], device=mask_BH.device)).clamp_min(0)
        token_BHD = token_BHD + self.recency[age_BH] + self.feedback(batch.history_feedback_BH[..., None])
        nothing_B1D = self.no_history.expand(token_BHD.shape[0], 1, -1)
        token_BTD = self.history_norm(torch.cat([nothing_B1D, token_BHD], 1))
        mask_BT = torch.cat([torch.ones_like(mask_BH[:, :1]), mask_BH], 1)
        weight_BT = mask_BT / mask_BT.sum(1, keepdim=True)
        return token_BTD, mask_BT, (weight_BT[..., None] * token_BTD).sum(1)


class SumTower(Tower):
    """Embeddings of one kind add up; item, history, user and the product of item and user go through an MLP."""

    def __init__(self, config: TowerConfig, schema: Schema) -> None:
        super().__init__(config, schema, config.width)
        width, parts = config.width, 3 + (self.attend is not None)
        self.item_norm, self.user_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(parts * width, 2 * width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, batch: ListBatch) -> tuple[Tensor, Tensor]:
        """The batch to (candidates_BND, user_BD)."""
        item_BND = reduce(torch.add, [*self._candidates(batch), *self._scores(batch)])
        user_BD = self.user(batch.user_B, batch.user_categories_BC, batch.user_numeric_BF)
        user_BD = user_BD + self.context(batch.user_B, batch.context_categories_BC, batch.context_numeric_BF)
        item_BND = self.item_norm(item_BND)
        parts = [item_BND]
        if self.history_length:
            token_BTD, mask_BT, mean_BD = self._history(batch)
            user_BD = user_BD + mean_BD
            if self.attend is not None:
                parts.append(self.attend(item_BND, self.attend.project(token_BTD), mask_BT[:, None, None]))
        user_BD = self.user_norm(user_BD)
        user_BND = user_BD[:, None].expand_as(item_BND)
        parts += [user_BND, item_BND * user_BND]
        return item_BND + self.mix(torch.cat(parts, -1)), user_BD


class FieldTower(Tower):
    """DeGRe's (§4.1, Eq. 5): fields, normalised by group, and what they make of each other, flattened and projected.

    Fields of an entity: its numbers together, its id, each category, an item's start vector; the scores of the stage
    before; what a candidate sees in the history (or its mean). Groups: item, score, user, context, history; each is
    normalised over all its numbers together. Inter-domain attention is self-attention with one head over all fields
    of a candidate. The equation's position P before the linear layer is a learnt vector a position behind it, since
    Linear(E || P) = A E + B P: the reader of lists adds it.
    """

    def __init__(self, config: TowerConfig, schema: Schema) -> None:
        width = config.field_width
        super().__init__(config, schema, width)
        count = {
            "item": self.item.count + (self.vector is not None),
            "score": int(self.in_request is not None),
            "user": self.user.count,
            "context": self.context.count,
            "history": int(self.history_length > 0),
        }
        self.norms = nn.ModuleDict({name: nn.LayerNorm((n, width)) for name, n in count.items() if n})
        self.query_norm = nn.LayerNorm(width) if self.attend is not None else None
        self.between = Attention(width, 1)
        self.drop = nn.Dropout(config.dropout)
        self.project = nn.Linear(2 * sum(count.values()) * width, config.width)
        users = count["user"] + count["context"] + count["history"]
        self.user_project = nn.Linear(users * width, config.width)
        self.user_norm = nn.LayerNorm(config.width)

    def forward(self, batch: ListBatch) -> tuple[Tensor, Tensor]:
        """The batch to (candidates_BND, user_BD); the user's vector is made of user, context and mean history."""
        item = self._candidates(batch)
        groups = {
            "item": item,
            "score": self._scores(batch),
            "user": self.user.parts(batch.user_B, batch.user_categories_BC, batch.user_numeric_BF),
            "context": self.context.parts(
                batch.user_B, batch.context_categories_BC, batch.context_numeric_BF
            ),
        }
        users = groups["user"] + groups["context"]
        if self.history_length:
            token_BTD, mask_BT, mean_BD = self._history(batch)
            users, groups["history"] = [*users, mean_BD], [mean_BD]
            if self.attend is not None and self.query_norm is not None:
                query_BND = self.query_norm(reduce(torch.add, item))
                groups["history"] = [
                    self.attend(query_BND, self.attend.project(token_BTD), mask_BT[:, None, None])
                ]
        b, n = batch.candidates_BN.shape
        normed = [norm(torch.stack(groups[name], -2)) for name, norm in self.norms.items()]
        shared = [(x if x.dim() == 4 else x[:, None]).expand(-1, n, -1, -1) for x in normed]
        field_RFd = torch.cat(shared, 2).flatten(0, 1)
        enhanced_RFd = self.between(field_RFd, self.between.project(field_RFd))
        flat_RD = self.drop(torch.cat([field_RFd, enhanced_RFd], 1).flatten(1))
        user_BD = self.user_norm(self.user_project(torch.cat(users, -1)))
        return self.project(flat_RD).unflatten(0, (b, n)), user_BD


def build_tower(config: TowerConfig, schema: Schema) -> Tower:
    """The feature tower for batches of this schema, with random weights."""
    return FieldTower(config, schema) if config.form == "fields" else SumTower(config, schema)
