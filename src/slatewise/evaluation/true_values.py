"""Metrics of the true value of lists: value, share of the optimum, regret, and exact rank among all lists."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.evaluation.truth import Truth
from slatewise.types import Ranking

VALUES = ("true-value", "oracle-share", "regret")
TOPS = {"true-hr@0.1%": 0.001, "true-hr@1%": 0.01, "true-hr@10%": 0.1}
RANKS = ("true-rank", *TOPS, "regret-share")
NAMES = VALUES + RANKS
DEFAULT = ("true-value", "oracle-share", "regret", "regret-share", "true-hr@1%", "true-hr@0.1%")

Columns = dict[str, Tensor]


class TrueValues:
    """Grades lists by a known truth.

    ``true-value``: expected weighted feedback v. ``oracle-share``: v / v*, with v* the best list's.
    ``regret``: v* - v. For the first ``ranked`` requests (every list of a request is enumerated for them,
    tens of milliseconds each; NaN for the others): ``true-rank``: 1 + the number of better lists;
    ``true-hr@K%``: 1 where the list is in the top K % (HR@K% of DeGRe §5.1, exact); ``regret-share``: (v* -
    v) / (v* - mean of all lists), 0 = best, 1 = random.
    """

    def __init__(self, truth: Truth, split: str, ranked: int = 100) -> None:
        self._truth, self._split, self._left = truth, split, ranked

    def measure(self, batch: ListBatch, rankings: dict[str, Ranking]) -> dict[str, Columns]:
        """The metrics of every policy's ranking of the batch, each (B,) float64."""
        value_PB = {name: self._truth.of_ranking(batch, ranking) for name, ranking in rankings.items()}
        best_B = self._truth.optimum(batch, self._split).value_B.cpu()
        columns = {
            name: {"true-value": value_B, "oracle-share": value_B / best_B, "regret": _left(best_B, value_B)}
            for name, value_B in value_PB.items()
        }
        ranks = self._ranks(batch, value_PB, best_B)
        return {name: columns[name] | ranks[name] for name in rankings}

    def _ranks(self, batch: ListBatch, value_PB: dict[str, Tensor], best_B: Tensor) -> dict[str, Columns]:
        nothing_B = torch.full((batch.size,), torch.nan, dtype=torch.float64)
        columns = {name: {metric: nothing_B.clone() for metric in RANKS} for name in value_PB}
        first = min(self._left, batch.size)
        self._left -= first
        if not first:
            return columns
        value_MP = torch.stack(list(value_PB.values()), dim=1)[:first]
        head = batch.take(torch.arange(first, device=batch.request_B.device))
        standing = self._truth.standing(head, value_MP)
        spread_M = (best_B[:first] - standing.mean_B.cpu()).clamp(min=1e-12)
        for place, name in enumerate(value_PB):
            columns[name]["true-rank"][:first] = standing.rank_BM[:, place].double().cpu()
            columns[name]["regret-share"][:first] = _left(best_B[:first], value_MP[:, place]) / spread_M
            for metric, share in TOPS.items():
                columns[name][metric][:first] = standing.in_top(share)[:, place].cpu()
        return columns


def _left(best_B: Tensor, value_B: Tensor) -> Tensor:
    """What is missing to the optimum, with rounding of the last digits taken as none."""
    left_B = best_B - value_B
    return torch.where(left_B.abs() < 1e-9, torch.zeros_like(left_B), left_B)
