"""A layer over the positions of a list, for models that value lists.

Softmax attention averages what stands before; a user's tiredness of a category adds up. So beside attention the layer
offers an unnormalised pairwise sum, (sum over s of gain_{t-s} * W1 x_s) * W2 x_t: a factorisation machine over the
list whose terms fade with distance. Summing before multiplying makes all pairs cost no more than one layer's
projections. Which of the two is used is a setting of the model.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from slatewise.modules.transformer import Attention, FeedForward, KeyValue

Interaction = Literal["attention", "pairwise", "both"]


class Earlier(NamedTuple):
    """What a layer's later positions need of T earlier ones, and all that they need.

    Attributes:
        attended: attention's keys and values, each (..., heads, T, D / heads); None without attention, and at T = 0.
        summed: the items as the pairwise sum adds them up (..., T, D); None without it, and at T = 0.
    """

    attended: KeyValue | None
    summed: Tensor | None

    def of(self, parent_BK: Tensor) -> Earlier:
        """The same of the chosen prefixes of each request; the first axes are (B, prefixes)."""
        row_B1 = torch.arange(parent_BK.shape[0], device=parent_BK.device)[:, None]
        pick = (row_B1, parent_BK)
        kept = self.attended and KeyValue(self.attended.key[pick], self.attended.value[pick])
        return Earlier(kept, None if self.summed is None else self.summed[pick])

    def append(self, later: Earlier) -> Earlier:
        """With the next position behind the earlier ones."""
        attended, summed = later.attended, later.summed
        if self.attended is not None and attended is not None:
            attended = self.attended.append(attended)
        if self.summed is not None and summed is not None:
            summed = torch.cat([self.summed, summed], -2)
        return Earlier(attended, summed)


class Rivals(NamedTuple):
    """What an extension computed of its N rival items: normalised inputs (B, K or 1, N, D), attention's keys and values."""

    y_BKND: Tensor
    attended: KeyValue | None


class Pairwise(nn.Module):
    """Sum over the other positions of a gated product of both items, weighted by their distance."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.other, self.own, self.out = (nn.Linear(width, width) for _ in range(3))
        self.gain = nn.Parameter(0.5 + 0.3 * torch.randn(2 * length - 1, width))  # row length - 1 + (t - s)

    def forward(self, y_RLD: Tensor, other_RLD: Tensor, allowed: Tensor) -> Tensor:
        """Every position against every other that ``allowed`` (L, L), or (R, L, L), lets it see."""
        place = torch.arange(y_RLD.shape[1], device=y_RLD.device)
        lag_TS = place[:, None] - place
        gain_TSD = self.gain[lag_TS + self.length - 1] * (lag_TS != 0)[..., None]
        if allowed.dim() == 2:
            gain_TSD = gain_TSD * allowed[..., None]
        seen_RLD = torch.zeros_like(y_RLD)
        for s in range(y_RLD.shape[1]):  # a few fused passes; as one einsum it is D tiny matrix products
            other_RTD = other_RLD[:, s : s + 1]
            if allowed.dim() == 3:
                other_RTD = other_RTD * allowed[:, :, s, None]
            seen_RLD = torch.addcmul(seen_RLD, gain_TSD[:, s], other_RTD)
        return self.out(seen_RLD * self.own(y_RLD))

    def extend(self, other_BKTD: Tensor | None, y_BKND: Tensor) -> Tensor:
        """Each of N items as the next position behind T others; ``None``: behind nothing."""
        if other_BKTD is None:
            return self.out(torch.zeros_like(y_BKND))
        t = other_BKTD.shape[-2]
        gain_TD = self.gain[self.length - 1 + t - torch.arange(t, device=y_BKND.device)]
        seen_BK1D = (other_BKTD * gain_TD).sum(-2, keepdim=True)
        return self.out(seen_BK1D * self.own(y_BKND))


class ListLayer(nn.Module):
    """Mixing over positions, then feed-forward, each with a residual on normalised input."""

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, length: int, interaction: Interaction
    ) -> None:
        super().__init__()
        self.norm_mix, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads) if interaction != "pairwise" else None
        self.pairwise = Pairwise(width, length) if interaction != "attention" else None
        self.forward_layer = FeedForward(width, hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_RLD: Tensor, allowed: Tensor) -> tuple[Tensor, Earlier]:
        """Rows of lists; ``allowed`` is (L, L) or (R, L, L), True = position t may see s. Also returns what
        :meth:`extend` needs of them."""
        y_RLD = self.norm_mix(x_RLD)
        earlier, mixed_RLD = self.earlier(y_RLD), torch.zeros_like(x_RLD)
        if self.attention is not None and earlier.attended is not None:
            mask = allowed[None, None] if allowed.dim() == 2 else allowed[:, None]
            mixed_RLD = mixed_RLD + self.attention(y_RLD, earlier.attended, mask)
        if self.pairwise is not None and earlier.summed is not None:
            mixed_RLD = mixed_RLD + self.pairwise(y_RLD, earlier.summed, allowed)
        return self._rest(x_RLD, mixed_RLD), earlier

    def extend(self, earlier: Earlier, x_BKND: Tensor) -> tuple[Tensor, Rivals]:
        """N rival items for the next position of K prefixes; ``x_BKND`` may have K = 1 for what all prefixes share."""
        y_BKND = self.norm_mix(x_BKND)
        attended, mixed_BKND = None, torch.zeros_like(x_BKND)
        if self.attention is not None:
            attended = self.attention.project(y_BKND)
            mixed_BKND = mixed_BKND + self.attention.extend(y_BKND, earlier.attended, attended)
        if self.pairwise is not None:
            mixed_BKND = mixed_BKND + self.pairwise.extend(earlier.summed, y_BKND)
        return self._rest(x_BKND, mixed_BKND), Rivals(y_BKND, attended)

    def earlier(self, y: Tensor) -> Earlier:
        """What later positions need of positions whose normalised inputs are ``y`` (..., T, D)."""
        return Earlier(
            None if self.attention is None else self.attention.project(y),
            None if self.pairwise is None else self.pairwise.other(y),
        )

    def chosen(self, rivals: Rivals, parent_BK: Tensor, item_BK: Tensor) -> Earlier:
        """The same of the rivals that were chosen, one behind each prefix that goes on (T = 1): keys and values are
        those that the extension has computed, the pairwise sum's projection is needed from here on."""
        row_B1 = torch.arange(item_BK.shape[0], device=item_BK.device)[:, None]
        shared_BK = parent_BK.clamp_max(
            rivals.y_BKND.shape[1] - 1
        )  # one row for all prefixes, or one for each
        attended = rivals.attended and KeyValue(
            rivals.attended.key[row_B1, shared_BK, :, item_BK].unsqueeze(-2),
            rivals.attended.value[row_B1, shared_BK, :, item_BK].unsqueeze(-2),
        )
        if self.pairwise is None:
            return Earlier(attended, None)
        return Earlier(attended, self.pairwise.other(rivals.y_BKND[row_B1, shared_BK, item_BK]).unsqueeze(-2))

    def _rest(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.drop(mixed)
        return x + self.drop(self.forward_layer(self.norm_forward(x)))
