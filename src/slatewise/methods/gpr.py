"""GPR (arXiv 2511.10138), OneRanker's predecessor: several heads of semantic-id paths, value-weighted.

What is here: U / C / X / I tokens, an HSTU stack, multi-token prediction (Eq. 3), value-aware weights (Eq. 4). What of
GPR is left out: token-aware norms and feed-forwards, mixture of recursions and language-model thoughts in the stack, the
thinking and diffusion steps of the decoder, the value head's reinforcement learning (Eq. 5-10).
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from slatewise.config import Frozen, Positive
from slatewise.data.interactions import InteractionBatch
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError
from slatewise.generators import oneranker
from slatewise.generators.oneranker import OneRanker
from slatewise.policies import catalogue
from slatewise.ranker import Ranker, make_ranker
from slatewise.training.run import Run
from slatewise.training.sequences import (
    SequenceConfig,
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
    """The backbone and its training; ``sequence.value`` is how much a target's value weighs.

    ``width``: of the beam that searches the catalogue, at least; never narrower than what is asked for. ``repeats``: items
    of the request's history may be recommended again.
    """

    model: oneranker.Architecture = oneranker.Architecture(paths=4, target_aware=False, ranker=False)
    sequence: SequenceConfig = SequenceConfig(value=0.5)
    width: Positive = 100
    repeats: bool = False


class Paths(Protocol):
    """What a config of a model of paths has."""

    @property
    def model(self) -> oneranker.Architecture: ...
    @property
    def sequence(self) -> SequenceConfig: ...
    @property
    def width(self) -> int: ...
    @property
    def repeats(self) -> bool: ...


def fit(config: Config, data: PreparedData, run: Run) -> Ranker:
    """Train the backbone.

    Raises:
        ConfigError: a step of OneRanker is switched on.   DataError: the data has no interactions to learn from.
    """
    return fit_paths("gpr", config, data, run)


def fit_paths(method: str, config: Paths, data: PreparedData, run: Run) -> Ranker:
    """Train a model of paths alone."""
    model_config, sequence = config.model, config.sequence
    if model_config.target_aware or model_config.ranker:
        raise ConfigError(
            f"{method} is OneRanker's first step alone: target_aware and ranker must be false; for more, train oneranker."
        )
    model, full = start_model(method, model_config, sequence, data, run)
    wanted_K = data.manifest.target_weights()
    scale_K = worth_scale(sequence, data, wanted_K)

    def step_loss(model: OneRanker, batch: InteractionBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        device = batch.kinds_BTK.device
        asked = targets(batch, wanted(batch, torch.tensor(wanted_K, device=device)), model_config.paths)
        if not len(asked.row_R):
            return nothing(model), {}
        places = model.at_interactions(batch, asked.row_R, asked.place_R)
        worth_BT = worth_of(batch.kinds_BTK, scale_K.to(device))
        return path_loss(model, places, batch, asked, worth_BT, sequence.value), {}

    key = (full, sequence, data.manifest.fingerprint, data.manifest.target)
    run.trained(method, key, model, lambda stage: fit_sequences(model, sequence, step_loss, data, stage))
    policy = catalogue.Config(model=full, width=config.width, repeats=config.repeats)
    return make_ranker(method, config, "catalogue", policy, {"model": model}, data, run.seed)
