"""All items of a catalogue inside a model: their features as buffers, their vectors from features, id and codes."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from slatewise.config import Chance, Frozen
from slatewise.data.entities import lasting
from slatewise.data.schema import Schema
from slatewise.data.tables import Entities
from slatewise.modules.tower import Features
from slatewise.modules.trie import Trie, build_trie

START = 0.05  # standard deviation of a code's embedding before training


class ItemConfig(Frozen):
    """How an item becomes a vector.

    ``ids``: items that training met have an embedding of their own. ``newness``: in training an item is taken for a new one with this
    probability, in all that meeting it told: its id, its popularity, the place that those who met it gave it, its
    semantic id. So new items are no strangers. ``codes``: the embeddings of an item's semantic id add to it, so that a
    new item shares what was learnt of those on its path.
    """

    ids: bool = True
    newness: Chance = 0.3
    codes: bool = True


class ItemTable(nn.Module):
    """Vectors (I, D) of every item of the vocabulary; index 0 is the unknown item.

    Attributes:
        space_IV: where items lie by what is known of them; semantic ids and clusters are made of it.
        codes_IS: the semantic id of each item, -1 where it has none (unknown, organic).
        unmet_IV, unmet_codes_IS: the same of the items as if they were new.
        catalogue_I: True for the items that may be recommended.
    """

    numeric_IF: Tensor
    categories_IC: Tensor
    space_IV: Tensor
    codes_IS: Tensor
    unmet_IV: Tensor
    unmet_codes_IS: Tensor
    lasting_F: Tensor
    catalogue_I: Tensor
    organic_I: Tensor

    def __init__(
        self, config: ItemConfig, schema: Schema, width: int, space: int, codebooks: tuple[int, ...]
    ) -> None:
        super().__init__()
        items = schema.items
        self.trained, self.newness = schema.trained_items or items, config.newness
        ids = self.trained if config.ids else 0
        self.features = Features(ids, schema.item_categories, len(schema.item_numeric), width, 0.0)
        self.space_map = nn.Linear(space, width, bias=False) if space else None
        self.code = nn.ModuleList(nn.Embedding(size, width) for size in codebooks if config.codes)
        for table in self.code:
            nn.init.normal_(table.weight, std=START)  # type: ignore[arg-type]
        self.norm = nn.LayerNorm(width)
        self.codes = max(codebooks, default=0)
        self._tries: dict[bool, tuple[Any, tuple[Trie, tuple[Tensor, Tensor]]]] = {}
        self.register_buffer("numeric_IF", torch.zeros(items, len(schema.item_numeric)))
        self.register_buffer(
            "categories_IC", torch.zeros(items, len(schema.item_categories), dtype=torch.long)
        )
        self.register_buffer("space_IV", torch.zeros(items, space))
        self.register_buffer("codes_IS", torch.full((items, len(codebooks)), -1))
        self.register_buffer("unmet_IV", torch.zeros(items, space))
        self.register_buffer("unmet_codes_IS", torch.full((items, len(codebooks)), -1))
        self.register_buffer("lasting_F", torch.from_numpy(lasting(schema.item_numeric)), persistent=False)
        self.register_buffer("catalogue_I", torch.zeros(items, dtype=torch.bool))
        self.register_buffer("organic_I", torch.zeros(items, dtype=torch.bool))

    def load(
        self, items: Entities, space_IV: Tensor, codes_IS: Tensor, unmet_IV: Tensor, unmet_codes_IS: Tensor
    ) -> None:
        """Take over what is known of the items; everything but organic content may be recommended."""
        with torch.no_grad():
            self.numeric_IF.copy_(torch.from_numpy(items.numeric.copy()))
            self.categories_IC.copy_(torch.from_numpy(items.categories.copy()))
            self.organic_I.copy_(torch.from_numpy(items.organic.copy()))
            self.space_IV.copy_(space_IV)
            self.codes_IS.copy_(codes_IS)
            self.unmet_IV.copy_(unmet_IV)
            self.unmet_codes_IS.copy_(unmet_codes_IS)
            self.catalogue_I.copy_(~self.organic_I)
            self.catalogue_I[0] = False

    def forward(self, index: Tensor, categories: Tensor, numeric: Tensor) -> Tensor:
        """Vectors (..., D) of items given with features of their own (a request's may be newer than the table's)."""
        known = index * (index < len(self.space_IV))
        met = (index > 0) & (index < self.trained)
        hidden = None
        if self.training and self.newness:
            hidden = torch.rand(index.shape, device=index.device) < self.newness
            met = met & ~hidden
        # the popularity of an item that nobody had a chance to meet says nothing of it
        numeric = numeric.masked_fill(~(met[..., None] | self.lasting_F), 0.0)
        parts = self.features.parts(index * met, categories, numeric)
        if self.space_map is not None:
            parts.append(self.space_map(_seen(self.space_IV, self.unmet_IV, known, hidden)))
        codes = _seen(self.codes_IS, self.unmet_codes_IS, known, hidden)
        for level, table in enumerate(self.code):
            parts.append(table(codes[..., level].clamp_min(0)) * (codes[..., level : level + 1] >= 0))
        vector: Tensor = self.norm(reduce(torch.add, parts))
        return vector

    def of(self, index: Tensor) -> Tensor:
        """Vectors (..., D) of items of the vocabulary, by the table's own features."""
        vector: Tensor = self(index, self.categories_IC[index], self.numeric_IF[index])
        return vector

    def trie(self, trained: bool = False) -> Trie:
        """The paths of the catalogue's items, or of those alone that training saw; built when first asked for."""
        return self._found(trained)[0]

    def places(self) -> tuple[Tensor, Tensor]:
        """Where each item's path leads in the trie: the nodes that it passes (I, S + 1), and whether it is an item's (I,)."""
        return self._found(False)[1]

    def _found(self, trained: bool) -> tuple[Trie, tuple[Tensor, Tensor]]:
        # while a graph is traced the codes are symbols: what was built from the numbers goes in as it is
        if torch.compiler.is_exporting():
            return self._tries[trained][1]
        key = (self.codes_IS.device, self.codes_IS._version)
        if trained not in self._tries or self._tries[trained][0] != key:
            known_I = torch.arange(len(self.codes_IS), device=self.codes_IS.device) < self.trained
            real_I = self.catalogue_I & known_I if trained else self.catalogue_I
            trie = build_trie(self.codes_IS, real_I, self.codes)
            self._tries[trained] = key, (trie, trie.find(self.codes_IS.clamp_min(0)))
        return self._tries[trained][1]

    def catalogue(self) -> Tensor:
        """Indices (M,) of the items that may be recommended."""
        return self.catalogue_I.nonzero().squeeze(1)


def _seen(known_I: Tensor, unmet_I: Tensor, index: Tensor, hidden: Tensor | None) -> Tensor:
    """Rows of the first table, of the second where an item is taken for a new one."""
    if hidden is None:
        return known_I[index]
    return torch.where(hidden[..., None], unmet_I[index], known_I[index])
