"""Generator–evaluator: k lists from given generators, and the reward model picks (the papers' G-E and MG-E).

GoalRank does not say which 3, 20 or 100 generators it used. Here each generator gives its greedy list, and what is
missing to k comes from Plackett–Luce draws of the generators in turn, as cheap stand-ins for more generators.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from slatewise.config import Above0, Frozen, Positive
from slatewise.config import build as build_config
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.decoding import greedy
from slatewise.decoding import gumbel as gumbel_lists
from slatewise.decoding._loop import gumbel
from slatewise.generators import Generator, build_generator
from slatewise.generators.base import list_mask
from slatewise.names import plugin
from slatewise.policies import Form, Policy
from slatewise.rewards import RewardModel, build_reward
from slatewise.rewards.ensemble import Ensemble
from slatewise.types import Answer, Ranking

MOST = 1024  # candidates for which the noise of a request alone is kept


class RewardSpec(Frozen):
    """A reward plug-in, its options, and how many members its ensemble has."""

    name: str = "listwise"
    options: dict[str, Any] = {}
    members: Positive = 1

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
    lists: Positive = 20
    temperature: Above0 = 1.0
    seed: int = 0


class Pick(Policy):
    """Propose, value, take the best.

    The draws' noise is by place, so in ``rank`` it differs from row to row of a batch. ``answer`` gives every request the
    noise that it gets alone, so that what is served does not depend on who else is served.
    """

    noise_M: Tensor

    def __init__(self, generators: dict[str, Generator], reward: RewardModel, config: Config) -> None:
        super().__init__()
        self.generators, self.reward, self.config = nn.ModuleDict(generators), reward, config
        missing = max(0, config.lists - len(generators))
        self.draws = [len(range(place, missing, len(generators))) for place in range(len(generators))]
        rng = torch.Generator().manual_seed(config.seed)
        noise_M = gumbel((sum(self.draws) * MOST,), rng, torch.device("cpu"))
        self.register_buffer("noise_M", noise_M, persistent=False)

    @torch.no_grad()
    def rank(self, batch: ListBatch, length: int) -> Ranking:
        """The list that the reward values highest among ``config.lists``."""
        return self._best(batch, self.propose(batch, length)).ranking(batch.mask_BN)

    @torch.no_grad()
    def answer(self, batch: ListBatch, length: int) -> Answer:
        """The best list by the noise of a request that is alone, and the reward's value of each candidate by itself."""
        n, first, noise = batch.mask_BN.shape[1], 0, list[Tensor]()
        for count in self.draws:
            noise.append(self.noise_M[first * n : (first + count) * n].view(1, count, n))
            first += count
        return self._best(batch, self._propose(batch, length, noise))

    @torch.no_grad()
    def margin(self, batch: ListBatch, order_BL: Tensor, rival_BL: Tensor) -> Tensor:
        """In units of value."""
        return reward_margin(self.reward, batch, order_BL, rival_BL)

    @property
    def certain(self) -> bool:
        """Proposals beside the greedy ones are drawn."""
        return not any(self.draws)

    @property
    def form(self) -> Form:
        """The noise that is kept ends somewhere."""
        return Form() if self.certain else Form(most=MOST, alone=True)

    def propose(self, batch: ListBatch, length: int) -> Tensor:
        """k lists (B, G, L): every generator's greedy list, then draws of each in turn."""
        (b, n), device = batch.mask_BN.shape, batch.mask_BN.device
        rng = torch.Generator(device).manual_seed(self.config.seed)
        return self._propose(batch, length, [gumbel((b, count, n), rng, device) for count in self.draws])

    def _propose(self, batch: ListBatch, length: int, noise: list[Tensor]) -> Tensor:
        generators = cast(list[Generator], list(self.generators.values()))
        memories = [(generator, generator.encode(batch)) for generator in generators]
        rng = torch.Generator(batch.mask_BN.device)  # greedy lists draw nothing
        lists = [
            greedy.propose(generator, memory, length=length, count=1, rng=rng, config=greedy.Config())
            for generator, memory in memories
        ]
        draw = gumbel_lists.Config(temperature=self.config.temperature)
        lists += [
            gumbel_lists.perturbed(generator, memory, noise_BGN, length=length, config=draw)
            for (generator, memory), noise_BGN in zip(memories, noise, strict=True)
            if noise_BGN.shape[1]
        ]
        return torch.cat(lists, 1)[:, : self.config.lists]

    def _best(self, batch: ListBatch, lists_BGL: Tensor) -> Answer:
        memory = self.reward.encode(batch)
        best_B1 = self.reward.value_of(memory, lists_BGL).argmax(1, keepdim=True)
        order_BL = lists_BGL.gather(1, best_B1[..., None].expand(-1, -1, lists_BGL.shape[2]))[:, 0]
        single_BN = self.reward.extension_value(memory, order_BL[:, None, :0])[:, 0]
        return reward_answer(order_BL, single_BN, batch.mask_BN)


def reward_answer(order_BL: Tensor, single_BN: Tensor, mask_BN: Tensor) -> Answer:
    """A list that a reward chose, with its values of single items; there is no generator to give it a probability."""
    nothing_B = single_BN.new_full((mask_BN.shape[0],), torch.nan)
    score_BN = single_BN.masked_fill(~mask_BN, -torch.inf)
    return Answer(order_BL, list_mask(mask_BN, order_BL.shape[1]), nothing_B, score_BN)


def reward_margin(reward: RewardModel, batch: ListBatch, order_BL: Tensor, rival_BL: Tensor) -> Tensor:
    """How much more a list is worth than its rival, (B,), in units of value."""
    value_BG = reward.value(batch, torch.stack([order_BL, rival_BL], 1))
    return value_BG[:, 0] - value_BG[:, 1]


def build(config: Config, manifest: Manifest) -> Pick:
    """The policy with random weights."""
    return Pick(
        {n: spec.build(manifest) for n, spec in config.generators.items()},
        config.reward.build(manifest),
        config,
    )
