"""DeGRe: an evaluator searches offline, and teaches a light generator at every step what it found.

1. An evaluator learns what a prefix of a list is worth (§4.1): the reward.
2. Under it a beam mines lists for each training request, with the value of every alternative at every step (§4.2).
3. The generator imitates the lists, the better ones more (Eq. 10), and aligns with the values (Eq. 9 and 13).
4. In further rounds, not in the paper, it is mined again with the trained generator's own lists beside the beam's.

The paper's setting is ``reward.name = "lookahead"`` with its cumulative head, ``tower.form = "fields"`` in reward and
generator, ``mining = {width = 8}`` and all lists kept, ``loss.alpha = 0.01``, a generator of 4 + 4 layers without
cross-attention, and a cold start. The other defaults are ours, chosen after a prototype; the recipes in
``recipes/degre`` set both beside each other.
"""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from slatewise import config as configs
from slatewise.config import Frozen, Positive, to_plain
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError
from slatewise.generators import Generator, Memory, autoregressive
from slatewise.groups.beam_mining import NO_VALUE, MiningConfig
from slatewise.groups.policy_mix import first_copies
from slatewise.groups.store import Labels, Miner, check_store, mine_store, open_store
from slatewise.losses import dense_distillation
from slatewise.losses.dense_distillation import DistillationConfig, sequence_weights, soft_labels
from slatewise.modules.gather import list_mask
from slatewise.policies import decode
from slatewise.ranker import Ranker, make_ranker
from slatewise.rewards import RewardModel
from slatewise.training.generators import ValidateBy, check_warm_start, greedy_value, start_generator
from slatewise.training.loop import TrainConfig, train
from slatewise.training.rewards import RewardConfig, architecture, fit_reward, reward_options
from slatewise.training.run import Run


class Dense(Frozen):
    """``mining`` finds the lists, ``loss`` says how they are learnt from. ``mined`` is a store that `slatewise mine` has
    made, possibly under another evaluator; without one the run mines its own, once. ``on_the_fly`` mines every batch
    as it comes and keeps nothing: the same labels, dearer from the second epoch on."""

    mining: MiningConfig = MiningConfig(width=8, polish_rounds=2, keep="best")
    loss: DistillationConfig = DistillationConfig()
    mined: str = ""
    on_the_fly: bool = False


