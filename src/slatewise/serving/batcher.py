"""Micro-batching: one thread ranks, and takes what has come while it was busy as the next batch.

A lone request on an idle server is ranked at once: nobody waits for company. ``window_ms`` lets a busy server wait a little
for more, from the first request that is in the queue on. What has no hurry (:meth:`Batcher.offer`) is ranked when nobody waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from slatewise.config import Frozen, Positive, Weight
from slatewise.errors import UnavailableError
from slatewise.serving.models import Asked, Listed, Model

LATE = "deadline"
TIMES = 5  # batches of a kind that say how long the next one takes


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
        done: is told the list, in the ranking thread.
        due: ``time.monotonic()`` by which it must be there, and at which whoever waits answers without it; None: whenever.
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
        self._offered: deque[Job] = deque()
        self._more, self._closed, self._busy = threading.Condition(), False, False
        self._seconds: dict[tuple[str, int], deque[float]] = {}
        self._thread = threading.Thread(target=self._work, name="ranking", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._jobs)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue requests: all of them or none.

        Raises:
            UnavailableError: more would wait than may, or the batcher is closed.
        """
        came = time.monotonic()
        with self._more:
            if self._closed:
                raise UnavailableError("the server is stopping.")
            if len(self._jobs) + len(jobs) > self.config.pending:
                raise UnavailableError(f"{len(self._jobs)} requests wait already; try again in a moment.")
            for job in jobs:
                job.came = came
            self._jobs.extend(jobs)
            if not self._busy or len(self._jobs) >= self.config.batch:
                self._more.notify()

    def offer(self, job: Job) -> None:
        """Rank a request once no other waits; it is forgotten if a batch of such wait already, or the batcher closes."""
        with self._more:
            if len(self._offered) < self.config.batch:
                self._offered.append(job)
                if not self._busy:
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
            while not (self._jobs or self._offered or self._closed):
                self._more.wait()
            self._busy = True
            if self._closed:
                self._offered.clear()
            if self._jobs and self.config.window_ms and not idle:
                self._wait_for_more()
            return self._take(self._jobs or self._offered)

    def _take(self, queue: deque[Job]) -> list[Job]:
        batch, others = list[Job](), deque[Job]()
        while queue and len(batch) < self.config.batch:
            job = queue.popleft()
            (batch if not batch or job.model is batch[0].model else others).append(job)
        queue.extendleft(reversed(others))
        return batch

    def _wait_for_more(self) -> None:
        until = self._jobs[0].came + self.config.window_ms / 1000
        while len(self._jobs) < self.config.batch and not self._closed:
            left = until - time.monotonic()
            if left <= 0 or not self._more.wait(left):
                return

    def _rank(self, batch: list[Job]) -> None:
        waited, batch = [job for job in batch if not job.dropped], []
        if not waited:
            return
        times = self._times(waited)
        ready = time.monotonic() + (median(times) if times else 0.0)
        for job in waited:
            if job.due is not None and job.due < ready:
                job.done(job.model.fallback(job.asked, LATE))
            else:
                batch.append(job)
        if not batch:
            if times:  # believed and not tried: believed a little less the next time
                times.popleft()
            return
        started = time.monotonic()
        answers = batch[0].model.rank([job.asked for job in batch])
        spent = time.monotonic() - started
        self._times(batch).append(spent)
        self._told(batch[0].model, len(batch), spent)
        for job, answer in zip(batch, answers, strict=True):
            job.done(answer)

    def _times(self, batch: list[Job]) -> deque[float]:
        """What the last batches of this ranker and size took, in seconds."""
        kind = batch[0].model.name, len(batch).bit_length()
        return self._seconds.setdefault(kind, deque(maxlen=TIMES))
