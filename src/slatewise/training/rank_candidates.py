"""Candidates that OneRanker's ranking decoder learns from: what was met at the moment, what the generator finds, what others
wanted.

Shapes, besides the legend in :mod:`slatewise.types`: R moments, N candidates of each, M shared items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.data.interactions import InteractionBatch
from slatewise.generators.oneranker import OneRanker, Wants
from slatewise.training.sequences import Targets


@dataclass(frozen=True)
class Candidates:
    """Candidates of each moment; the wanted item comes first, and none comes twice.

    Attributes:
        index_RN: vocabulary indices.   gain_RN: what each brought, 0 for an item that was not met at the moment.
        mask_RN: True where a candidate is real.
    """

    index_RN: Tensor
    gain_RN: Tensor
    mask_RN: Tensor


def candidates(
    batch: InteractionBatch, asked: Targets, worth_BT: Tensor, found_RK: Tensor, together: int, others: int
) -> Candidates:
    """The wanted item, what was met at its moment, ``found_RK`` (R, K), and ``others`` wanted elsewhere in the batch.

    Args:
        worth_BT: what each interaction brought.
        together: places before and behind that may be of the same moment.
    """
    row_R, place_R = asked.row_R, asked.place_R
    own_R = batch.item_BT[row_R, place_R]
    near, same_RN = beside(batch, asked, together)
    drawn_RN = torch.randint(len(row_R), (len(row_R), others), device=row_R.device)
    sampled_RN = torch.cat([found_RK, own_R[drawn_RN]], 1)
    met_RN = torch.cat([own_R[:, None], batch.item_BT[near]], 1)
    gain_RN = torch.cat([worth_BT[row_R, place_R][:, None], worth_BT[near]], 1)
    index_RN = torch.cat([met_RN, sampled_RN], 1)
    gain_RN = torch.cat([gain_RN, gain_RN.new_zeros(sampled_RN.shape)], 1)
    own_mask_R1 = torch.ones_like(own_R[:, None], dtype=torch.bool)
    mask_RN = torch.cat([own_mask_R1, same_RN, torch.ones_like(sampled_RN, dtype=torch.bool)], 1)
    return Candidates(index_RN, gain_RN, mask_RN & ~repeated(index_RN, mask_RN))


def beside(batch: InteractionBatch, asked: Targets, together: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Places near each moment's, as an index into the batch, and which of them are of the same moment."""
    device, width = asked.row_R.device, batch.item_BT.shape[1]
    steps = [step for step in range(-together, together + 1) if step]
    near_RN = asked.place_R[:, None] + torch.tensor(steps, device=device, dtype=torch.long)
    inside_RN = (near_RN >= 0) & (near_RN < width)
    near = asked.row_R[:, None], near_RN.clamp(0, width - 1)
    time_R1 = batch.time_BT[asked.row_R, asked.place_R][:, None]
    same_RN = inside_RN & batch.mask_BT[near] & ~batch.organic_BT[near]
    return near, same_RN & (batch.time_BT[near] == time_R1) & (time_R1 > 0)


def generated(
    model: OneRanker, wants: Wants | None, moments: int, shared_M: Tensor, count: int, pool: float
) -> Tensor:
    """(R, count) drawn from the share ``pool`` of the shared items that the generator itself finds best; without step
    2, from all of them."""
    if wants is None:
        return shared_M[torch.randint(len(shared_M), (moments, count), device=shared_M.device)]
    with torch.no_grad():
        vector_MV = model.item_vectors(model.items.of(shared_M))
        best_RP = (wants.vector_RV @ vector_MV.T).topk(math.ceil(pool * len(shared_M))).indices
    drawn_RK = torch.randint(best_RP.shape[1], (moments, count), device=shared_M.device)
    return shared_M[best_RP.gather(1, drawn_RK)]


def repeated(index_RN: Tensor, mask_RN: Tensor) -> Tensor:
    """True where an earlier real place of the row holds the same item."""
    n = index_RN.shape[1]
    same_RNN = (index_RN[:, :, None] == index_RN[:, None, :]) & mask_RN[:, None, :]
    return (same_RNN & torch.ones(n, n, dtype=torch.bool, device=index_RN.device).tril(-1)).any(2)
