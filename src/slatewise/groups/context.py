"""What a family of lists may look at when it builds its part of a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.generators.base import Generator, Memory

Reward = Callable[[Tensor], Tensor]  # lists_BGL -> value_BG, for any G
NO_LISTS = torch.empty(0, 0, 0, dtype=torch.long)


@dataclass(frozen=True)
class Context:
    """A batch with the policies and the reward that may write and judge its lists.

    Attributes:
        batch: the requests.
        memory: the requests as the generator encoded them.
        generator: the policy in training, as it is now (l^θ in the paper).
        reward: value (B, G) of lists (B, G, L), in units of feedback; the batch is already bound in.
        length: L.
        auxiliaries: other policies (the paper's set M) by name, each with its own encoding of the batch.
        earlier_BGL: the lists already in the group, G = 0 at first.
    """

    batch: ListBatch
    memory: Memory
    generator: Generator
    reward: Reward
    length: int
    auxiliaries: Mapping[str, tuple[Generator, Memory]] = field(default_factory=dict)
    earlier_BGL: Tensor = NO_LISTS

    def __post_init__(self) -> None:
        if self.earlier_BGL is NO_LISTS:
            shape = (self.memory.size, 0, self.length)
            empty = torch.empty(shape, dtype=torch.long, device=self.memory.mask_BN.device)
            object.__setattr__(self, "earlier_BGL", empty)

    @property
    def mask_BN(self) -> Tensor:
        """True where a candidate is real."""
        return self.memory.mask_BN

    def with_lists(self, lists_BGL: Tensor) -> Context:
        """The context after a family has added its lists."""
        return replace(self, earlier_BGL=torch.cat([self.earlier_BGL, lists_BGL], 1))
