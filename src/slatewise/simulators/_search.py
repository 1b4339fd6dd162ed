"""Searching for good lists under the true model: greedy, beam, single-item sort and steepest local search."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.simulators._prefix import empty, extend, next_gains
from slatewise.simulators._response import Response

CHUNK = 128  # requests searched at once; bounds memory, changes no number


def beam(response: Response, length: int, width: int) -> tuple[Tensor, Tensor]:
    """The best list that a beam of ``width`` by expected value so far finds, and its value: (B, L), (B,)."""
    lists_BWL, value_BW = beams(response, length, width)
    return lists_BWL[:, 0], value_BW[:, 0]


def beams(response: Response, length: int, width: int) -> tuple[Tensor, Tensor]:
    """All lists that such a beam ends with, best first, and their values: (B, W, L), (B, W)."""
    state, wide = empty(response), 1
    for _ in range(length):
        total_MN = (state.value_M[:, None] + next_gains(response, state)).masked_fill(
            state.used_MN, -torch.inf
        )
        count = response.num_candidates - state.length
        keep = min(width, wide * count)
        best = total_MN.view(response.size, -1).topk(keep, dim=1)
        first_B = torch.arange(response.size, device=best.indices.device)[:, None] * wide
        parent_M = (first_B + best.indices // response.num_candidates).flatten()
        item_M = (best.indices % response.num_candidates).flatten()
        state, wide = extend(response, state.rows(parent_M), item_M, best.values.flatten()), keep
    return state.chosen_ML.view(response.size, wide, length), state.value_M.view(response.size, wide)


def single_item_sort(response: Response, length: int) -> Tensor:
    """The items of highest expected value on their own at the first position, (B, L)."""
    alone_BN = torch.sigmoid(response.base_BN) * response.weight_BN
    return alone_BN.argsort(dim=1, descending=True, stable=True)[:, :length]


def local_search(
    response: Response, order_BL: Tensor, rounds: int | None, *, moves: bool
) -> tuple[Tensor, Tensor]:
    """Steepest ascent: in each round the best neighbour replaces the list where it is better.

    Neighbours are all swaps of two positions, all replacements by a candidate outside the list and, with
    ``moves``, all moves of one item to another place.

    Args:
        response: the true model.
        order_BL: where to start.
        rounds: the most rounds; None goes on until no list improves.
        moves: also try moves.

    Returns:
        The lists (B, L) and their values (B,).
    """
    value_B = response.values(order_BL[:, None])[:, 0]
    done = 0
    while rounds is None or done < rounds:
        near_BGL = neighbours(order_BL, response.num_candidates, moves=moves)
        if not near_BGL.shape[1]:  # one candidate, one place
            break
        best = response.values(near_BGL).max(dim=1)
        better_B = best.values > value_B + 1e-12
        if not bool(better_B.any()):
            break
        row = torch.arange(response.size, device=order_BL.device)
        order_BL = torch.where(better_B[:, None], near_BGL[row, best.indices], order_BL)
        value_B = torch.where(better_B, best.values, value_B)
        done += 1
    return order_BL, value_B


def neighbours(order_BL: Tensor, candidates: int, *, moves: bool) -> Tensor:
    """All lists one step away, (B, G, L): swaps, replacements and, with ``moves``, moves of one item."""
    place_GL = torch.cat([_swaps(order_BL.shape[1]), *([_moves(order_BL.shape[1])] if moves else [])])
    inside_BGL = order_BL[:, place_GL.to(order_BL.device)]
    return torch.cat([inside_BGL, _replacements(order_BL, candidates)], dim=1)


def _swaps(length: int) -> Tensor:
    pairs = torch.combinations(torch.arange(length))
    place_GL = torch.arange(length).repeat(len(pairs), 1)
    return place_GL.scatter(1, pairs, pairs.flip(1))


def _moves(length: int) -> Tensor:
    """Every order of positions made by putting one elsewhere; next door would be a swap, so further off."""
    orders = []
    for source in range(length):
        for target in range(length):
            if abs(source - target) > 1:
                order = [place for place in range(length) if place != source]
                order.insert(target, source)
                orders.append(order)
    return torch.tensor(orders, dtype=torch.long).view(-1, length)


def _replacements(order_BL: Tensor, candidates: int) -> Tensor:
    size, length = order_BL.shape
    used_BN = torch.zeros((size, candidates), dtype=torch.bool, device=order_BL.device).scatter(
        1, order_BL, True
    )
    free_BR = used_BN.to(torch.int8).argsort(dim=1, stable=True)[:, : candidates - length]
    lists_BLRL = order_BL[:, None, None, :].repeat(1, length, candidates - length, 1)
    place = torch.arange(length, device=order_BL.device)
    lists_BLRL[:, place, :, place] = free_BR.expand(length, size, -1)
    return lists_BLRL.flatten(1, 2)
