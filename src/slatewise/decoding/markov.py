"""Markov decoding: each position depends only on the item before it (GoalRank App. C, Markov approximation).

One batched step after every single-item prefix gives the scores of all pairs; the best pairs begin the lists,
and the rest is a chain over the same pair scores, without running the decoder again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Above0, Frozen
from slatewise.data.batch import ListBatch
from slatewise.decoding._loop import draw, encode, quiet, scored_slate
from slatewise.generators.base import CLOSED, Generator, Memory, list_mask
from slatewise.types import Slate


class Config(Frozen):
    """``sample`` draws the chain's items (the paper); otherwise it takes the best at each position."""

    sample: bool = True
    temperature: Above0 = 1.0


def propose(
    generator: Generator, memory: Memory, *, length: int, count: int, rng: torch.Generator, config: Config
) -> Tensor:
    """Lists (B, G, L) that begin with the ``count`` best pairs, best pair first, and go on as a chain."""
    first_BN, transition_BNN = pair_log_probs(generator, memory, pairs=length > 1)
    lists = list(_best_pairs(first_BN, transition_BNN, memory.mask_BN, count))[:length]
    shape = (memory.size, count, memory.mask_BN.shape[1])
    taken_BGN = torch.zeros(shape, dtype=torch.bool, device=first_BN.device)
    for choice_BG in lists:
        taken_BGN = taken_BGN.scatter(2, choice_BG[..., None], True)
    while len(lists) < length:
        row_BGN = transition_BNN.gather(1, lists[-1][..., None].expand(shape)).masked_fill(taken_BGN, CLOSED)
        choice_BG = draw(row_BGN / config.temperature, rng) if config.sample else row_BGN.argmax(-1)
        taken_BGN = taken_BGN.scatter(2, choice_BG[..., None], True)
        lists.append(choice_BG)
    return torch.stack(lists, 2) * list_mask(memory.mask_BN, length)[:, None]


def decode(
    generator: Generator, batch: ListBatch | Memory, *, length: int, rng: torch.Generator, config: Config
) -> Slate:
    """The chain from the best pair of each request."""
    memory = encode(generator, batch)
    lists_BGL = propose(generator, memory, length=length, count=1, rng=rng, config=config)
    return scored_slate(generator, memory, lists_BGL[:, 0])


def pair_log_probs(generator: Generator, memory: Memory, *, pairs: bool = True) -> tuple[Tensor, Tensor]:
    """Log-probabilities of each first item (B, N) and of each second after each first (B, N, N; row = first).

    The rows of unreal candidates mean nothing. Without ``pairs`` the second is all zeros and costs nothing.
    """
    b, n = memory.mask_BN.shape
    with quiet(generator):
        logits_B1N, state = generator.step(memory, generator.start(memory, 1))
        first_BN = logits_B1N.squeeze(1).log_softmax(-1)
        if not pairs:
            return first_BN, first_BN.new_zeros(()).expand(b, n, n)
        item_BN = torch.arange(n, device=first_BN.device).expand(b, -1)
        state = generator.advance(memory, generator.select(state, torch.zeros_like(item_BN)), item_BN)
        logits_BNN, _ = generator.step(memory, state)
    return first_BN, logits_BNN.log_softmax(-1)


def _best_pairs(
    first_BN: Tensor, transition_BNN: Tensor, mask_BN: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """First and second items (B, G) of the best pairs; where there are fewer than G, the best one again."""
    n = mask_BN.shape[1]
    real_BNN = mask_BN[:, :, None] & mask_BN[:, None] & ~torch.eye(n, dtype=torch.bool, device=mask_BN.device)
    joint_BNN = (first_BN[..., None] + transition_BNN).masked_fill(~real_BNN, -torch.inf)
    score_BG, pair_BG = joint_BNN.flatten(1).topk(min(count, n * n), dim=1)
    pair_BG = torch.where(score_BG.isneginf(), pair_BG[:, :1], pair_BG)
    pair_BG = torch.where(score_BG[:, :1].isneginf(), 0, pair_BG)  # a lone candidate has no pair
    place_G = torch.arange(count, device=pair_BG.device)
    pair_BG = pair_BG[:, place_G * (place_G < pair_BG.shape[1])]
    return pair_BG // n, pair_BG % n
