"""A generator and a decoding strategy: one encode, one (greedy) pass, no evaluator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.config import build as build_config
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest
from slatewise.decoding._loop import first_logits
from slatewise.decoding.ruled import Rules, decode_ruled
from slatewise.generators import Generator, build_generator
from slatewise.generators.base import Memory, ScoreGenerator
from slatewise.names import plugin
from slatewise.policies import Form, Policy, parting
from slatewise.types import Answer, Ranking, Slate

CERTAIN = ("greedy", "beam", "diverse", "tree")  # strategies that draw nothing


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
        if self._sorts:
            return sort_by_score(self.generator.score_candidates(batch), batch, length)  # type: ignore[operator]
        return self.answer(batch, length).ranking(batch.mask_BN)

    @torch.no_grad()
    def answer(self, batch: ListBatch, length: int) -> Answer:
        """The list, its log-probability under the generator, and the first step's logits."""
        if isinstance(self.generator, ScoreGenerator) and self._sorts:
            return sorted_answer(self.generator, batch, length)
        rng = torch.Generator(batch.mask_BN.device).manual_seed(self.config.seed)
        memory = self.generator.encode(batch)
        slate: Slate = self.decoder.decode(
            self.generator, memory, length=length, rng=rng, config=self.decoder_config
        )
        first_BN = first_logits(self.generator, memory) if slate.first_BN is None else slate.first_BN
        first_BN = first_BN.masked_fill(~batch.mask_BN, -torch.inf)
        return Answer(slate.order_BL, slate.mask_BL, slate.log_prob_B, first_BN)

    @torch.no_grad()
    def answer_ruled(self, batch: ListBatch, length: int, rules: Rules) -> Answer:
        """The greedy list under rules; log-probability and first logits are the generator's own."""
        slate, first_BN = decode_ruled(
            self.generator, self.generator.encode(batch), length=length, rules=rules
        )
        first_BN = first_BN.masked_fill(~batch.mask_BN, -torch.inf)
        return Answer(slate.order_BL, slate.mask_BL, slate.log_prob_B, first_BN)

    @torch.no_grad()
    def margin(self, batch: ListBatch, order_BL: Tensor, rival_BL: Tensor) -> Tensor:
        """In nats, at the place where the lists part."""
        memory = self.generator.encode(batch)
        log_prob_BLN = self.generator.log_probs(memory, order_BL[:, None])[:, 0]
        place_B11 = (order_BL != rival_BL).float().argmax(1)[:, None, None]
        at_BN = log_prob_BLN.gather(1, place_B11.expand(-1, 1, log_prob_BLN.shape[2])).squeeze(1)
        own_B1, rival_B1 = parting(order_BL, rival_BL)
        return (at_BN.gather(1, own_B1) - at_BN.gather(1, rival_B1)).squeeze(1)

    @property
    def certain(self) -> bool:
        """Strategies that may draw are not taken for certain."""
        return self.decoder_name in CERTAIN

    @property
    def form(self) -> Form:
        """Greedy decoding is what is exported."""
        if self.decoder_name == "greedy":
            return Form(ruled=not self._sorts)
        return Form(obstacle=f"it decodes by '{self.decoder_name}', and only greedy decoding is exported")

    @property
    def _sorts(self) -> bool:
        return isinstance(self.generator, ScoreGenerator) and self.decoder_name == "greedy"


def sorted_answer(generator: ScoreGenerator, batch: ListBatch, length: int) -> Answer:
    """The sort by a generator's scores, and its probability under Plackett–Luce."""
    score_BN = generator.score_candidates(batch)
    ranking = sort_by_score(score_BN, batch, length)
    memory = Memory(batch.mask_BN, score_BN)
    log_prob_B = generator.log_prob(memory, ranking.order_BL[:, None]).sum((1, 2))
    return Answer(ranking.order_BL, ranking.mask_BL, log_prob_B, ranking.score_BN)


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
