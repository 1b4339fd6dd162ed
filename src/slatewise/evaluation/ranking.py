"""From scores to a :class:`~slatewise.types.Ranking`, and the checks it must pass before it is measured."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slatewise.errors import DataError
from slatewise.types import Ranking


def rank_by_score(score_BN: Tensor, mask_BN: Tensor, length: int) -> Ranking:
    """The ``length`` best real candidates by score; equal scores stay in the order of the candidate axis.

    The scores themselves become ``score_BN``, so that AUC counts ties as ties; unreal candidates get -inf.
    """
    score_BN = score_BN.masked_fill(~mask_BN, -torch.inf)
    # Two stable sorts, so that a real candidate scored -inf still comes before an unreal one.
    order_BN = score_BN.argsort(dim=1, descending=True, stable=True)
    real_first_BN = (~mask_BN.gather(1, order_BN)).to(torch.uint8).argsort(dim=1, stable=True)
    order_BL = order_BN.gather(1, real_first_BN)[:, :length]
    mask_BL = mask_BN.gather(1, order_BL)
    return Ranking(order_BL * mask_BL, mask_BL, score_BN)


def uniform_BN(seed: int, request_B: Tensor, width: int) -> Tensor:
    """Numbers in [0, 1) that depend on the seed, the request and the place alone, not on the batching.

    SplitMix64 (Steele, Lea and Flood 2014) of a counter; float64.
    """
    row_B1 = request_B.cpu().numpy().astype(np.uint64)[:, None]
    with np.errstate(over="ignore"):
        start_B1 = _mix(row_B1 + _mix(np.array([[seed]], dtype=np.uint64)))
        bits_BN = _mix(start_B1 + np.arange(width, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return torch.from_numpy((bits_BN >> np.uint64(11)).astype(np.float64) * 2.0**-53).to(request_B.device)


def _mix(
    x: np.ndarray[tuple[int, ...], np.dtype[np.uint64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def check_ranking(name: str, ranking: Ranking, mask_BN: Tensor, length: int) -> None:
    """Refuse a ranking that no metric could grade fairly.

    Raises:
        DataError: an item twice in a list, a candidate that is not there, a list of the wrong length, or a
        NaN score.
    """
    order_BL, mask_BL, score_BN = ranking.order_BL, ranking.mask_BL, ranking.score_BN
    if score_BN.shape != mask_BN.shape or bool(score_BN.isnan()[mask_BN].any()):
        raise DataError(f"policy '{name}' must give every real candidate a score that is a number.")
    expected_B = mask_BN.sum(1).clamp(max=length)
    if order_BL.shape != mask_BL.shape or not torch.equal(mask_BL.sum(1), expected_B):
        raise DataError(
            f"policy '{name}' must list {length} items of each request, or all where it has fewer."
        )
    used_BN = torch.zeros(mask_BN.shape, dtype=torch.int64, device=mask_BN.device)
    used_BN = used_BN.scatter_add(1, order_BL, mask_BL.to(torch.int64))
    if bool((used_BN > mask_BN.to(torch.int64)).any()):
        raise DataError(f"policy '{name}' lists an item twice or one that is not a candidate of the request.")
