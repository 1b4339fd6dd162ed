"""OneRanker (arXiv 2603.02999): one model generates candidates from the whole catalogue and ranks them.

Trained on windows of the training interactions. At every wanted interaction (the target's kind of feedback):

* ``L_MTP``: the paths of the next wanted items, value-weighted (GPR Eq. 3 and 4);
* ``L_task``: each task's next item among the catalogue, a value task's weighted by what it brought [ours: the paper
  trains its task heads in L_MTP, on semantic ids, and does not say how an inner product comes of it];
* ``L_rank``: pairwise, on the order of what each candidate brought (eCPM);
* ``L_DC``: the generator anticipates the ranker, which is a detached teacher, after a warm-up [ours: detach, warm-up].

Candidates of the last two: the interaction itself, those of the same moment, the best that the generator finds in
the catalogue, and what others wanted in the same batch [ours: the paper's sampling is not disclosed].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slatewise.candidates import clusters
from slatewise.config import Above0, Count, Frozen, Part, Positive, Share, Weight, to_plain
from slatewise.data.interactions import InteractionBatch
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError
from slatewise.generators import oneranker
from slatewise.generators.oneranker import OneRanker, Wants
from slatewise.losses import distribution_consistency, pairwise, sampled_softmax
from slatewise.policies import catalogue
from slatewise.policies.catalogue import Search
from slatewise.ranker import Ranker, make_ranker
from slatewise.training.loop import planned
from slatewise.training.rank_candidates import beside, candidates, generated
from slatewise.training.run import Run
from slatewise.training.sequences import (
    CLIP,
    SequenceConfig,
    Targets,
    catalogue_mask,
    fit_sequences,
    nothing,
    path_loss,
    start_model,
    targets,
    wanted,
    worth_of,
    worth_scale,
)


class Config(Frozen):
    """OneRanker; the paper's alpha, beta, gamma and tau are not disclosed.

    Attributes:
        alpha, delta, beta, gamma: weights of L_MTP, L_task, L_rank and L_DC; gamma = 0 is "w/o DC loss".
        temperature: tau of the teacher.   dc_warmup: share of the steps before L_DC starts.
        moments: of each window's wanted moments at most so many go through steps 2 and 3, drawn anew each step.
        catalogue: items that L_task is against, drawn anew each step (0: all of the catalogue).
        together: candidates of the same moment on either side.   others: wanted elsewhere in the batch.
        found: drawn from what the generator finds best, the share ``pool`` of the items of L_task. A larger pool is
            easier; a small one holds much that is liked but was never shown, which is no proof of dislike.
        refresh: the fake items' centres are found anew so many times in training, besides its start.
        search, width: how the catalogue is searched, as :class:`slatewise.policies.catalogue.Config` has them.
        repeats: items of the request's history may be recommended again.
        rerank: the ranking decoder orders so many of what the generator finds in the catalogue; 0: none of it.
    """

    model: oneranker.Architecture = oneranker.Architecture()
    sequence: SequenceConfig = SequenceConfig(value=0.5)
    alpha: Weight = 1.0
    delta: Weight = 1.0
    beta: Weight = 1.0
    gamma: Weight = 0.3
    temperature: Above0 = 1.0
    dc_warmup: Share = 0.3
    moments: Positive = 2
    catalogue: Count = 4096
    together: Count = 5
    found: Count = 12
    pool: Part = 0.125
    others: Count = 12
    refresh: Count = 4
    search: Search = "auto"
    width: Positive = 100
    repeats: bool = False
    rerank: Count = 0


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train the three steps at once.

    Raises:
        ConfigError: a task that is no kind of feedback, or more fake items than items.   DataError: the data has no
            interactions to learn from.
    """
    known = int(catalogue_mask(data)[: data.schema.trained_items or data.schema.items].sum())
    if config.model.target_aware and config.model.target.fake_items > known:
        raise ConfigError(
            f"oneranker: {config.model.target.fake_items} fake items are more than the {known} items that training knows; "
            "lower model.target.fake_items."
        )
    model, full = start_model("oneranker", config.model, config.sequence, data, run)
    found_by = ("search", "width", "repeats", "rerank")  # no weight depends on how the catalogue is searched
    trained = {name: value for name, value in to_plain(config).items() if name not in found_by}
    key = (trained, full, data.manifest.fingerprint, data.manifest.target)
    run.trained("oneranker", key, model, lambda stage: _fit(model, config, data, stage))
    policy = catalogue.Config(
        model=full, search=config.search, width=config.width, repeats=config.repeats, rerank=config.rerank
    )
    return make_ranker("oneranker", config, "catalogue", policy, {"model": model}, data, run.seed)


