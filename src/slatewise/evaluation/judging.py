"""Grading rankings by a judge: HR@K% (DeGRe §5.1.3, Eq. 14) with its ties, and the exact rank and regret of a sample.

A metric of the judge J is written ``hr@1%[J]``. ``hr@K%``: 1 where fewer than K % of the lists compared with are
worth more than the list; a tie counts in its favour. ``ties``: the share of them that are worth the same. Compared
with are 10,000 random lists, or, under a judge for whom order is nothing, every set of L candidates, which is exact.
``rank``: 1 + the number of better lists among all P(N, L). ``regret``: what the list falls short of the best one, in
units of feedback; ``regret-share``: the same over what the mean list falls short, 0 = best, 1 = random. The last
three are found for all requests under an order-free judge, else for the first ``exact`` (NaN for the others).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.evaluation.judge_training import JudgeConfig
from slatewise.evaluation.judges import Judge
from slatewise.evaluation.judges._shared import LIMIT, SharedLists, all_lists, all_sets, random_lists
from slatewise.types import Ranking, full_order_scores

TOPS = {"hr@0.1%": 0.001, "hr@1%": 0.01, "hr@3%": 0.03, "hr@10%": 0.1}
EXACT = ("rank", "regret", "regret-share")
QUANTITIES = (*TOPS, "ties", *EXACT)
TIE = 1e-5  # values closer than this are one value, computed along other ways in float32

Columns = dict[str, Tensor]


@dataclass
class Bench:
    """A judge at work on a table.

    Attributes:
        name: how metrics call it.   judge: who grades.   length: L.
        config: how many lists are compared, how many requests are exact, the seed of the random lists.
        of_policy: for the judge ``self`` with several seeds: each policy's own evaluator; others are graded by ``judge``.
        exact: find ranks among all lists (costs seconds a request under an order-aware judge).
        tied: shares of ties seen so far, one tensor a batch.
    """

    name: str
    judge: Judge
    config: JudgeConfig
    length: int
    of_policy: Mapping[str, Judge] = field(default_factory=dict)
    exact: bool = True
    tied: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = self.config.exact

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that this judge gives."""
        return tuple(f"{quantity}[{self.name}]" for quantity in QUANTITIES)

    def asked(self, metrics: Collection[str]) -> Bench:
        """The same judge, enumerating all lists only where one of ``metrics`` needs it; ties are counted in this one."""
        return replace(self, exact=any(f"{quantity}[{self.name}]" in metrics for quantity in EXACT))

    def measure(self, batch: ListBatch, rankings: Mapping[str, Ranking]) -> dict[str, Columns]:
        """This judge's metrics of every policy's ranking of the batch, each (B,) float64."""
        exact_B = torch.arange(batch.size) < (self._left if self.exact else 0)
        self._left -= int(exact_B.sum())
        empty_B = torch.full((batch.size,), torch.nan, dtype=torch.float64)
        columns = {policy: {name: empty_B.clone() for name in self.names} for policy in rankings}
        for judge, policies in self._graded_by(rankings):
            for rows_M, count in by_count(batch):
                part, length = batch.take(rows_M), min(self.length, count)
                lists = [rankings[policy].order_BL[rows_M, :length].cpu() for policy in policies]
                found = self._standing(judge, part, torch.stack(lists, 1), count, exact_B[rows_M])
                self.tied.append(found["ties"].flatten())
                for place, policy in enumerate(policies):
                    for quantity, value_MP in found.items():
                        columns[policy][f"{quantity}[{self.name}]"][rows_M] = value_MP[:, place]
        return columns

    def ties(self) -> float:
        """Mean share of ties over all that was graded so far."""
        return float(torch.cat(self.tied).mean()) if self.tied else math.nan

    def _graded_by(self, rankings: Mapping[str, Ranking]) -> Iterator[tuple[Judge, list[str]]]:
        """Each judge with its policies: what it thinks of the random lists is asked once for all of them."""
        of = {policy: self.of_policy.get(policy, self.judge) for policy in rankings}
        for judge in dict.fromkeys(of.values()):
            yield judge, [policy for policy in of if of[policy] is judge]

    def _standing(
        self, judge: Judge, batch: ListBatch, lists_BPL: Tensor, count: int, exact_B: Tensor
    ) -> Columns:
        """The quantities of P lists a request, each (B, P)."""
        memory, length = judge.encode(batch), lists_BPL.shape[2]
        every_set = judge.order_free and math.comb(count, length) <= LIMIT
        shared = (
            all_sets(count, length)
            if every_set
            else random_lists(count, length, self.config.lists, self.config.seed)
        )
        value_BP = judge.value_of(memory, lists_BPL).cpu()
        among = _Among.of(judge.value_of_shared(memory, batch.size, shared).cpu(), value_BP)
        found = {top: (among.share_BP() < share).double() for top, share in TOPS.items()}
        found["ties"] = among.equal_BP.double() / among.total
        if self.exact and every_set:
            found |= among.exact(value_BP, orders=math.factorial(length))
        elif bool(exact_B.any()):
            parts = all_lists(count, length)
            rows_M = exact_B.nonzero().flatten()
            all_of = [_enumerated(judge, batch.take(row[None]), parts, value_BP[row][None]) for row in rows_M]
            for name in EXACT:
                found[name] = torch.full(value_BP.shape, torch.nan, dtype=torch.float64)
                found[name][rows_M] = torch.cat([one[name] for one in all_of])
        return found


