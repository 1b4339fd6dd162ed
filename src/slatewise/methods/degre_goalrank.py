"""Two supervisions of one generator: DeGRe's dense labels (Eq. 13) and GoalRank's group-relative term (Eq. 5), summed.

Both losses are nats of a whole list, so their weights compare. Not from a paper; ``recipes/degre/store-further.toml``
sets the sum beside its parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from torch import Tensor

from slatewise import config as configs
from slatewise.config import Frozen, Weight, to_plain
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.generators import Generator, autoregressive
from slatewise.groups.store import Miner
from slatewise.methods import prm
from slatewise.methods.degre import Dense, check_labels, dense_loss, find_labels, mined_key
from slatewise.methods.goalrank import Groups, check_start, group_loss, make_context, start_source
from slatewise.policies import decode
from slatewise.ranker import Ranker, make_ranker
from slatewise.rewards import RewardModel
from slatewise.rng import torch_rng
from slatewise.training.generators import ValidateBy, greedy_value, start_generator
from slatewise.training.loop import TrainConfig, train
from slatewise.training.rewards import RewardConfig, architecture, fit_reward
from slatewise.training.run import Run
from slatewise.training.scorers import ScorerConfig, fit_scorer


class Config(Frozen):
    """``dense`` and ``groups`` are what ``degre`` and ``goalrank`` have; the weights multiply their losses."""

    reward: RewardConfig = RewardConfig()
    scorers: dict[str, ScorerConfig] = msgspec.field(
        default_factory=lambda: {"dnn": ScorerConfig(), "prm": prm.DEFAULT}
    )
    generator: autoregressive.Config = autoregressive.Config()
    warm_start: str = "reward"
    dense: Dense = Dense()
    groups: Groups = Groups()
    dense_weight: Weight = 1.0
    group_weight: Weight = 1.0
    train: TrainConfig = TrainConfig(epochs=2)
    validate: ValidateBy = "auto"


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train reward and auxiliary policies, mine, and train the generator.

    Raises:
        ConfigError: ``warm_start`` names nothing, or what does not fit; no labels.
    """
    check_start(config.warm_start, config.reward, config.scorers, config.generator)
    check_labels(config.dense.loss)
    reward = fit_reward(config.reward, data, run)
    auxiliaries = {name: fit_scorer(name, spec, data, run) for name, spec in config.scorers.items()}
    source = start_source(config.warm_start, reward, auxiliaries)
    generator = start_generator("degre-goalrank", config.generator, data, run.seed, source)
    this = configs.replace(config, dense=configs.replace(config.dense, mined=""))
    key = (this, data.manifest.fingerprint, data.manifest.target, mined_key(config.dense))
    run.trained(
        "degre-goalrank",
        key,
        generator,
        lambda stage: _fit(generator, reward, auxiliaries, config, data, stage),
    )
    policy = decode.Config(generator="autoregressive", options=to_plain(config.generator))
    return make_ranker("degre-goalrank", config, "decode", policy, {"generator": generator}, data, run.seed)


def _fit(
    generator: Generator,
    reward: RewardModel,
    auxiliaries: Mapping[str, Generator],
    config: Config,
    data: PreparedData,
    stage: Run,
) -> None:
    miner = Miner(reward, architecture(config.reward), config.dense.mining, data)
    labels = find_labels(config.dense, miner, stage, config.train.requests)

    def step_loss(batch: ListBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        rng = torch_rng(stage.seed, "groups", step, device=stage.device)
        memory = generator.encode(batch)
        dense, mined = dense_loss(generator, memory, batch, labels, config.dense.loss)
        context = make_context(batch, generator, reward, auxiliaries, data.schema.length)
        group, stats = group_loss(generator, memory, context, config.groups, rng)
        numbers = {"dense": dense.detach(), "group": group.detach(), **mined, **stats}
        return config.dense_weight * dense + config.group_weight * group, numbers

    def validate() -> float:
        return greedy_value(generator, reward, config.validate, data, stage.device)

    train(generator, step_loss, data.split("train"), config.train, stage, validate)
