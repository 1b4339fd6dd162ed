"""What the strategies share: the cached loop over positions, noise, and the way from lists to a slate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.generators.base import Generator, Memory, list_mask
from slatewise.types import Slate

Choose = Callable[[int, Tensor], Tensor]  # (position, logits_BGN) -> choice_BG


@contextmanager
def quiet(generator: Generator) -> Iterator[None]:
    """No gradient and no dropout inside; every module is left in the mode it came in."""
    modes = [(module, module.training) for module in generator.modules()] if generator.training else []
    if modes:
        generator.train(False)
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def write(
    generator: Generator, memory: Memory, *, length: int, count: int, choose: Choose
) -> tuple[Tensor, Tensor]:
    """Write ``count`` lists a request, position by position, as ``choose`` says.

    The first position is the same for all lists of a request, so it is computed once and shared.

    Returns:
        The lists (B, G, L) and their log-probability under the generator (B, G), in nats.
    """
    mask_BL = list_mask(memory.mask_BN, length)
    log_prob_BG = torch.zeros(memory.size, count, device=mask_BL.device)
    choices: list[Tensor] = []
    with quiet(generator):
        state = generator.start(memory, 1)
        for position in range(length):
            if choices:
                state = generator.advance(memory, state, choices[-1])
            logits_BGN, state = generator.step(memory, state)
            if position == 0 and count > 1:
                logits_BGN = logits_BGN.expand(-1, count, -1)
                state = generator.select(state, logits_BGN.new_zeros(memory.size, count, dtype=torch.long))
            choices.append(choose(position, logits_BGN))
            log_prob_BG = log_prob_BG + log_prob_of(logits_BGN, choices[-1]) * mask_BL[:, position, None]
    return torch.stack(choices, 2) * mask_BL[:, None], log_prob_BG


def log_prob_of(logits_BGN: Tensor, choice_BG: Tensor) -> Tensor:
    """Log-softmax at the choice, without storing it for the other candidates."""
    return logits_BGN.gather(2, choice_BG[..., None]).squeeze(2) - logits_BGN.logsumexp(2)


def gumbel(shape: tuple[int, ...] | torch.Size, rng: torch.Generator, device: torch.device) -> Tensor:
    """Standard Gumbel noise drawn from ``rng`` (on its device, then moved)."""
    uniform = torch.rand(shape, device=rng.device, generator=rng)  # on CPU much faster than exponential_
    return uniform.clamp_min_(torch.finfo(uniform.dtype).tiny).log_().neg_().log_().neg_().to(device)


def draw(logits_BGN: Tensor, rng: torch.Generator) -> Tensor:
    """One sample (B, G) of each row's softmax; a closed candidate is never drawn while another is open.

    By the inverse of the cumulative distribution: one random number a list, where Gumbel noise takes N. A
    closed candidate adds exactly nothing to the sum, and the number is strictly below the sum's end.
    """
    cumulative_BGN = logits_BGN.softmax(-1).cumsum(-1)
    end_BG1 = cumulative_BGN[..., -1:]
    uniform_BG1 = torch.rand(end_BG1.shape, device=rng.device, generator=rng).to(end_BG1.device)
    return torch.searchsorted(cumulative_BGN, uniform_BG1 * end_BG1, right=True).squeeze(-1)


def top_lists(score_BGN: Tensor, mask_BN: Tensor, length: int) -> Tensor:
    """Lists (B, G, L) of the real candidates with the highest scores, best first."""
    score_BGN = score_BGN.masked_fill(~mask_BN[:, None], -torch.inf)
    kept = min(length, score_BGN.shape[2])
    lists_BGL = score_BGN.new_zeros(*score_BGN.shape[:2], length, dtype=torch.long)
    lists_BGL[:, :, :kept] = score_BGN.topk(kept, dim=2).indices
    return lists_BGL * list_mask(mask_BN, length)[:, None]


def first_logits(generator: Generator, memory: Memory) -> Tensor:
    """Logits of the first position (B, N), unreal candidates closed."""
    with quiet(generator):
        logits_B1N, _ = generator.step(memory, generator.start(memory, 1))
    return logits_B1N.squeeze(1)


def to_slate(memory: Memory, order_BL: Tensor, log_prob_B: Tensor) -> Slate:
    """A slate with its mask."""
    return Slate(order_BL, list_mask(memory.mask_BN, order_BL.shape[1]), log_prob_B)


def scored_slate(generator: Generator, memory: Memory, order_BL: Tensor) -> Slate:
    """A slate whose log-probability takes one teacher-forced pass."""
    with quiet(generator):
        log_prob_B = generator.log_prob(memory, order_BL[:, None]).sum((1, 2))
    return to_slate(memory, order_BL, log_prob_B)


def encode(generator: Generator, batch: ListBatch | Memory) -> Memory:
    """The encoded batch, without gradient and dropout; one that is encoded already comes back as it is."""
    if isinstance(batch, Memory):
        return batch
    with quiet(generator):
        return generator.encode(batch)
