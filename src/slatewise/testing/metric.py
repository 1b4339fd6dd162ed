"""The laws of metrics (see :mod:`slatewise.metrics`)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from slatewise.testing.laws import find, require, require_close, settings
from slatewise.types import Ranking, full_order_scores

Case = tuple[Ranking, Tensor, Tensor, Tensor]


def check_metric(name: str | ModuleType, *, bounded: bool = True, **options: Any) -> None:
    """A metric is one number a request, a share, and knows no order of the candidate axis.

    The laws: a float (B,), 0 to 1; NaN where it is undefined, which the labels decide and never the ranking,
    and never infinite; the same for permuted candidates, for each request alone, and with unreal candidates
    added; inputs are left alone.

    Args:
        name: public name or module.   bounded: False for one in units of feedback.   options: its config.

    Raises:
        LawBroken: a law does not hold.
    """
    called, module = find("metrics", name, "compute")
    config = settings(module, options, called)

    def compute(case: Case) -> Tensor:
        value_B: Tensor = module.compute(config, *case)
        return value_B

    for seed in range(8):
        case = example_case(seed)
        value_B = compute(case)
        _values(value_B, case, called, bounded)
        other = example_case(seed, ranking_seed=100 + seed)
        same = compute(other).isnan() == value_B.isnan()
        require(same.all(), f"{called}: whether it is defined must not depend on the ranking.")
        require_close(
            compute(_permuted(case, seed)), value_B, f"{called}: permuting the candidates changes it."
        )
        require_close(compute(_widened(case)), value_B, f"{called}: adding unreal candidates changes it.")
        alone_B = torch.cat([compute(_row(case, row)) for row in range(len(value_B))])
        require_close(alone_B, value_B, f"{called}: a request alone has another value than in a batch.")
        for before, after in zip(example_case(seed)[1:], case[1:], strict=True):
            require(torch.equal(before, after), f"{called}: it changes its inputs.")


def _values(value_B: Tensor, case: Case, called: str, bounded: bool) -> None:
    requests = len(case[1])
    require(value_B.shape == (requests,), f"{called}: gave {tuple(value_B.shape)}, not one value a request.")
    require(value_B.is_floating_point(), f"{called}: gave {value_B.dtype}, not a float.")
    require(~value_B.isinf().any(), f"{called}: a value is infinite.")
    require(~value_B.isnan().all(), f"{called}: it is undefined for every request.")
    real_B = value_B[~value_B.isnan()]
    if bounded:
        require(((real_B >= 0) & (real_B <= 1 + 1e-9)).all(), f"{called}: a value is outside 0 … 1.")


def example_case(
    seed: int, *, ranking_seed: int | None = None, requests: int = 16, candidates: int = 9
) -> Case:
    """Random requests of 1 to N candidates with graded labels on the exposed ones, and a ranking of 6."""
    rng = torch.Generator().manual_seed(seed)
    mask_BN = torch.arange(candidates) < torch.randint(1, candidates + 1, (requests, 1), generator=rng)
    observed_BN = (torch.rand(requests, candidates, generator=rng) < 0.6) & mask_BN
    label_BN = torch.randint(0, 4, (requests, candidates), generator=rng).float() * observed_BN
    rng = torch.Generator().manual_seed(seed if ranking_seed is None else ranking_seed)
    score_BN = torch.randn(requests, candidates, generator=rng)
    mask_BL = torch.arange(6) < mask_BN.sum(1, keepdim=True)
    order_BL = score_BN.masked_fill(~mask_BN, -torch.inf).argsort(dim=1, descending=True)[:, :6] * mask_BL
    ranking = Ranking(order_BL, mask_BL, full_order_scores(order_BL, mask_BL, score_BN, mask_BN))
    return ranking, label_BN, observed_BN, mask_BN


def _permuted(case: Case, seed: int) -> Case:
    ranking, *rest = case
    order_N = torch.randperm(rest[0].shape[1], generator=torch.Generator().manual_seed(seed))
    moved = Ranking(order_N.argsort()[ranking.order_BL], ranking.mask_BL, ranking.score_BN[:, order_N])
    label_BN, observed_BN, mask_BN = (tensor[:, order_N] for tensor in rest)
    return moved, label_BN, observed_BN, mask_BN


def _widened(case: Case) -> Case:
    ranking, label_BN, observed_BN, mask_BN = case
    wide = Ranking(ranking.order_BL, ranking.mask_BL, _pad(ranking.score_BN, -torch.inf))
    return wide, _pad(label_BN, 0.0), _pad(observed_BN, False), _pad(mask_BN, False)


def _pad(tensor_BN: Tensor, value: float | bool) -> Tensor:
    return torch.cat([tensor_BN, tensor_BN.new_full((len(tensor_BN), 2), value)], 1)


def _row(case: Case, row: int) -> Case:
    ranking, label_BN, observed_BN, mask_BN = case
    one = Ranking(ranking.order_BL[[row]], ranking.mask_BL[[row]], ranking.score_BN[[row]])
    return one, label_BN[[row]], observed_BN[[row]], mask_BN[[row]]
