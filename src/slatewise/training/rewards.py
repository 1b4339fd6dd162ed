"""Training a reward model from logged feedback, and measuring what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from slatewise import config as configs
from slatewise.config import Count, Frozen, Positive, build
from slatewise.data.batch import ListBatch
from slatewise.data.drawn_lists import independent_lists
from slatewise.data.prepared import PreparedData
from slatewise.decoding._loop import gumbel, top_lists
from slatewise.errors import ConfigError, RunError
from slatewise.modules.gather import gather_candidates
from slatewise.names import plugin
from slatewise.rewards import RewardModel, build_reward
from slatewise.rewards.base import RewardMemory, ValueHead
from slatewise.rewards.ensemble import Ensemble
from slatewise.rng import child_seed, torch_rng
from slatewise.training.loop import TrainConfig, train
from slatewise.training.run import Run


class RewardConfig(Frozen):
    """Which reward model and how it is trained.

    ``members`` models that differ in their seed are averaged. Where feedback is known item by item, whatever stands
    beside and before it (the protocol labels candidates that were not shown, or more was rated than a list holds), or
    where ``order_free`` says that of your data, a request gives more lists than the logged one, drawn anew each step:
    ``counterfactual`` lists of any items with known feedback, in random order; ``own`` lists that the model itself
    values highly; ``orders`` random orders of the logged list's items. Without them a model is asked about lists of
    a kind it has never seen, and choosing by it picks its errors (the winner's curse). Everywhere else feedback is
    real and belongs to the list in its order: the first two are off then, and ``orders`` is refused.

    ``composition`` says how many of a counterfactual list's items were shown: in ``mixed`` lists their share varies from
    list to list, from none to all, which shows the model more of the good lists; in ``independent`` ones each place is
    shown or not by itself, which leaves it calibrated on random lists and teaches it no dependence between labels that
    have none. ``logged = false`` leaves the logged list out, for the same reason.

    ``fit_level`` multiplies the trained model's values by one number, so that their mean over validation lists (drawn as
    training draws them) is what these brought. For protocols that weigh requests otherwise than training does: leave-one-out
    gives each user one test list, training as many as the user has events, and who rates much may rate lower. It changes
    what a value says, never which list is better. Where test requests are drawn as training ones it adds only the
    validation mean's own error.
    """

    name: str = "listwise"
    options: dict[str, Any] = {}
    train: TrainConfig = TrainConfig()
    members: Positive = 1
    counterfactual: Count = 3
    own: Count = 1
    orders: Count = 0
    order_free: bool = False
    composition: Literal["mixed", "independent"] = "mixed"
    logged: bool = True
    fit_level: bool = False


def fit_reward(config: RewardConfig, data: PreparedData, run: Run) -> RewardModel:
    """Train (or load) the reward stage of a run.

    Raises:
        ConfigError: unknown reward or option, ``orders`` where feedback belongs to the order, or no list to learn from.
    """
    if config.orders and not _known_by_item(config, data):
        raise ConfigError(
            f"orders is {config.orders}, but under the protocol {data.manifest.protocol} a list's feedback belongs to "
            "the order in which it was shown; set orders = 0, or order_free = true if you know that it does not."
        )
    drawn = config.counterfactual + config.own + config.orders if _known_by_item(config, data) else 0
    if not config.logged and not drawn:
        raise ConfigError(
            "logged is false, but there is no other list to learn from: counterfactual, own and orders are 0, or feedback "
            f"is known of the logged list alone (protocol {data.manifest.protocol}); set logged = true."
        )
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
    head = _level_of(model) if config.fit_level else None
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
    if head is not None:
        _fit_level(model, head, config, data, stage)


def _level_of(model: RewardModel) -> ValueHead:
    head = getattr(model, "head", None)
    if not isinstance(head, ValueHead):
        raise ConfigError(
            f"{type(model).__name__} has no head with a level; set fit_level = false, or take a reward that has: "
            "listwise, lookahead, pointwise."
        )
    return head


@torch.inference_mode()
def _fit_level(
    model: RewardModel, head: ValueHead, config: RewardConfig, data: PreparedData, stage: Run
) -> None:
    """Bring the mean value of the validation lists to what they brought."""
    predicted = observed = 0.0
    model.eval()
    for i, cpu_batch in enumerate(data.split("validation").batches(512)):
        batch = cpu_batch.to(stage.device)
        memory = model.encode(batch)
        rng = torch_rng(0, "level", i, device=stage.device)
        lists_BGL, feedback_BGLK, mask_BL = _known_lists(model, memory, batch, config, data, rng)
        some_B = mask_BL.any(1)
        last_B11 = (mask_BL.sum(1) - 1).clamp_min(0)[:, None, None].expand(-1, lists_BGL.shape[1], 1)
        value_BG = model.prefix_value(memory, lists_BGL).gather(2, last_B11).squeeze(2)
        predicted += float(value_BG[some_B].sum())
        observed += float(head.target(feedback_BGLK, mask_BL)[some_B].sum())
    head.fit_level(predicted, observed)


def reward_loss(
    model: RewardModel, batch: ListBatch, config: RewardConfig, data: PreparedData, rng: torch.Generator
) -> Tensor:
    """The model's own loss on the lists whose feedback is known."""
    memory = model.encode(batch)
    return model.loss(memory, *_known_lists(model, memory, batch, config, data, rng))


