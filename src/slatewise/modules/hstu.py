"""HSTU layers (Zhai et al. 2024, "Actions Speak Louder than Words", §3.2): attention without a softmax, for long histories.

    U, V, Q, K = split(SiLU(LayerNorm(X) W))        A = SiLU(Q K' + bias) / n, where a token may look
    X + dropout(U * LayerNorm(A V)) W_o

There is no feed-forward layer, and the norms inside have no weights. The bias of a pair of tokens is the sum of one number for how far apart they
stand and one for the logarithm of the time between them, for each layer, the same for all heads.

In the published code n is the padded length, so a longer neighbour in the batch changes an answer. Here it is the
config's ``length``, and a token counts only those that it may look at: what is hidden from it, such as padding or
another interaction of its own moment, changes nothing, wherever it stands.

Shapes, besides the legend in :mod:`slatewise.types`: T tokens, Q tokens that look, T those that they may look at.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slatewise.config import Chance, Frozen, Positive
from slatewise.modules.transformer import KeyValue, check_heads

# SiLU of this is exactly 0, and so is its slope: what multiplying by a 0/1 mask would give, in one pass less
HIDDEN = -3e4
BUCKETS_A_DOUBLING = 2
# scores of more pairs of tokens than this do not stay in a processor's cache: such batches are read in blocks of tokens
PAIRS, BLOCK = 2**18, 128


class HstuConfig(Frozen):
    """Settings of an HSTU stack.

    ``length``: the longest sequence to be expected, in tokens. It is the fixed n that attention is divided by, and
    tokens that lie farther apart share one position bias. ``time_buckets``: half a doubling of seconds each; 64 reach
    from one second to more than a hundred years.
    """

    width: Positive = 128
    layers: Positive = 4
    heads: Positive = 4
    dropout: Chance = 0.1
    length: Positive = 512
    time_buckets: Positive = 64


class Read(NamedTuple):
    """What later tokens need of T tokens that were read.

    Attributes:
        mask_BT, time_BT: as they were given.
        layers: keys and values of each layer.
    """

    mask_BT: Tensor
    time_BT: Tensor
    layers: tuple[KeyValue, ...]


class RelativeBias(nn.Module):
    """One number for each layer and each pair of tokens: of how many of what a token may look at lie between, plus of the time."""

    def __init__(self, layers: int, length: int, time_buckets: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(layers, length) * 0.02)
        self.time = nn.Parameter(torch.randn(layers, 1 + time_buckets) * 0.02)  # 0: unknown

    def forward(
        self, mask_BT: Tensor, time_BT: Tensor, new: int, visible_BQT: Tensor | None = None
    ) -> Tensor:
        """(layers, B, 1, Q, T) for the last ``new`` tokens as those that look; ``HIDDEN`` where one may not."""
        layers, length = self.position.shape
        if visible_BQT is None:
            place_BT = mask_BT.cumsum(1, dtype=torch.int32)
            lag_BQT = place_BT[:, -new:, None] - place_BT[:, None]
            tokens = torch.arange(mask_BT.shape[1], device=mask_BT.device)
            visible_BQT = (tokens[-new:, None] >= tokens) & mask_BT[:, None]
        else:
            place_BQT = visible_BQT.cumsum(2, dtype=torch.int32)
            lag_BQT = place_BQT[:, :, -1:] - place_BQT
        lag_BQT = lag_BQT.clamp_(0, length - 1)
        # one look-up in the table of all pairs of buckets is cheaper than two that add up
        both_lP = (self.position[:, :, None] + self.time[:, None]).flatten(1)
        index_BQT = lag_BQT.mul_(self.time.shape[1]).add_(self._time_bucket(time_BT, new))
        bias_lBQT = both_lP.index_select(1, index_BQT.flatten().long()).view(layers, *index_BQT.shape)
        return bias_lBQT.masked_fill(~visible_BQT, HIDDEN)[:, :, None]

    def _time_bucket(self, time_BT: Tensor, new: int) -> Tensor:
        """0 where a time is unknown (0), 1 for a second or less, then one more every half doubling."""
        known_BT = time_BT > 0
        # seconds before the last fit into 32 bits, which halves the work on all pairs
        since_BT = (time_BT - time_BT.amax(1, keepdim=True)).clamp_(min=-(2**31) + 1).int()
        gap_BQT = (since_BT[:, -new:, None] - since_BT[:, None]).abs_().clamp_(min=1)
        bucket_BQT = gap_BQT.float().log2_().mul_(BUCKETS_A_DOUBLING).int().add_(1)
        known_BQT = known_BT[:, -new:, None] & known_BT[:, None]
        return bucket_BQT.clamp_(max=self.time.shape[1] - 1).mul_(known_BQT)


class HstuLayer(nn.Module):
    """Pointwise attention, gated, with a residual."""

    def __init__(self, width: int, heads: int, dropout: float, length: int) -> None:
        super().__init__()
        self.width, self.heads, self.length = width, heads, length
        self.project = nn.Linear(width, 4 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x_BQD: Tensor, bias_B1QT: Tensor, earlier: KeyValue | None = None
    ) -> tuple[Tensor, KeyValue]:
        """Q tokens, looking at the ``earlier`` ones and at themselves as far as the bias lets them; returns them and
        all keys and values."""
        normed_BQD = F.layer_norm(x_BQD, (self.width,))
        gate_BQD, *parts = F.silu(self.project(normed_BQD)).chunk(4, dim=-1)
        value, query, key = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = KeyValue(key, value) if earlier is None else earlier.append(KeyValue(key, value))
        score_BhQT = (query @ seen.key.transpose(-1, -2)).add_(bias_B1QT)
        # the largest tensor there is: a copy less is a sixth of the time for a thousand tokens
        weight_BhQT = F.silu(score_BhQT, inplace=not score_BhQT.requires_grad)
        mixed_BQD = (weight_BhQT @ seen.value).transpose(1, 2).flatten(2) / self.length
        return x_BQD + self.out(self.drop(gate_BQD * F.layer_norm(mixed_BQD, (self.width,)))), seen


class Hstu(nn.Module):
    """A stack of layers with a final norm; each token sees the real ones up to itself."""

    def __init__(self, config: HstuConfig) -> None:
        super().__init__()
        check_heads(config.width, config.heads)
        self.bias = RelativeBias(config.layers, config.length, config.time_buckets)
        self.layers = nn.ModuleList(
            HstuLayer(config.width, config.heads, config.dropout, config.length) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self, x_BTD: Tensor, mask_BT: Tensor, time_BT: Tensor, visible_BTT: Tensor | None = None
    ) -> Tensor:
        """(B, T, D) to (B, T, D), which means nothing where the mask is False.

        Args:
            mask_BT: True for real tokens; padding may stand anywhere.
            time_BT: seconds (int64), 0 where unknown.
            visible_BTT: [b, q, k] True where token q may look at token k, which may not lie behind it; by default each
                sees the real ones up to itself.
        """
        rows, tokens, _ = x_BTD.shape
        whole = torch.is_grad_enabled() or torch.compiler.is_exporting()
        if whole or rows * tokens**2 <= PAIRS:
            return self.read(x_BTD, mask_BT, time_BT, visible_BQT=visible_BTT)[0]
        parts, earlier = [], None
        for start in range(0, tokens, BLOCK):
            now = slice(start, start + BLOCK)
            visible_BQT = None if visible_BTT is None else visible_BTT[:, now, : now.stop]
            part_BQD, earlier = self.read(
                x_BTD[:, now], mask_BT[:, now], time_BT[:, now], earlier, visible_BQT
            )
            parts.append(part_BQD)
        return torch.cat(parts, 1)

    def read(
        self,
        x_BQD: Tensor,
        mask_BQ: Tensor,
        time_BQ: Tensor,
        earlier: Read | None = None,
        visible_BQT: Tensor | None = None,
    ) -> tuple[Tensor, Read]:
        """The same, behind tokens that were read before; reading in parts gives what reading at once does.

        ``visible_BQT`` has a column for each earlier token, and then one for each new one.

        Returns:
            The new tokens' outputs (B, Q, D), and what still later ones need.
        """
        if earlier is not None:
            mask_BT = torch.cat([earlier.mask_BT, mask_BQ], 1)
            time_BT = torch.cat([earlier.time_BT, time_BQ], 1)
        else:
            mask_BT, time_BT = mask_BQ, time_BQ
        bias_lB1QT, kept = self.bias(mask_BT, time_BT, x_BQD.shape[1], visible_BQT), []
        for place, layer in enumerate(self.layers):
            x_BQD, seen = layer(x_BQD, bias_lB1QT[place], earlier and earlier.layers[place])
            kept.append(seen)
        return self.norm(x_BQD), Read(mask_BT, time_BT, tuple(kept))
