"""What every generator can do; decoding strategies and losses know nothing else of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from slatewise.data.batch import ListBatch
from slatewise.modules.gather import gather_candidates, list_mask, open_candidates

__all__ = ["CLOSED", "Generator", "Memory", "ScoreGenerator", "State", "gather_candidates", "list_mask"]

CLOSED = (
    -1e9
)  # logit of a candidate that is taken or not real; finite, so that an exhausted request gives no NaN


@dataclass(frozen=True)
class Memory:
    """A request encoded once: ``mask_BN`` and whatever the generator needs at each step (``parts``)."""

    mask_BN: Tensor
    parts: Any

    @property
    def size(self) -> int:
        """B."""
        return self.mask_BN.shape[0]


@dataclass(frozen=True)
class State:
    """G lists in the making for each request: ``open_BGN`` is True where a candidate may still be chosen."""

    open_BGN: Tensor
    length: int
    parts: Any

    def close(self, choice_BG: Tensor) -> State:
        """The state with the chosen candidates taken."""
        return replace(self, open_BGN=self.open_BGN.scatter(2, choice_BG[..., None], False))


class Generator(nn.Module, ABC):
    """A policy that writes a list one position after the other.

    Protocol of a decoder: ``memory = encode(batch)``; ``state = start(memory, G)``; then for each position
    ``logits, state = step(memory, state)`` and ``state = advance(memory, state, choice)``.
    """

    @abstractmethod
    def encode(self, batch: ListBatch) -> Memory:
        """Everything about the request that does not depend on the list."""

    @abstractmethod
    def start(self, memory: Memory, lists: int) -> State:
        """``lists`` empty lists for each request."""

    @abstractmethod
    def step(self, memory: Memory, state: State) -> tuple[Tensor, State]:
        """Logits of the next position (B, G, N), ``CLOSED`` where a candidate is taken or not real."""

    @abstractmethod
    def advance(self, memory: Memory, state: State, choice_BG: Tensor) -> State:
        """The state after writing ``choice_BG``."""

    @abstractmethod
    def select(self, state: State, parent_BG: Tensor) -> State:
        """Keep, for each request, the lists ``parent_BG`` (indices into the old G axis, repeats allowed)."""

    @abstractmethod
    def list_logits(self, memory: Memory, lists_BGL: Tensor) -> Tensor:
        """Logits of each position of given lists (B, G, L, N) in one teacher-forced pass; nothing is closed yet."""

    def log_probs(self, memory: Memory, lists_BGL: Tensor) -> Tensor:
        """Log-probability of every candidate at each position of given lists (B, G, L, N), in nats.

        About ``CLOSED`` where a candidate is taken or not real. Behind the end of a short request it means nothing.
        """
        open_BGLN = open_candidates(lists_BGL, memory.mask_BN)
        return self.list_logits(memory, lists_BGL).float().masked_fill(~open_BGLN, CLOSED).log_softmax(-1)

    def log_prob(self, memory: Memory, lists_BGL: Tensor) -> Tensor:
        """Log-probability of each position of given lists (B, G, L), in nats.

        Positions behind the end of a request with fewer than L candidates have log-probability 0.
        """
        log_prob_BGL = self.log_probs(memory, lists_BGL).gather(3, lists_BGL[..., None]).squeeze(3)
        return log_prob_BGL * list_mask(memory.mask_BN, lists_BGL.shape[2])[:, None]

    def begin(self, memory: Memory, lists: int, parts: Any) -> State:
        """An empty :class:`State` in which every real candidate is open."""
        return State(memory.mask_BN[:, None].expand(-1, lists, -1), 0, parts)


class ScoreGenerator(Generator):
    """A generator whose score of a candidate does not depend on the list: at each position a softmax over what remains.

    As a policy it is Plackett–Luce; its greedy list is the sort by score, and every decoding strategy works on it.
    """

    @abstractmethod
    def score_candidates(self, batch: ListBatch) -> Tensor:
        """Scores (B, N), as logits."""

    def encode(self, batch: ListBatch) -> Memory:
        """The scores are all there is to remember."""
        return Memory(batch.mask_BN, self.score_candidates(batch))

    def start(self, memory: Memory, lists: int) -> State:
        """Empty lists."""
        return self.begin(memory, lists, None)

    def step(self, memory: Memory, state: State) -> tuple[Tensor, State]:
        """The same scores at every position."""
        return memory.parts[:, None].expand_as(state.open_BGN).masked_fill(~state.open_BGN, CLOSED), state

    def advance(self, memory: Memory, state: State, choice_BG: Tensor) -> State:
        """Only the choice itself is remembered."""
        return replace(state.close(choice_BG), length=state.length + 1)

    def select(self, state: State, parent_BG: Tensor) -> State:
        """Reorder prefixes."""
        index = parent_BG[..., None].expand(-1, -1, state.open_BGN.shape[2])
        return replace(state, open_BGN=state.open_BGN.gather(1, index))

    def list_logits(self, memory: Memory, lists_BGL: Tensor) -> Tensor:
        """The same scores at every position of every list."""
        return memory.parts[:, None, None].expand(-1, *lists_BGL.shape[1:], -1)