def _known_lists(
    model: RewardModel,
    memory: RewardMemory,
    batch: ListBatch,
    config: RewardConfig,
    data: PreparedData,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Lists (B, G, L) whose feedback is known, that feedback (B, G, L, K), and the places (B, L) that it is known of."""
    logged_B1L = batch.exposed_BE[:, None, : data.schema.length]
    lists = [logged_B1L] if config.logged else []
    if _known_by_item(config, data):
        lists += _drawn_lists(model, memory, batch, config, data, rng)
    lists_BGL = torch.cat(lists, 1)
    index = batch.exposed_BE[..., None].expand_as(batch.feedback_BEK)
    shown_BEK = batch.feedback_BEK * batch.exposed_mask_BE[..., None]
    feedback_BNK = shown_BEK.new_zeros(*batch.mask_BN.shape, index.shape[2]).scatter_add(1, index, shown_BEK)
    # drawn lists are as long as the logged one: a Plackett-Luce draw that is cut is one still
    mask_BL = batch.exposed_mask_BE[:, : data.schema.length]
    return lists_BGL, gather_candidates(feedback_BNK, lists_BGL), mask_BL


def _known_by_item(config: RewardConfig, data: PreparedData) -> bool:
    more = data.manifest.unexposed_is_negative or data.schema.exposed > data.schema.length
    return more or config.order_free


def _drawn_lists(
    model: RewardModel,
    memory: RewardMemory,
    batch: ListBatch,
    config: RewardConfig,
    data: PreparedData,
    rng: torch.Generator,
) -> list[Tensor]:
    """Lists (B, G, L) of items with known feedback, of each kind that the config asks for."""
    length, observed_BN, lists = data.schema.length, batch.observed_BN(), []
    known_BN = batch.known_BN(data.manifest.unexposed_is_negative)
    if config.counterfactual:
        draw = _mixed_lists if config.composition == "mixed" else independent_lists
        lists.append(draw(observed_BN, known_BN, config.counterfactual, length, rng))
    if config.own:
        with torch.no_grad():
            score_BN = model.extension_value(memory, batch.exposed_BE[:, None, :0])[:, 0]
        lists.append(_top(score_BN[:, None] * 6.0, known_BN, config.own, length, rng))
    if config.orders:
        logged = replace(
            batch,
            exposed_BE=batch.exposed_BE[:, :length],
            exposed_mask_BE=batch.exposed_mask_BE[:, :length],
        )
        same_B1N = torch.zeros_like(observed_BN[:, None], dtype=torch.float32)
        lists.append(_top(same_B1N, logged.observed_BN(), config.orders, length, rng))
    return lists


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
