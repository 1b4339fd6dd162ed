"""Local search on lists of any origin, for any value function: swap two items or replace one, while it helps.

It sees what a beam over cumulative values cannot: what an early item does to the positions behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from slatewise.generators.base import list_mask

Value = Callable[[Tensor], Tensor]  # lists_BGL -> value_BG, for any G
# neighbours valued at once: what stays near a processor's cores (measured), what fills an accelerator
CHUNK = {"cpu": 1024, "other": 16384}


@torch.no_grad()
def polish(
    lists_BGL: Tensor,
    mask_BN: Tensor,
    value: Value,
    *,
    rounds: int,
    replace_top: int | None = None,
    candidate_score_BN: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Best-improvement local search: in each round every list takes its best neighbour, if that is better.

    Neighbours are all swaps of two positions (L(L-1)/2) and all replacements of one item by a candidate
    outside the list (L(N-L)). It stops early when no list improves. A value never goes down.

    Args:
        lists_BGL: lists without repeats; a request with N < L candidates has them all and is only reordered.
        mask_BN: real candidates.
        value: the value of lists, with as many lists a request as it is given.
        replace_top: try only this many outside candidates, those with the highest ``candidate_score_BN``.
        chunk: how many lists ``value`` is given at once (at least one for each list that is polished); ``None``: by device.

    Returns:
        The lists (B, G, L) and their values (B, G).

    Raises:
        ValueError: ``replace_top`` without ``candidate_score_BN``.
    """
    if replace_top is not None and candidate_score_BN is None:
        raise ValueError("replace_top needs candidate_score_BN, to know which candidates are the top ones.")
    outside = max(int(mask_BN.sum(1).max()) - lists_BGL.shape[2], 0)
    outside = outside if replace_top is None else min(outside, replace_top)
    score_BN = (
        torch.zeros(mask_BN.shape, device=mask_BN.device)
        if candidate_score_BN is None
        else candidate_score_BN
    )
    moves_ML = _moves(lists_BGL.shape[2], outside).to(lists_BGL.device)
    chunk = chunk or CHUNK.get(lists_BGL.device.type, CHUNK["other"])
    step = max(1, chunk // max(1, lists_BGL.shape[0] * lists_BGL.shape[1]))
    value_BG = value(lists_BGL)
    for _ in range(rounds if len(moves_ML) else 0):
        pool = _pool(lists_BGL, mask_BN, score_BN, outside)
        found_BGL, best_BG = _best_neighbour(lists_BGL, value_BG, pool, _chunks(moves_ML, step), value)
        if torch.equal(found_BGL, lists_BGL):
            break
        lists_BGL, value_BG = found_BGL, best_BG
    return lists_BGL, value_BG


def _moves(length: int, outside: int) -> Tensor:
    """Each neighbour (M, L) as places in the pool: the list's own L items, then R outside candidates."""
    own_L = torch.arange(length)
    i, j = torch.triu_indices(length, length, offset=1)
    swaps_ML = own_L.repeat(len(i), 1)
    swaps_ML[torch.arange(len(i)), i], swaps_ML[torch.arange(len(i)), j] = j, i
    replaced_ML = own_L.repeat(length * outside, 1)
    place_M = torch.arange(length * outside)
    replaced_ML[place_M, place_M % max(length, 1)] = length + place_M // max(length, 1)
    return torch.cat([swaps_ML, replaced_ML])


def _chunks(moves_ML: Tensor, size: int) -> list[Tensor]:
    return [moves_ML[start : start + size] for start in range(0, len(moves_ML), size)]


def _pool(lists_BGL: Tensor, mask_BN: Tensor, score_BN: Tensor, outside: int) -> tuple[Tensor, Tensor]:
    """The list's items and the best R candidates outside it (B, G, L + R), and which of them are real."""
    length = lists_BGL.shape[2]
    score_BGN = (
        score_BN[:, None].expand(-1, lists_BGL.shape[1], -1).masked_fill(~mask_BN[:, None], -torch.inf)
    )
    best_BGR = score_BGN.scatter(2, lists_BGL, -torch.inf).topk(outside, dim=2)
    real_BGL = list_mask(mask_BN, length)[:, None].expand_as(lists_BGL)
    real = torch.cat([real_BGL, ~best_BGR.values.isneginf()], 2)
    return torch.cat([lists_BGL, best_BGR.indices], 2), real


def _best_neighbour(
    lists_BGL: Tensor, value_BG: Tensor, pool: tuple[Tensor, Tensor], moves: list[Tensor], value: Value
) -> tuple[Tensor, Tensor]:
    """For each list the best of itself and its neighbours; a neighbour must end where the list ends."""
    (item_BGP, real_BGP), length = pool, lists_BGL.shape[2]
    best_BGL, best_BG = lists_BGL, value_BG
    for moves_mL in moves:
        allowed_BGm = (real_BGP[:, :, moves_mL] == real_BGP[:, :, None, :length]).all(-1)
        near_BGmL = torch.where(allowed_BGm[..., None], item_BGP[:, :, moves_mL], lists_BGL[:, :, None])
        value_BGm = value(near_BGmL.flatten(1, 2)).view(allowed_BGm.shape)
        top_BG, place_BG = value_BGm.masked_fill(~allowed_BGm, -torch.inf).max(2)
        top_BGL = near_BGmL.gather(2, place_BG[..., None, None].expand(-1, -1, 1, length)).squeeze(2)
        better_BG = top_BG > best_BG
        best_BGL = torch.where(better_BG[..., None], top_BGL, best_BGL)
        best_BG = torch.where(better_BG, top_BG, best_BG)
    return best_BGL, best_BG
