"""What hstu, gpr and oneranker share: where items lie, their semantic ids, what a window asks for, the training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise import config as configs
from slatewise.candidates import semantic_ids
from slatewise.candidates.retrieval import Bools, Floats
from slatewise.candidates.semantic_ids import SemanticIdConfig
from slatewise.config import Frozen, Positive, Share, Weight
from slatewise.data.entities import lasting
from slatewise.data.interactions import InteractionBatch
from slatewise.data.prepared import PreparedData
from slatewise.data.tables import Entities
from slatewise.errors import ConfigError, DataError
from slatewise.generators import oneranker
from slatewise.generators.oneranker import OneRanker
from slatewise.losses import path_likelihood
from slatewise.rng import child_seed
from slatewise.training.loop import TrainConfig, train
from slatewise.training.run import Run

RIDGE = 10.0  # of the map from features to collaborative vectors, which new items get theirs by
CLIP = 10.0  # a target weighs at most so many times the mean one

StepLoss = Callable[[OneRanker, InteractionBatch, int], tuple[Tensor, dict[str, Any]]]


class SequenceConfig(Frozen):
    """How a sequence model is trained.

    Attributes:
        ids: how semantic ids are made.
        window: interactions of a training window.
        value: 0 counts every target alike, 1 weighs it by what it brought (GPR Eq. 4), in between mixes the two.
        worth: what a target brought: weights of the feedback kinds that the data has, each kind first divided by its
            mean where it is positive. Kinds that the data has not are passed over, as long as there is one that it has.
    """

    ids: SemanticIdConfig = SemanticIdConfig()
    window: Positive = 50
    value: Share = 0.0
    worth: dict[str, Weight] = msgspec.field(
        default_factory=lambda: {"click": 1.0, "conversion": 1.0, "value": 1.0}
    )
    train: TrainConfig = TrainConfig(epochs=10, batch_size=64, learning_rate=2e-3)


# --- items ---


def item_space(items: Entities, trained: int, lasting_F: Bools) -> tuple[Floats, Floats]:
    """(I, V) where items lie: their features beside their collaborative vectors, each block of unit mean norm; and the same
    of every item as if it was new.

    An item without a collaborative vector, such as one that training never saw, gets the one that a ridge regression on
    features expects, so that it has a place among the others before anybody met it.

    Args:
        items: the whole vocabulary.   trained: items that training knows.
        lasting_F: the numbers that are the same before and after anybody met an item; others are no place to lie at.
    """
    content_IF, vector_IV = _content(items, lasting_F), np.asarray(items.vector, np.float64)
    expected_IV = vector_IV
    has_I = np.linalg.norm(vector_IV, axis=1) > 0
    has_I[trained:] = False
    if vector_IV.shape[1] and has_I.any():
        expected_IV = _expected(content_IF, has_I, vector_IV[has_I])
        vector_IV = np.where(has_I[:, None], vector_IV, expected_IV)
    content_IF, norm = content_IF / _norm(content_IF), _norm(vector_IV)
    space_IV, unmet_IV = (
        np.concatenate([content_IF, block_IV / norm], 1).astype(np.float32)
        for block_IV in (vector_IV, expected_IV)
    )
    space_IV[0] = unmet_IV[0] = 0.0
    if not space_IV.any():
        raise DataError(
            "items have neither features nor collaborative vectors, so semantic ids cannot be made of them; "
            "add an items table, or prepare with a protocol that fits vectors."
        )
    return space_IV, unmet_IV


def extend_space(space_IV: Floats, items: Entities, lasting_F: Bools) -> Floats:
    """(n, V) where the last n items lie, in the space ``space_IV`` of the others, none of which moves.

    The map from features to collaborative vectors is that of :func:`item_space`: it is found again on all others, of
    which those without a vector of their own lie on it, so that they change nothing in it.
    """
    old = len(space_IV)
    content_IF = _content(items, lasting_F, old)
    vector_IV = space_IV[:, content_IF.shape[1] :].astype(np.float64)
    place_I = np.arange(len(content_IF))
    expected_IV = _expected(content_IF, (place_I > 0) & (place_I < old), vector_IV[1:])
    new = [content_IF[old:] / _norm(content_IF[:old]), expected_IV[old:]]
    return np.concatenate(new, 1).astype(np.float32)


def _expected(
    content_IF: NDArray[np.float64], known_I: Bools, vector_KV: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(I, V) what a ridge regression on features expects of every item, from the vectors of the K known ones."""
    x_IF = np.concatenate([content_IF, np.ones((len(content_IF), 1))], 1)
    square_FF = x_IF[known_I].T @ x_IF[known_I] + RIDGE * np.eye(x_IF.shape[1])
    expected_IV: NDArray[np.float64] = x_IF @ np.linalg.solve(square_FF, x_IF[known_I].T @ vector_KV)
    return expected_IV


