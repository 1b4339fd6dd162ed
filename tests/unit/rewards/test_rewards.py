"""Laws of reward models: prefixes grow to lists, positions do not look ahead, ends of short requests count nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from batches import all_lists, close, make_batch
from factories import make_schema
from slatewise.data.schema import FeedbackKind, Manifest
from slatewise.decoding.search import Beam, beam_search
from slatewise.modules.tower import TowerConfig
from slatewise.rewards import RewardModel, listwise, lookahead, pointwise
from slatewise.rewards.base import FeedbackHead
from slatewise.rewards.ensemble import Ensemble

TOWER = TowerConfig(width=32)
KINDS = (FeedbackKind(name="click", binary=True), FeedbackKind(name="value", binary=False))


def manifest(target=None, **changes) -> Manifest:
    schema = make_schema(feedback=KINDS, **changes)
    return Manifest(
        name="x", protocol="x", schema=schema, target=target or {"click": 1.0, "value": 0.5},
        unexposed_is_negative=False, counts={}, source={}, fingerprint="x",
    )  # fmt: skip


def make_reward(seed: int = 0, **options) -> RewardModel:
    torch.manual_seed(seed)
    return listwise.build(listwise.Config(tower=TOWER, **options), manifest()).eval()


def make_lookahead(target=None, **options) -> RewardModel:
    torch.manual_seed(4)
    config = lookahead.Config(
        tower=TowerConfig(form="fields", width=32), **{"list_layers": 2, "thresholds": 5, **options}
    )
    model = lookahead.build(config, manifest(target or {"click": 1.0})).eval()
    model.start_from(torch.randn(40, 6), torch.rand(50, 4, 2).square() * 9, torch.rand(50, 4) < 0.9)
    return model


def models() -> dict[str, RewardModel]:
    return {
        "both": make_reward(),
        "attention": make_reward(interaction="attention"),
        "pairwise": make_reward(interaction="pairwise", discount="log"),
        "list total": make_reward(head="list"),
        "list total, pairwise": make_reward(head="list", interaction="pairwise", list_layers=1),
        "no layers": make_reward(list_layers=0, discount="log"),
        "two ways": make_reward(causal=False),
        "with candidates": make_reward(candidate_layers=1, additive=False),
        "pointwise": pointwise.build(pointwise.Config(tower=TOWER, discount="log"), manifest()).eval(),
        "lookahead": make_lookahead(),
        "lookahead, amounts": make_lookahead(target={"click": 1.0, "value": 0.5}),
        "lookahead, monotone": make_lookahead(head="monotone", interaction="both"),
        "lookahead, steps": make_lookahead(head="step", target={"click": 1.0, "value": 0.5}),
        "both kinds": Ensemble([make_lookahead(), make_reward(2), make_reward(head="list")]).eval(),
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


@pytest.mark.parametrize("name", list(models()))
@pytest.mark.parametrize("fewest", [10, 2])
def test_values_of_prefixes_are_the_values_of_each_prefix_alone(name: str, fewest: int) -> None:
    model, batch = models()[name], make_batch(feedback=KINDS, fewest=fewest)
    lists = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]).expand(batch.size, -1, -1)
    memory = model.encode(batch)
    found = model.prefix_value(memory, lists)
    for t in range(1, 5):
        assert close(found[:, :, t - 1], model.value_of(memory, lists[:, :, :t]))


@pytest.mark.parametrize("name", list(models()))
@pytest.mark.parametrize("fewest", [10, 2])
def test_what_was_read_before_is_right_for_every_beam(name: str, fewest: int) -> None:
    """Cached = uncached over a search whose prefixes change places, die and branch."""
    model, batch = models()[name], make_batch(feedback=KINDS, fewest=fewest)
    memory, rng, seen = model.encode(batch), torch.Generator().manual_seed(1), []
    expand = model.expander(memory)

    def compared(beam: Beam) -> torch.Tensor:
        found = expand(beam)
        going_on = batch.mask_BN.sum(1) > beam.length
        real = going_on[:, None] & ~beam.score_BK.isneginf()
        assert close(found[real], model.extension_value(memory, beam.lists_BKT)[real])
        seen.append(beam.parent_BK)
        return torch.rand(found.shape, generator=rng)

    beam_search(compared, batch.mask_BN, length=4, width=6)
    assert len(seen) == 4
    assert not (seen[2].sort(1).values == seen[2]).all()  # parents did change places


@pytest.mark.parametrize("name", list(models()))
def test_a_wide_beam_under_a_model_finds_the_best_of_all_lists(name: str) -> None:
    model, batch = models()[name], make_batch(feedback=KINDS, candidates=5, length=3)
    memory = model.encode(batch)
    found, score = beam_search(model.expander(memory), batch.mask_BN, length=3, width=60)
    every = all_lists(5, 3).expand(batch.size, -1, -1)
    assert close(score, model.value_of(memory, every).sort(dim=1, descending=True).values)
    assert close(score, model.value_of(memory, found))


@pytest.mark.parametrize(
    "options", [{}, {"causal": False}, {"head": "list"}, {"head": "list", "causal": False}]
)
def test_what_stands_behind_a_shown_lists_end_does_not_train(options: dict[str, Any], batch) -> None:
    model = make_reward(**options)
    memory = model.encode(batch)
    lists = torch.tensor([[[4, 2, 0, 0]], [[4, 2, 9, 8]]]).expand(-1, batch.size, -1)[:, :, None]
    feedback = torch.rand(2, batch.size, 1, 4, 2)
    feedback[1, :, :, :2] = feedback[0, :, :, :2]
    mask = (torch.arange(4) < 2).expand(batch.size, -1)  # two shown, though there are ten candidates
    first, second = (model.loss(memory, lists[i], feedback[i], mask) for i in (0, 1))
    assert close(first, second)
    shorter = model.loss(memory, lists[0][:, :, :2], feedback[0][:, :, :2], mask[:, :2])
    assert close(first, shorter)


def test_a_causal_position_does_not_see_what_follows(batch) -> None:
    model = make_reward()
    memory = model.encode(batch)
    a, b = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0, 1, 9, 3]])
    first, second = (model.prefix_value(memory, x.expand(batch.size, 1, -1)) for x in (a, b))
    assert close(first[:, :, :2], second[:, :, :2])
    assert not close(first.diff(dim=2)[:, :, 2], second.diff(dim=2)[:, :, 2], 1e-4)


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
