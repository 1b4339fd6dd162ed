"""One transaction's work: what the log has of the requests at hand, what of a group of records is new to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from slatewise.config import replace
from slatewise.serving.log.outcomes import Exposed, Received, place_of
from slatewise.serving.records import Exposure, Feedback

if TYPE_CHECKING:
    from slatewise.serving.log.sql import Row, Transaction

Key = tuple[str, int, str, str]  # request, place, kind, event

_read_exposure = msgspec.json.Decoder(Exposure).decode
_read_feedback = msgspec.json.Decoder(Feedback).decode


class Group:
    """The state of the requests that a group of records is about, looked up once, kept up as records are added."""

    def __init__(self, transaction: Transaction, requests: Sequence[str], arrived: int, late: int) -> None:
        """``arrived``: now.   ``late``: microseconds after an exposure from which on feedback is late."""
        self._to, self._arrived, self._late = transaction, arrived, late
        self._shown: dict[str, tuple[Exposure, int]] = {
            row["request_id"]: (_read_exposure(row["body"]), row["received"])
            for row in transaction.of_requests("exposures", requests)
        }
        self._values: dict[Key, float] = {
            (row["request_id"], row["place"], row["kind"], row["event"]): row["value"]
            for row in transaction.of_requests("feedback", requests)
        }
        self._waiting: dict[str, list[tuple[Row, Feedback]]] = {}
        for row in transaction.of_requests("waiting", requests):
            self._waiting.setdefault(row["request_id"], []).append((row, _read_feedback(row["body"])))
        self._new: dict[str, list[Row]] = {"exposures": [], "feedback": [], "waiting": []}
        self._settled: list[int] = []

    def write(self, records: Sequence[Exposure | Feedback]) -> list[Exposed | Received]:
        """Decide on every record, write what is new; outcomes in the order of the records."""
        order = sorted(range(len(records)), key=lambda at: isinstance(records[at], Feedback))
        outcomes: dict[int, Exposed | Received] = {}
        for at in order:
            record = records[at]
            outcomes[at] = (
                self._expose(record) if isinstance(record, Exposure) else self._receive(record, self._arrived)
            )
        for table, rows in self._new.items():
            self._to.add(table, rows)
        self._to.drop_waiting(self._settled)
        return [outcomes[at] for at in range(len(records))]

    def _expose(self, exposure: Exposure) -> Exposed:
        name = exposure.request_id
        if name in self._shown:
            there = self._shown[name][0]
            as_logged = _read_exposure(msgspec.json.encode(exposure))  # 3 is 3.0 where a number is meant
            outcome: Literal["same", "conflict"] = (
                "same" if as_logged.asked() == there.asked() else "conflict"
            )
            return Exposed(outcome=outcome, exposure=there)
        self._shown[name] = exposure, self._arrived
        row = {
            "request_id": name,
            "time": exposure.timestamp,
            "received": self._arrived,
            "arm": exposure.arm,
            "body": msgspec.json.encode(exposure).decode(),
        }
        self._new["exposures"].append(row)
        return Exposed(outcome="new", exposure=exposure, settled=self._settle(name))

    def _settle(self, request: str) -> tuple[Received, ...]:
        """Feedback that waited for this exposure; what is not of its list goes on waiting, until it expires."""
        settled = []
        for row, event in self._waiting.pop(request, []):
            receipt = self._receive(event, row["received"])
            if receipt.outcome != "not-shown":
                self._settled.append(row["seq"])
                settled.append(receipt)
        return tuple(settled)

    def _receive(self, event: Feedback, arrived: int) -> Received:
        if event.request_id not in self._shown:
            return self._wait(event)
        exposure, exposed = self._shown[event.request_id]
        place = place_of(event, exposure)
        if place is None:
            return Received(outcome="not-shown", feedback=event, user_id=exposure.user_id)
        known = Received(
            outcome="accepted",
            feedback=event,
            user_id=exposure.user_id,
            item_id=exposure.served[place],
            place=place,
        )
        key = (event.request_id, place, event.kind, event.event())
        if key in self._values:
            return replace(known, outcome="duplicate" if self._values[key] == event.value else "conflict")
        self._values[key] = event.value
        delay = arrived - exposed if event.timestamp is None else event.timestamp - exposure.timestamp
        row = dict(zip(("request_id", "place", "kind", "event"), key, strict=True))
        more = {
            "value": event.value,
            "time": event.timestamp,
            "received": arrived,
            "late": delay > self._late,
        }
        self._new["feedback"].append(row | more)
        return replace(known, outcome="late") if delay > self._late else known

    def _wait(self, event: Feedback) -> Received:
        there = self._waiting.setdefault(event.request_id, [])
        for _, other in there:
            if _names(other) == _names(event):
                return Received(
                    outcome="duplicate" if other.value == event.value else "conflict", feedback=event
                )
        body = msgspec.json.encode(event).decode()
        row = {"request_id": event.request_id, "received": self._arrived, "body": body}
        there.append((row, event))
        self._new["waiting"].append(row)
        return Received(outcome="waiting", feedback=event)


def _names(event: Feedback) -> tuple[object, ...]:
    """What tells feedback on an unknown request from other such feedback."""
    return str(event.item_id), event.position, event.kind, event.event()
