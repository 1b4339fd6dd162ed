"""Autoregressive sampling with temperature, top-k and nucleus truncation (GoalRank App. C, first family).

Nucleus (top-p) truncation: Holtzman et al. 2020, "The curious case of neural text degeneration".
"""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Above0, Frozen, Part, Positive
from slatewise.data.batch import ListBatch
from slatewise.decoding._loop import draw, encode, to_slate, write
from slatewise.generators.base import CLOSED, Generator, Memory
from slatewise.types import Slate


class Config(Frozen):
    """``top_k`` keeps the k most probable candidates of a position; ``top_p`` keeps the fewest candidates
    whose probability together reaches p. ``None`` keeps all. Both are applied after the temperature.
    """

    temperature: Above0 = 1.0
    top_k: Positive | None = None
    top_p: Part | None = None


def propose(
    generator: Generator, memory: Memory, *, length: int, count: int, rng: torch.Generator, config: Config
) -> Tensor:
    """``count`` independent samples (B, G, L) of the tempered policy; the same list may come twice."""
    return _write(generator, memory, length, count, rng, config)[0]


def decode(
    generator: Generator, batch: ListBatch | Memory, *, length: int, rng: torch.Generator, config: Config
) -> Slate:
    """One sample for each request."""
    memory = encode(generator, batch)
    lists_BGL, log_prob_BG = _write(generator, memory, length, 1, rng, config)
    return to_slate(memory, lists_BGL[:, 0], log_prob_BG[:, 0])


def truncate(logits_BGN: Tensor, config: Config) -> Tensor:
    """Tempered logits, ``CLOSED`` where top-k or top-p leaves a candidate out."""
    if config.temperature != 1.0:
        logits_BGN = logits_BGN / config.temperature
    if config.top_k is not None and config.top_k < logits_BGN.shape[-1]:
        least_BG1 = logits_BGN.topk(config.top_k, dim=-1).values[..., -1:]
        logits_BGN = logits_BGN.masked_fill(logits_BGN < least_BG1, CLOSED)
    if config.top_p is not None and config.top_p < 1:
        sorted_BGN, order_BGN = logits_BGN.softmax(-1).sort(dim=-1, descending=True)
        outside_BGN = sorted_BGN.cumsum(-1) - sorted_BGN >= config.top_p
        logits_BGN = logits_BGN.masked_fill(outside_BGN.scatter(2, order_BGN, outside_BGN), CLOSED)
    return logits_BGN


def _write(
    generator: Generator, memory: Memory, length: int, count: int, rng: torch.Generator, config: Config
) -> tuple[Tensor, Tensor]:
    def choose(position: int, logits_BGN: Tensor) -> Tensor:
        return draw(truncate(logits_BGN, config), rng)

    return write(generator, memory, length=length, count=count, choose=choose)
