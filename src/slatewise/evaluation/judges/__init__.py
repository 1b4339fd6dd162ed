"""Judges: what grades lists where no simulator knows their true value (DeGRe §5.1.3, "an independent external evaluator").

Who grades decides the number: an evaluator that grades the lists it searched for itself gives them close to 100 %. So
judges are other models than the rewards, share no code with them, learn from the same users or from users that no
ranker ever saw, and train nothing. One file a kind; each exports ``Config`` and ``build(config, manifest) -> Judge``.
The kind ``self`` is no file: it is the reward that a row of the table learnt from.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from slatewise.data.batch import ListBatch
from slatewise.decoding.local_search import polish
from slatewise.evaluation.judges._shared import LIMIT, SharedLists, all_sets

# items of lists handled at once: bounds memory, changes no number; what stays near a processor's cores, what fills
# an accelerator
ROOM = {"cpu": 1 << 15, "other": 1 << 20}


class Judge(ABC):
    """Values lists in units of feedback. Lists hold real candidates only and are all of one length.

    Attributes:
        order_free: a list's value does not depend on the order of its items.
        alone: an item's share of it does not depend on the list's other items either.
    """

    order_free: bool = False
    alone: bool = False
    device: str = "cpu"

    @abstractmethod
    def encode(self, batch: ListBatch) -> Any:
        """Everything about the requests that does not depend on the list."""

    @abstractmethod
    def value_of(self, memory: Any, lists_BGL: Tensor) -> Tensor:
        """Value of each list (B, G)."""

    def value_of_shared(self, memory: Any, size: int, shared: SharedLists) -> Tensor:
        """Value (B, G) of the same G lists for each of ``size`` requests."""
        room = ROOM["cpu" if self.device == "cpu" else "other"]
        step = max(1, room // max(1, size * shared.length))
        parts = [part.expand(size, -1, -1) for part in shared.lists_GL[None].split(step, dim=1)]
        return torch.cat([self.value_of(memory, part) for part in parts], dim=1)

    def best(self, memory: Any, mask_BN: Tensor, length: int) -> Tensor:
        """The judge's own best list (B, L), for requests with equally many candidates: its items sorted by their value
        alone; where others count, the best of all sets, or the sort improved by swaps and replacements until nothing
        helps."""
        size, count = mask_BN.shape[0], int(mask_BN[0].sum())
        alone_BN1 = torch.arange(count, device=mask_BN.device).expand(size, -1)[..., None]
        order_BN = self.value_of(memory, alone_BN1).argsort(dim=1, descending=True, stable=True)
        sorted_B1L = order_BN[:, None, : min(length, count)]
        if self.alone:
            return sorted_B1L[:, 0]
        if self.order_free and math.comb(count, min(length, count)) <= LIMIT:
            sets = all_sets(count, min(length, count))
            best_B = self.value_of_shared(memory, size, sets).argmax(1)
            return sets.lists_GL.to(best_B.device)[best_B]
        return polish(sorted_B1L, mask_BN, lambda lists: self.value_of(memory, lists), rounds=20)[0][:, 0]


class ListReward(Protocol):
    """What the judge ``self`` needs of a reward model."""

    def encode(self, batch: ListBatch) -> Any:
        """A request encoded once."""

    def value_of(self, memory: Any, lists_BGL: Tensor) -> Tensor:
        """Value of each list (B, G)."""


class Self(Judge):
    """The reward that rankers learnt from, grading them: it says what distillation and search lose, not what is good."""

    def __init__(self, reward: ListReward, device: str = "cpu") -> None:
        self.reward, self.device = reward, device

    @staticmethod
    def of(policy: nn.Module) -> Self | None:
        """The reward that a policy keeps, as its judge; None for a policy that keeps none."""
        reward: Any = getattr(policy, "reward", None)
        return None if reward is None else Self(reward, str(next(policy.parameters()).device))

    @torch.no_grad()
    def encode(self, batch: ListBatch) -> Any:
        """The reward's memory."""
        return self.reward.encode(batch.to(self.device))

    @torch.no_grad()
    def value_of(self, memory: Any, lists_BGL: Tensor) -> Tensor:
        """The reward's value."""
        return self.reward.value_of(memory, lists_BGL.to(self.device))


class TrainedJudge(nn.Module, Judge):
    """A judge with weights: a chance of positive feedback at each place, summed over the list."""

    @abstractmethod
    def item_states(self, batch: ListBatch) -> Tensor:
        """The candidates in the user's context, (B, N, …)."""

    @abstractmethod
    def place_logits(self, memory: Tensor, lists_BGL: Tensor) -> Tensor:
        """The logit of positive feedback at each place (B, G, L)."""

    @torch.no_grad()
    def encode(self, batch: ListBatch) -> Tensor:
        """:meth:`item_states`, on the judge's own device."""
        return self.item_states(batch.to(next(self.parameters()).device))

    @torch.no_grad()
    def value_of(self, memory: Tensor, lists_BGL: Tensor) -> Tensor:
        """Expected number of positives (B, G)."""
        return self.place_logits(memory, lists_BGL.to(memory.device)).sigmoid().sum(2)


class Mean(Judge):
    """Trained judges that differ in their seed, averaged: what one believes by chance counts less."""

    def __init__(self, members: Sequence[TrainedJudge]) -> None:
        self.members = members
        first = members[0]
        self.order_free, self.alone, self.device = first.order_free, first.alone, first.device

    def encode(self, batch: ListBatch) -> list[Any]:
        """Each member's memory."""
        return [member.encode(batch) for member in self.members]

    def value_of(self, memory: list[Any], lists_BGL: Tensor) -> Tensor:
        """The members' mean (B, G)."""
        values = [m.value_of(part, lists_BGL) for m, part in zip(self.members, memory, strict=True)]
        return torch.stack(values).mean(0)

    def value_of_shared(self, memory: list[Any], size: int, shared: SharedLists) -> Tensor:
        """The members' mean (B, G)."""
        values = [m.value_of_shared(part, size, shared) for m, part in zip(self.members, memory, strict=True)]
        return torch.stack(values).mean(0)
