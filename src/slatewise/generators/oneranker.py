"""OneRanker (arXiv 2603.02999): generation from the whole catalogue and ranking in one model, in three steps.

1. *Generation backbone*: U / C / X / I tokens through an HSTU stack; several heads, each a complete path of a semantic
   id. Alone it is the method ``hstu`` (one head) or ``gpr`` (several, value-weighted).
2. *Target awareness*: task tokens and fake item tokens; a vector a task whose inner product with an item's vector is
   the task's score, so that the whole catalogue is one matrix product.
3. *Ranking decoder* over given candidates, with the keys and values of both steps before.

One pass serves all three. As a generator of lists it is Plackett–Luce over its scores of the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from slatewise.config import Chance, Count, Frozen, Part, Positive
from slatewise.data.batch import ListBatch
from slatewise.data.interactions import InteractionBatch
from slatewise.data.schema import Schema
from slatewise.generators.base import CLOSED, ScoreGenerator
from slatewise.modules.event_tokens import EventTokens, Stream
from slatewise.modules.hstu import Hstu, HstuConfig
from slatewise.modules.item_table import ItemConfig, ItemTable
from slatewise.modules.paths import PathHeads, mixture
from slatewise.modules.ranking_decoder import RankingConfig, RankingDecoder
from slatewise.modules.target_aware import TargetAware, TargetConfig

TASKS = ("impression", "click", "conversion", "value")
PATHLESS = CLOSED / 10  # the score of an item that has no path


class Architecture(Frozen):
    """The model's shape. Defaults are for two cores; the paper has width 128, 4 + 2 + 1 layers and 6 + 2 task tokens.

    Attributes:
        paths: heads of multi-token prediction; head j predicts the j-th next target.
        head_decay: each head's weight, in the loss and among the others' likelihoods, is this times the one before's.
        tasks: kinds of feedback in causal order; a kind may have several tokens. ``impression`` is being shown at all.
        target_aware, ranker: False leaves step 2 or step 3 out.
        length: of the sequences that attention is normalised for, in interactions.
    """

    width: Positive = 64
    layers: Positive = 2
    heads: Positive = 2
    paths: Positive = 4
    head_decay: Part = 0.5
    tasks: Annotated[tuple[str, ...], Meta(min_length=1)] = TASKS
    id_dropout: Chance = 0.3
    dropout: Chance = 0.1
    items: ItemConfig = ItemConfig()
    target_aware: bool = True
    target: TargetConfig = TargetConfig()
    ranker: bool = True
    ranking: RankingConfig = RankingConfig()
    length: Positive = 128


class Config(Architecture):
    """The whole model: beside its shape what training finds, the width of the items' space and the size of their ids."""

    space: Count = 0
    levels: Positive = 3
    codes: Positive = 256


@dataclass(frozen=True)
class Places:
    """R moments at which an item is asked for, in B streams.

    Attributes:
        past_BSD: the backbone's output.   row_R: stream of each moment.   state_RD: its output at the moment's C.
        seen_RS: the tokens that the moment may look at.
    """

    past_BSD: Tensor
    row_R: Tensor
    state_RD: Tensor
    seen_RS: Tensor


@dataclass(frozen=True)
class Wants:
    """What step 2 makes of R moments.

    Attributes:
        token_RQD: task tokens and fake items after the last layer.
        task_RMV: a vector for each task.   vector_RV: their mixture, by which the catalogue is searched.
    """

    token_RQD: Tensor
    task_RMV: Tensor
    vector_RV: Tensor


