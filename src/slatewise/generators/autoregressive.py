"""The generator of GoalRank (App. D.2) and DeGRe (§4.3): Transformer over the candidates, autoregressive decoder above.

The lower block crosses all candidates; the upper block is a causal Transformer decoder over the list so far with
cross-attention to the candidates; a pointer gives the next position's softmax over the candidates that remain.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from slatewise.config import Above0, Chance, Count, Frozen, Positive
from slatewise.data.batch import ListBatch
from slatewise.data.schema import Schema
from slatewise.generators.base import (
    CLOSED,
    Generator,
    Memory,
    State,
    gather_candidates,
)
from slatewise.modules.tower import TowerConfig, build_tower
from slatewise.modules.transformer import DecoderLayer, Encoder, KeyValue


class Config(Frozen):
    """Sizes; the paper's offline setting is width 128 (``tower.width``). The defaults have about 0.3M parameters
    beside the id embeddings; ``tower.width = 1024`` with ``8 + 4`` layers has about 100M.

    No dropout by default: a generator that learns from a reward model never runs out of lists to learn from.
    ``feedforward`` is the hidden width of a layer's feed-forward block in multiples of the width.

    ``cross_attention = False`` is DeGRe's decoder (§4.3): it sees the list so far and, by the pointer alone, the
    candidates. Its setting is ``4 + 4`` layers.
    """

    tower: TowerConfig = TowerConfig()
    encoder_layers: Count = 2
    decoder_layers: Count = 2
    heads: Positive = 2
    feedforward: Above0 = 2.0
    dropout: Chance = 0.0
    cross_attention: bool = True


class Candidates(NamedTuple):
    """The encoded request: candidate tokens, pointer keys, score bias, each decoder layer's keys and values."""

    x_BND: Tensor
    pointer_BND: Tensor
    bias_BN: Tensor
    start_BD: Tensor
    layers: tuple[KeyValue | None, ...]


class Prefix(NamedTuple):
    """The lists so far: the last token, not yet decoded, and the cache of the earlier ones."""

    token_BGD: Tensor
    caches: tuple[KeyValue | None, ...]


class Autoregressive(Generator):
    """The generator. Permuting a request's candidates permutes its lists and nothing else."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        width, hidden = config.tower.width, int(config.feedforward * config.tower.width)
        self.tower = build_tower(config.tower, schema)
        self.encoder = Encoder(config.encoder_layers, width, config.heads, hidden, config.dropout)
        self.score = nn.Linear(width, 1)
        self.decoder = nn.ModuleList(
            DecoderLayer(width, config.heads, hidden, config.dropout, config.cross_attention)
            for _ in range(config.decoder_layers)
        )
        self.position = nn.Parameter(torch.randn(schema.length, width) * 0.05)
        self.start_token = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.pointer_query = nn.Linear(width, width)
        self.pointer_key = nn.Linear(width, width, bias=False)

    def encode(self, batch: ListBatch) -> Memory:
        """Tower, candidate Transformer, and the keys and values that all lists share."""
        x_BND, user_BD = self.tower(batch)
        x_BND = self.encoder(x_BND, batch.mask_BN)
        layers = tuple(layer.project(x_BND) for layer in self.decoder)  # type: ignore[operator]
        bias_BN = self.score(x_BND).squeeze(-1)
        return Memory(
            batch.mask_BN,
            Candidates(x_BND, self.pointer_key(x_BND), bias_BN, self.start_token(user_BD), layers),
        )

    def start(self, memory: Memory, lists: int) -> State:
        """Empty lists; the first token is the user's."""
        start_BGD = memory.parts.start_BD[:, None].expand(-1, lists, -1)
        return self.begin(memory, lists, Prefix(start_BGD, (None,) * len(self.decoder)))

    def step(self, memory: Memory, state: State) -> tuple[Tensor, State]:
        """One cached step: only the newest token goes through the decoder."""
        x_BGTD = (state.parts.token_BGD + self.position[state.length])[:, :, None]
        hidden_BGTD, caches = self._decode(memory, x_BGTD, state.parts.caches)
        logits_BGN = self._point(memory, hidden_BGTD).squeeze(2).float().masked_fill(~state.open_BGN, CLOSED)
        return logits_BGN, replace(state, parts=Prefix(state.parts.token_BGD, caches))

    def advance(self, memory: Memory, state: State, choice_BG: Tensor) -> State:
        """The chosen candidate becomes the next token."""
        token_BGD = gather_candidates(memory.parts.x_BND, choice_BG[..., None]).squeeze(2)
        return replace(
            state.close(choice_BG), length=state.length + 1, parts=Prefix(token_BGD, state.parts.caches)
        )

    def select(self, state: State, parent_BG: Tensor) -> State:
        """Reorder prefixes (beam search)."""
        b, old, _ = state.open_BGN.shape
        rows = (torch.arange(b, device=parent_BG.device)[:, None] * old + parent_BG).flatten()
        token = state.parts.token_BGD.flatten(0, 1)[rows].unflatten(0, parent_BG.shape)
        caches = tuple(None if cache is None else cache.rows(rows) for cache in state.parts.caches)
        opened = state.open_BGN.flatten(0, 1)[rows].unflatten(0, parent_BG.shape)
        return State(opened, state.length, Prefix(token, caches))

    def list_logits(self, memory: Memory, lists_BGL: Tensor) -> Tensor:
        """All positions of all lists in one pass over B·G·L tokens, sharing the candidates' keys and values."""
        length = lists_BGL.shape[2]
        written_BGLD = gather_candidates(memory.parts.x_BND, lists_BGL[:, :, :-1])
        start_BG1D = memory.parts.start_BD[:, None, None].expand(-1, lists_BGL.shape[1], -1, -1)
        x_BGLD = torch.cat([start_BG1D, written_BGLD], 2) + self.position[:length]
        hidden_BGLD, _ = self._decode(memory, x_BGLD, (None,) * len(self.decoder))
        return self._point(memory, hidden_BGLD)

    def _decode(
        self, memory: Memory, x_BGTD: Tensor, caches: tuple[KeyValue | None, ...]
    ) -> tuple[Tensor, tuple[KeyValue, ...]]:
        grown = []
        for layer, candidates, cache in zip(self.decoder, memory.parts.layers, caches, strict=True):
            x_BGTD, cache = layer(x_BGTD, candidates, memory.mask_BN, cache)
            grown.append(cache)
        return self.norm(x_BGTD), tuple(grown)

    def _point(self, memory: Memory, hidden_BGTD: Tensor) -> Tensor:
        """Pointer logits (B, G, T, N): scaled match of query and key, plus the candidate's own score."""
        query = self.pointer_query(hidden_BGTD).flatten(1, 2)
        match = query @ memory.parts.pointer_BND.transpose(1, 2) / math.sqrt(query.shape[-1])
        return (match + memory.parts.bias_BN[:, None]).unflatten(1, hidden_BGTD.shape[1:3])


def build(config: Config, schema: Schema) -> Autoregressive:
    """The generator for data of this schema, with random weights."""
    return Autoregressive(config, schema)
