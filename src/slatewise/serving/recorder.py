"""What a server writes with: the log first, then the feature store, so that the next request knows what this one showed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from slatewise.serving.features import Store, StoreError
from slatewise.serving.features.events import Done, Shown, encode
from slatewise.serving.log.commit import CommitConfig, GroupCommit
from slatewise.serving.log.outcomes import Exposed, Received
from slatewise.serving.log.store import FeedbackLog, Outcome
from slatewise.serving.records import Exposure, Record

KEEP = 500  # events of a user that the feature store keeps


class Recorder:
    """Records exposures and feedback durably, and keeps users' histories in the feature store up to date.

    The log's word counts: a store that fails loses history, which is counted, and no record.
    """

    def __init__(
        self,
        log: FeedbackLog,
        features: Store | None = None,
        config: CommitConfig | None = None,
        *,
        keep: int = KEEP,
    ) -> None:
        """Start the writing thread.

        Args:
            log: closed with the recorder.   features: not closed; None: no ranker reads histories.
            keep: events of a user that stay in the store.
        """
        self._features, self._keep = features, keep
        self._lock, self._lost = threading.Lock(), 0
        self._commit = GroupCommit(log, config, then=self._remember)

    @property
    def lost_events(self) -> int:
        """Events that are in the log but not in the feature store, because it failed."""
        with self._lock:
            return self._lost

    def submit(self, records: Sequence[Record]) -> Future[list[Outcome]]:
        """See :meth:`GroupCommit.submit`."""
        return self._commit.submit(records)

    def write(self, records: Sequence[Record]) -> list[Outcome]:
        """See :meth:`GroupCommit.write`."""
        return self._commit.write(records)

    async def within(self, seconds: float, writing: Future[list[Outcome]]) -> list[Outcome]:
        """See :meth:`GroupCommit.within`."""
        return await self._commit.within(seconds, writing)

    def recent(self, count: int) -> list[Exposure]:
        """The last exposures of the log, newest first.

        Raises:
            UnavailableError: the database does not answer.
        """
        return self._commit.log.recent(count)

    def close(self) -> None:
        """Write what was handed over, and close the log."""
        self._commit.close()

    def _remember(self, outcomes: Sequence[Outcome]) -> None:
        events = events_of(outcomes)
        if self._features is None or not events:
            return
        try:
            self._features.append(events, self._keep)
        except StoreError:
            with self._lock:
                self._lost += sum(map(len, events.values()))


def events_of(outcomes: Sequence[Outcome]) -> dict[str, list[bytes]]:
    """What is new in the log, as events for each user's history; a list comes before what came of it.

    Who is unknown is in the log as a user of his own, by the request's id: nobody ever asks for his history.
    """
    events: dict[str, list[bytes]] = {}
    for one in sorted(outcomes, key=lambda one: isinstance(one, Received)):
        if isinstance(one, Exposed) and one.outcome == "new" and _known(one.exposure):
            shown = one.exposure
            listed = Shown(shown.request_id, shown.timestamp, list(shown.served), shown.context)
            events.setdefault(str(shown.user_id), []).append(encode(listed))
        for event in one.settled if isinstance(one, Exposed) else (one,):
            if event.counts and _known(event):
                events.setdefault(str(event.user_id), []).append(encode(_done(event)))
    return events


def _known(one: Exposure | Received) -> bool:
    request = one.feedback.request_id if isinstance(one, Received) else one.request_id
    return str(one.user_id) != request


def _done(received: Received) -> Done:
    event, place = received.feedback, received.place
    assert place is not None
    return Done(event.request_id, place, event.kind, event.value, event.timestamp)
