"""The lookahead evaluator's heads: the paper's loss by hand, probabilities that fall, amounts whose mean is right."""

from __future__ import annotations

import math

import pytest
import torch

from batches import close
from factories import make_schema
from slatewise.data.schema import FeedbackKind, Manifest
from slatewise.errors import ConfigError
from slatewise.modules.tower import TowerConfig
from slatewise.rewards import lookahead
from slatewise.rewards.lookahead import Config, CumulativeHead

KINDS = (
    FeedbackKind(name="click", binary=True),
    FeedbackKind(name="sale", binary=True),
    FeedbackKind(name="value", binary=False),
)


def manifest(target: dict[str, float], length: int = 3) -> Manifest:
    schema = make_schema(feedback=KINDS, length=length, exposed=length)
    return Manifest(
        name="x", protocol="x", schema=schema, target=target, unexposed_is_negative=False, counts={},
        source={}, fingerprint="x",
    )  # fmt: skip


def make_head(target: dict[str, float], *, thresholds: int = 4, monotone: bool = False) -> CumulativeHead:
    torch.manual_seed(0)
    return CumulativeHead(8, manifest(target), thresholds, monotone)


def answering(head: CumulativeHead, logit: torch.Tensor) -> CumulativeHead:
    """The head with these logits whatever it is shown."""
    head.logits = lambda hidden: logit  # type: ignore[method-assign]
    return head


def bce(label: float, logit: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -label * math.log(p) - (1 - label) * math.log(1 - p)


def test_ordered_cross_entropy_by_hand_with_the_triangle_closed() -> None:
    """Clicks 1, 0, 1: y = 1, 1, 2; labels y_t >= k for k <= t; what is above the diagonal does not count."""
    logit = torch.tensor([[[[0.5, 9.0, 9.0], [1.0, -1.0, 9.0], [2.0, 0.3, -0.7]]]], requires_grad=True)
    head = answering(make_head({"click": 1.0}), logit)
    feedback = torch.zeros(1, 1, 3, 3)
    feedback[0, 0, :, 0] = torch.tensor([1.0, 0.0, 1.0])
    mask = torch.ones(1, 3, dtype=torch.bool)
    loss = head.loss(torch.zeros(1, 1, 3, 8), feedback, mask, 0.0)
    steps = [bce(1, 0.5), bce(1, 1.0) + bce(0, -1.0), bce(1, 2.0) + bce(1, 0.3) + bce(0, -0.7)]
    assert loss.item() == pytest.approx(sum(steps) / 3, abs=1e-5)
    torch.autograd.backward(loss)
    assert logit.grad is not None
    assert (logit.grad[0, 0].triu(1) == 0).all()
    assert (logit.grad[0, 0].tril() != 0).sum() == 6


def test_a_shown_list_that_ends_early_is_averaged_over_its_own_places() -> None:
    logit = torch.tensor([[[[0.5, 0.0, 0.0], [1.0, -1.0, 0.0], [5.0, 5.0, 5.0]]]])
    head = answering(make_head({"click": 1.0}), logit)
    feedback = torch.zeros(1, 1, 3, 3)
    feedback[0, 0, :, 0] = torch.tensor([0.0, 1.0, 1.0])  # the last one was not shown
    loss = head.loss(torch.zeros(1, 1, 3, 8), feedback, torch.tensor([[True, True, False]]), 0.0)
    assert float(loss) == pytest.approx((bce(0, 0.5) + bce(1, 1.0) + bce(0, -1.0)) / 2, abs=1e-5)


def test_the_expected_count_is_the_sum_of_the_open_probabilities() -> None:
    head = make_head({"click": 1.0})
    logit = torch.tensor([1.0, -0.5, 0.25])
    p = logit.sigmoid()
    found = head.expected(logit.expand(3, 3), torch.arange(3))
    assert close(found, torch.stack([p[0], p[0] + p[1], p.sum()]))
    twice = make_head({"click": 2.0}).expected(logit.expand(3, 3), torch.arange(3))
    assert close(twice, 2 * found)


def test_two_binary_kinds_share_a_unit_and_their_sum_is_right() -> None:
    head = make_head({"click": 1.0, "sale": 2.0})
    value = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 9.0])
    assert close(head.edge_T, torch.tensor([0.0, 3.0, 6.0, 9.0]))
    assert close(head.shares(value) @ head.edge_T.diff(), value)
    assert bool((head.open_LM == torch.ones(3, 3).tril()).all())


def test_monotone_probabilities_cannot_rise_and_free_ones_can() -> None:
    hidden = torch.randn(200, 8) * 20
    falling = make_head({"click": 1.0}, monotone=True)
    with torch.no_grad():
        for weight in falling.parameters():
            weight.mul_(5)
    assert (falling.logits(hidden).diff(dim=-1) <= 0).all()
    assert (make_head({"click": 1.0}).logits(hidden).diff(dim=-1) > 0).any()


