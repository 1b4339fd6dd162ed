"""The plain way to write a list: a network call for each position, nothing cached. The suites' reference.

It is written from the formulas, on the generator's layers but not on its ``step`` or ``log_prob``, so that
equal log-probabilities say something. Every request must have at least L candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.generators.autoregressive import Autoregressive
from slatewise.generators.base import CLOSED, Memory

Choose = Callable[[Tensor], Tensor]  # logits_BN -> choice_B


def next_logits(generator: Autoregressive, memory: Memory, prefix_BT: Tensor) -> Tensor:
    """Logits (B, N) of the position behind a prefix, by the decoder over the whole prefix."""
    parts = memory.parts
    index_BTD = prefix_BT[..., None].expand(-1, -1, parts.x_BND.shape[2])
    x_BTD = torch.cat([parts.start_BD[:, None], parts.x_BND.gather(1, index_BTD)], 1)
    x_B1TD = (x_BTD + generator.position[: x_BTD.shape[1]])[:, None]
    for layer, candidates in zip(generator.decoder, parts.layers, strict=True):
        x_B1TD, _ = layer(x_B1TD, candidates, memory.mask_BN, None)
    query_BD = generator.pointer_query(generator.norm(x_B1TD[:, 0, -1]))
    match_BN = (parts.pointer_BND @ query_BD[..., None]).squeeze(2) / math.sqrt(query_BD.shape[1])
    open_BN = memory.mask_BN.scatter(1, prefix_BT, False)
    logits_BN: Tensor = match_BN + parts.bias_BN
    return logits_BN.masked_fill(~open_BN, CLOSED)


def write_plainly(
    generator: Autoregressive, batch: ListBatch, length: int, choose: Choose, *, encode_once: bool = False
) -> tuple[Tensor, Tensor]:
    """One list a request; each position re-runs the whole network (``encode_once``: the decoder alone).

    Returns:
        The lists (B, L) and each position's log-probability (B, L), with gradient where it is enabled.
    """
    memory = generator.encode(batch) if encode_once else None
    prefix_BT = batch.candidates_BN.new_zeros(batch.size, 0)
    log_probs = []
    for _ in range(length):
        seen = memory if memory is not None else generator.encode(batch)
        log_prob_BN = next_logits(generator, seen, prefix_BT).log_softmax(1)
        choice_B1 = choose(log_prob_BN.detach())[:, None]
        log_probs.append(log_prob_BN.gather(1, choice_B1))
        prefix_BT = torch.cat([prefix_BT, choice_B1], 1)
    return prefix_BT, torch.cat(log_probs, 1)


def sampler(rng: torch.Generator) -> Choose:
    """Choose at random, as probable as the logits say."""
    return lambda logits_BN: torch.multinomial(logits_BN.softmax(1), 1, generator=rng).squeeze(1)


def best(logits_BN: Tensor) -> Tensor:
    """Choose the most probable candidate."""
    return logits_BN.argmax(1)
