"""A generator and a decoding strategy: one encode, one (greedy) pass, no evaluator."""

from __future__ import annotations

from typing import Any

import torch

from slatewise.config import Frozen
from slatewise.config import build as build_config
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.generators import Generator, build_generator
from slatewise.generators.base import ScoreGenerator
from slatewise.names import plugin
from slatewise.policies import Policy
from slatewise.types import Ranking, full_order_scores


class Config(Frozen):
    """``generator`` and ``decoder`` are plug-in names with their options; ``seed`` is for strategies that draw."""

    generator: str = "autoregressive"
    options: dict[str, Any] = {}
    decoder: str = "greedy"
    decoder_options: dict[str, Any] = {}
    seed: int = 0


class Decode(Policy):
    """Encode, decode, rank."""

    def __init__(self, generator: Generator, config: Config) -> None:
        super().__init__()
        self.generator, self.config = generator, config
        self.use(config.decoder, config.decoder_options)

    def use(self, decoder: str, options: dict[str, Any] | None = None) -> None:
        """Decode with another strategy from now on.

        Raises:
            ConfigError: no such decoder or option.
        """
        self.decoder_name, self.decoder = decoder, plugin("decoding", decoder)
        self.decoder_config = build_config(self.decoder.Config, options or {}, where=f"decoder '{decoder}'")

    @torch.no_grad()
    def rank(self, batch: ListBatch, length: int) -> Ranking:
        """The decoded list; the rest of the candidates follow by the first step's logits."""
        rng = torch.Generator(batch.mask_BN.device).manual_seed(self.config.seed)
        if isinstance(self.generator, ScoreGenerator) and self.decoder_name == "greedy":
            return sort_by_score(self.generator.score_candidates(batch), batch, length)
        memory = self.generator.encode(batch)
        slate = self.decoder.decode(
            self.generator, memory, length=length, rng=rng, config=self.decoder_config
        )
        first_BN = self.generator.step(memory, self.generator.start(memory, 1))[0][:, 0]
        score_BN = full_order_scores(slate.order_BL, slate.mask_BL, first_BN, batch.mask_BN)
        return Ranking(slate.order_BL, slate.mask_BL, score_BN)


def sort_by_score(score_BN: torch.Tensor, batch: ListBatch, length: int) -> Ranking:
    """The list that sorts the real candidates by score."""
    score_BN = score_BN.masked_fill(~batch.mask_BN, -torch.inf)
    order_BL = score_BN.argsort(dim=1, descending=True, stable=True)[:, :length]
    mask_BL = torch.arange(order_BL.shape[1], device=order_BL.device) < batch.mask_BN.sum(1, keepdim=True)
    return Ranking(order_BL * mask_BL, mask_BL, score_BN)


def build(config: Config, manifest: Manifest) -> Decode:
    """The policy with random weights."""
    module = plugin("generators", config.generator)
    options = build_config(module.Config, config.options, where=f"generator '{config.generator}'")
    return Decode(build_generator(config.generator, options, manifest.schema), config)
