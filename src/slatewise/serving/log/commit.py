"""Group commit: concurrent callers' records share one transaction, so that one sync to disk serves them all."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from slatewise.config import Frozen
from slatewise.errors import ConfigError, UnavailableError
from slatewise.serving.checks import check_records
from slatewise.serving.log.store import FeedbackLog, Outcome
from slatewise.serving.records import Record


class CommitConfig(Frozen):
    """Settings of group commit.

    Attributes:
        group: records that a transaction takes at most (the last caller's are not cut).
        pending: callers that may wait at a time; one more is refused at once.
        wait_seconds: how long anybody waits for a commit.
    """

    group: int = 256
    pending: int = 4096
    wait_seconds: float = 5.0


@dataclass
class _Job:
    records: Sequence[Record]
    done: Future[list[Outcome]] = field(default_factory=Future)


class GroupCommit:
    """Lets many threads write to one log; each waits for its own commit only.

    Nobody waits for company: a commit takes what has come while the one before was under way, so an idle log commits
    a lone record at once, and a busy one many at a time.
    """

    def __init__(
        self,
        log: FeedbackLog,
        config: CommitConfig | None = None,
        *,
        then: Callable[[Sequence[Outcome]], None] | None = None,
    ) -> None:
        """Start the writing thread.

        Args:
            log: closed with this.   config: settings.
            then: is told the outcomes after each commit, before the callers are; must not raise.

        Raises:
            ConfigError: a setting is out of range.
        """
        self.log, self.config = log, config or CommitConfig()
        if min(self.config.group, self.config.pending) < 1 or not self.config.wait_seconds > 0:
            raise ConfigError(f"group, pending and wait_seconds must be above 0, got {self.config}.")
        self._then = then or (lambda outcomes: None)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(self.config.pending)
        self._closed, self._door = False, threading.Lock()
        self._thread = threading.Thread(target=self._work, name="feedback-log", daemon=True)
        self._thread.start()

    def submit(self, records: Sequence[Record]) -> Future[list[Outcome]]:
        """Hand over records; the future has their outcomes as soon as they are on disk.

        A future that is cancelled before its commit begins leaves nothing in the log. It raises UnavailableError where the log does not answer; to send the records again is safe.

        Raises:
            RequestError: a record cannot be logged; none is.
            UnavailableError: too many callers wait already, or the log is closed.
        """
        check_records(records)
        job = _Job(records)
        with self._door:
            if self._closed:
                raise UnavailableError("the feedback log is closed.")
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise UnavailableError(
                    f"{self.config.pending} callers wait for the feedback log already; try again in a moment."
                ) from None
        return job.done

    def write(self, records: Sequence[Record]) -> list[Outcome]:
        """:meth:`submit`, and wait for the commit.

        Raises:
            RequestError, UnavailableError: as there; the latter also if the commit takes longer than ``wait_seconds``.
        """
        done = self.submit(records)
        try:
            return done.result(self.config.wait_seconds)
        except TimeoutError:
            raise UnavailableError(
                f"the feedback log did not commit within {self.config.wait_seconds:g} s; send the same again."
            ) from None

    async def within(self, seconds: float, writing: Future[list[Outcome]]) -> list[Outcome]:
        """Wait in an event loop for what :meth:`submit` gave, for so long, and no longer than ``wait_seconds``.

        Raises:
            UnavailableError: as there.   TimeoutError: it takes longer; it may still be written.
        """
        outcomes = asyncio.wrap_future(writing)
        outcomes.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # also when nobody waits
        return await asyncio.wait_for(
            asyncio.shield(outcomes), min(max(seconds, 0.0), self.config.wait_seconds)
        )

    def close(self) -> None:
        """Write what was handed over, then close the log."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self.log.close()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs, last = self._gather(first)
            self._commit([job for job in jobs if job.done.set_running_or_notify_cancel()])
            if last:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """What has come so far, up to a group; and whether it was the last."""
        jobs, count = [first], len(first.records)
        while count < self.config.group:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
            count += len(job.records)
        return jobs, False

    def _commit(self, jobs: list[_Job]) -> None:
        """One transaction for all; if a record breaks it that the checks let through, one for each caller."""
        try:
            outcomes = self.log.commit([record for job in jobs for record in job.records])
        except UnavailableError as error:
            _fail(jobs, error)
        except Exception as error:  # a caller's fault must not become the others'
            if len(jobs) == 1:
                _fail(jobs, error)
            else:
                for job in jobs:
                    self._commit([job])
        else:
            self._then(outcomes)
            for job in jobs:
                job.done.set_result(outcomes[: len(job.records)])
                outcomes = outcomes[len(job.records) :]


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        job.done.set_exception(error)