@pytest.mark.parametrize(
    "target", [{"value": 1.0}, {"click": 1.0, "value": 0.2}, {"click": -1.0, "value": 0.1}]
)
@pytest.mark.parametrize("thresholds", [1, 2, 16])
def test_the_mean_of_amounts_is_right_whatever_the_thresholds(target, thresholds: int) -> None:
    """At the loss's minimum each probability is its share's mean; then E[V] is the values' mean, on other values than
    those that the thresholds come from, with a longer tail."""
    rng = torch.Generator().manual_seed(3)
    head = make_head(target, thresholds=thresholds)
    head.learn_thresholds(skewed(60, rng), torch.ones(60, 3, dtype=torch.bool))
    feedback = skewed(5000, rng)
    value = (feedback @ head.weight_K).cumsum(1)
    assert bool((value > head.edge_T[-1]).any())
    mean_LM = head.shares(value).mean(0)
    inner = mean_LM[:, 1:-1]  # the outer ones carry what lies beyond the edges
    assert bool((inner.diff(dim=1) <= 1e-6).all())  # a law of survival functions
    logit_LM = torch.logit(mean_LM).clamp(-30, 30).requires_grad_()
    assert close(head.expected(logit_LM, torch.arange(3)), value.mean(0), 2e-3)
    answering(head, logit_LM.expand(5000, 1, 3, thresholds))
    mask = torch.ones(5000, 3, dtype=torch.bool)
    torch.autograd.backward(head.loss(torch.zeros(5000, 1, 3, 8), feedback[:, None], mask, 0.0))
    assert float(logit_LM.grad.abs().max()) < 1e-5


def skewed(rows: int, rng: torch.Generator) -> torch.Tensor:
    """Feedback (rows, 3, K): clicks, few sales, and log-normal money where there was a sale."""
    click, sale = (torch.rand(rows, 3, generator=rng) < p for p in (0.4, 0.2))
    money = torch.exp(torch.randn(rows, 3, generator=rng) + 1) * sale
    return torch.stack([click.float(), sale.float(), money], 2)


def test_thresholds_are_quantiles_of_what_prefixes_brought() -> None:
    head = make_head({"value": 1.0}, thresholds=4)
    feedback = torch.zeros(8, 3, 3)
    feedback[:, 0, 2] = torch.arange(1.0, 9.0)  # every prefix of list i is worth i
    head.learn_thresholds(feedback, torch.ones(8, 3, dtype=torch.bool))
    wanted = torch.cat(
        [torch.zeros(1), torch.arange(1.0, 9.0).repeat(3).quantile(torch.tensor([0.25, 0.5, 0.75, 1.0]))]
    )
    assert close(head.edge_T, wanted)


@pytest.mark.parametrize("amount", [0.0, 5.0])
def test_amounts_that_hardly_differ_leave_no_empty_segment(amount: float) -> None:
    head = make_head({"value": 1.0}, thresholds=6)
    feedback = torch.zeros(20, 3, 3)
    feedback[:, 0, 2] = amount
    head.learn_thresholds(feedback, torch.ones(20, 3, dtype=torch.bool))
    assert bool((head.edge_T.diff() > 0).all())
    value = torch.tensor([0.0, 1.0, 7.0])
    assert close(head.edge_T[0] + head.shares(value) @ head.edge_T.diff(), value, 1e-4)


def test_increments_are_held_against_each_steps_own_feedback() -> None:
    logit = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]])  # V = .5, 1, 1.5
    head = answering(make_head({"click": 2.0}), logit)
    feedback = torch.zeros(1, 1, 3, 3)
    feedback[0, 0, :, 0] = torch.tensor([1.0, 0.0, 1.0])
    mask = torch.tensor([[True, True, False]])
    plain, both = (head.loss(torch.zeros(1, 1, 3, 8), feedback, mask, weight) for weight in (0.0, 3.0))
    # each step is said to bring half a unit; it brings one, and none
    assert float(both - plain) == pytest.approx(3 * (0.25 + 0.25) / 2, abs=1e-6)


@pytest.mark.parametrize(
    "options", [{"head": "step", "increment_weight": 1.0}, {"increment_weight": -1.0}, {"thresholds": 0}]
)
def test_settings_that_mean_nothing_are_refused(options) -> None:
    with pytest.raises(ConfigError):
        lookahead.build(Config(**options), manifest({"click": 1.0}))


def test_thresholds_are_saved_with_the_weights() -> None:
    tower = TowerConfig(form="fields", width=16)
    first, second = (
        lookahead.build(Config(tower=tower, list_layers=1), manifest({"value": 1.0})) for _ in range(2)
    )
    first.start_from(
        torch.randn(40, 6), skewed(50, torch.Generator().manual_seed(0)), torch.ones(50, 3).bool()
    )
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.head.edge_T, first.head.edge_T)
