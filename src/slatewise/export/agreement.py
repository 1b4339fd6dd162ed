"""Whether a backend ranks as the ranker itself does, request by request.

Two ways of computing one number differ in its last digits, and where two candidates are worth the same but for those, the
list may differ without anything being wrong. Such a request counts as *undecided*, by the ranker's own word: where the
two lists part, it prefers its own by no more than rounding. Any other difference is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.export.artifact import Agreement, Artifact
from slatewise.export.backends import Backend, Served
from slatewise.export.feed import Limits, widened
from slatewise.export.graph import RULE_NAMES
from slatewise.export.made_up import made_up_rules
from slatewise.modules.gather import list_mask
from slatewise.policies import Policy

ROUNDING = 1e-4  # of a preference, in nats or units of value; relative to the scores where they are large
FAR = 1e-3  # a log-probability or a score that is farther off than this is wrong though the list be right
Value = Callable[[ListBatch, Tensor, Tensor], Tensor]  # (batch, order_BL, mask_BL) -> value_B


@dataclass
class Comparison:
    """Counts so far; ``different`` says which request was the first that differs, empty as long as none does."""

    requests: int = 0
    identical: int = 0
    undecided: int = 0
    log_prob: float | None = None
    score: float = 0.0
    own: float = 0.0
    served: float = 0.0
    different: str = ""

    def agreement(self, value: str = "") -> Agreement:
        """The counts; ``value`` says what the lists were valued by."""
        lost = (self.own - self.served) / abs(self.own) if value and self.own else None
        return Agreement(
            requests=self.requests,
            identical=self.identical,
            undecided=self.undecided,
            largest_score=self.score,
            largest_log_prob=self.log_prob,
            value=value if lost is not None else "",
            lost=lost,
        )


@torch.no_grad()
def compare(
    policy: Policy,
    backend: Backend,
    artifact: Artifact,
    batches: Iterable[tuple[str, ListBatch]],
    value: Value | None = None,
) -> Comparison:
    """Rank batches both ways.

    Args:
        policy: the ranker's own, on the CPU.
        batches: with words for which requests they are, such as "of the test split".
        value: what lists are worth; both sides' are then summed.
    """
    found, limits = Comparison(), artifact.manifest.limits
    for words, batch in batches:
        served = backend.rank(artifact.feed(batch))
        own_BL = own_lists(policy, batch, limits)
        _count(found, policy, batch, own_BL, served, words)
        if value is not None:
            mask_BL = list_mask(batch.mask_BN, limits.length)
            found.own += float(value(batch, own_BL, mask_BL).sum())
            found.served += float(value(batch, torch.from_numpy(served.order_BL), mask_BL).sum())
    return found


@torch.no_grad()
def compare_ruled(
    found: Comparison,
    policy: Policy,
    backend: Backend,
    artifact: Artifact,
    batches: Iterable[tuple[str, ListBatch]],
) -> None:
    """Rank batches both ways under made-up rules, and add to what was found."""
    limits = artifact.manifest.limits
    for words, batch in batches:
        wide = widened(batch, limits.fewest)
        rules = made_up_rules(wide, limits.length)
        feed = artifact.feed(batch) | {name: getattr(rules, name).numpy() for name in RULE_NAMES}
        other_BL = torch.from_numpy(backend.rank_ruled(feed).order_BL)
        own_BL = policy.answer_ruled(wide, limits.length, rules).order_BL
        same_B = (own_BL == other_BL).all(1)
        if not same_B.all():
            same_B[~same_B] = _undecided(policy, wide.take(~same_B), own_BL[~same_B], other_BL[~same_B])
        if not same_B.all() and not found.different:
            row = int((~same_B).nonzero()[0])
            found.different = f"request {row} {words} gets, under rules, the candidates {_places(other_BL[row])} in place of {_places(own_BL[row])}"


def own_lists(policy: Policy, batch: ListBatch, limits: Limits) -> Tensor:
    """The lists (B, L) that the ranker writes; one request at a time where a batch would change them, and then as wide as
    it is served, since what is drawn by place depends on that, too."""
    parts = [batch]
    if policy.form.alone:
        wide = widened(batch, limits.fewest)
        parts = [wide.take(row[None]) for row in torch.arange(batch.size)]
    order_BL = torch.cat([policy.rank(part, limits.length).order_BL for part in parts])
    return torch.nn.functional.pad(order_BL, (0, limits.length - order_BL.shape[1]))


def _count(
    found: Comparison, policy: Policy, batch: ListBatch, own_BL: Tensor, served: Served, words: str
) -> None:
    other_BL, mask_BL = torch.from_numpy(served.order_BL), list_mask(batch.mask_BN, own_BL.shape[1])
    same_B = (own_BL == other_BL).all(1) & (torch.from_numpy(served.mask_BL) == mask_BL).all(1)
    undecided_B = ~same_B
    if not same_B.all():
        undecided_B[~same_B] = _undecided(policy, batch.take(~same_B), own_BL[~same_B], other_BL[~same_B])
    found.requests += len(same_B)
    found.identical += int(same_B.sum())
    found.undecided += int(undecided_B.sum())
    different = (~same_B & ~undecided_B).nonzero().flatten().tolist()
    if different and not found.different:
        row = different[0]
        found.different = f"request {row} {words} gets the candidates {_places(other_BL[row])} in place of {_places(own_BL[row])}"
    _numbers(found, policy, batch, served, same_B, words)


def _undecided(policy: Policy, batch: ListBatch, own_BL: Tensor, other_BL: Tensor) -> Tensor:
    """True where the ranker itself cannot tell which of two lists (B, L) is better."""
    mask_BL, inside_BL = list_mask(batch.mask_BN, own_BL.shape[1]), other_BL < batch.num_candidates
    other_BL = other_BL * inside_BL
    real_BL = batch.mask_BN.gather(1, other_BL) & inside_BL
    twice_B = (
        torch.where(mask_BL, other_BL, -1 - torch.arange(own_BL.shape[1])).sort(1).values.diff(dim=1) == 0
    ).any(1)
    well_formed_B = (real_BL | ~mask_BL).all(1) & ~twice_B
    score_BN = policy.answer(batch, own_BL.shape[1]).score_BN
    scale_B = score_BN.masked_fill(~batch.mask_BN, 0).abs().amax(1).clamp_min(1)
    return well_formed_B & (policy.margin(batch, own_BL, other_BL).abs() <= ROUNDING * scale_B)


def _numbers(
    found: Comparison, policy: Policy, batch: ListBatch, served: Served, same_B: Tensor, words: str
) -> None:
    """Log-probabilities and scores of the requests that got the same list."""
    answer = policy.answer(batch, served.order_BL.shape[1])
    own_BN = answer.score_BN.masked_fill(~batch.mask_BN, 0)
    score_BN = torch.from_numpy(served.score_BN)[:, : batch.num_candidates].masked_fill(~batch.mask_BN, 0)
    score_B = (own_BN - score_BN).abs().amax(1) * same_B
    log_prob_B = (answer.log_prob_B - torch.from_numpy(served.log_prob_B)).abs() * same_B
    found.score = max(found.score, float(score_B.max()))
    if not answer.log_prob_B.isnan().all():
        found.log_prob = max(found.log_prob or 0.0, float(log_prob_B.max()))
    far_B = (score_B > FAR * own_BN.abs().amax(1).clamp_min(1)) | (
        log_prob_B > FAR * answer.log_prob_B.abs().clamp_min(1)
    )
    far = far_B.nonzero().flatten().tolist()
    if far and not found.different:
        found.different = (
            f"request {far[0]} {words} gets its list, but with other scores or another log-probability"
        )


def _places(list_L: Tensor) -> str:
    return ", ".join(map(str, list_L.tolist()))
