"""Training a scorer (DNN, PRM): the light neural policies that are baselines, auxiliary policies and warm starts."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.generators import scorer
from slatewise.generators.scorer import Scorer
from slatewise.losses import pointwise, softmax_cross_entropy
from slatewise.rng import child_seed
from slatewise.training.loop import TrainConfig, train
from slatewise.training.run import Run


class ScorerConfig(Frozen):
    """A scorer and how it is trained; ``loss`` is per item (``bce``) or over the list (``softmax``)."""

    generator: scorer.Config = scorer.Config()
    loss: Literal["bce", "softmax"] = "bce"
    train: TrainConfig = TrainConfig()


def fit_scorer(name: str, config: ScorerConfig, data: PreparedData, run: Run) -> Scorer:
    """Train (or load) the stage ``name`` of a run.

    Only candidates with known feedback enter the loss: the exposed ones, or all where the protocol labels them.
    """
    torch.manual_seed(child_seed(run.seed, "init", name))
    model = scorer.build(config.generator, data.schema)
    model.tower.load_item_vectors(torch.from_numpy(data.items.vector.copy()))
    key = (config, data.manifest.fingerprint, data.manifest.target)
    run.trained(name, key, model, lambda stage: _fit(model, config, data, stage))
    return model


def _fit(model: Scorer, config: ScorerConfig, data: PreparedData, stage: Run) -> None:
    validation = data.split("validation").head(2000)

    def step_loss(batch: ListBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        return scorer_loss(model, batch, config.loss, data), {}

    def validate() -> float:
        batches = [batch.to(stage.device) for batch in validation.batches(512)]
        return -float(torch.stack([scorer_loss(model, batch, config.loss, data) for batch in batches]).mean())

    train(model, step_loss, data.split("train"), config.train, stage, validate)


def scorer_loss(model: Scorer, batch: ListBatch, loss: str, data: PreparedData) -> Tensor:
    """The scorer's loss on a batch."""
    score_BN = model.score_candidates(batch)
    label_BN = batch.label_BN(data.manifest.target_weights())
    known_BN = batch.known_BN(data.manifest.unexposed_is_negative)
    kind = softmax_cross_entropy if loss == "softmax" else pointwise
    return kind.loss(score_BN, label_BN, known_BN)
