"""What becomes of a record that is sent to the feedback log."""

from __future__ import annotations

from typing import Literal

from slatewise.config import Frozen
from slatewise.serving.records import Exposure, Feedback, Id


class Exposed(Frozen):
    """An exposure's outcome.

    Attributes:
        outcome: ``new``: it is logged. ``same``: this question was asked under this id before. ``conflict``: another
            question was, and nothing is changed.
        exposure: what the log has under the id; after ``same`` its list is the answer to give.
        settled: feedback that was here before its exposure, and now belongs to it.
    """

    outcome: Literal["new", "same", "conflict"]
    exposure: Exposure
    settled: tuple[Received, ...] = ()


class Received(Frozen):
    """An event's outcome.

    Attributes:
        outcome: ``accepted``. ``late``: accepted, too, but long after its exposure. ``duplicate``: the log has this
            event, ignored. ``conflict``: the log has it with another value, ignored. ``waiting``: the log has no such
            request yet; kept until it comes, or for so many days. ``not-shown``: the list has no such item or
            position; refused.
        user_id: of the request; None where it is not known yet.
        item_id: in the request's own spelling.   place: of the item in the list, from 0.
    """

    outcome: Literal["accepted", "late", "duplicate", "conflict", "waiting", "not-shown"]
    feedback: Feedback
    user_id: Id | None = None
    item_id: Id | None = None
    place: int | None = None

    @property
    def counts(self) -> bool:
        """Whether the event is in the log now and was not before."""
        return self.outcome in ("accepted", "late")


def place_of(feedback: Feedback, exposure: Exposure) -> int | None:
    """Where the item stands in the served list, from 0; None where it, or its position, is not in it."""
    served = list(map(str, exposure.served))
    place = None if feedback.position is None else feedback.position - 1
    if place is not None and place >= len(served):
        return None
    if feedback.item_id is None:
        return place
    found = served.index(str(feedback.item_id)) if str(feedback.item_id) in served else None
    return found if place in (None, found) else None
