"""OneRanker's second step: task tokens and fake item tokens look at the user's past, then at each other.

Task tokens stand in causal order, from impression to value: a later task reads the earlier ones. Fake item tokens are
centres of the whole catalogue, so that a user's vector is made in sight of what there is to recommend (the paper's
coarse target awareness). Shapes, besides the legend in :mod:`slatewise.types`: R states of users (requests, or places
in a window), M tasks, J fake items, Q = M + J tokens, S tokens of the past.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slatewise.config import Above0, Chance, Count, Frozen, Positive
from slatewise.modules.transformer import Attention, FeedForward, KeyValue

FLAT = 1e-6  # below this length a vector has no direction


class TargetConfig(Frozen):
    """Step 2, and the switches of the paper's ablation tables.

    Attributes:
        layers: each is cross-attention, self-attention, feed-forward.
        fake_items: J; 0 is the paper's "w/o Target": no fake item tokens and no target channel.
        task_decoupling: False is "w/o MDA": one token serves all tasks.
        cross_first: False puts self-attention in front of cross-attention.
        heterogeneous_mask: False lets all tokens see all others.
    """

    layers: Positive = 2
    fake_items: Count = 32
    task_decoupling: bool = True
    cross_first: bool = True
    heterogeneous_mask: bool = True
    feedforward: Above0 = 2.0
    dropout: Chance = 0.1


def heterogeneous_mask(tasks: int, fakes: int) -> Tensor:
    """Who sees whom (Q, Q): a task the tasks up to itself and every fake item, a fake item every task and itself."""
    mask = torch.ones(tasks + fakes, tasks + fakes, dtype=torch.bool)
    mask[:tasks, :tasks] = torch.ones(tasks, tasks).tril().bool()
    mask[tasks:, tasks:] = torch.eye(fakes).bool()
    return mask


class TargetLayer(nn.Module):
    """Cross-attention to the past, self-attention among the tokens, feed-forward; pre-norm with residuals."""

    def __init__(self, config: TargetConfig, width: int, heads: int) -> None:
        super().__init__()
        self.cross_first = config.cross_first
        self.norm_cross, self.norm_self, self.norm_forward = (nn.LayerNorm(width) for _ in range(3))
        self.cross, self.own = Attention(width, heads), Attention(width, heads)
        self.forward_layer = FeedForward(width, int(config.feedforward * width), config.dropout)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x_RQD: Tensor, past: KeyValue, seen_RS: Tensor, mask_QQ: Tensor) -> Tensor:
        """(R, Q, D) to (R, Q, D); ``seen_RS`` is True where the past may be looked at."""
        steps = (self._cross, self._self) if self.cross_first else (self._self, self._cross)
        for step in steps:
            x_RQD = x_RQD + self.drop(step(x_RQD, past, seen_RS, mask_QQ))
        return x_RQD + self.drop(self.forward_layer(self.norm_forward(x_RQD)))

    def _cross(self, x_RQD: Tensor, past: KeyValue, seen_RS: Tensor, mask_QQ: Tensor) -> Tensor:
        attended: Tensor = self.cross(self.norm_cross(x_RQD), past, seen_RS[:, None, None])
        return attended

    def _self(self, x_RQD: Tensor, past: KeyValue, seen_RS: Tensor, mask_QQ: Tensor) -> Tensor:
        y = self.norm_self(x_RQD)
        attended: Tensor = self.own(y, self.own.project(y), mask_QQ)
        return attended


class TargetAware(nn.Module):
    """Task tokens and fake items to one vector a task whose inner product with an item's vector is the task's score.

    Attributes:
        centre_JD: the fake items, centres of the catalogue's vectors; set by :meth:`use_centres`, not learnt.
        weight_J: how many items each stands for, which is what new ones are weighed against.
    """

    centre_JD: Tensor
    weight_J: Tensor
    mask_QQ: Tensor

    def __init__(self, config: TargetConfig, tasks: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens = tasks if config.task_decoupling else 1
        self.task = nn.Parameter(torch.randn(self.tokens, width) * 0.05)
        self.state_map = nn.Linear(width, width)
        self.fake_map = nn.Linear(width, width)
        self.layers = nn.ModuleList(TargetLayer(config, width, heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.semantic = nn.ModuleList(nn.Linear(width, width) for _ in range(tasks))
        self.preference = (
            nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 1))
            if config.fake_items
            else None
        )
        j = config.fake_items
        mask = (
            heterogeneous_mask(self.tokens, j)
            if config.heterogeneous_mask
            else torch.ones(self.tokens + j, self.tokens + j, dtype=torch.bool)
        )
        self.register_buffer("mask_QQ", mask, persistent=False)
        self.register_buffer("centre_JD", torch.zeros(j, width))
        self.register_buffer("weight_J", torch.zeros(j, dtype=torch.long))

    def use_centres(self, centre_JD: Tensor, weight_J: Tensor) -> None:
        """Take other centres for the fake items."""
        self.centre_JD.copy_(centre_JD)
        self.weight_J.copy_(weight_J)

    def forward(self, state_RD: Tensor, past: list[KeyValue], seen_RS: Tensor) -> tuple[Tensor, Tensor]:
        """States to the tokens after the last layer (R, Q, D) and a vector for each task (R, M, D + J).

        Args:
            state_RD: what the backbone says of the user at this moment; every task token starts from it.
            past: keys and values of the past for each layer (:meth:`project`).   seen_RS: what of it may be seen.
        """
        task_RMD = self.state_map(state_RD)[:, None] + self.task
        fake_RJD = self.fake_map(self.centre_JD).expand(state_RD.shape[0], -1, -1)
        x_RQD = torch.cat([task_RMD, fake_RJD], 1)
        for layer, keys in zip(self.layers, past, strict=True):
            x_RQD = layer(x_RQD, keys, seen_RS, self.mask_QQ)
        x_RQD = self.norm(x_RQD)
        return x_RQD, self._vectors(x_RQD)

    def project(self, past_BSD: Tensor) -> list[KeyValue]:
        """Keys and values of the past, for each layer."""
        return [layer.cross.project(past_BSD) for layer in self.layers]  # type: ignore[operator, union-attr]

    def _vectors(self, x_RQD: Tensor) -> Tensor:
        """Semantic and target channel side by side (R, M, D + J)."""
        task_RMD, fake_RJD = x_RQD[:, : self.tokens], x_RQD[:, self.tokens :]
        heads = [head(task_RMD[:, min(i, self.tokens - 1)]) for i, head in enumerate(self.semantic)]
        semantic_RMD = torch.stack(heads, 1)
        if self.preference is None:
            return semantic_RMD
        r, m, j = x_RQD.shape[0], semantic_RMD.shape[1], fake_RJD.shape[1]
        token_RMD = task_RMD if self.tokens == m else task_RMD.expand(-1, m, -1)
        both = torch.cat(
            [token_RMD[:, :, None].expand(-1, -1, j, -1), fake_RJD[:, None].expand(-1, m, -1, -1)], -1
        )
        target_RMJ = self.preference(both).view(r, m, j)
        return torch.cat([semantic_RMD, target_RMJ], 2)

    def item_vectors(self, item_ND: Tensor) -> Tensor:
        """The items' side (…, D + J): the vector, and its cosine with each centre."""
        if self.preference is None:
            return item_ND
        return torch.cat([item_ND, cosine(item_ND, self.centre_JD)], -1)


def cosine(item_ND: Tensor, centre_JD: Tensor) -> Tensor:
    """Cosine (…, J) of each item with each centre; 0 for a vector of no length."""
    return F.normalize(item_ND, dim=-1, eps=FLAT) @ F.normalize(centre_JD, dim=-1, eps=FLAT).T
