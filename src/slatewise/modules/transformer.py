"""Pre-norm Transformer layers (Xiong et al. 2020) whose keys and values can be computed once and shared.

Cross-attention takes its keys and values ready-made, so that a request's candidates are projected once however
many lists are decoded for it; causal self-attention takes an optional cache of the prefix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slatewise.errors import ConfigError


class KeyValue(NamedTuple):
    """Keys and values of an attention, each (..., heads, T, D / heads)."""

    key: Tensor
    value: Tensor

    def append(self, later: KeyValue) -> KeyValue:
        """The cache with the next position's key and value behind it."""
        return KeyValue(torch.cat([self.key, later.key], -2), torch.cat([self.value, later.value], -2))

    def rows(self, index: Tensor) -> KeyValue:
        """The chosen rows of the first axis (beam search reorders its prefixes with this)."""
        return KeyValue(self.key[index], self.value[index])

    def places(self, index: slice) -> KeyValue:
        """The chosen positions."""
        return KeyValue(self.key[..., index, :], self.value[..., index, :])


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that heads cannot share evenly.

    Raises:
        ConfigError: naming both.
    """
    if width % heads:
        raise ConfigError(
            f"width = {width} cannot be shared among heads = {heads}; it must be a multiple of them."
        )


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017).

    No dropout on the attention weights: it would rule out the fused kernel, and residual dropout regularises as well.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def project(self, x_BTD: Tensor) -> KeyValue:
        """Keys and values of ``x_BTD``."""
        key, value = self.key_value(x_BTD).chunk(2, dim=-1)
        return KeyValue(self._split(key), self._split(value))

    def forward(
        self, x_BQD: Tensor, memory: KeyValue, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Attend from each of Q positions; ``mask`` broadcasts to (B, heads, Q, T), True = may be looked at."""
        out = F.scaled_dot_product_attention(
            self._split(self.query(x_BQD)),
            memory.key,
            memory.value,
            attn_mask=mask,
            is_causal=causal,
        )
        return self._join(out)

    def extend(self, x_BND: Tensor, earlier: KeyValue | None, own: KeyValue) -> Tensor:
        """N rivals for one place: each sees the T ``earlier`` positions and itself, not the other N - 1.

        The axes in front of N and T (requests, prefixes of a request) broadcast; ``None``: there is nothing earlier.
        """
        if earlier is None:
            return self._join(own.value)
        query = self._split(self.query(x_BND)) / math.sqrt(own.key.shape[-1])
        seen = query @ earlier.key.transpose(-1, -2)
        itself = (query * own.key).sum(-1, keepdim=True).expand(*seen.shape[:-1], 1)
        weight = torch.cat([seen, itself], -1).softmax(-1)
        return self._join(weight[..., :-1] @ earlier.value + weight[..., -1:] * own.value)

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def _join(self, out: Tensor) -> Tensor:
        return self.out(out.transpose(-3, -2).flatten(-2))


class FeedForward(nn.Sequential):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each on normalised input with a residual."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.forward_layer = FeedForward(width, hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        y = self.norm_attention(x_BTD)
        x_BTD = x_BTD + self.drop(self.attention(y, self.attention.project(y), mask, causal))
        return x_BTD + self.drop(self.forward_layer(self.norm_forward(x_BTD)))


class Encoder(nn.Module):
    """A stack of :class:`EncoderLayer` with a final norm; without positions it is permutation-equivariant."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width) if layers else nn.Identity()

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, T, D) to (B, T, D); positions that are False in ``mask_BT`` are looked at by nobody."""
        mask = None if mask_BT is None else mask_BT[:, None, None, :]
        for layer in self.layers:
            x_BTD = layer(x_BTD, mask, causal)
        return self.norm(x_BTD)


class DecoderLayer(nn.Module):
    """Causal self-attention over the list so far, cross-attention to the candidates (if it has any), feed-forward.

    The G lists of a request share the candidates' keys and values: in cross-attention the lists are folded into
    the query axis, in self-attention into the batch axis. Nothing is ever copied G times.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, cross: bool = True) -> None:
        super().__init__()
        self.norm_self, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.norm_cross = nn.LayerNorm(width) if cross else None
        self.cross_attention = Attention(width, heads) if cross else None
        self.forward_layer = FeedForward(width, hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def project(self, x_BND: Tensor) -> KeyValue | None:
        """The candidates' keys and values, which all lists and steps share; None without cross-attention."""
        return None if self.cross_attention is None else self.cross_attention.project(x_BND)

    def forward(
        self, x_BGTD: Tensor, candidates: KeyValue | None, mask_BN: Tensor, cache: KeyValue | None
    ) -> tuple[Tensor, KeyValue]:
        """T new positions of G lists a request; returns them and the cache with their keys and values.

        With a cache, T must be 1 (one cached step); without, the T positions attend causally to each other.
        """
        b, g, t, _ = x_BGTD.shape
        y = self.norm_self(x_BGTD).flatten(0, 1)
        own = self.self_attention.project(y)
        cache = own if cache is None else cache.append(own)
        attended = self.self_attention(y, cache, causal=t > 1)
        x_BGTD = x_BGTD + self.drop(attended.unflatten(0, (b, g)))
        if self.cross_attention is not None and self.norm_cross is not None and candidates is not None:
            y = self.norm_cross(x_BGTD).flatten(1, 2)
            attended = self.cross_attention(y, candidates, mask_BN[:, None, None, :])
            x_BGTD = x_BGTD + self.drop(attended.unflatten(1, (g, t)))
        return x_BGTD + self.drop(self.forward_layer(self.norm_forward(x_BGTD))), cache