def _fit(model: OneRanker, config: Config, data: PreparedData, stage: Run) -> None:
    plan = _plan(config, data, stage.device)

    def step_loss(model: OneRanker, batch: InteractionBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        if step % plan.refresh_every == 0:
            _refresh(model, stage.seed)
        return _loss(model, batch, step, config, plan)

    fit_sequences(model, config.sequence, step_loss, data, stage)


@dataclass(frozen=True)
class _Plan:
    """What stays the same over a training run.

    Attributes:
        wanted_K: weights of the target.   scale_K: what a unit of each kind counts.
        kind_M: for each task the kind's place among the feedback, -1 for an impression.
        dc_from: the step at which L_DC starts.   refresh_every: steps between two findings of the centres.
    """

    wanted_K: Tensor
    scale_K: Tensor
    kind_M: tuple[int, ...]
    dc_from: int
    refresh_every: int


def _plan(config: Config, data: PreparedData, device: str) -> _Plan:
    names = [kind.name for kind in data.schema.feedback]
    for task in config.model.tasks:
        if task != "impression" and task not in names:
            raise ConfigError(
                f"oneranker: task '{task}' is no kind of feedback of this data, which has: {', '.join(names)}; "
                'set model.tasks, e.g. ["impression", "click"].'
            )
    wanted, train = data.manifest.target_weights(), config.sequence.train
    steps = planned(train, len(data.interactions().windows(config.sequence.window)))[2]
    return _Plan(
        wanted_K=torch.tensor(wanted, device=device),
        scale_K=worth_scale(config.sequence, data, wanted).to(device),
        kind_M=tuple(names.index(task) if task != "impression" else -1 for task in config.model.tasks),
        dc_from=round(config.dc_warmup * steps),
        refresh_every=math.ceil(steps / (config.refresh + 1)),
    )


def _refresh(model: OneRanker, seed: int) -> None:
    """The fake items are the centres of the catalogue's vectors as they are now; a centre keeps its name."""
    if model.target is None or model.target.preference is None:
        return
    index_M = model.items.catalogue()
    training = model.items.training
    model.items.eval()  # centres are of the items as they are searched, none taken for a new one
    with torch.no_grad():
        vector_MD = model.items.of(index_M[index_M < model.items.trained]).cpu().numpy()
    model.items.train(training)
    old_JD = model.target.centre_JD.cpu().numpy()
    now = clusters.fit(vector_MD, len(old_JD), seed, start=old_JD if old_JD.any() else None)
    model.target.use_centres(torch.from_numpy(now.centres_KD), torch.from_numpy(now.weight_K))


def _loss(
    model: OneRanker, batch: InteractionBatch, step: int, config: Config, plan: _Plan
) -> tuple[Tensor, dict[str, Any]]:
    """All four losses of one pass over the windows."""
    asked = targets(batch, wanted(batch, plan.wanted_K), model.config.paths)
    if not len(asked.row_R):
        return nothing(model), {}
    places, worth_BT = (
        model.at_interactions(batch, asked.row_R, asked.place_R),
        worth_of(batch.kinds_BTK, plan.scale_K),
    )
    mtp = path_loss(model, places, batch, asked, worth_BT, config.sequence.value)
    some_R = _drawn(asked.row_R, config.moments)
    few, asked = model.some(places, some_R), _take(asked, some_R)
    wants = model.wants(few)
    numbers, total = {"mtp": mtp.detach()}, config.alpha * mtp
    shared_M = _shared(model, config.catalogue)
    if wants is not None:
        task = _task_loss(model, wants, batch, asked, worth_BT, shared_M, plan, config)
        numbers["task"], total = task.detach(), total + config.delta * task
    if model.decoder is not None:
        found_RK = generated(model, wants, len(some_R), shared_M, config.found, config.pool)
        among = candidates(batch, asked, worth_BT, found_RK, config.together, config.others)
        item_RND = model.items.of(among.index_RN)
        ranker_RN = model.ranker_scores(few, wants, item_RND, among.mask_RN)
        rank = pairwise.loss(ranker_RN, among.gain_RN, among.mask_RN)
        numbers["rank"], total = rank.detach(), total + config.beta * rank
        if config.gamma and step >= plan.dc_from:
            generator_RN = model.generator_scores(few, wants, item_RND, among.index_RN)
            dc = distribution_consistency.loss(generator_RN, ranker_RN, among.mask_RN, config.temperature)
            numbers["dc"], total = dc.detach(), total + config.gamma * dc
    return total, numbers


def _drawn(row_R: Tensor, count: int) -> Tensor:
    """At most ``count`` moments of each window, at random: indices into the R axis."""
    key_R = torch.rand(len(row_R), device=row_R.device) + row_R  # rows stay together, in random order
    order_R = key_R.argsort()
    sorted_R = row_R[order_R]
    first_R = torch.searchsorted(sorted_R, sorted_R)  # where the row starts
    place_R = torch.arange(len(row_R), device=row_R.device) - first_R
    return order_R[place_R < count]


def _take(asked: Targets, index_R: Tensor) -> Targets:
    return Targets(
        asked.row_R[index_R], asked.place_R[index_R], asked.next_RJ[index_R], asked.mask_RJ[index_R]
    )


def _shared(model: OneRanker, count: int) -> Tensor:
    """The items that a step's softmax is against: ``count`` of the catalogue's trained items, or all."""
    index_M = model.items.catalogue()
    index_M = index_M[index_M < model.items.trained]
    if not count or count >= len(index_M):
        return index_M
    return index_M[torch.randperm(len(index_M), device=index_M.device)[:count]]


def _task_loss(
    model: OneRanker,
    wants: Wants,
    batch: InteractionBatch,
    asked: Targets,
    worth_BT: Tensor,
    shared_M: Tensor,
    plan: _Plan,
    config: Config,
) -> Tensor:
    """Each task's next item, and the mixture's wanted item, against the shared items; a mean over them."""
    shared_MV, value = model.item_vectors(model.items.of(shared_M)), config.sequence.value
    losses = []
    for task, kind in enumerate(plan.kind_M):
        item_R, weight_R = _shown(batch, asked, config.together) if kind < 0 else _next(batch, asked, kind)
        vector_RV = wants.task_RMV[:, task]
        losses.append(_softmax(model, vector_RV, item_R, weight_R, shared_M, shared_MV))
    worth_R = worth_BT[asked.row_R, asked.place_R].clamp(max=CLIP)
    item_R = batch.item_BT[asked.row_R, asked.place_R]
    weight_R = 1 - value + value * worth_R
    losses.append(_softmax(model, wants.vector_RV, item_R, weight_R, shared_M, shared_MV))
    return torch.stack(losses).mean()


def _shown(batch: InteractionBatch, asked: Targets, together: int) -> tuple[Tensor, Tensor]:
    """One item of what was shown at each moment, wanted or not, at random; weight 1."""
    near, same_RN = beside(batch, asked, together)
    own_R = batch.item_BT[asked.row_R, asked.place_R]
    shown_RN = torch.cat([own_R[:, None], batch.item_BT[near]], 1)
    real_RN = torch.cat([torch.ones_like(same_RN[:, :1]), same_RN], 1)
    drawn_R1 = (
        torch.rand(shown_RN.shape, device=own_R.device).masked_fill(~real_RN, -1.0).argmax(1, keepdim=True)
    )
    return shown_RN.gather(1, drawn_R1).squeeze(1), torch.ones_like(own_R, dtype=torch.float32)


def _next(batch: InteractionBatch, asked: Targets, kind: int) -> tuple[Tensor, Tensor]:
    """The first interaction from each moment on that has the kind of feedback: its item, and its weight (0: none).

    A kind of amounts (a value) weighs what it brought, in units of the mean; a yes or no weighs 1.
    """
    amount_BT = batch.kinds_BTK[..., kind] * (batch.mask_BT & ~batch.organic_BT)
    t = amount_BT.shape[1]
    place_T = torch.arange(t, device=amount_BT.device)
    # the smallest place with the kind at or behind each place
    next_BT = torch.where(amount_BT > 0, place_T, t).flip(1).cummin(1).values.flip(1)
    place_R = next_BT[asked.row_R, asked.place_R]
    there_R, place_R = place_R < t, place_R.clamp_max(t - 1)
    amount_R = batch.kinds_BTK[asked.row_R, place_R, kind] * there_R
    mean = amount_R.sum() / there_R.sum().clamp_min(1)
    return batch.item_BT[asked.row_R, place_R], (amount_R / mean.clamp_min(1e-12)).clamp(max=CLIP)


def _softmax(
    model: OneRanker, vector_RV: Tensor, item_R: Tensor, weight_R: Tensor, shared_M: Tensor, shared_MV: Tensor
) -> Tensor:
    own_RV = model.item_vectors(model.items.of(item_R))
    same_RM = item_R[:, None] == shared_M
    return sampled_softmax.loss((vector_RV * own_RV).sum(1), vector_RV @ shared_MV.T, same_RM, weight_R)
