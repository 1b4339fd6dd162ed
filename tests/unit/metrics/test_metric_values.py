"""Metrics on cases small enough to work out by hand."""

from __future__ import annotations

from math import log2, nan

import pytest
import torch

from slatewise.metrics.named import parse
from slatewise.types import Ranking, full_order_scores

# One request, N = 5, L = 3; candidates 1, 3 and 4 are positive, 0 and 4 were never exposed.
LABEL = torch.tensor([[0.0, 1.0, 0.0, 2.0, 1.0]])
OBSERVED = torch.tensor([[False, True, True, True, False]])
REAL = torch.ones(1, 5, dtype=torch.bool)


def ranked(order: list[int], *, rest: list[float] | None = None, real: torch.Tensor = REAL) -> Ranking:
    order_BL = torch.tensor([order])
    mask_BL = torch.ones_like(order_BL, dtype=torch.bool)
    rest_BN = torch.tensor([rest or [0.0] * 5])
    return Ranking(order_BL, mask_BL, full_order_scores(order_BL, mask_BL, rest_BN, real))


def value(name: str, ranking: Ranking, label: torch.Tensor = LABEL, observed: torch.Tensor = OBSERVED,
          real: torch.Tensor = REAL) -> float:  # fmt: skip
    result_B = parse(name).compute(ranking, label, observed, real)
    assert result_B.dtype == torch.float64
    assert result_B.shape == (1,)
    return float(result_B[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("precision@3", 2 / 3),
        ("precision@2", 1 / 2),
        ("precision@6", 2 / 6),
        ("precision", 2 / 3),
        ("recall@3", 2 / 3),
        ("recall@2", 1 / 3),
        ("f1@3", 2 / 3),
        ("f1@2", 2 * (1 / 2) * (1 / 3) / (5 / 6)),
        ("hit@1", 0.0),
        ("hit@2", 1.0),
        ("reciprocal-rank@3", 1 / 2),
        ("reciprocal-rank@1", 0.0),
        ("average-precision@3", (1 / 2 + 2 / 3) / 3),
        ("average-precision@2", (1 / 2) / 2),
        ("average-precision@2:over=positives", (1 / 2) / 3),
        ("ndcg@3", (1 / log2(3) + 1 / 2) / (1 + 1 / log2(3) + 1 / 2)),
        ("ndcg@2", (1 / log2(3)) / (1 + 1 / log2(3))),
        ("ndcg@3:gains=linear", (2 / log2(3) + 1 / 2) / (2 + 1 / log2(3) + 1 / 2)),
        ("ndcg@3:gains=exponential", (3 / log2(3) + 1 / 2) / (3 + 1 / log2(3) + 1 / 2)),
        ("gain@2", 2.0),
        ("gain@3", 3.0),
        ("exposed-share@3", 1 / 3),
        # order 0 3 4 | 1 2: of the 3 x 2 pairs (1, 3, 4 against 0, 2), 3 and 4 lose to 0, as does 1.
        ("auc", 3 / 6),
        # among the exposed the order is 3 1 2, both positives first.
        ("within-auc", 1.0),
        ("within-ndcg@6", 1.0),
    ],
)
def test_by_hand(name: str, expected: float) -> None:
    assert value(name, ranked([0, 3, 4])) == pytest.approx(expected, abs=1e-12)


def test_a_list_shorter_than_its_length_counts_only_its_items() -> None:
    real = torch.tensor([[True, True, False, False, False]])
    order, mask = torch.tensor([[1, 0, 0]]), torch.tensor([[True, True, False]])
    ranking = Ranking(order, mask, torch.tensor([[0.0, 1.0, -torch.inf, -torch.inf, -torch.inf]]))
    label = torch.tensor([[1.0, 0.0, 1.0, 1.0, 1.0]])  # what stands at unreal candidates must not count
    for name, expected in {
        "precision@3": 1 / 3, "precision": 1 / 2, "recall@3": 1.0, "hit@3": 1.0, "average-precision@3": 1 / 2,
        "ndcg@3": 1 / log2(3), "auc": 0.0, "gain@3": 1.0, "exposed-share@3": 1 / 2, "within-auc": nan,
    }.items():  # fmt: skip
        assert value(name, ranking, label, real=real) == pytest.approx(expected, nan_ok=True), name


@pytest.mark.parametrize(
    "name", ["recall@3", "f1@3", "hit@3", "reciprocal-rank@3", "average-precision@3", "ndcg@3", "auc"]
)
def test_nothing_to_find_is_undefined_and_not_zero(name: str) -> None:
    assert value(name, ranked([0, 1, 2]), torch.zeros(1, 5)) != value(name, ranked([0, 1, 2]))
    assert torch.tensor(value(name, ranked([0, 1, 2]), torch.zeros(1, 5))).isnan()


def test_one_class_has_no_auc() -> None:
    assert torch.tensor(value("auc", ranked([0, 1, 2]), torch.ones(1, 5))).isnan()
    assert torch.tensor(value("within-auc", ranked([0, 1, 2]), torch.ones(1, 5))).isnan()


def test_equal_scores_count_half_in_auc() -> None:
    ranking = ranked([0, 1, 2])
    flat = Ranking(ranking.order_BL, ranking.mask_BL, torch.zeros(1, 5))
    assert value("auc", flat) == 0.5
    assert value("within-auc", flat) == 0.5


def test_negative_feedback_is_not_a_positive() -> None:
    label = torch.tensor([[-1.0, 1.0, 0.0, 0.0, 0.0]])
    assert value("precision@3", ranked([0, 1, 2]), label) == pytest.approx(1 / 3)
    assert value("ndcg@3:gains=linear", ranked([1, 0, 2]), label) == 1.0
    assert value("gain@3", ranked([0, 1, 2]), label) == 0.0
