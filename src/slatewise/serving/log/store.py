"""The feedback log: what is new in a group of records is written in one transaction, and each record gets its outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from slatewise.config import Frozen
from slatewise.errors import ConfigError
from slatewise.serving.checks import check_records
from slatewise.serving.log.group import Group
from slatewise.serving.log.outcomes import Exposed, Received
from slatewise.serving.moments import written
from slatewise.serving.records import Chosen, Exposure, Record, now

if TYPE_CHECKING:
    from slatewise.serving.log.sql import Database

Outcome = Exposed | Received

HOUR = 3_600_000_000  # microseconds
PRUNED = 500  # exposures deleted in one transaction


class LogConfig(Frozen):
    """Settings of the feedback log.

    Attributes:
        late_hours: feedback that comes longer after its exposure is accepted and called late.
        waiting_days: how long feedback on an unknown request is kept for it to come.
    """

    late_hours: float = 24.0
    waiting_days: float = 7.0

    def check(self) -> None:
        """Refuse times that are none.

        Raises:
            ConfigError: naming the setting.
        """
        for name in ("late_hours", "waiting_days"):
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"the feedback log's {name} is {getattr(self, name)}, but must be 0 or more."
                )


class Status(Frozen):
    """What a feedback log holds.

    Attributes:
        exposures: of each arm.   feedback: of each kind.   late: of all feedback.
        waiting: feedback whose request is not there yet.   expired: such as was dropped when its days were over.
        first, last: times of exposures.   version: of the tables.
    """

    exposures: dict[str, int]
    feedback: dict[str, int]
    late: int
    waiting: int
    expired: int
    first: str
    last: str
    version: int


class FeedbackLog:
    """An open feedback log. One thread writes at a time; use it through a ``GroupCommit`` where many do."""

    def __init__(self, database: Database, config: LogConfig) -> None:
        """``database``: open; it is closed with the log.

        Raises:
            ConfigError: a setting is out of range.
        """
        config.check()
        self.database, self.config = database, config
        self._expired_at = 0

    def write(self, records: Sequence[Record]) -> list[Outcome]:
        """Write records in one transaction. When this returns they are on disk.

        Exposures come before feedback, whatever their order. An id's first exposure stays.

        Raises:
            RequestError: a record cannot be logged; none is.   UnavailableError: none is, or it is not known whether
                they are; to send them again is safe.
        """
        check_records(records)
        return self.commit(records)

    def commit(self, records: Sequence[Record]) -> list[Outcome]:
        """:meth:`write` for records that were checked.

        Raises:
            UnavailableError: as there.
        """
        arrived = now()
        names = sorted({record.request_id for record in records})
        with self.database.write(names) as transaction:
            group = Group(transaction, names, arrived, int(self.config.late_hours * HOUR))
            outcomes = group.write(records)
            if due := arrived - self._expired_at > HOUR:
                transaction.expire(arrived - int(self.config.waiting_days * 24 * HOUR))
        if due:
            self._expired_at = arrived
        return outcomes

    def find(self, requests: Sequence[str]) -> dict[str, Exposure]:
        """The logged exposures of these requests, by id; those that are not there are left out.

        Raises:
            UnavailableError: the database does not answer.
        """
        with self.database.read() as transaction:
            rows = transaction.of_requests("exposures", requests)
        return {row["request_id"]: msgspec.json.decode(row["body"], type=Exposure) for row in rows}

    def recent(self, count: int) -> list[Exposure]:
        """The last exposures, newest first.

        Raises:
            UnavailableError: the database does not answer.
        """
        with self.database.read() as transaction:
            rows = transaction.newest("exposures", count)
        return [msgspec.json.decode(row["body"], type=Exposure) for row in rows]

    def count(self, chosen: Chosen) -> int:
        """How many exposures are meant.

        Raises:
            UnavailableError: the database does not answer.
        """
        with self.database.read(patient=True) as transaction:
            return transaction.count(chosen)

    def prune(self, before: int, told: Callable[[int], object] = lambda done: None) -> int:
        """Delete exposures before a time (microseconds) and all feedback on them, and count them.

        Few at a time, so that a server that writes meanwhile never waits long; one that is interrupted has deleted a part.

        Args:
            told: how many are deleted so far.

        Raises:
            UnavailableError: the database does not answer.
        """
        done = 0
        while True:
            with self.database.read(patient=True) as transaction:
                names = transaction.oldest(before, PRUNED)
            if not names:
                return done
            with self.database.write(names) as transaction:
                done += transaction.drop_requests(names)
            told(done)

    def status(self) -> Status:
        """What the log holds.

        Raises:
            UnavailableError: the database does not answer.
        """
        with self.database.read(patient=True) as transaction:
            arms, kinds = transaction.counts("exposures", "arm"), transaction.counts("feedback", "kind")
            late = transaction.counts("feedback", "late")
            return Status(
                exposures={str(row["arm"] or "no arm"): row["count"] for row in arms},
                feedback={row["kind"]: row["count"] for row in kinds},
                late=sum(row["count"] for row in late if row["late"]),
                waiting=transaction.counts("waiting")[0]["count"],
                expired=transaction.value("expired"),
                **{name: written(time) for name, time in transaction.span().items()},
                version=transaction.value("version"),
            )

    def close(self) -> None:
        """Close the database."""
        self.database.close()
