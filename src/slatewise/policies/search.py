"""A reward model that searches for itself, online: beam search over prefixes, then local search.

Slow to serve, and the honest measure of what a reward knows: a generator trained on it can hardly be better.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Count, Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.decoding.local_search import polish
from slatewise.decoding.search import beam_search
from slatewise.policies import Form, Policy
from slatewise.policies.pick import RewardSpec, reward_answer, reward_margin
from slatewise.rewards import RewardModel
from slatewise.types import Answer, Ranking


class Config(Frozen):
    """``width`` of the beam; ``rounds`` of local search on its best list; ``replace_top`` limits which candidates
    replacements try (0: all)."""

    reward: RewardSpec = RewardSpec()
    width: Positive = 8
    rounds: Count = 0
    replace_top: Count = 0


class Search(Policy):
    """Beam search under a reward model."""

    def __init__(self, reward: RewardModel, config: Config) -> None:
        super().__init__()
        self.reward, self.config = reward, config

    @torch.no_grad()
    def rank(self, batch: ListBatch, length: int) -> Ranking:
        """The best list found."""
        return self.answer(batch, length).ranking(batch.mask_BN)

    @torch.no_grad()
    def answer(self, batch: ListBatch, length: int) -> Answer:
        """The best list found, and the reward's value of each candidate by itself."""
        memory = self.reward.encode(batch)
        lists_BGL, _ = beam_search(
            self.reward.expander(memory), batch.mask_BN, length=length, width=self.config.width
        )
        best_B1L = lists_BGL[:, :1]
        single_BN = self.reward.extension_value(memory, best_B1L[:, :, :0])[:, 0]
        if self.config.rounds:
            best_B1L = self._polish(memory, best_B1L, batch.mask_BN, single_BN)
        return reward_answer(best_B1L[:, 0], single_BN, batch.mask_BN)

    @torch.no_grad()
    def margin(self, batch: ListBatch, order_BL: Tensor, rival_BL: Tensor) -> Tensor:
        """In units of value."""
        return reward_margin(self.reward, batch, order_BL, rival_BL)

    @property
    def form(self) -> Form:
        """A beam search is a graph; local search, which ends when nothing improves, is none."""
        if self.config.rounds:
            return Form(obstacle=f"its {self.config.rounds} rounds of local search end when nothing improves")
        return Form(fewest=self.config.width)

    def _polish(self, memory: object, lists_BGL: Tensor, mask_BN: Tensor, single_BN: Tensor) -> Tensor:
        found, _ = polish(
            lists_BGL,
            mask_BN,
            lambda lists: self.reward.value_of(memory, lists),  # type: ignore[arg-type]
            rounds=self.config.rounds,
            replace_top=self.config.replace_top or None,
            candidate_score_BN=single_BN,
        )
        return found


def build(config: Config, manifest: Manifest) -> Search:
    """The policy with random weights."""
    return Search(config.reward.build(manifest), config)
