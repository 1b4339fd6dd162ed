"""Laws of reward models: prefixes grow to lists, positions do not look ahead, ends of short requests count nothing."""

from __future__ import annotations

import pytest
import torch

from batches import close, make_batch
from factories import make_schema
from slatewise.data.schema import FeedbackKind, Manifest
from slatewise.modules.tower import TowerConfig
from slatewise.rewards import RewardModel, listwise, pointwise
from slatewise.rewards.base import FeedbackHead
from slatewise.rewards.ensemble import Ensemble

TOWER = TowerConfig(width=32)
KINDS = (FeedbackKind(name="click", binary=True), FeedbackKind(name="value", binary=False))


def manifest(target=None) -> Manifest:
    schema = make_schema(feedback=KINDS)
    return Manifest(
        name="x", protocol="x", schema=schema, target=target or {"click": 1.0, "value": 0.5},
        unexposed_is_negative=False, counts={}, source={}, fingerprint="x",
    )  # fmt: skip


def make_reward(seed: int = 0, **options) -> RewardModel:
    torch.manual_seed(seed)
    return listwise.build(listwise.Config(tower=TOWER, **options), manifest()).eval()


def models() -> dict[str, RewardModel]:
    return {
        "both": make_reward(),
        "attention": make_reward(interaction="attention"),
        "pairwise": make_reward(interaction="pairwise", discount="log"),
        "list total": make_reward(head="list"),
        "two ways": make_reward(causal=False),
        "with candidates": make_reward(candidate_layers=1, additive=False),
        "pointwise": pointwise.build(pointwise.Config(tower=TOWER, discount="log"), manifest()).eval(),
        "ensemble": Ensemble([make_reward(1), make_reward(2)]).eval(),
    }


@pytest.fixture(scope="module")
def batch():
    return make_batch(feedback=KINDS)


@pytest.mark.parametrize("name", list(models()))
@pytest.mark.parametrize("length", [0, 1, 3])
def test_extending_a_prefix_equals_valuing_the_longer_list(name: str, length: int, batch) -> None:
    model = models()[name]
    memory = model.encode(batch)
    prefix_BGT = torch.tensor([[4, 2, 7], [1, 0, 5]])[:, :length].expand(batch.size, -1, -1)
    extended = model.extension_value(memory, prefix_BGT)
    for item in (3, 8, 9):
        longer = torch.cat([prefix_BGT, torch.full((batch.size, 2, 1), item)], 2)
        assert close(extended[:, :, item], model.value_of(memory, longer))


@pytest.mark.parametrize("name", list(models()))
def test_a_list_is_worth_the_same_whatever_stands_beside_it(name: str, batch) -> None:
    model = models()[name]
    lists = torch.stack([torch.randperm(10)[:4] for _ in range(5)]).expand(batch.size, -1, -1)
    together = model.value(batch, lists)
    alone = torch.cat([model.value(batch, lists[:, g : g + 1]) for g in range(5)], 1)
    assert close(together, alone)


def test_a_causal_position_does_not_see_what_follows(batch) -> None:
    model = make_reward()
    memory = model.encode(batch)
    a, b = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0, 1, 9, 8]])
    first, second = (model.position_logits(memory, x.expand(batch.size, 1, -1)) for x in (a, b))
    assert close(first[:, :, :2], second[:, :, :2])
    assert not close(first[:, :, 3], second[:, :, 3], 1e-4)


def test_order_matters_to_a_listwise_reward_and_not_to_a_pointwise_one(batch) -> None:
    lists = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]]).expand(batch.size, -1, -1)
    value = make_reward().value(batch, lists)
    assert not close(value[:, 0], value[:, 1], 1e-5)
    flat = pointwise.build(pointwise.Config(tower=TOWER), manifest()).eval().value(batch, lists)
    assert close(flat[:, 0], flat[:, 1])


def test_places_behind_the_end_of_a_short_request_count_nothing() -> None:
    short = make_batch(feedback=KINDS, fewest=2)
    few = int((short.mask_BN.sum(1) == 2).nonzero()[0])
    lists = torch.tensor([[0, 1, 0, 0], [0, 1, 5, 6]]).expand(short.size, -1, -1)
    for name, model in models().items():
        value = model.value(short, lists)[few]
        assert close(value[0], value[1]), name


def test_the_target_weighs_probabilities_and_amounts_in_their_own_units() -> None:
    head = FeedbackHead(4, manifest({"click": 2.0, "value": 0.5}), "log")
    feedback = torch.tensor([[[1.0, 30.0], [0.0, 40.0]]])
    head.set_scale(feedback, torch.ones(1, 2, dtype=torch.bool))
    assert close(head.scale_K, torch.tensor([1.0, (2500 / 2) ** 0.5]))
    logits = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])  # p(click) = .5, value = one unit
    gain = 2.0 * 0.5 + 0.5 * (1250**0.5)
    expected = gain * (1 + 1 / torch.log2(torch.tensor(3.0)))
    assert close(head.value(logits, torch.ones(1, 2, dtype=torch.bool))[0, 0], expected, 1e-4)


def test_an_ensemble_is_the_mean_of_its_members(batch) -> None:
    members = [make_reward(1), make_reward(2)]
    lists = torch.tensor([[0, 1, 2, 3]]).expand(batch.size, -1, -1)
    mean = (members[0].value(batch, lists) + members[1].value(batch, lists)) / 2
    assert close(Ensemble(members).eval().value(batch, lists), mean)
