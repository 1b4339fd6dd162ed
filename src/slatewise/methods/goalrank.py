"""GoalRank: group-relative optimisation of a generator-only ranker.

1. A reward model learns from real feedback what a list is worth (App. B).
2. For each request many policies write a group of lists (§3.3, App. C); the reward values them.
3. Rewards standardised within the group become a reference policy (Eq. 4).
4. The generator is trained to match it, by cross-entropy on whole lists (Eq. 5, with log-probabilities).

The paper's setting is ``reward.options.head = "list"``, ``reference.temperature = 1``, ``warm_start = "none"`` and no local search in the mix;
every default that departs from it is there because it was measured to be better (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from slatewise.config import Count, Frozen, to_plain
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError
from slatewise.generators import Generator, Memory, autoregressive
from slatewise.groups.context import Context
from slatewise.groups.policy_mix import Family, build_group
from slatewise.groups.reference import ReferenceConfig, reference_policy
from slatewise.losses import group_relative
from slatewise.methods import prm
from slatewise.names import nearest
from slatewise.policies import decode
from slatewise.ranker import Ranker, make_ranker
from slatewise.rewards import RewardModel
from slatewise.rng import torch_rng
from slatewise.training.generators import ValidateBy, check_warm_start, greedy_value, start_generator
from slatewise.training.loop import TrainConfig, train
from slatewise.training.rewards import RewardConfig, fit_reward, reward_options
from slatewise.training.run import Run
from slatewise.training.scorers import ScorerConfig, fit_scorer

MIX = (
    Family(family="greedy"),
    Family(family="autoregressive", count=6),
    Family(family="auxiliary", options={"policy": "dnn"}),
    Family(family="auxiliary", options={"policy": "prm"}),
    Family(family="random"),
    Family(family="substitution", count=2),
    Family(family="local-search", options={"rounds": 1}),
)


class Groups(Frozen):
    """``mix`` is the group: families with counts; ``subset`` keeps that many, evenly spread over the reward's order."""

    mix: tuple[Family, ...] = MIX
    subset: Count = 0
    reference: ReferenceConfig = ReferenceConfig(temperature=0.25)


class Config(Groups):
    """``warm_start`` copies trained parts into the generator before it learns: the reward's feature tower, or a
    scorer's tower, encoder and score. ``validate`` chooses the number that picks the best weights: the reward's
    opinion of the greedy list, or the labelled feedback of its items, where the protocol knows every label.
    """

    reward: RewardConfig = RewardConfig()
    scorers: dict[str, ScorerConfig] = msgspec.field(
        default_factory=lambda: {"dnn": ScorerConfig(), "prm": prm.DEFAULT}
    )
    generator: autoregressive.Config = autoregressive.Config()
    warm_start: str = "reward"
    train: TrainConfig = TrainConfig(epochs=2)
    validate: ValidateBy = "auto"


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train reward, auxiliary policies and generator.

    Raises:
        ConfigError: ``warm_start`` names nothing, or what does not fit.
    """
    check_start(config.warm_start, config.reward, config.scorers, config.generator)
    reward = fit_reward(config.reward, data, run)
    auxiliaries = {name: fit_scorer(name, spec, data, run) for name, spec in config.scorers.items()}
    source = start_source(config.warm_start, reward, auxiliaries)
    generator = start_generator("goalrank", config.generator, data, run.seed, source)
    key = (config, data.manifest.fingerprint, data.manifest.target)
    run.trained(
        "goalrank", key, generator, lambda stage: _fit(generator, reward, auxiliaries, config, data, stage)
    )
    policy = decode.Config(generator="autoregressive", options=to_plain(config.generator))
    return make_ranker("goalrank", config, "decode", policy, {"generator": generator}, data, run.seed)


def _fit(
    generator: Generator,
    reward: RewardModel,
    auxiliaries: Mapping[str, Generator],
    config: Config,
    data: PreparedData,
    stage: Run,
) -> None:
    def step_loss(batch: ListBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        rng = torch_rng(stage.seed, "groups", step, device=stage.device)
        memory = generator.encode(batch)
        context = make_context(batch, generator, reward, auxiliaries, data.schema.length)
        return group_loss(generator, memory, context, config, rng)

    def validate() -> float:
        return greedy_value(generator, reward, config.validate, data, stage.device)

    train(generator, step_loss, data.split("train"), config.train, stage, validate)


def check_start(
    name: str, reward: RewardConfig, scorers: Mapping[str, ScorerConfig], generator: autoregressive.Config
) -> None:
    """Refuse a ``warm_start`` before anything is trained.

    Raises:
        ConfigError: there is nothing of that name, or its tower is another than the generator's.
    """
    towers = {"none": generator.tower, "reward": reward_options(reward).tower}
    towers |= {scorer: spec.generator.tower for scorer, spec in scorers.items()}
    if name not in towers:
        raise ConfigError(
            f"warm_start names '{name}'.{nearest(name, list(towers))} Allowed: {', '.join(towers)}."
        )
    check_warm_start(name, towers[name], generator.tower)


def start_source(name: str, reward: RewardModel, auxiliaries: Mapping[str, Generator]) -> nn.Module | None:
    """The model that ``warm_start`` names."""
    sources: dict[str, nn.Module | None] = {"none": None, "reward": reward, **auxiliaries}
    return sources[name]


def group_loss(
    generator: Generator, memory: Memory, context: Context, config: Groups, rng: torch.Generator
) -> tuple[Tensor, dict[str, Any]]:
    """Eq. 5 on a batch whose requests are encoded with gradient in ``memory``, and what there is to log of its groups."""
    with torch.no_grad():
        group = build_group(config.mix, context, rng=rng, subset=config.subset or None)
        weight_BG, keep_B, stats = reference_policy(group, config.reference, rng)
    log_prob_BG = generator.log_prob(memory, group.lists_BGL).sum(2)
    return group_relative.loss(log_prob_BG, weight_BG, keep_B), stats


@torch.no_grad()
def make_context(
    batch: ListBatch,
    generator: Generator,
    reward: RewardModel,
    auxiliaries: Mapping[str, Generator],
    length: int,
) -> Context:
    """What the group families need, each model's request encoded once, in eval mode (no dropout in the group)."""
    generator.eval()
    memory, reward_memory = generator.encode(batch), reward.encode(batch)
    encoded = {name: (policy, policy.encode(batch)) for name, policy in auxiliaries.items()}
    generator.train()
    return Context(
        batch=batch,
        memory=memory,
        generator=generator,
        auxiliaries=encoded,
        reward=lambda lists_BGL: reward.value_of(reward_memory, lists_BGL),
        length=length,
    )
