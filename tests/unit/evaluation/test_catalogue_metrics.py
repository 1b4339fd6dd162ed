"""Metrics of what is found in the whole catalogue, by hand on two requests."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from factories import make_data, make_schema
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.data.schema import FeedbackKind
from slatewise.errors import ConfigError
from slatewise.evaluation.entrants import Entrant
from slatewise.evaluation.retrieval import CatalogueMetrics, is_retrieval
from slatewise.types import Ranking, Retrieved

NAMES = [
    "catalogue-hr@2", "catalogue-hr@4", "cold-hr@4", "cold-hit@1", "cold-hit@3", "catalogue-value@2", "item-value@2",
    "overlap@1", "overlap@2", "overlap@3",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Items from 30 on are new; a click is wanted, and a value says what it brought."""
    kinds = (FeedbackKind(name="click", binary=True), FeedbackKind(name="value", binary=False))
    schema = make_schema(candidates=4, length=3, exposed=4, trained_items=30, feedback=kinds)
    return make_data(tmp_path_factory.mktemp("data"), schema)


@pytest.fixture(scope="module")
def batch(data: PreparedData) -> ListBatch:
    """Items 5 (worth 2) and 31 (worth 4) are wanted of the first request, 8 (1) of the second, whose last is padding."""
    clicks, values = [[1, 1, 0, 0], [0, 0, 1, 0]], [[2, 4, 0, 0], [0, 0, 1, 0]]
    return replace(
        data.split("test").batch(slice(0, 2)),
        candidates_BN=torch.tensor([[5, 31, 7, 9], [33, 6, 8, 0]]),
        mask_BN=torch.tensor([[True] * 4, [True, True, True, False]]),
        exposed_BE=torch.arange(4).expand(2, -1),
        exposed_mask_BE=torch.tensor([[True] * 4, [True, True, True, False]]),
        feedback_BEK=torch.stack([torch.tensor(clicks), torch.tensor(values)], -1).float(),
    )


def ranking(order_BL: list[list[int]]) -> Ranking:
    order = torch.tensor(order_BL)
    return Ranking(order, torch.ones_like(order, dtype=torch.bool), torch.zeros(2, 4))


def find(batch: ListBatch, count: int) -> Retrieved:
    """The catalogue's best; the second request's search ends after two."""
    items_BK = torch.tensor([[9, 5, 12, 31, 2], [8, 20, 0, 0, 0]])[:, :count]
    return Retrieved(items_BK, items_BK > 0, torch.zeros(items_BK.shape))


def steps(batch: ListBatch) -> tuple[Tensor, Tensor]:
    """Generator: 0 1 2 3 and 0 1 2; ranker: 1 0 3 2 and 2 1 0. Padding has the best score of all."""
    generator_BN = torch.tensor([[4.0, 3, 2, 1], [4, 3, 2, 9]])
    return generator_BN, torch.tensor([[3.0, 4, 1, 2], [2, 3, 4, 9]])


def measured(data: PreparedData, batch: ListBatch) -> dict[str, dict[str, list[float]]]:
    both = Entrant("both", lambda _: ranking([[1, 0, 2], [2, 0, 1]]), "both", retrieve=find, steps=steps)
    lists = {"both": ranking([[1, 0, 2], [2, 0, 1]]), "lists": ranking([[2, 3, 1], [1, 0, 2]])}
    field = [both, Entrant("lists", lambda _: lists["lists"], "lists")]
    found = CatalogueMetrics(NAMES, field, data, None).measure(batch, lists)
    return {name: {key: column.tolist() for key, column in one.items()} for name, one in found.items()}


def test_by_hand(data: PreparedData, batch: ListBatch) -> None:
    found = measured(data, batch)["both"]
    assert found["catalogue-hr@2"] == [0.5, 1]
    assert found["catalogue-hr@4"] == [1, 1]
    assert found["cold-hr@4"][0] == 1
    assert math.isnan(found["cold-hr@4"][1])  # it wants no new item
    assert found["cold-hit@1"][0] == 1
    assert math.isnan(found["cold-hit@1"][1])
    assert found["catalogue-value@2"] == [1, 0.5]  # 9 brings 0, 5 brings 2; 8 brings 1, 20 nothing
    assert found["item-value@2"] == [3, 0.5]
    assert found["overlap@1"] == [0, 0]
    assert found["overlap@2"] == [1, 0.5]
    assert found["overlap@3"] == pytest.approx([2 / 3, 1])


def test_who_only_lists_has_no_numbers_of_a_search(data: PreparedData, batch: ListBatch) -> None:
    found = measured(data, batch)["lists"]
    assert found["item-value@2"] == [0, 0]
    assert found["cold-hit@1"][0] == 0
    assert found["cold-hit@3"][0] == 1
    for name in ("catalogue-hr@2", "cold-hr@4", "catalogue-value@2", "overlap@1", "overlap@3"):
        assert all(map(math.isnan, found[name])), name


def test_the_two_steps_are_asked_once_a_batch(data: PreparedData, batch: ListBatch) -> None:
    asked = []

    def counted(batch: ListBatch) -> tuple[Tensor, Tensor]:
        asked.append(batch)
        return steps(batch)

    entrant = Entrant("both", lambda _: ranking([[0, 1, 2]] * 2), "both", steps=counted)
    CatalogueMetrics(NAMES, [entrant], data, None).measure(batch, {"both": entrant.rank(batch)})
    assert len(asked) == 1


def test_names() -> None:
    assert is_retrieval("overlap@5")
    assert not is_retrieval("ndcg@5")
    with pytest.raises(
        ConfigError, match=r"metric .cold-hr@0. needs a number of places above 0, e\.g\. cold-hr@100"
    ):
        is_retrieval("cold-hr@0")
