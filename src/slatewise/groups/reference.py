"""The reference policy of a group (GoalRank Eq. 3 and 4), and what there is to know about the group."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Above0, Frozen, Share, Weight
from slatewise.types import Group

FLAT = 1e-6  # relative spread below which values differ by rounding only


class ReferenceConfig(Frozen):
    """How rewards become a policy.

    Attributes:
        temperature: divides the standardised rewards; 1 in the paper (Eq. 4), lower is sharper.
        bias: λ of the paper's Table 3: rewards become (1 - λ) r̂ + λ ε with ε ~ N(0, 1), on the reward's own
            scale (units of feedback, before standardising), to see what a worse reward model would do.
        gap: σ* of Eq. 3, in units of feedback: groups whose best and worst reward are not further apart teach
            nothing and are dropped.
    """

    temperature: Above0 = 1.0
    bias: Share = 0.0
    gap: Weight = 0.0


@torch.no_grad()
def reference_policy(
    group: Group, config: ReferenceConfig, rng: torch.Generator
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Softmax of the group's standardised rewards, over its distinct lists (Eq. 4).

    The standard deviation is the unbiased one. A group without spread (one distinct list, or equal rewards)
    has nothing to teach and is dropped as Eq. 3 drops it, even where ``gap`` is 0. With ``bias``, both
    equations see the noisy rewards; the statistics tell of the clean ones.

    Returns:
        The weights (B, G), which sum to 1 in each kept group and are 0 in dropped ones and for masked lists;
        the kept groups (B,); and statistics as scalars (see :func:`describe`).
    """
    value_BG = _with_noise(group.value_BG.float(), config.bias, rng)
    keep_B = spread(value_BG, group.mask_BG) > _threshold(value_BG, group.mask_BG, config.gap)
    score_BG = standardise(value_BG, group.mask_BG) / config.temperature
    score_BG = score_BG.masked_fill(~group.mask_BG, -torch.inf)
    weight_BG = torch.where(keep_B[:, None], score_BG, 0.0).softmax(1) * keep_B[:, None]
    return weight_BG, keep_B, describe(group, weight_BG, keep_B)


def standardise(value_BG: Tensor, mask_BG: Tensor) -> Tensor:
    """``(value - mean) / std`` over the group's distinct lists; 0 where there is no spread."""
    count_B1 = mask_BG.sum(1, keepdim=True)
    mean_B1 = (value_BG * mask_BG).sum(1, keepdim=True) / count_B1.clamp_min(1)
    centred_BG = (value_BG - mean_B1) * mask_BG
    variance_B1 = centred_BG.square().sum(1, keepdim=True) / (count_B1 - 1).clamp_min(1)
    return centred_BG / variance_B1.sqrt().clamp_min(torch.finfo(value_BG.dtype).tiny)


def spread(value_BG: Tensor, mask_BG: Tensor) -> Tensor:
    """Best minus worst value (B,) where the mask is True; 0 where it is True nowhere."""
    best_B = value_BG.masked_fill(~mask_BG, -torch.inf).amax(1)
    worst_B = value_BG.masked_fill(~mask_BG, torch.inf).amin(1)
    return (best_B - worst_B).clamp_min(0.0)


def describe(group: Group, weight_BG: Tensor, keep_B: Tensor) -> dict[str, Tensor]:
    """Statistics of the groups, as scalars on the group's device.

    ``reward``, ``best`` and ``gap`` are means over requests of the distinct lists' mean, of the best and of
    the spread (units of feedback); ``duplicates`` and ``dropped`` are shares of lists and of groups. For each
    source s: ``reward/s`` is the mean reward of its lists; ``gap/s`` is by how much the spread shrinks
    without them (0 where another source wrote the same lists); ``weight/s`` is the share of the reference
    policy that they hold in the kept groups (a list that several sources wrote counts for the first).
    """
    value_BG, mask_BG = group.value_BG, group.mask_BG
    gap_B = spread(value_BG, torch.ones_like(mask_BG))
    count_B = mask_BG.sum(1).clamp_min(1)
    stats = {
        "reward": ((value_BG * mask_BG).sum(1) / count_B).mean(),
        "best": value_BG.masked_fill(~mask_BG, -torch.inf).amax(1).mean(),
        "gap": gap_B.mean(),
        "duplicates": (~mask_BG).float().mean(),
        "dropped": (~keep_B).float().mean(),
    }
    for index, source in enumerate(group.sources):
        from_BG = group.source_BG == index
        stats[f"reward/{source}"] = (value_BG * from_BG).sum() / from_BG.sum().clamp_min(1)
        stats[f"gap/{source}"] = (gap_B - spread(value_BG, ~from_BG)).mean()
        stats[f"weight/{source}"] = (weight_BG * from_BG).sum() / keep_B.sum().clamp_min(1)
    return stats


def _threshold(value_BG: Tensor, mask_BG: Tensor, gap: float) -> Tensor:
    size_B = (value_BG.abs() * mask_BG).amax(1)
    return (FLAT * size_B).clamp_min(gap)


def _with_noise(value_BG: Tensor, bias: float, rng: torch.Generator) -> Tensor:
    if bias == 0.0:
        return value_BG
    noise_BG = torch.randn(value_BG.shape, device=rng.device, generator=rng).to(value_BG.device)
    return (1 - bias) * value_BG + bias * noise_BG
