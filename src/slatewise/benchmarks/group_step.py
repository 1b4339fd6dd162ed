"""GoalRank's training step for the generator, ours and the plain way, under one fixed reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slatewise.benchmarks.plain import sampler, write_plainly
from slatewise.data.batch import ListBatch
from slatewise.generators.autoregressive import Autoregressive
from slatewise.groups.policy_mix import Family, build_group, first_copies
from slatewise.groups.reference import ReferenceConfig, reference_policy
from slatewise.losses import group_relative
from slatewise.methods.goalrank import make_context
from slatewise.modules.gather import list_mask
from slatewise.rewards.base import RewardMemory, RewardModel
from slatewise.rng import torch_rng
from slatewise.types import Group


class GatheredScore(RewardModel):
    """The retriever's scores of the listed items, discounted by position: as cheap as a reward can be."""

    def encode(self, batch: ListBatch) -> RewardMemory:
        """The scores as they stand in the batch."""
        return RewardMemory(batch.mask_BN, batch.candidate_numeric_BNF[..., 0])

    def value_of(self, memory: RewardMemory, lists_BGL: Tensor) -> Tensor:
        """Sum over positions of score / log2(position + 1)."""
        score_BGL: Tensor = memory.parts[:, None].expand(-1, lists_BGL.shape[1], -1).gather(2, lists_BGL)
        weight_BGL = self._weight(lists_BGL.shape[2]) * list_mask(memory.mask_BN, lists_BGL.shape[2])[:, None]
        return (score_BGL * weight_BGL.to(score_BGL)).sum(2)

    def extension_value(self, memory: RewardMemory, prefix_BGT: Tensor) -> Tensor:
        """The prefix's value plus each candidate's discounted score."""
        weight = self._weight(prefix_BGT.shape[2] + 1)[-1].item()
        score_B1N: Tensor = memory.parts[:, None]
        return self.value_of(memory, prefix_BGT)[..., None] + weight * score_B1N

    def _weight(self, length: int) -> Tensor:
        return 1.0 / torch.log2(torch.arange(length) + 2.0)


@dataclass(frozen=True)
class Bench:
    """What a step needs: ``batch`` is all of its requests, ``lists`` is G."""

    generator: Autoregressive
    optimizer: torch.optim.Optimizer
    batch: ListBatch
    length: int
    lists: int
    seed: int


Loss = Callable[[Bench, ListBatch], Tensor]
REWARD = GatheredScore()


def our_loss(bench: Bench, batch: ListBatch) -> Tensor:
    """As ``methods/goalrank.py`` does it: encode, sample without gradient, score in one pass."""
    rng = torch_rng(bench.seed, "groups", device=batch.mask_BN.device)
    memory = bench.generator.encode(batch)
    with torch.no_grad():
        context = make_context(batch, bench.generator, REWARD, {}, bench.length)
        group = build_group((Family(family="autoregressive", count=bench.lists),), context, rng=rng)
        weight_BG, keep_B, _ = reference_policy(group, ReferenceConfig(), rng)
    return group_relative.loss(bench.generator.log_prob(memory, group.lists_BGL).sum(2), weight_BG, keep_B)


def plain_loss(bench: Bench, batch: ListBatch) -> Tensor:
    """One list after the other, every position by the whole network with gradient."""
    rng = torch_rng(bench.seed, "groups", device=batch.mask_BN.device)
    choose = sampler(rng)
    rolled = [write_plainly(bench.generator, batch, bench.length, choose) for _ in range(bench.lists)]
    lists_BGL = torch.stack([lists_BL for lists_BL, _ in rolled], 1)
    log_prob_BG = torch.stack([log_prob_BL.sum(1) for _, log_prob_BL in rolled], 1)
    value_BG, source_BG = REWARD.value(batch, lists_BGL), torch.zeros_like(lists_BGL[:, :, 0])
    group = Group(lists_BGL, first_copies(lists_BGL), value_BG, source_BG, ("plain",))
    weight_BG, keep_B, _ = reference_policy(group, ReferenceConfig(), rng)
    return group_relative.loss(log_prob_BG, weight_BG, keep_B)


def step(bench: Bench, loss_of: Loss) -> None:
    """One optimizer step on the batch, as :func:`slatewise.training.loop.train` makes it."""
    bench.generator.train()
    bench.optimizer.zero_grad(set_to_none=True)
    loss_of(bench, bench.batch).backward()
    nn.utils.clip_grad_norm_(bench.generator.parameters(), 1.0)
    bench.optimizer.step()
