"""Generator–evaluator: k lists from given generators, and the reward model picks (the papers' G-E and MG-E).

GoalRank does not say which 3, 20 or 100 generators it used. Here each generator gives its greedy list, and what is
missing to k comes from Plackett–Luce draws of the generators in turn, as cheap stand-ins for more generators.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from slatewise.config import Frozen
from slatewise.config import build as build_config
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.decoding import greedy, gumbel
from slatewise.generators import Generator, build_generator
from slatewise.generators.base import list_mask
from slatewise.names import plugin
from slatewise.policies import Policy
from slatewise.rewards import RewardModel, build_reward
from slatewise.rewards.ensemble import Ensemble
from slatewise.types import Ranking, full_order_scores


class RewardSpec(Frozen):
    """A reward plug-in, its options, and how many members its ensemble has."""

    name: str = "listwise"
    options: dict[str, Any] = {}
    members: int = 1

    def build(self, manifest: Manifest) -> RewardModel:
        """The reward with random weights."""
        options = build_config(
            plugin("rewards", self.name).Config, self.options, where=f"reward '{self.name}'"
        )
        members = [build_reward(self.name, options, manifest) for _ in range(self.members)]
        return members[0] if self.members == 1 else Ensemble(members)


class GeneratorSpec(Frozen):
    """A generator plug-in and its options."""

    name: str = "scorer"
    options: dict[str, Any] = {}

    def build(self, manifest: Manifest) -> Generator:
        """The generator with random weights."""
        options = build_config(
            plugin("generators", self.name).Config, self.options, where=f"generator '{self.name}'"
        )
        return build_generator(self.name, options, manifest.schema)


class Config(Frozen):
    """``lists`` is k; ``temperature`` spreads the Plackett–Luce draws."""

    generators: dict[str, GeneratorSpec]
    reward: RewardSpec = RewardSpec()
    lists: int = 20
    temperature: float = 1.0
    seed: int = 0


class Pick(Policy):
    """Propose, value, take the best."""

    def __init__(self, generators: dict[str, Generator], reward: RewardModel, config: Config) -> None:
        super().__init__()
        self.generators, self.reward, self.config = nn.ModuleDict(generators), reward, config

    @torch.no_grad()
    def rank(self, batch: ListBatch, length: int) -> Ranking:
        """The list that the reward values highest among ``config.lists``."""
        lists_BGL = self.propose(batch, length)
        value_BG = self.reward.value(batch, lists_BGL)
        best_B1 = value_BG.argmax(1, keepdim=True)
        order_BL = lists_BGL.gather(1, best_B1[..., None].expand(-1, -1, lists_BGL.shape[2]))[:, 0]
        mask_BL = list_mask(batch.mask_BN, order_BL.shape[1])
        single_BN = self.reward.extension_value(self.reward.encode(batch), order_BL[:, None, :0])[:, 0]
        return Ranking(order_BL, mask_BL, full_order_scores(order_BL, mask_BL, single_BN, batch.mask_BN))

    def propose(self, batch: ListBatch, length: int) -> torch.Tensor:
        """k lists (B, G, L): every generator's greedy list, then draws of each in turn."""
        rng = torch.Generator(batch.mask_BN.device).manual_seed(self.config.seed)
        generators = cast(list[Generator], list(self.generators.values()))
        memories = [(generator, generator.encode(batch)) for generator in generators]
        lists = [
            greedy.propose(generator, memory, length=length, count=1, rng=rng, config=greedy.Config())
            for generator, memory in memories
        ]
        draw = gumbel.Config(temperature=self.config.temperature)
        missing = max(0, self.config.lists - len(lists))
        for place, (generator, memory) in enumerate(memories):
            count = len(range(place, missing, len(memories)))
            if count:
                lists.append(
                    gumbel.propose(generator, memory, length=length, count=count, rng=rng, config=draw)
                )
        return torch.cat(lists, 1)[:, : self.config.lists]


def build(config: Config, manifest: Manifest) -> Pick:
    """The policy with random weights."""
    return Pick(
        {n: spec.build(manifest) for n, spec in config.generators.items()},
        config.reward.build(manifest),
        config,
    )
