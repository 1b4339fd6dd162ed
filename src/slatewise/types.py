"""Tensor words used everywhere, and the one legend of shape suffixes.

A tensor's name ends in its shape:

    B  requests in the batch        L  list length            D  model width
    N  candidates of a request      G  lists in a group       K  feedback kinds
    H  history length               F  numeric features       C  categorical features
    E  exposed items of a request (at least L; more where a protocol has feedback on more items)

Every mask is boolean and True means *real*. A list is a tensor of *indices into the candidate axis*,
never of item ids; where its mask is False the index is 0 and means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slate:
    """One decoded list per request.

    Attributes:
        order_BL: chosen candidates, best position first (indices into the candidate axis).
        mask_BL: True where the list has an item; False behind the end of a request with N < L candidates.
        log_prob_B: log-probability of the list under the policy that wrote it, in nats.
        first_BN: logits of the first position, where the strategy came by them on its way.
    """

    order_BL: Tensor
    mask_BL: Tensor
    log_prob_B: Tensor
    first_BN: Tensor | None = None


@dataclass(frozen=True)
class Group:
    """G lists for each request, with what the reward model says of them (GoalRank §3.3).

    Attributes:
        lists_BGL: the lists (indices into the candidate axis), all of the same length.
        mask_BG: True where the list is to be learned from; False for a duplicate of an earlier list.
        value_BG: the reward model's value of each list, in units of feedback.
        source_BG: for each list, an index into ``sources``.
        sources: names of the families that wrote the lists.
    """

    lists_BGL: Tensor
    mask_BG: Tensor
    value_BG: Tensor
    source_BG: Tensor
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """What a policy says of a batch, in the form every metric reads.

    Attributes:
        order_BL: the list, best position first (indices into the candidate axis).
        mask_BL: True where the list has an item.
        score_BN: a total order of all candidates that agrees with the list (for AUC); unreal candidates are -inf.
    """

    order_BL: Tensor
    mask_BL: Tensor
    score_BN: Tensor


@dataclass(frozen=True)
class Answer:
    """What a request is served with: the list, and what the policy says of it.

    Attributes:
        order_BL: the list, best position first (indices into the candidate axis); 0 where the mask is False.
        mask_BL: True where the list has an item.
        log_prob_B: log-probability of the list under the policy's generator, in nats; NaN where it has none, because a
            reward chose.
        score_BN: what the policy thinks of each candidate at the first position, the higher the better: a generator's
            logit, or a reward's value of the list that is this one item; unreal candidates are -inf.
    """

    order_BL: Tensor
    mask_BL: Tensor
    log_prob_B: Tensor
    score_BN: Tensor

    def ranking(self, mask_BN: Tensor) -> Ranking:
        """The same as metrics read it: the list first, then the other candidates by score."""
        score_BN = full_order_scores(self.order_BL, self.mask_BL, self.score_BN, mask_BN)
        return Ranking(self.order_BL, self.mask_BL, score_BN)


@dataclass(frozen=True)
class Retrieved:
    """What a policy found in the whole catalogue.

    Attributes:
        items_BK: vocabulary indices, best first, none twice; 0 where the mask is False.
        mask_BK: False behind the end, where the catalogue has fewer items.
        score_BK: their scores, not rising; -inf where the mask is False.
    """

    items_BK: Tensor
    mask_BK: Tensor
    score_BK: Tensor


def full_order_scores(order_BL: Tensor, mask_BL: Tensor, rest_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """Scores that put the list first, in its order, then all other candidates by ``rest_BN``; unreal ones at -inf."""
    rank_BN = (
        rest_BN.masked_fill(~mask_BN, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    )
    score_BN = -rank_BN.to(torch.float32)
    place_L = torch.arange(order_BL.shape[1], 0, -1, device=order_BL.device, dtype=torch.float32)
    top_BL = torch.where(mask_BL, place_L.expand_as(order_BL), torch.zeros((), device=order_BL.device))
    chosen_BN = torch.zeros_like(score_BN).scatter_reduce(1, order_BL, top_BL, reduce="amax")
    score_BN = torch.where(chosen_BN > 0, chosen_BN, score_BN)
    return score_BN.masked_fill(~mask_BN, -torch.inf)
