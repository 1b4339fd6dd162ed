"""Losses by hand, their masks, and empty batches."""

from __future__ import annotations

import math

import pytest
import torch

from slatewise.losses import group_relative, list_mse, pointwise, softmax_cross_entropy

ALL = torch.ones(1, 3, dtype=torch.bool)


def test_group_relative_is_the_cross_entropy_of_kept_groups() -> None:
    log_prob = torch.tensor([[-1.0, -2.0, -4.0], [-9.0, -9.0, -9.0]], requires_grad=True)
    weight = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 0.0]])
    loss = group_relative.loss(log_prob, weight, torch.tensor([True, False]))
    assert loss.item() == pytest.approx(0.5 + 0.5 + 1.0)
    loss.backward()
    assert log_prob.grad.tolist() == [[-0.5, -0.25, -0.25], [0.0, 0.0, 0.0]]


def test_group_relative_is_smallest_at_the_reference_policy() -> None:
    weight = torch.tensor([[0.7, 0.2, 0.1]])
    keep = torch.tensor([True])
    entropy = -float((weight * weight.log()).sum())
    assert float(group_relative.loss(weight.log(), weight, keep)) == pytest.approx(entropy)
    for other in ([0.6, 0.3, 0.1], [0.7, 0.1, 0.2], [1 / 3] * 3):
        assert float(group_relative.loss(torch.tensor([other]).log(), weight, keep)) > entropy


def test_group_relative_ignores_impossible_lists_without_weight() -> None:
    log_prob = torch.tensor([[-1.0, -torch.inf]], requires_grad=True)
    loss = group_relative.loss(log_prob, torch.tensor([[1.0, 0.0]]), torch.tensor([True]))
    loss.backward()
    assert loss.item() == 1.0
    assert log_prob.grad[0, 0] == -1.0


def test_pointwise_by_hand() -> None:
    logit, label = torch.tensor([[0.0, 2.0, -5.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    mask = torch.tensor([[True, True, False]])
    wanted = (math.log(2) + math.log1p(math.exp(2))) / 2
    assert float(pointwise.loss(logit, label, mask)) == pytest.approx(wanted)


def test_softmax_cross_entropy_by_hand() -> None:
    score = torch.tensor([[0.0, math.log(2), math.log(5), 30.0]], requires_grad=True)
    label = torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, True, False]])
    loss = softmax_cross_entropy.loss(score, label, mask)
    assert loss.item() == pytest.approx(math.log(8) + math.log(8 / 5), rel=1e-5)
    loss.backward()
    assert score.grad[0, 3] == 0.0
    assert score.grad[0].tolist()[:3] == pytest.approx([2 / 8 - 1, 4 / 8, 10 / 8 - 1], abs=1e-5)


def test_softmax_cross_entropy_averages_requests_that_have_candidates() -> None:
    score, label = torch.zeros(3, 2, requires_grad=True), torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    mask = torch.tensor([[True, True], [True, True], [False, False]])
    loss = softmax_cross_entropy.loss(score, label, mask)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) / 2)
    assert torch.isfinite(score.grad).all()


def test_list_mse_by_hand() -> None:
    value, target = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.0, 4.0, 0.0]])
    assert float(list_mse.loss(value, target, torch.tensor([[True, True, False]]))) == pytest.approx(2.5)


@pytest.mark.parametrize("room", [pointwise, softmax_cross_entropy, list_mse])
def test_nothing_to_learn_is_zero_with_zero_gradient(room) -> None:
    x = torch.randn(2, 3, requires_grad=True)
    loss = room.loss(x, torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert (x.grad == 0).all()


def test_no_kept_group_is_zero_with_zero_gradient() -> None:
    x = torch.randn(2, 3, requires_grad=True)
    loss = group_relative.loss(x, torch.zeros(2, 3), torch.zeros(2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert (x.grad == 0).all()
