"""Lists of the group with at most a few items replaced (GoalRank App. C: heuristic substitution)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen, Positive
from slatewise.decoding import greedy
from slatewise.generators.base import list_mask
from slatewise.groups.context import Context


class Config(Frozen):
    """From 1 to ``replacements`` items (each number equally likely; the paper allows two) give way to random
    candidates from outside the list, at random positions. ``swap`` also exchanges two random positions.
    """

    replacements: Positive = 2
    swap: bool = False


def build(config: Config, context: Context, *, count: int, rng: torch.Generator) -> Tensor:
    """``count`` changed copies (B, G, L), of a random earlier list (of the greedy list if there are none).

    A request whose list holds all its candidates has nothing to replace with: without ``swap`` it gets plain
    copies.
    """
    lists_BGL = _drawn(_earlier(context, rng), count, rng)
    mask_BGL = list_mask(context.mask_BN, context.length)[:, None].expand_as(lists_BGL)
    lists_BGL = _replace(lists_BGL, mask_BGL, context.mask_BN, config.replacements, rng)
    return _swap(lists_BGL, mask_BGL, rng) if config.swap else lists_BGL


def _earlier(context: Context, rng: torch.Generator) -> Tensor:
    if context.earlier_BGL.shape[1]:
        return context.earlier_BGL
    settings = greedy.Config()
    return greedy.propose(
        context.generator, context.memory, length=context.length, count=1, rng=rng, config=settings
    )


def _drawn(earlier_BGL: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """``count`` of the earlier lists: all of them once, in random order, before any comes again."""
    b, have, length = earlier_BGL.shape
    key = _uniform((b, -(-count // have), have), rng, earlier_BGL.device)
    place_BG = key.argsort(2).flatten(1)[:, :count]
    return earlier_BGL.gather(1, place_BG[..., None].expand(-1, -1, length))


def _replace(lists_BGL: Tensor, mask_BGL: Tensor, mask_BN: Tensor, most: int, rng: torch.Generator) -> Tensor:
    b, g, length = lists_BGL.shape
    most = min(most, length, mask_BN.shape[1])
    outside_BGN = mask_BN[:, None].expand(-1, g, -1).scatter(2, lists_BGL, False)
    key_BGN = _uniform(outside_BGN.shape, rng, lists_BGL.device).masked_fill(~outside_BGN, -1.0)
    item_BGR = key_BGN.topk(most, dim=2).indices
    wanted_BG1 = 1 + (_uniform((b, g, 1), rng, lists_BGL.device) * most).long().clamp_max(most - 1)
    number_BG1 = torch.minimum(wanted_BG1, outside_BGN.sum(2, keepdim=True))
    key_BGL = _uniform(lists_BGL.shape, rng, lists_BGL.device).masked_fill(~mask_BGL, 2.0)
    rank_BGL = key_BGL.argsort(2).argsort(2)
    new_BGL = item_BGR.gather(2, rank_BGL.clamp_max(most - 1))
    return torch.where((rank_BGL < number_BG1) & mask_BGL, new_BGL, lists_BGL)


def _swap(lists_BGL: Tensor, mask_BGL: Tensor, rng: torch.Generator) -> Tensor:
    """Exchange the items of two random positions; a list of one item stays."""
    if lists_BGL.shape[2] < 2:
        return lists_BGL
    key_BGL = _uniform(lists_BGL.shape, rng, lists_BGL.device).masked_fill(~mask_BGL, 2.0)
    pair_BG2 = key_BGL.argsort(2)[:, :, :2]
    item_BG2 = lists_BGL.gather(2, pair_BG2).flip(2)
    two_BG1 = mask_BGL.sum(2, keepdim=True) >= 2
    return torch.where(two_BG1, lists_BGL.scatter(2, pair_BG2, item_BG2), lists_BGL)


def _uniform(shape: tuple[int, ...], rng: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(shape, device=rng.device, generator=rng).to(device)
