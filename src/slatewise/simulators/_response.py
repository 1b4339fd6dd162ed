"""How a user answers a list: the closed form of a whole list, and the same model one position at a time.

The two are written independently (pairs of positions here, running state in ``_prefix``) and tested against
each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Response:
    """The response model of B requests, as tables over the candidate axis (float64).

    With t = 0 … L-1 and item j at t, the logit of a click is

        base_j + position·t − fatigue·Σ_{s<t, same category} decay^(t-s-1)
               + complement·[some earlier item's category lifts j's]
               + contrast·tanh(mean log-price of earlier items − own)

    where the last term is 0 at t = 0. Clicks are independent given the list; a click is worth ``weight_j``.

    Attributes:
        base_BN: logit of a click at t = 0.   weight_BN: worth of a click on the item, >= 0.
        category_BN, log_price_BN: of each candidate.
        lift_BNN: True at [b, i, j] where candidate i, shown earlier, lifts candidate j.
        position, decay, complement: as above.   fatigue_B, contrast_B: strengths for each request's user.
    """

    base_BN: Tensor
    weight_BN: Tensor
    category_BN: Tensor
    log_price_BN: Tensor
    lift_BNN: Tensor
    fatigue_B: Tensor
    contrast_B: Tensor
    position: float
    decay: float
    complement: float

    @property
    def size(self) -> int:
        """B."""
        return self.base_BN.shape[0]

    @property
    def num_candidates(self) -> int:
        """N."""
        return self.base_BN.shape[1]

    def rows(self, rows: slice | Tensor) -> Response:
        """The chosen requests."""
        cut = {name: table[rows] for name, table in vars(self).items() if isinstance(table, Tensor)}
        return Response(**cut, position=self.position, decay=self.decay, complement=self.complement)

    def keep(self, kept: Tensor) -> Response:
        """The same requests with the chosen candidates alone (indices into the candidate axis)."""
        names = ("base_BN", "weight_BN", "category_BN", "log_price_BN")
        tables = {name: getattr(self, name)[:, kept] for name in names}
        return replace(self, **tables, lift_BNN=self.lift_BNN[:, kept[:, None], kept])

    def click_probs(self, lists_BGL: Tensor) -> Tensor:
        """Probability of a click at every position of every list, (B, G, L)."""
        length = lists_BGL.shape[2]
        base, price, category = (
            _pick(table, lists_BGL) for table in (self.base_BN, self.log_price_BN, self.category_BN)
        )
        ago_LL = (torch.arange(length)[None, :] - torch.arange(length)[:, None] - 1).to(base.device)
        earlier_LL = ago_LL >= 0
        decay_LL = torch.where(earlier_LL, torch.pow(self.decay, ago_LL.clamp(min=0).to(base.dtype)), 0.0)
        same_BGLL = category[..., :, None] == category[..., None, :]
        tired_BGL = (same_BGLL * decay_LL).sum(dim=2)
        lifted_BGL = (self._lift(lists_BGL) & earlier_LL).any(dim=2)
        before_BGL = (price.cumsum(dim=2) - price) / torch.arange(length, device=base.device).clamp(min=1)
        contrast_BGL = torch.tanh(before_BGL - price)
        contrast_BGL[..., 0] = 0.0
        place_L = self.position * torch.arange(length, dtype=base.dtype, device=base.device)
        logit_BGL = (
            base
            + place_L
            - self.fatigue_B[:, None, None] * tired_BGL
            + self.complement * lifted_BGL.to(base.dtype)  # a bool would make it float32
            + self.contrast_B[:, None, None] * contrast_BGL
        )
        return torch.sigmoid(logit_BGL)

    def _lift(self, lists_BGL: Tensor) -> Tensor:
        """[b, g, s, t]: the item at s lifts the item at t."""
        row = torch.arange(self.size, device=lists_BGL.device)[:, None, None, None]
        return self.lift_BNN[row, lists_BGL[..., :, None], lists_BGL[..., None, :]]

    def worth(self, lists_BGL: Tensor) -> Tensor:
        """What a click is worth at every position, (B, G, L)."""
        return _pick(self.weight_BN, lists_BGL)

    def values(self, lists_BGL: Tensor) -> Tensor:
        """Expected value of every list, (B, G)."""
        return (self.click_probs(lists_BGL) * self.worth(lists_BGL)).sum(dim=2)


def _pick(table_BN: Tensor, lists_BGL: Tensor) -> Tensor:
    return table_BN.gather(1, lists_BGL.flatten(1)).view(lists_BGL.shape)