class Config(Dense):
    """``warm_start`` copies the reward's feature tower into the generator, which has to be of the same form and width. ``supervision = "exposure"`` imitates the lists
    that were shown (Table 4's "exposure only"). ``rounds`` above 1 mine again with ``own`` lists of the generator that
    the round before has trained, and train it further. ``validate``: as in GoalRank."""

    reward: RewardConfig = RewardConfig(name="lookahead", options={"tower": {"form": "sum"}})
    generator: autoregressive.Config = autoregressive.Config()
    warm_start: Literal["reward", "none"] = "reward"
    supervision: Literal["mined", "exposure"] = "mined"
    rounds: Positive = 1
    own: Positive = 4
    train: TrainConfig = TrainConfig(epochs=8)
    validate: ValidateBy = "auto"


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train the reward, mine, and train the generator, round by round.

    Raises:
        ConfigError: settings that exclude each other.   DataError: ``mined`` does not fit.
    """
    if config.supervision == "exposure" and (config.rounds > 1 or config.mined or config.on_the_fly):
        raise ConfigError(
            "supervision = 'exposure' mines nothing; rounds must be 1, mined empty and on_the_fly false."
        )
    check_labels(config.loss)
    if config.warm_start == "reward":
        check_warm_start("reward", reward_options(config.reward).tower, config.generator.tower)
    reward = fit_reward(config.reward, data, run)
    source = reward if config.warm_start == "reward" else None
    generator = start_generator("degre", config.generator, data, run.seed, source)
    for number in range(1, config.rounds + 1):
        # what a round depends on: later rounds share the earlier ones' stages
        this = configs.replace(config, rounds=number, own=config.own if number > 1 else 1, mined="")
        key = (this, data.manifest.fingerprint, data.manifest.target, mined_key(config))
        name = "degre" if number == 1 else f"degre-round-{number}"
        run.trained(name, key, generator, partial(_fit, generator, reward, config, data, number))
    policy = decode.Config(generator="autoregressive", options=to_plain(config.generator))
    return make_ranker("degre", config, "decode", policy, {"generator": generator}, data, run.seed)


def _fit(
    generator: Generator, reward: RewardModel, config: Config, data: PreparedData, number: int, stage: Run
) -> None:
    if config.supervision == "mined":
        miner = Miner(reward, architecture(config.reward), config.mining, data)
        if number > 1:
            miner = miner.beside(copy.deepcopy(generator).eval(), config.own)
        labels = find_labels(config, miner, stage, config.train.requests)

    def step_loss(batch: ListBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        memory = generator.encode(batch)
        if config.supervision == "exposure":
            return exposure_loss(generator, memory, batch, data.schema.length), {}
        return dense_loss(generator, memory, batch, labels, config.loss)

    def validate() -> float:
        return greedy_value(generator, reward, config.validate, data, stage.device)

    train(generator, step_loss, data.split("train"), config.train, stage, validate)


def check_labels(config: DistillationConfig) -> None:
    """Refuse a loss without labels.

    Raises:
        ConfigError: neither hard labels nor soft ones.
    """
    if not config.hard and not config.alpha:
        raise ConfigError(
            "loss.hard is false and loss.alpha 0, so there is nothing to learn; set one of them."
        )


def find_labels(config: Dense, miner: Miner, run: Run, requests: int) -> Labels:
    """The store that ``mined`` names, the run's own (mined now, where it is not there), or the miner itself.

    A store by name is for the beam's lists; a miner with a generator's lists beside them mines them itself.
    """
    if config.on_the_fly:
        if config.mined:
            raise ConfigError("mined names a store, and on_the_fly wants none; leave one of them out.")
        return miner
    facts = miner.facts(requests)
    if config.mined and not facts.own:
        store = open_store(Path(config.mined))
        check_store(store, facts, Path(config.mined))
        return store
    return mine_store(run.stages / f"mined-{facts.key}", miner, requests=requests, quiet=run.quiet)


def mined_key(config: Dense) -> str:
    """The key of the store that ``mined`` names; empty where a run mines its own."""
    return open_store(Path(config.mined)).facts.key if config.mined else ""


def dense_loss(
    generator: Generator, memory: Memory, batch: ListBatch, labels: Labels, config: DistillationConfig
) -> tuple[Tensor, dict[str, Any]]:
    """Eq. 13 on a batch whose requests are encoded with gradient in ``memory``, and what there is to log of its lists."""
    mined = labels(batch)
    distinct_BG = first_copies(mined.lists_BGL)
    weight_BG = sequence_weights(mined.value_BG, distinct_BG, config.tau_w if config.weigh else math.inf)
    values = mined.step_value_BGLN
    soft_BGLN = soft_labels(values, config.soft_temperature, values > NO_VALUE) if config.alpha else None
    loss = dense_distillation.loss(
        generator.log_probs(memory, mined.lists_BGL),
        mined.lists_BGL,
        list_mask(batch.mask_BN, mined.lists_BGL.shape[2]),
        weight_BG,
        soft_BGLN,
        hard=config.hard,
        alpha=config.alpha,
    )
    numbers = {"mined": mined.value_BG[:, 0].mean(), "distinct": distinct_BG.sum(1).float().mean()}
    return loss, numbers


def exposure_loss(generator: Generator, memory: Memory, batch: ListBatch, length: int) -> Tensor:
    """Cross-entropy on the lists that were shown, as far as they were shown."""
    lists_B1L = batch.exposed_BE[:, None, :length]
    one_B1 = torch.ones(batch.size, 1, device=lists_B1L.device)
    log_prob_B1LN = generator.log_probs(memory, lists_B1L)
    return dense_distillation.loss(log_prob_B1LN, lists_B1L, batch.exposed_mask_BE[:, :length], one_B1)