class OneRanker(ScoreGenerator):
    """The three steps; see the module's text."""

    head_weight_J: Tensor

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.items = ItemTable(config.items, schema, width, config.space, (config.codes,) * config.levels)
        self.tokens = EventTokens(schema, width, config.id_dropout)
        self.backbone = Hstu(
            HstuConfig(
                width=width,
                layers=config.layers,
                heads=config.heads,
                dropout=config.dropout,
                length=2 * config.length,
            )
        )
        self.paths = PathHeads(width, config.paths, config.levels, config.codes, config.dropout)
        weight_J = torch.tensor(config.head_decay, dtype=torch.float64) ** torch.arange(config.paths)
        self.register_buffer("head_weight_J", (weight_J / weight_J.sum()).float(), persistent=False)
        self.target = (
            TargetAware(config.target, len(config.tasks), width, config.heads)
            if config.target_aware
            else None
        )
        self.task_weight = nn.Parameter(torch.zeros(len(config.tasks))) if self.target else None
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.decoder = RankingDecoder(config.ranking, width, config.heads) if config.ranker else None

    # --- step 1 ---

    def at_requests(self, batch: ListBatch) -> Places:
        """The moment of each request."""
        stream, place_B = self.tokens.of_requests(batch, self.items)
        return self._places(stream, torch.arange(batch.size, device=place_B.device), place_B)

    def at_interactions(self, batch: InteractionBatch, row_R: Tensor, place_R: Tensor) -> Places:
        """The moments of the interactions ``place_R`` of the windows ``row_R``."""
        return self._places(self.tokens.of_windows(batch, self.items), row_R, 2 * place_R + 1)

    def _places(self, stream: Stream, row_R: Tensor, token_R: Tensor) -> Places:
        past_BSD = self.backbone(stream.token_BSD, stream.mask_BS, stream.time_BS, stream.visible_BSS)
        return Places(past_BSD, row_R, past_BSD[row_R, token_R], stream.visible_BSS[row_R, token_R])

    def some(self, places: Places, index: Tensor) -> Places:
        """The chosen moments of the same streams."""
        return Places(places.past_BSD, places.row_R[index], places.state_RD[index], places.seen_RS[index])

    # --- step 2 ---

    def wants(self, places: Places) -> Wants | None:
        """Task tokens and fake items at every moment; None without step 2."""
        if self.target is None or self.task_weight is None:
            return None
        past = [keys.rows(places.row_R) for keys in self.target.project(places.past_BSD)]
        token_RQD, task_RMV = self.target(places.state_RD, past, places.seen_RS)
        mixture_RV = (self.task_weight.softmax(0)[:, None] * task_RMV).sum(1)
        return Wants(token_RQD, task_RMV, mixture_RV)

    def item_vectors(self, item_ND: Tensor) -> Tensor:
        """The items' side of the inner product (…, V), scaled."""
        vector_NV = item_ND if self.target is None else self.target.item_vectors(item_ND)
        return vector_NV * (self.log_scale.exp() / item_ND.shape[-1] ** 0.5)

    # --- step 3, and scores ---

    def generator_scores(
        self, places: Places, wants: Wants | None, item_RND: Tensor, index_RN: Tensor
    ) -> Tensor:
        """What generation thinks of given items (R, N): the inner product, or without step 2 the paths' likelihood."""
        if wants is not None:
            return torch.einsum("rv,rnv->rn", wants.vector_RV, self.item_vectors(item_RND))
        codes_RNS = self.items.codes_IS[index_RN]
        node_IS, known_I = self.items.places()
        log_prob_RJN = self.paths.score_paths(
            places.state_RD,
            codes_RNS.clamp_min(0),
            self.items.trie(),
            (node_IS[index_RN], known_I[index_RN]),
        )
        log_prob_RN = mixture(log_prob_RJN, self.head_weight_J.log())
        # an item without a path is found by nobody; finite, so that it can be trained beside others, and above what is
        # closed, since it is a candidate for all that
        return log_prob_RN.masked_fill(codes_RNS[..., 0] < 0, PATHLESS).clamp_min(PATHLESS)

    def ranker_scores(self, places: Places, wants: Wants | None, item_RND: Tensor, mask_RN: Tensor) -> Tensor:
        """What the ranking decoder thinks of given items (R, N)."""
        assert self.decoder is not None
        past = [keys.rows(places.row_R) for keys in self.decoder.project(places.past_BSD)]
        refined = None if wants is None else wants.token_RQD
        scores: Tensor = self.decoder(places.state_RD, item_RND, mask_RN, past, places.seen_RS, refined)
        return scores

    def score_candidates(self, batch: ListBatch) -> Tensor:
        """Scores (B, N) of a request's candidates, by the last step there is."""
        places = self.at_requests(batch)
        wants = self.wants(places)
        item_BND = self.items(batch.candidates_BN, batch.item_categories_BNC, batch.item_numeric_BNF)
        if self.decoder is None:
            return self.generator_scores(places, wants, item_BND, batch.candidates_BN).float()
        return self.ranker_scores(places, wants, item_BND, batch.mask_BN).float()


def build(config: Config, schema: Schema) -> OneRanker:
    """The model for data of this schema, with random weights and an empty item table."""
    return OneRanker(config, schema)
