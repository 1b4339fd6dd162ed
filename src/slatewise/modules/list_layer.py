"""A layer over the positions of a list, for models that value lists.

Softmax attention averages what stands before; a user's tiredness of a category adds up. So beside attention the layer
offers an unnormalised pairwise sum, sum over s of ReLU(W1 x_s + W2 x_t + lag_{t-s}), of the kind that pointwise
aggregated attention keeps (HSTU, Zhai et al. 2024); which of the two is used is a setting of the model.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slatewise.modules.transformer import Attention, FeedForward, KeyValue

Interaction = Literal["attention", "pairwise", "both"]


class Pairwise(nn.Module):
    """Sum over the other positions of a small network of both items and their distance."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.other, self.own = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.lag = nn.Parameter(torch.randn(2 * length - 1, width) * 0.05)  # row length - 1 + (t - s)
        self.out = nn.Linear(width, width)

    def forward(self, y_RLD: Tensor, allowed: Tensor) -> Tensor:
        """Every position against every other that ``allowed`` (L, L), or (R, L, L), lets it see.

        Only pairs that somebody may see are computed: a causal list of 6 has 15 of them, not 36.
        """
        length, anybody = y_RLD.shape[1], allowed if allowed.dim() == 2 else allowed.any(0)
        apart = ~torch.eye(length, dtype=torch.bool, device=y_RLD.device)
        to_P, from_P = (anybody & apart).nonzero(as_tuple=True)
        pair_RPD = (
            self.own(y_RLD)[:, to_P]
            + self.other(y_RLD)[:, from_P]
            + self.lag[to_P - from_P + self.length - 1]
        )
        pair_RPD = F.relu(pair_RPD)
        if allowed.dim() == 3:
            pair_RPD = pair_RPD * allowed[:, to_P, from_P, None]
        summed = torch.zeros_like(y_RLD).index_add(1, to_P, pair_RPD)
        return self.out(summed)

    def extend(self, prefix_RTD: Tensor, y_RND: Tensor) -> Tensor:
        """Each of N items as the next position behind the same prefix."""
        t = prefix_RTD.shape[1]
        lag_TD = self.lag[self.length - 1 + t - torch.arange(t, device=y_RND.device)]
        earlier = self.other(prefix_RTD) + lag_TD
        return self.out(F.relu(self.own(y_RND)[:, :, None] + earlier[:, None]).sum(2))


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
