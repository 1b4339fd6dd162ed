"""Many beginnings of lists at once, each with the running state that the next position's response needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.simulators._response import Response


@dataclass(frozen=True)
class Prefixes:
    """M beginnings of length t; a row may belong to any request.

    Attributes:
        request_M: the request each belongs to.
        chosen_ML: the items so far (the last axis has length t).
        value_M: expected value so far.
        used_MN: True where a candidate is in the beginning.
        tired_MN: the decayed count of earlier items of the candidate's category.
        lifted_MN: True where an earlier item's category lifts the candidate's.
        price_M: sum of the log-prices so far.
    """

    request_M: Tensor
    chosen_ML: Tensor
    value_M: Tensor
    used_MN: Tensor
    tired_MN: Tensor
    lifted_MN: Tensor
    price_M: Tensor

    @property
    def length(self) -> int:
        """t."""
        return self.chosen_ML.shape[1]

    def rows(self, rows: Tensor | slice) -> Prefixes:
        """The chosen rows."""
        return Prefixes(**{name: table[rows] for name, table in vars(self).items()})


def empty(response: Response) -> Prefixes:
    """One empty beginning a request."""
    base = response.base_BN
    return Prefixes(
        request_M=torch.arange(response.size, device=base.device),
        chosen_ML=torch.zeros((response.size, 0), dtype=torch.long, device=base.device),
        value_M=base.new_zeros(response.size),
        used_MN=torch.zeros_like(base, dtype=torch.bool),
        tired_MN=torch.zeros_like(base),
        lifted_MN=torch.zeros_like(base, dtype=torch.bool),
        price_M=base.new_zeros(response.size),
    )


def next_gains(response: Response, prefixes: Prefixes) -> Tensor:
    """Expected value that each candidate would add at the next position, (M, N); used candidates too."""
    row, t = prefixes.request_M, prefixes.length
    logit = _rows(response.base_BN, row) + response.position * t
    logit = logit - _rows(response.fatigue_B, row)[:, None] * prefixes.tired_MN
    logit = logit + response.complement * prefixes.lifted_MN.to(logit.dtype)
    if t:
        against_MN = (prefixes.price_M / t)[:, None] - _rows(response.log_price_BN, row)
        logit = logit + _rows(response.contrast_B, row)[:, None] * torch.tanh(against_MN)
    return torch.sigmoid(logit) * _rows(response.weight_BN, row)


def extend(response: Response, parents: Prefixes, item_M: Tensor, value_M: Tensor) -> Prefixes:
    """Append one item to each beginning; ``value_M`` is the expected value with it."""
    row, category_BN = parents.request_M, response.category_BN
    same_MN = _rows(category_BN, row) == category_BN[row, item_M][:, None]
    return Prefixes(
        request_M=row,
        chosen_ML=torch.cat([parents.chosen_ML, item_M[:, None]], dim=1),
        value_M=value_M,
        used_MN=parents.used_MN.scatter(1, item_M[:, None], True),
        tired_MN=response.decay * parents.tired_MN + same_MN,
        lifted_MN=parents.lifted_MN | response.lift_BNN[row, item_M],
        price_M=parents.price_M + response.log_price_BN[row, item_M],
    )


def _rows(table: Tensor, row_M: Tensor) -> Tensor:
    """``table[row_M]``; a table of a single request is left to broadcast, for enumeration's speed."""
    return table if table.shape[0] == 1 else table[row_M]
