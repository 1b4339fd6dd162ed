"""Whether both ways compute the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.benchmarks.group_step import Bench
from slatewise.benchmarks.plain import sampler, write_plainly
from slatewise.rng import torch_rng


def differences(bench: Bench) -> tuple[float, float]:
    """Largest differences between the plain way and one teacher-forced pass, in evaluation mode (no dropout).

    Returns:
        Of a position's log-probability, in nats; of the gradient of the mean list's, as a share of its
        largest entry.
    """
    generator, batch = bench.generator.eval(), bench.batch
    choose = sampler(torch_rng(bench.seed, "agreement", device=batch.mask_BN.device))
    rolled = [write_plainly(generator, batch, bench.length, choose) for _ in range(bench.lists)]
    lists_BGL = torch.stack([lists_BL for lists_BL, _ in rolled], 1)
    plain_BGL = torch.stack([log_prob_BL for _, log_prob_BL in rolled], 1)
    ours_BGL = generator.log_prob(generator.encode(batch), lists_BGL)
    log_prob = (plain_BGL - ours_BGL).abs().max().item()
    plain, ours = _gradient(bench, plain_BGL), _gradient(bench, ours_BGL)
    return log_prob, ((plain - ours).abs().max() / plain.abs().max()).item()


def _gradient(bench: Bench, log_prob_BGL: Tensor) -> Tensor:
    """Gradient of the mean list's log-probability, all parameters in one vector."""
    bench.generator.zero_grad(set_to_none=True)
    log_prob_BGL.sum(2).mean().backward()
    return torch.cat([p.grad.flatten() for p in bench.generator.parameters() if p.grad is not None])
