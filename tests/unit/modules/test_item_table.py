"""Items of a catalogue as vectors: what meeting an item told, and what is known of a new one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from batches import close
from factories import make_schema
from slatewise.data.tables import Entities
from slatewise.modules.item_table import ItemConfig, ItemTable

MET, NEW = torch.tensor([3]), torch.tensor([12])


def make_table(**changes: object) -> ItemTable:
    """Item 12 is new; item 3 was met, and is as 12 is in all that does not come of being met."""
    rng, torch_rng = np.random.default_rng(0), torch.Generator().manual_seed(1)
    schema = make_schema(items=14, trained_items=10)
    numeric = rng.normal(size=(14, 2)).astype(np.float32)  # log_popularity, price
    categories = rng.integers(1, 5, (14, 1)).astype(np.int32)
    numeric[12, 1], categories[12] = numeric[3, 1], categories[3]
    space_IV, unmet_IV = torch.randn(2, 14, 6, generator=torch_rng)
    codes_IS, unmet_codes_IS = torch.randint(4, (2, 14, 2), generator=torch_rng)
    unmet_IV[10:], unmet_codes_IS[10:] = space_IV[10:], codes_IS[10:]
    unmet_IV[3], unmet_codes_IS[3] = space_IV[12], codes_IS[12]
    torch.manual_seed(0)
    table = ItemTable(ItemConfig(**changes), schema, 16, 6, (4, 4))  # type: ignore[arg-type]
    items = Entities(numeric, categories, np.zeros((14, 0), np.float32), np.zeros(14, bool))
    table.load(items, space_IV, codes_IS, unmet_IV, unmet_codes_IS)
    return table.eval()


def popular(table: ItemTable, index: Tensor, popularity: float) -> Tensor:
    numeric = table.numeric_IF[index].clone()
    numeric[:, 0] = popularity
    vector: Tensor = table(index, table.categories_IC[index], numeric)
    return vector


@torch.no_grad()
def test_an_item_that_training_takes_for_a_new_one_is_as_a_new_one() -> None:
    table = make_table(newness=1 - 1e-9)
    assert not close(table.of(MET), table.of(NEW))
    table.train()
    assert close(table.of(MET), table.of(NEW))
    assert close(table.of(NEW), table.eval().of(NEW))


@torch.no_grad()
def test_training_takes_so_many_for_new_ones() -> None:
    table = make_table(newness=0.25).train()
    torch.manual_seed(0)
    vector_nD = table.of(MET.expand(4000))
    kinds, count = vector_nD.unique(dim=0, return_counts=True)
    assert len(kinds) == 2
    assert abs(count.min() / 4000 - 0.25) < 0.03
    assert len(make_table(newness=0.0).train().of(MET.expand(50)).unique(dim=0)) == 1


@torch.no_grad()
def test_the_popularity_of_an_item_that_training_never_met_says_nothing() -> None:
    table = make_table()
    assert close(popular(table, NEW, -2.0), popular(table, NEW, 3.0))
    assert not close(popular(table, MET, -2.0), popular(table, MET, 3.0))


@torch.no_grad()
def test_items_behind_the_table_are_unknown() -> None:
    table = make_table()
    stranger, features = torch.tensor([99]), (table.categories_IC[:1], table.numeric_IF[:1])
    assert close(table(stranger, *features), table(torch.tensor([0]), *features))
