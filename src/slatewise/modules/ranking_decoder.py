"""OneRanker's third step: a ranking token and the candidates over the keys and values of the two steps before.

Candidates do not see each other unless asked to, so an item's score depends on the user and itself alone. Shapes,
besides the legend in :mod:`slatewise.types`: R states of users, S tokens of the past, Q tokens of step 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slatewise.config import Above0, Chance, Frozen, Positive
from slatewise.modules.transformer import Attention, FeedForward, KeyValue


class RankingConfig(Frozen):
    """Step 3.

    Attributes:
        layers: each is cross-attention, self-attention, feed-forward.
        pass_through: keys and values are those of the past *and* of step 2's tokens; False: of the past alone.
        candidate_visible: candidates see each other (ours; the paper's do not).
    """

    layers: Positive = 1
    pass_through: bool = True
    candidate_visible: bool = False
    feedforward: Above0 = 2.0
    dropout: Chance = 0.1


class RankingLayer(nn.Module):
    """Cross-attention first, then the ranking token and the candidates among themselves, feed-forward."""

    def __init__(self, config: RankingConfig, width: int, heads: int) -> None:
        super().__init__()
        self.candidate_visible = config.candidate_visible
        self.norm_cross, self.norm_self, self.norm_forward = (nn.LayerNorm(width) for _ in range(3))
        self.cross, self.own = Attention(width, heads), Attention(width, heads)
        self.forward_layer = FeedForward(width, int(config.feedforward * width), config.dropout)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x_RND: Tensor, known: KeyValue, seen_RS: Tensor, mask_RN: Tensor) -> Tensor:
        """(R, 1 + N, D), the ranking token in front, to the same."""
        x_RND = x_RND + self.drop(self.cross(self.norm_cross(x_RND), known, seen_RS[:, None, None]))
        y = self.norm_self(x_RND)
        x_RND = x_RND + self.drop(self._among(y, mask_RN))
        return x_RND + self.drop(self.forward_layer(self.norm_forward(x_RND)))

    def _among(self, y_RND: Tensor, mask_RN: Tensor) -> Tensor:
        keys = self.own.project(y_RND)
        real_RN = torch.cat([torch.ones_like(mask_RN[:, :1]), mask_RN], 1)
        if self.candidate_visible:
            attended: Tensor = self.own(y_RND, keys, real_RN[:, None, None])
            return attended
        # a candidate sees the ranking token and itself, without an N x N mask; the token sees only itself, so that
        # no candidate reaches another through it
        token, rivals = keys.places(slice(0, 1)), keys.places(slice(1, None))
        alone_R1D = self.own(y_RND[:, :1], token)
        return torch.cat([alone_R1D, self.own.extend(y_RND[:, 1:], token, rivals)], 1)


class RankingDecoder(nn.Module):
    """Scores of given candidates."""

    def __init__(self, config: RankingConfig, width: int, heads: int) -> None:
        super().__init__()
        self.pass_through = config.pass_through
        self.token = nn.Parameter(torch.randn(width) * 0.05)
        self.state_map, self.item_map = nn.Linear(width, width), nn.Linear(width, width)
        self.source = nn.Embedding(2, width)  # of the past, of step 2
        nn.init.normal_(self.source.weight, std=0.05)
        self.layers = nn.ModuleList(RankingLayer(config, width, heads) for _ in range(config.layers))
        self.score = nn.Sequential(
            nn.LayerNorm(3 * width), nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, 1)
        )

    def project(self, past_BSD: Tensor) -> list[KeyValue]:
        """Keys and values of the past, for each layer."""
        marked_BSD = past_BSD + self.source.weight[0]
        return [layer.cross.project(marked_BSD) for layer in self.layers]  # type: ignore[operator, union-attr]

    def forward(
        self,
        state_RD: Tensor,
        item_RND: Tensor,
        mask_RN: Tensor,
        past: list[KeyValue],
        seen_RS: Tensor,
        refined_RQD: Tensor | None,
    ) -> Tensor:
        """Scores (R, N).

        Args:
            state_RD: the backbone's state at this moment, from which the ranking token starts.
            item_RND: the candidates' vectors.   mask_RN: True where a candidate is real.
            past: keys and values of the past for each layer.   seen_RS: what of it may be seen.
            refined_RQD: step 2's tokens; None where there is no step 2.
        """
        token_R1D = (self.token + self.state_map(state_RD))[:, None]
        x_RND = torch.cat([token_R1D, self.item_map(item_RND)], 1)
        if refined_RQD is not None and self.pass_through:
            refined_RQD = refined_RQD + self.source.weight[1]
            seen_RS = torch.cat([seen_RS, seen_RS.new_ones(refined_RQD.shape[:2])], 1)
        for layer, keys in zip(self.layers, past, strict=True):
            if refined_RQD is not None and self.pass_through:
                keys = keys.append(layer.cross.project(refined_RQD))  # type: ignore[operator, union-attr]
            x_RND = layer(x_RND, keys, seen_RS, mask_RN)
        token_RND, item_RND = x_RND[:, :1].expand_as(x_RND[:, 1:]), x_RND[:, 1:]
        # the product is what a match is made of; a small network is slow to learn it from the two [ours]
        score_RN: Tensor = self.score(torch.cat([item_RND, token_RND, item_RND * token_RND], -1)).squeeze(-1)
        return score_RN
