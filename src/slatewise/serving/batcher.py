"""Micro-batching: one thread ranks, and takes what has come while it was busy as the next batch.

A lone request on an idle server is ranked at once: nobody waits for company. ``window_ms`` lets a busy server wait a little
for more, from the first request that is in the queue on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from slatewise.config import Frozen, Positive, Weight
from slatewise.errors import UnavailableError
from slatewise.serving.models import Asked, Listed, Model

LATE = "deadline"


class BatchConfig(Frozen):
    """Settings.

    Attributes:
        batch: requests ranked at once, at most.   pending: requests that may wait; one more is refused.
        window_ms: how long a batch that is not full waits for more, while others are being ranked.
    """

    batch: Positive = 32
    pending: Positive = 512
    window_ms: Weight = 0.0

    def sizes(self) -> list[int]:
        """Batch sizes to warm up: powers of two up to the largest."""
        return sorted({min(2**power, self.batch) for power in range(self.batch.bit_length() + 1)})


Done = Callable[[Listed | Exception], None]


@dataclass(slots=True)
class Job:
    """A request on its way.

    Attributes:
        done: is told the list, in the ranking thread.   due: ``time.monotonic()`` by which it must be there; None: whenever.
        dropped: nobody waits for it any more.
    """

    asked: Asked
    model: Model
    done: Done
    due: float | None = None
    came: float = 0.0
    dropped: bool = False


class Batcher:
    """A queue and its thread."""

    def __init__(self, config: BatchConfig, told: Callable[[Model, int, float], None] | None = None) -> None:
        """Start the thread.

        Args:
            told: of each batch: its model, size, and seconds.
        """
        self.config, self._told = config, told or (lambda model, size, seconds: None)
        self._jobs: deque[Job] = deque()
        self._more, self._closed, self._busy = threading.Condition(), False, False
        self._cost: dict[int, float] = {}
        self._thread = threading.Thread(target=self._work, name="ranking", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        """Queue a request.

        Raises:
            UnavailableError: as many wait as may, or the batcher is closed.
        """
        job.came = time.monotonic()
        with self._more:
            if self._closed:
                raise UnavailableError("the server is stopping.")
            if len(self._jobs) >= self.config.pending:
                raise UnavailableError(f"{self.config.pending} requests wait already; try again in a moment.")
            self._jobs.append(job)
            if not self._busy or len(self._jobs) >= self.config.batch:
                self._more.notify()

    def close(self) -> None:
        """Rank what is queued, and stop."""
        with self._more:
            self._closed = True
            self._more.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            try:
                self._rank(batch)
            except Exception as error:  # whatever it is, nobody may wait for ever
                for job in batch:
                    job.done(error)

    def _next(self) -> list[Job]:
        """The oldest request and those that can be ranked with it; nothing when all is done."""
        with self._more:
            self._busy, idle = False, not self._jobs
            while not self._jobs and not self._closed:
                self._more.wait()
            self._busy = True
            if not self._jobs:
                return []
            if self.config.window_ms and not idle:
                self._wait_for_more()
            first = self._jobs.popleft()
            batch, others = [first], deque[Job]()
            while self._jobs and len(batch) < self.config.batch:
                job = self._jobs.popleft()
                (batch if job.model is first.model else others).append(job)
            self._jobs.extendleft(reversed(others))
            return batch

    def _wait_for_more(self) -> None:
        until = self._jobs[0].came + self.config.window_ms / 1000
        while len(self._jobs) < self.config.batch and not self._closed:
            left = until - time.monotonic()
            if left <= 0 or not self._more.wait(left):
                return

    def _rank(self, batch: list[Job]) -> None:
        ready = time.monotonic() + self._cost.get(len(batch).bit_length(), 0.0)
        in_time, batch = [job for job in batch if not job.dropped], []
        for job in in_time:
            if job.due is not None and job.due < ready:
                job.done(job.model.fallback(job.asked, LATE))
            else:
                batch.append(job)
        if not batch:
            return
        started = time.monotonic()
        answers = batch[0].model.rank([job.asked for job in batch])
        spent = time.monotonic() - started
        bucket = len(batch).bit_length()
        self._cost[bucket] = 0.9 * self._cost.get(bucket, spent) + 0.1 * spent
        self._told(batch[0].model, len(batch), spent)
        for job, answer in zip(batch, answers, strict=True):
            job.done(answer)