def _content(items: Entities, lasting_F: Bools, known: int | None = None) -> NDArray[np.float64]:
    """Lasting numbers, and one column for each value that a category has among the first ``known`` items (all by default)."""
    columns = [np.asarray(items.numeric, np.float64)[:, lasting_F]]
    for codes_I in np.asarray(items.categories).T:
        size = int(codes_I[:known].max(initial=0)) + 1
        columns.append(np.eye(size)[np.minimum(codes_I, size - 1)][:, 1:] * (codes_I < size)[:, None])
    return np.concatenate(columns, 1)


def _norm(block_IF: NDArray[np.float64]) -> float:
    """The items' mean norm."""
    norm_I = np.linalg.norm(block_IF[1:], axis=1)
    return max(float(norm_I.mean()) if len(norm_I) else 0.0, 1e-12)


def start_model(
    name: str, shape: oneranker.Architecture, sequence: SequenceConfig, data: PreparedData, run: Run
) -> tuple[OneRanker, oneranker.Config]:
    """A model with random weights whose item table knows every item, those that training never saw included.

    Semantic ids are fitted on trained items; new ones are assigned paths beside them.
    """
    trained = data.schema.trained_items or data.schema.items
    space_IV, unmet_IV = item_space(data.items, trained, lasting(data.schema.item_numeric))
    real_I = catalogue_mask(data).numpy()
    known_I = real_I & (np.arange(len(real_I)) < trained)
    ids = semantic_ids.fit(sequence.ids, space_IV, known_I, child_seed(run.seed, "ids"))
    run.log(step=0, **ids.report(space_IV))
    ids = ids.assign(space_IV, real_I)
    found = {"space": space_IV.shape[1], "levels": sequence.ids.levels, "codes": sequence.ids.codes}
    config = configs.build(oneranker.Config, {**configs.to_plain(shape), **found})
    torch.manual_seed(child_seed(run.seed, "init", name))
    model = oneranker.build(config, data.schema)
    codes_IS, unmet_codes_IS = (
        np.where(ids.real_I[:, None], codes, -1) for codes in (ids.codes_IS, ids.nearest(unmet_IV))
    )
    tables = (space_IV, codes_IS, unmet_IV, unmet_codes_IS)
    model.items.load(data.items, *map(torch.from_numpy, tables))
    return model, config


def catalogue_mask(data: PreparedData) -> Tensor:
    """(I,) True for the items that may be recommended: all but the unknown one and organic content."""
    mask_I = torch.from_numpy(~np.asarray(data.items.organic, bool))
    mask_I[0] = False
    return mask_I


