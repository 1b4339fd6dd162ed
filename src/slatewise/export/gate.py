"""What a form of a ranker must keep to be exported: every list, or with weights of 8 bits nearly every one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from slatewise.config import Frozen, Share
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.errors import ExportError
from slatewise.export.agreement import Comparison, Value
from slatewise.export.artifact import Agreement

Share = Share


class Gate(Frozen):
    """What is asked of a form whose numbers differ, on held-out requests.

    Attributes:
        identical: the share of requests that get the same list, at least.
        lost: the share of the lists' mean value that is lost, at most; asked where their worth is known.
    """

    identical: Share = 0.9
    lost: Share = 0.005


@dataclass(frozen=True)
class Worth:
    """What lists are worth: a word for it, and the value itself."""

    word: str
    value: Value


class Reward(Protocol):
    """What is needed of a reward model."""

    def value(self, batch: ListBatch, lists_BGL: Tensor) -> Tensor:
        """Value of each list (B, G)."""


def true_value(data: PreparedData) -> Worth | None:
    """The true value of lists, where a simulator made the data; None where nobody knows it."""
    if data.manifest.truth is None:
        return None
    from slatewise.evaluation.truth import Truth

    truth = Truth(data)
    return Worth(
        "true value",
        lambda batch, order_BL, mask_BL: truth.value(batch, order_BL[:, None], mask_BL[:, None])[:, 0],
    )


def reward_value(reward: Reward) -> Worth:
    """What a reward model thinks that lists are worth."""
    return Worth("reward", lambda batch, order_BL, mask_BL: reward.value(batch, order_BL[:, None])[:, 0])


def check_exact(name: str, found: Comparison) -> None:
    """See that every request got the ranker's own list.

    Raises:
        ExportError: one did not; the sentence says which.
    """
    if found.different:
        raise ExportError(
            f"{name} does not rank as the ranker does: {found.different}. Nothing was written; --backend eager exports "
            "the ranker as it is."
        )


def check_gate(name: str, agreement: Agreement, gate: Gate) -> None:
    """See that a form keeps what is asked of it.

    Raises:
        ExportError: it does not; the sentence has both numbers.
    """
    few = agreement.share < gate.identical
    dear = agreement.lost is not None and agreement.lost > gate.lost
    if not few and not dear:
        return
    worth = "" if agreement.lost is None else f" and {agreement.lost:.2%} of their {agreement.value} is lost"
    asked = f"at least {gate.identical:.1%}" + (
        "" if agreement.lost is None else f" and at most {gate.lost:.2%}"
    )
    raise ExportError(
        f"{name} fails its gate: {agreement.share:.1%} of {agreement.requests} held-out requests get the same list{worth}; "
        f"asked are {asked}. Leave out int8, or ask for less (--min-identical, --max-lost)."
    )
