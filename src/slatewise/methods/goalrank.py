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
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from slatewise.config import Frozen, to_plain
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData, Split
from slatewise.decoding import greedy
from slatewise.generators import Generator, autoregressive
from slatewise.groups.context import Context
from slatewise.groups.policy_mix import Family, build_group
from slatewise.groups.reference import ReferenceConfig, reference_policy
from slatewise.losses import group_relative
from slatewise.methods import prm
from slatewise.policies import decode
from slatewise.ranker import Ranker, make_ranker
from slatewise.rewards import RewardModel
from slatewise.rng import child_seed, torch_rng
from slatewise.training.loop import TrainConfig, train
from slatewise.training.rewards import RewardConfig, fit_reward
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


class Config(Frozen):
    """``mix`` is the group: families with counts; ``subset`` keeps that many, evenly spread over the reward's order.

    ``warm_start`` copies trained parts into the generator before it learns: the reward's feature tower, or a
    scorer's tower, encoder and score. ``validate`` chooses the number that picks the best weights: the reward's
    opinion of the greedy list, or the labelled feedback of its items, where the protocol knows every label.
    """

    reward: RewardConfig = RewardConfig()
    scorers: dict[str, ScorerConfig] = msgspec.field(
        default_factory=lambda: {"dnn": ScorerConfig(), "prm": prm.DEFAULT}
    )
    generator: autoregressive.Config = autoregressive.Config()
    warm_start: str = "reward"
    mix: tuple[Family, ...] = MIX
    subset: int = 0
    reference: ReferenceConfig = ReferenceConfig(temperature=0.25)
    train: TrainConfig = TrainConfig(epochs=2)
    validate: Literal["auto", "reward", "label"] = "auto"


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train reward, auxiliary policies and generator."""
    reward = fit_reward(config.reward, data, run)
    auxiliaries = {name: fit_scorer(name, spec, data, run) for name, spec in config.scorers.items()}
    torch.manual_seed(child_seed(run.seed, "init", "goalrank"))
    generator = autoregressive.build(config.generator, data.schema)
    _warm_start(generator, config.warm_start, reward, auxiliaries, data)
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
    length = data.schema.length

    def step_loss(batch: ListBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        rng = torch_rng(stage.seed, "groups", step, device=stage.device)
        memory = generator.encode(batch)
        with torch.no_grad():
            context = make_context(batch, generator, reward, auxiliaries, length)
            group = build_group(config.mix, context, rng=rng, subset=config.subset or None)
            weight_BG, keep_B, stats = reference_policy(group, config.reference, rng)
        log_prob_BG = generator.log_prob(memory, group.lists_BGL).sum(2)
        return group_relative.loss(log_prob_BG, weight_BG, keep_B), stats

    validation = data.split("validation").head(2000)

    def validate() -> float:
        return greedy_value(generator, reward, config.validate, data, validation, stage.device)

    train(generator, step_loss, data.split("train"), config.train, stage, validate)


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


def greedy_value(
    generator: Generator, reward: RewardModel, by: str, data: PreparedData, split: Split, device: str
) -> float:
    """Mean value of the generator's greedy lists on ``split``: by labels where all are known, else by the reward."""
    labelled = data.manifest.unexposed_is_negative or data.schema.exposed >= data.schema.candidates
    total, rng = 0.0, torch.Generator(device)
    for batch in (b.to(device) for b in split.batches(512)):
        memory = generator.encode(batch)
        lists_B1L = greedy.propose(
            generator, memory, length=data.schema.length, count=1, rng=rng, config=greedy.Config()
        )
        if by == "label" or (by == "auto" and labelled):
            label_BN = batch.label_BN(data.manifest.target_weights())
            place_L = torch.arange(lists_B1L.shape[2], device=device)
            total += float((label_BN.gather(1, lists_B1L[:, 0]) / torch.log2(place_L + 2.0)).sum())
        else:
            total += float(reward.value(batch, lists_B1L).sum())
    return total / len(split)


def _warm_start(
    generator: autoregressive.Autoregressive,
    source: str,
    reward: RewardModel,
    auxiliaries: Mapping[str, Generator],
    data: PreparedData,
) -> None:
    """Copy every parameter that the source has under the same name and shape (tower, encoder, score)."""
    generator.tower.load_item_vectors(torch.from_numpy(data.items.vector.copy()))
    if source == "none":
        return
    model = reward if source == "reward" else auxiliaries[source]
    model = getattr(model, "members", [model])[0]
    own = generator.state_dict()
    common = {k: v for k, v in model.state_dict().items() if k in own and own[k].shape == v.shape}
    generator.load_state_dict({**own, **common})
    if "score.weight" in common:
        # the pointer's match starts silent, so that the generator starts as exactly the scorer's policy
        torch.nn.init.zeros_(generator.pointer_query.weight)
        torch.nn.init.zeros_(generator.pointer_query.bias)