@dataclass(frozen=True)
class _Among:
    """Where values (B, P) stand among those of ``total`` lists."""

    better_BP: Tensor
    equal_BP: Tensor
    best_B: Tensor
    sum_B: Tensor
    total: int

    @staticmethod
    def of(value_BG: Tensor, value_BP: Tensor) -> _Among:
        sorted_BG = value_BG.contiguous().sort(dim=1).values
        value_BP = value_BP.contiguous()
        not_better_BP = torch.searchsorted(sorted_BG, value_BP + TIE, right=True)
        worse_BP = torch.searchsorted(sorted_BG, value_BP - TIE)
        total = sorted_BG.shape[1]
        return _Among(
            total - not_better_BP,
            not_better_BP - worse_BP,
            sorted_BG[:, -1].double(),
            sorted_BG.double().sum(1),
            total,
        )

    def share_BP(self) -> Tensor:
        return self.better_BP.double() / self.total

    def exact(self, value_BP: Tensor, orders: int = 1) -> Columns:
        """Rank, regret and regret share, these being all lists; each stands for ``orders`` lists of equal value."""
        best_B1, mean_B1 = self.best_B[:, None], self.sum_B[:, None] / self.total
        left_BP = best_B1 - value_BP
        left_BP = torch.where(left_BP < TIE, torch.zeros_like(left_BP), left_BP)
        return {
            "rank": 1 + orders * self.better_BP.double(),
            "regret": left_BP,
            "regret-share": left_BP / (best_B1 - mean_B1).clamp(min=1e-12),
        }


def _enumerated(judge: Judge, batch: ListBatch, parts: Sequence[SharedLists], value_BP: Tensor) -> Columns:
    """Rank, regret and regret share (B, P) among all lists, one part of them in memory at a time."""
    memory = judge.encode(batch)
    found = [_Among.of(judge.value_of_shared(memory, batch.size, part).cpu(), value_BP) for part in parts]
    whole = _Among(
        torch.stack([one.better_BP for one in found]).sum(0),
        torch.stack([one.equal_BP for one in found]).sum(0),
        torch.stack([one.best_B for one in found]).amax(0),
        torch.stack([one.sum_B for one in found]).sum(0),
        sum(one.total for one in found),
    )
    return whole.exact(value_BP)


@dataclass(frozen=True)
class OwnBest:
    """The list that a judge itself likes best: 100 % under that judge, and under another the limit of agreement."""

    bench: Bench
    kind: str = "ceiling"

    @property
    def name(self) -> str:
        """How tables call it."""
        return own_best(self.bench.name)

    def rank(self, batch: ListBatch) -> Ranking:
        """The judge's best list; the other candidates behind it in their own order."""
        judge, length = self.bench.judge, self.bench.length
        order_BL = torch.zeros(batch.size, length, dtype=torch.long)
        mask_BL = torch.zeros(batch.size, length, dtype=torch.bool)
        for rows_M, count in by_count(batch):
            part = batch.take(rows_M)
            memory, here = judge.encode(part), min(length, count)
            order_BL[rows_M, :here] = judge.best(memory, part.mask_BN.to(judge.device), length).cpu()
            mask_BL[rows_M, :here] = True
        rest_BN = torch.zeros(batch.mask_BN.shape)
        return Ranking(order_BL, mask_BL, full_order_scores(order_BL, mask_BL, rest_BN, batch.mask_BN))


def own_best(judge: str) -> str:
    """The row of a judge's own best list."""
    return f"best of {judge}"


def by_count(batch: ListBatch) -> Iterator[tuple[Tensor, int]]:
    """Rows (M,) of the requests with equally many candidates, and how many these are."""
    count_B = batch.mask_BN.sum(1)
    for count in count_B.unique().tolist():
        yield (count_B == count).nonzero().flatten(), int(count)