def wanted_pairs(data: PreparedData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """User and item (n,) of every training interaction with the target's feedback.

    Raises:
        DataError: the data has no interactions, or nobody wanted anything.
    """
    log = data.interactions()
    user_M = np.repeat(log.user_S, log.end_S - log.start_S)
    item_M = np.asarray(log.columns["item"], np.int64)
    kinds_MK = np.asarray(log.columns["kinds"], np.float32)
    wanted_M = kinds_MK @ np.asarray(data.manifest.target_weights(), np.float32) > 0
    wanted_M &= ~np.asarray(data.items.organic, bool)[item_M]
    if not wanted_M.any():
        raise DataError(
            f"no training interaction has the target's feedback ({data.manifest.target}), so there is nothing to learn."
        )
    return user_M[wanted_M], item_M[wanted_M]


# --- what a window asks for ---


@dataclass(frozen=True)
class Targets:
    """R moments of a batch of windows at which a wanted item followed.

    Attributes:
        row_R, place_R: window and place of the interaction that the moment is the C of.
        next_RJ: place of the j-th wanted interaction from there on (j = 0: this one), ``mask_RJ`` where there is one.
    """

    row_R: Tensor
    place_R: Tensor
    next_RJ: Tensor
    mask_RJ: Tensor


def wanted(batch: InteractionBatch, weight_K: Tensor) -> Tensor:
    """(B, T) True where an interaction has the target's feedback and its item may be recommended."""
    return (batch.kinds_BTK @ weight_K > 0) & ~batch.organic_BT & batch.mask_BT


def nothing(model: OneRanker) -> Tensor:
    """The loss of windows in which nobody wanted anything: 0, with a gradient of zeros."""
    return torch.stack([parameter.sum() for parameter in model.parameters()]).sum() * 0.0


def targets(batch: InteractionBatch, wanted_BT: Tensor, count: int) -> Targets:
    """The new wanted interactions of each window as moments, with the ``count`` wanted ones from each on."""
    t = wanted_BT.shape[1]
    place_T = torch.arange(t, device=wanted_BT.device)
    # wanted places first, in order, so that the j-th is a column; behind them t
    sorted_BT = torch.where(wanted_BT, place_T, t).sort(1).values
    padded_BT = torch.cat([sorted_BT, sorted_BT.new_full((len(sorted_BT), count), t)], 1)
    row_R, place_R = (wanted_BT & batch.new_BT).nonzero(as_tuple=True)
    order_R = (wanted_BT.cumsum(1) - 1)[row_R, place_R]
    next_RJ = padded_BT[row_R[:, None], order_R[:, None] + torch.arange(count, device=row_R.device)]
    return Targets(row_R, place_R, next_RJ.clamp_max(t - 1), next_RJ < t)


def worth_of(kinds_BTK: Tensor, scale_K: Tensor) -> Tensor:
    """What each interaction brought (B, T): kinds weighted, in units of the mean target's."""
    return kinds_BTK.clamp_min(0) @ scale_K


def worth_scale(config: SequenceConfig, data: PreparedData, wanted_K: list[float]) -> Tensor:
    """(K,) what a unit of each kind counts, such that the mean wanted interaction counts 1.

    Raises:
        ConfigError: ``worth`` names no kind of feedback that the data has.
    """
    names = [kind.name for kind in data.schema.feedback]
    if not set(config.worth) & set(names):
        raise ConfigError(
            f"sequence.worth names {', '.join(config.worth) or 'nothing'}, but this data's feedback is {', '.join(names)}; "
            "name at least one of these."
        )
    kinds_MK = torch.from_numpy(np.array(data.interactions().columns["kinds"], dtype=np.float32))
    weight_K = torch.tensor([config.worth.get(kind.name, 0.0) for kind in data.schema.feedback])
    mean_K = (kinds_MK.clamp_min(0).sum(0) / (kinds_MK > 0).sum(0).clamp_min(1)).clamp_min(1e-12)
    scale_K = weight_K / mean_K
    wanted_M = kinds_MK @ torch.tensor(wanted_K) > 0
    mean = float((kinds_MK[wanted_M].clamp_min(0) @ scale_K).mean()) if bool(wanted_M.any()) else 0.0
    return scale_K / mean if mean > 0 else torch.tensor(wanted_K)


def path_loss(
    model: OneRanker,
    places: oneranker.Places,
    batch: InteractionBatch,
    asked: Targets,
    worth_BT: Tensor,
    value: float,
) -> Tensor:
    """L_MTP: head j's path likelihood of the j-th wanted item, value-weighted."""
    item_RJ = batch.item_BT[asked.row_R[:, None], asked.next_RJ]
    codes_RJS = model.items.codes_IS[item_RJ]
    mask_RJ = asked.mask_RJ & model.items.catalogue_I[item_RJ] & (item_RJ < model.items.trained)
    # over what may follow in the trie: a softmax over all codes leaks to prefixes of few items, and misleads the beam
    trie = model.items.trie(trained=True)
    log_prob_RJ = model.paths.log_prob(places.state_RD, codes_RJS.clamp_min(0), trie)
    worth_RJ = worth_BT[asked.row_R[:, None], asked.next_RJ].clamp(max=CLIP)
    weight_RJ = (1 - value + value * worth_RJ) * model.head_weight_J
    return path_likelihood.loss(log_prob_RJ, weight_RJ, mask_RJ)


# --- the run ---


def fit_sequences(
    model: OneRanker, config: SequenceConfig, step_loss: StepLoss, data: PreparedData, stage: Run
) -> None:
    """Train on the windows of the training interactions; validation requests pick the weights."""
    windows = data.interactions().windows(config.window)
    validation = data.split("validation").head(2000)

    def loss(batch: InteractionBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        return step_loss(model, batch, step)

    def validate() -> float:
        return ranked_gain(model, data, validation, stage.device)

    train(model, loss, windows, config.train, stage, validate)


def ranked_gain(model: OneRanker, data: PreparedData, split: Any, device: str) -> float:
    """Mean discounted gain of the sort of the candidates, the number that picks the weights."""
    total, weights = 0.0, data.manifest.target_weights()
    for batch in (b.to(device) for b in split.batches(256)):
        score_BN = model.score_candidates(batch).masked_fill(~batch.mask_BN, -torch.inf)
        rank_BN = score_BN.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        total += float((batch.label_BN(weights) / torch.log2(rank_BN + 2.0)).sum())
    return total / len(split)
