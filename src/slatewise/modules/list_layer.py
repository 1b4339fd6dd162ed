"""A layer over the positions of a list, for models that value lists.

Softmax attention averages what stands before; a user's tiredness of a category adds up. So beside attention the layer
offers an unnormalised pairwise sum, (sum over s of gain_{t-s} * W1 x_s) * W2 x_t: a factorisation machine over the
list whose terms fade with distance. Summing before multiplying makes all pairs cost no more than one layer's
projections. Which of the two is used is a setting of the model.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from slatewise.modules.transformer import Attention, FeedForward, KeyValue

Interaction = Literal["attention", "pairwise", "both"]


class Pairwise(nn.Module):
    """Sum over the other positions of a gated product of both items, weighted by their distance."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.other, self.own, self.out = (nn.Linear(width, width) for _ in range(3))
        self.gain = nn.Parameter(0.5 + 0.3 * torch.randn(2 * length - 1, width))  # row length - 1 + (t - s)

    def forward(self, y_RLD: Tensor, allowed: Tensor) -> Tensor:
        """Every position against every other that ``allowed`` (L, L), or (R, L, L), lets it see."""
        place = torch.arange(y_RLD.shape[1], device=y_RLD.device)
        lag_TS = place[:, None] - place
        gain_TSD = self.gain[lag_TS + self.length - 1] * (lag_TS != 0)[..., None]
        if allowed.dim() == 2:
            gain_TSD = gain_TSD * allowed[..., None]
        other_RLD, seen_RLD = self.other(y_RLD), torch.zeros_like(y_RLD)
        for s in range(y_RLD.shape[1]):  # a few fused passes; as one einsum it is D tiny matrix products
            other_RTD = other_RLD[:, s : s + 1]
            if allowed.dim() == 3:
                other_RTD = other_RTD * allowed[:, :, s, None]
            seen_RLD = torch.addcmul(seen_RLD, gain_TSD[:, s], other_RTD)
        return self.out(seen_RLD * self.own(y_RLD))

    def extend(self, prefix_RTD: Tensor, y_RND: Tensor) -> Tensor:
        """Each of N items as the next position behind the same prefix."""
        t = prefix_RTD.shape[1]
        gain_TD = self.gain[self.length - 1 + t - torch.arange(t, device=y_RND.device)]
        seen_RD = (self.other(prefix_RTD) * gain_TD).sum(1)
        return self.out(seen_RD[:, None] * self.own(y_RND))


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

    def forward(self, x_RLD: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of lists; ``allowed`` is (L, L) or (R, L, L), True = position t may see s. Also returns what
        :meth:`extend` needs of the prefix."""
        y = self.norm_mix(x_RLD)
        mixed = torch.zeros_like(x_RLD)
        if self.attention is not None:
            mask = allowed[None, None] if allowed.dim() == 2 else allowed[:, None]
            mixed = mixed + self.attention(y, self.attention.project(y), mask)
        if self.pairwise is not None:
            mixed = mixed + self.pairwise(y, allowed)
        x_RLD = x_RLD + self.drop(mixed)
        return x_RLD + self.drop(self.forward_layer(self.norm_forward(x_RLD))), y

    def extend(self, prefix_RTD: Tensor, x_RND: Tensor) -> Tensor:
        """N items, each as the next position behind a prefix whose normalised inputs are ``prefix_RTD``."""
        y = self.norm_mix(x_RND)
        mixed = torch.zeros_like(x_RND)
        if self.attention is not None:
            mixed = mixed + self._attend_next(prefix_RTD, y)
        if self.pairwise is not None:
            mixed = mixed + self.pairwise.extend(prefix_RTD, y)
        x_RND = x_RND + mixed
        return x_RND + self.forward_layer(self.norm_forward(x_RND))

    def _attend_next(self, prefix_RTD: Tensor, y_RND: Tensor) -> Tensor:
        """Each item sees the prefix and itself, not the other items."""
        assert self.attention is not None
        t, n = prefix_RTD.shape[1], y_RND.shape[1]
        earlier, own = self.attention.project(prefix_RTD), self.attention.project(y_RND)
        memory = KeyValue(torch.cat([earlier.key, own.key], 2), torch.cat([earlier.value, own.value], 2))
        mask = torch.cat([torch.ones(n, t), torch.eye(n)], 1).bool().to(y_RND.device)
        return self.attention(y_RND, memory, mask)
