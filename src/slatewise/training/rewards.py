"""Training a reward model from logged feedback, and measuring what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from slatewise import config as configs
from slatewise.config import Frozen, build
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.decoding._loop import gumbel, top_lists
from slatewise.errors import RunError
from slatewise.modules.gather import gather_candidates, list_mask
from slatewise.names import plugin
from slatewise.rewards import RewardModel, build_reward
from slatewise.rewards.ensemble import Ensemble
from slatewise.rng import child_seed, torch_rng
from slatewise.training.loop import TrainConfig, train
from slatewise.training.run import Run


class RewardConfig(Frozen):
    """Which reward model and how it is trained.

    ``members`` models that differ in their seed are averaged. ``counterfactual`` lists a request are added where the
    protocol labels unexposed candidates (exposed items replaced by unexposed ones with zero feedback, in random
    order), and ``own`` lists that the model itself values highly: without them it is asked about lists of a kind it
    has never seen, and choosing by it picks its errors (the winner's curse). Both are off where feedback is real.
    """

    name: str = "listwise"
    options: dict[str, Any] = {}
    train: TrainConfig = TrainConfig()
    members: int = 1
    counterfactual: int = 3
    own: int = 1


def fit_reward(config: RewardConfig, data: PreparedData, run: Run) -> RewardModel:
    """Train (or load) the reward stage of a run.

    Raises:
        ConfigError: unknown reward or option.
    """
    return _stage(config, data, run, _fit)


def load_reward(config: RewardConfig, data: PreparedData, run: Run) -> RewardModel:
    """Load the reward stage of a run; never train it.

    Raises:
        RunError: the run has no such stage, or it has not ended.
    """

    def refuse(model: RewardModel, config: RewardConfig, data: PreparedData, stage: Run, member: int) -> None:
        raise RunError(f"{stage.path} has no trained reward; train the run on this data first.")

    return _stage(config, data, run, refuse)


def reward_options(config: RewardConfig) -> Any:
    """The reward's own config, every default in its place."""
    return build(plugin("rewards", config.name).Config, config.options, where=f"reward '{config.name}'")


def architecture(config: RewardConfig) -> tuple[str, Any, int]:
    """What a reward is, whatever it was trained on: its plug-in, its options, how many members."""
    return config.name, reward_options(config), config.members


def _stage(config: RewardConfig, data: PreparedData, run: Run, fit: Callable[..., None]) -> RewardModel:
    options, members = reward_options(config), []
    for member in range(config.members):
        torch.manual_seed(child_seed(run.seed, "init", "reward", member))
        model = build_reward(config.name, options, data.manifest)
        batch = data.split("train").batch(slice(0, 4096))
        model.start_from(
            torch.from_numpy(data.items.vector.copy()), batch.feedback_BEK, batch.exposed_mask_BE
        )
        single = configs.replace(config, members=1)
        key = (single, options, data.manifest.fingerprint, data.manifest.target, member)
        run.trained("reward", key, model, lambda stage, m=model, i=member: fit(m, config, data, stage, i))  # type: ignore[misc]
        members.append(model)
    return members[0] if len(members) == 1 else Ensemble(members).to(run.device).eval()


def _fit(model: RewardModel, config: RewardConfig, data: PreparedData, stage: Run, member: int) -> None:
    # a seed of its own for each member, so that members see the data in different orders
    stage = replace(stage, seed=child_seed(stage.seed, "member", member)) if member else stage
    validation = data.split("validation").head(2000)

    def step_loss(batch: ListBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        return reward_loss(
            model, batch, config, data, torch_rng(stage.seed, "lists", member, step, device=stage.device)
        ), {}

    def validate() -> float:
        losses = [
            reward_loss(
                model, batch.to(stage.device), config, data, torch_rng(0, "validation", device=stage.device)
            )
            for batch in validation.batches(512)
        ]
        return -float(torch.stack(losses).mean())

    train(model, step_loss, data.split("train"), config.train, stage, validate)


def reward_loss(
    model: RewardModel, batch: ListBatch, config: RewardConfig, data: PreparedData, rng: torch.Generator
) -> Tensor:
    """The model's own loss on the lists whose feedback is known."""
    memory = model.encode(batch)
    if data.manifest.unexposed_is_negative or batch.exposed_BE.shape[1] > data.schema.length:
        lists_BGL, feedback_BGLK, mask_BL = _known_lists(model, memory, batch, config, data, rng)
    else:
        length = data.schema.length
        lists_BGL, feedback_BGLK = batch.exposed_BE[:, None, :length], batch.feedback_BEK[:, None, :length]
        mask_BL = batch.exposed_mask_BE[:, :length]
    return model.loss(memory, lists_BGL, feedback_BGLK, mask_BL)


def _known_lists(
    model: RewardModel,
    memory: Any,
    batch: ListBatch,
    config: RewardConfig,
    data: PreparedData,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """The exposed list and drawn lists of items with known feedback (B, G, L), their feedback (B, G, L, K), and the
    places that have an item (B, L): a request with fewer known candidates than L has shorter lists."""
    length = data.schema.length
    observed_BN = batch.observed_BN()
    known_BN = batch.mask_BN if data.manifest.unexposed_is_negative else observed_BN
    lists = [batch.exposed_BE[:, None, :length]]
    if config.counterfactual:
        lists.append(_mixed_lists(observed_BN, known_BN, config.counterfactual, length, rng))
    if config.own:
        with torch.no_grad():
            empty = batch.exposed_BE[:, None, :0]
            score_BN = model.extension_value(memory, empty)[:, 0]
        lists.append(_top(score_BN[:, None] * 6.0, known_BN, config.own, length, rng))
    lists_BGL = torch.cat(lists, 1)
    feedback_BNK = torch.zeros(*batch.mask_BN.shape, batch.feedback_BEK.shape[2], device=batch.mask_BN.device)
    index = batch.exposed_BE[..., None].expand_as(batch.feedback_BEK)
    feedback_BNK = feedback_BNK.scatter_add(1, index, batch.feedback_BEK * batch.exposed_mask_BE[..., None])
    return lists_BGL, gather_candidates(feedback_BNK, lists_BGL), list_mask(known_BN, length)


def _mixed_lists(
    observed_BN: Tensor, known_BN: Tensor, count: int, length: int, rng: torch.Generator
) -> Tensor:
    """Random ordered lists in which the share of exposed items varies from list to list, from none to all."""
    b, _ = observed_BN.shape
    lean_BG1 = torch.rand(b, count, 1, generator=rng, device=rng.device) * 8 - 2
    return _top(observed_BN[:, None] * lean_BG1, known_BN, count, length, rng)


def _top(score: Tensor, known_BN: Tensor, count: int, length: int, rng: torch.Generator) -> Tensor:
    """Plackett–Luce draws of ``count`` lists from scores (B, 1 or G, N), known candidates only, by Gumbel top-k."""
    noise_BGN = gumbel((known_BN.shape[0], count, known_BN.shape[1]), rng, known_BN.device)
    return top_lists(score + noise_BGN, known_BN, length)
