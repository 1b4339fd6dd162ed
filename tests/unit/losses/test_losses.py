"""Losses by hand, their masks, and empty batches."""

from __future__ import annotations

import math

import pytest
import torch

from slatewise.losses import dense_distillation, group_relative, list_mse, pointwise, softmax_cross_entropy

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


def test_soft_labels_by_hand() -> None:
    value, valued = torch.tensor([0.0, -math.log(3), -60000.0]), torch.tensor([True, True, False])

    def labels(value: torch.Tensor, temperature: float) -> list[float]:
        soft = dense_distillation.soft_labels(value[None, None, None], temperature, valued[None, None, None])
        return soft[0, 0, 0].tolist()

    assert labels(value.half(), 1.0) == pytest.approx([0.75, 0.25, 0.0], abs=1e-3)
    assert labels(value, 0.5) == pytest.approx([0.9, 0.1, 0.0])
    for temperature in (1e6, math.inf):  # however flat, what may not stand gets nothing at all
        assert labels(value, temperature) == pytest.approx([0.5, 0.5, 0.0], abs=1e-5)
        assert labels(value, temperature)[2] == 0.0
    nobody = dense_distillation.soft_labels(
        value[None, None, None], 1.0, torch.zeros(1, 1, 1, 3, dtype=torch.bool)
    )
    assert bool(nobody.isfinite().all())


def test_sequence_weights_by_hand() -> None:
    value = torch.tensor([[1.0, 1.0 + math.log(2) / 10, 9.0]])
    mask = torch.tensor([[True, True, False]])
    weight = dense_distillation.sequence_weights(value, mask, 0.1)
    assert weight[0].tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert dense_distillation.sequence_weights(value, mask, math.inf)[0].tolist() == [0.5, 0.5, 0.0]


def distillation_case() -> dict[str, torch.Tensor]:
    """One request, two lists of two positions over three candidates; the second position's first item is taken."""
    probability = torch.tensor(
        [[[0.5, 0.25, 0.25], [1e-30, 0.75, 0.25]], [[0.5, 0.25, 0.25], [0.5, 1e-30, 0.5]]]
    )
    soft = torch.tensor([[[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]], [[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]]])
    return {
        "log_prob_BGLN": probability.log()[None],
        "lists_BGL": torch.tensor([[[0, 1], [1, 0]]]),
        "mask_BL": torch.ones(1, 2, dtype=torch.bool),
        "weight_BG": torch.tensor([[0.75, 0.25]]),
        "soft_BGLN": soft[None],
    }


def test_dense_distillation_by_hand() -> None:
    case = distillation_case()
    hard = 0.75 * (math.log(2) + math.log(4 / 3)) + 0.25 * (math.log(4) + math.log(2))
    first = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    second = 0.25 * math.log(0.25 / 0.5) + 0.5 * math.log(0.5 / 0.25)
    soft = 0.75 * first + 0.25 * (second + math.log(2))
    loss = dense_distillation.loss
    assert float(loss(**case)) == pytest.approx(hard, rel=1e-5)
    assert float(loss(**case, alpha=0.5)) == pytest.approx(hard + 0.5 * soft, rel=1e-5)
    assert float(loss(**case, hard=False, alpha=0.5)) == pytest.approx(0.5 * soft, rel=1e-5)
    short = case | {"mask_BL": torch.tensor([[True, False]])}
    assert float(loss(**short)) == pytest.approx(0.75 * math.log(2) + 0.25 * math.log(4), rel=1e-5)


def test_dense_distillation_aligns_with_the_soft_label() -> None:
    case = distillation_case()
    same = case | {"log_prob_BGLN": case["soft_BGLN"].clamp_min(1e-30).log()}
    assert float(dense_distillation.loss(**same, hard=False, alpha=1.0)) == pytest.approx(0.0, abs=1e-6)


def test_dense_distillation_averages_requests_and_skips_closed_places() -> None:
    case = {name: torch.cat([tensor, tensor]) for name, tensor in distillation_case().items()}
    one = float(dense_distillation.loss(**distillation_case(), alpha=0.5))
    assert float(dense_distillation.loss(**case, alpha=0.5)) == pytest.approx(one)
    case["mask_BL"][1] = False  # a request without candidates teaches nothing
    case["log_prob_BGLN"] = case["log_prob_BGLN"].where(case["log_prob_BGLN"] > -60, -1e9).requires_grad_()
    loss = dense_distillation.loss(**case, alpha=0.5)
    loss.backward()
    assert loss.item() == pytest.approx(one)
    gradient = case["log_prob_BGLN"].grad
    assert gradient.isfinite().all()
    assert gradient[0, 0, 1, 0] == 0
    assert (gradient[1] == 0).all()
