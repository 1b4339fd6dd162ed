"""A server without its wire: requests are checked, assigned, ranked in batches, answered in time and recorded."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from slatewise.config import replace, to_plain
from slatewise.errors import ConfigError, RequestError, UnavailableError
from slatewise.serving.batcher import LATE, Batcher, Job
from slatewise.serving.checks import check_feedback
from slatewise.serving.combine import read_rules
from slatewise.serving.features import Store, open_store
from slatewise.serving.features.reader import Reader
from slatewise.serving.fleet import Fleet
from slatewise.serving.keys import Keys
from slatewise.serving.log import open_log
from slatewise.serving.log.outcomes import Exposed, Received
from slatewise.serving.log.store import Outcome
from slatewise.serving.models import Asked, Listed, Model, load_model, row_of
from slatewise.serving.moments import MICRO, moment
from slatewise.serving.recorder import Recorder
from slatewise.serving.records import Exposure, Feedback, now
from slatewise.serving.settings import ArmSpec, Settings
from slatewise.serving.wire import FeedbackAnswer, RankAnswer, RankRequest, check_rank

if TYPE_CHECKING:
    from slatewise.serving.numbers import Numbers

SAID = {"new": "yes", "same": "yes", "conflict": "conflict"}  # what an answer says of its outcome in the log


class Service:
    """One worker's share of a server. Its coroutines run in one event loop."""

    def __init__(self, settings: Settings, numbers: Numbers) -> None:
        """Open stores and artifacts, and warm up.

        Raises:
            ConfigError, RunError, DataError, UnavailableError: something of it cannot be.
        """
        settings.check()
        self.settings, self.numbers = settings, numbers
        self.keys = Keys.load(Path(settings.keys) if settings.keys else None)
        self.store: Store | None = open_store(settings.features) if settings.features else None
        self.reader = Reader(self.store) if self.store else None
        self.fleet = Fleet(settings.arms, self._load, settings.salt, self._swapped)
        self.recorder = Recorder(open_log(settings.log), self.store) if settings.log else None
        self.batcher = Batcher(settings.batch, self._ranked)
        self._answers: deque[tuple[asyncio.Future[Listed], Listed | Exception]] = deque()
        if settings.watch_seconds:
            self.fleet.watch(settings.watch_seconds)

    def close(self) -> None:
        """Answer and write what came, then stop."""
        self.fleet.close()
        self.batcher.close()
        if self.recorder:
            self.recorder.close()
        if self.store:
            self.store.close()

    # --- lists ---

    async def rank(self, requests: Sequence[RankRequest], *, several: bool = False) -> list[RankAnswer]:
        """The answer to each request, in their order.

        Args:
            several: they came as a list, so that a fault's path begins with its place in it.

        Raises:
            RequestError: one of them is not allowed; none is ranked.   UnavailableError: the queue is full.
        """
        most = self.settings.allowed.requests
        if not 1 <= len(requests) <= most:
            raise RequestError("body", f"has {len(requests)} requests; send 1 to {most} at a time.")
        came = time.monotonic()
        prepared = []
        for place, request in enumerate(requests):
            with _at(place if several else None):
                prepared.append(self._prepare(request))
        listed = []
        for place, one in enumerate(
            await asyncio.gather(*self._submit(prepared, came), return_exceptions=True)
        ):
            with _at(place if several else None):
                if isinstance(one, BaseException):
                    raise one
                listed.append(one)
        recorded = await self._record(prepared, listed, came)
        answers = zip(prepared, listed, recorded, strict=True)
        return [self._answer(asked, model, one, said) for (asked, model), one, said in answers]

    def _prepare(self, request: RankRequest) -> tuple[Asked, Model]:
        request_id = request.request_id or uuid.uuid4().hex
        by_user = self.settings.unit == "user_id" and request.user_id is not None
        model = self.fleet.choose(str(request.user_id) if by_user else request_id)
        self.check(request, model)
        at = _moment(request)
        return Asked(request, request_id, at, row_of(request, at)), model

    def check(self, request: RankRequest, model: Model) -> None:
        """Hold a request to what this server and a ranker take.

        Raises:
            RequestError: the first fault, with its field.
        """
        most = model.artifact.manifest.limits.candidates
        check_rank(request, self.settings.limits, most, model.longest)

    def _submit(self, prepared: Sequence[tuple[Asked, Model]], came: float) -> list[asyncio.Future[Listed]]:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in prepared]
        jobs = [
            self._job(asked, model, came, loop, future)
            for (asked, model), future in zip(prepared, futures, strict=True)
        ]
        self.batcher.submit(jobs)
        for job, future in zip(jobs, futures, strict=True):
            if job.due is not None:
                timer = loop.call_at(loop.time() + job.due - time.monotonic(), self._late, job, future)
                future.add_done_callback(partial(_cancel, timer))
            for shadow in self.fleet.shadowing():
                self.batcher.offer(self._shadow(job.asked, shadow, future))
        return futures

    def _job(
        self,
        asked: Asked,
        model: Model,
        came: float,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Listed],
    ) -> Job:
        return Job(
            asked,
            model,
            lambda answer: self._deliver(loop, future, answer),
            self._due(asked.request, came),
        )

    def _due(self, request: RankRequest, came: float) -> float | None:
        """``time.monotonic()`` by which a request is answered; None: whenever."""
        allowed = request.deadline_ms or self.settings.deadline_ms
        return came + allowed / 1000 if allowed else None

    def _deliver(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Listed], answer: Listed | Exception
    ) -> None:
        """From the ranking thread to the loop; answers that come together wake it once."""
        self._answers.append((future, answer))
        if len(self._answers) == 1:
            loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        while self._answers:
            _settle(*self._answers.popleft())

    def _late(self, job: Job, future: asyncio.Future[Listed]) -> None:
        if not future.done():
            job.dropped = True
            _settle(future, job.model.fallback(job.asked, LATE))

    def _shadow(self, asked: Asked, shadow: Model, future: asyncio.Future[Listed]) -> Job:
        """A shadow's turn at the same request; it counts how much of its list was served."""

        def compare(answer: Listed | Exception) -> None:
            if isinstance(answer, Listed) and future.done() and not future.exception():
                served = set(map(str, future.result().items))
                shared = sum(str(item) in served for item in answer.items)
                self.numbers.shadow.labels(shadow.name, "yes").inc(shared)
                self.numbers.shadow.labels(shadow.name, "no").inc(len(answer.items) - shared)

        return Job(asked, shadow, compare)

    def _answer(self, asked: Asked, model: Model, listed: Listed, recorded: str | Exposed) -> RankAnswer:
        self.numbers.lists.labels(model.name, listed.fallback or "no").inc()
        answer = RankAnswer(
            request_id=asked.request_id,
            items=listed.items,
            scores=listed.scores,
            log_prob=listed.log_prob,
            ranker=model.name,
            model=model.version,
            fallback=listed.fallback,
            dropped_rules=list(listed.dropped),
            recorded=recorded if isinstance(recorded, str) else SAID[recorded.outcome],
        )
        if isinstance(recorded, str) or recorded.outcome != "same":
            return answer
        first = recorded.exposure  # this was asked and answered before
        return msgspec.structs.replace(
            answer,
            items=list(first.served),
            scores=None,
            log_prob=None,
            ranker=first.arm or model.name,
            model=first.model_version or model.version,
            fallback=first.fallback,
            dropped_rules=list(first.dropped_rules),
        )

    # --- the log ---

    async def _record(
        self, asked: Sequence[tuple[Asked, Model]], listed: Sequence[Listed], came: float
    ) -> list[str | Exposed]:
        """What became of each list in the log, if the first of them that is due can wait so long; else ``soon`` or ``no``."""
        said: list[str | Exposed] = ["no"] * len(listed)
        wanted = [at for at, (one, _) in enumerate(asked) if one.request.record and self.recorder]
        if not wanted or self.recorder is None:
            return said
        try:
            writing = self.recorder.submit([_exposure(*asked[at], listed[at]) for at in wanted])
        except UnavailableError:
            self.numbers.unrecorded.inc()
            return said
        writing.add_done_callback(self._written)
        outcomes: Sequence[str | Outcome] = ["soon"] * len(wanted)
        if self.settings.wait_for_log:
            dues = [due for one, _ in asked if (due := self._due(one.request, came)) is not None]
            left = min([due - time.monotonic() for due in dues], default=math.inf)
            try:
                outcomes = await self.recorder.within(left, writing)
            except TimeoutError:
                pass
            except UnavailableError:
                return said
        for at, outcome in zip(wanted, outcomes, strict=True):
            assert not isinstance(outcome, Received)
            said[at] = outcome
        return said

    def _written(self, done: Future[list[Outcome]]) -> None:
        if done.exception():
            self.numbers.unrecorded.inc()
            return
        for outcome in done.result():
            self.numbers.exposures.labels(outcome.outcome).inc()

    async def feedback(self, events: Sequence[Feedback], *, several: bool = False) -> list[FeedbackAnswer]:
        """What became of each event; when this returns, all that was accepted is on disk.

        Raises:
            RequestError: an event is not allowed, or there is no log; none is written.
            UnavailableError: the log does not answer; to send them again is safe.
        """
        if self.recorder is None:
            raise RequestError("body", "cannot be kept: this server has no feedback log (--log).")
        if not events:
            raise RequestError("body", "has no events; send at least one.")
        for place, event in enumerate(events):
            with _at(place if several else None):
                check_feedback(event)
        timed = [_timed(event) for event in events]
        writing = self.recorder.submit(timed)
        try:
            outcomes = await self.recorder.within(math.inf, writing)
        except TimeoutError:
            writing.cancel()
            raise UnavailableError("the feedback log is slow; send the same again.") from None
        answers = []
        for event, outcome in zip(events, outcomes, strict=True):
            assert isinstance(outcome, Received)
            self.numbers.feedback.labels(outcome.outcome).inc()
            answers.append(FeedbackAnswer(event.request_id, outcome.outcome))
        return answers

    # --- what is told of it ---

    def _load(self, arm: ArmSpec) -> Model:
        return load_model(
            arm.name,
            Path(arm.path),
            backend=self.settings.backend or None,
            threads=self.settings.threads,
            reader=self.reader,
            sizes=self.settings.batch.sizes(),
            widest=self.settings.limits.candidates,
            rules=read_rules(self.settings.combine),
        )

    def _swapped(self, ranker: str, outcome: str) -> None:
        self.numbers.swaps.labels(ranker, outcome).inc()

    def _ranked(self, model: Model, size: int, seconds: float) -> None:
        self.numbers.ranking.labels(model.name).observe(seconds)
        self.numbers.batch.observe(size)

    def look(self) -> None:
        """Bring the counters that are read, not counted, up to date."""
        self.numbers.waiting.set(self.batcher.waiting)
        if self.reader:
            for what, count in to_plain(self.reader.counts).items():
                self.numbers.features.labels(what).set(count)
        if self.recorder:
            self.numbers.features.labels("lost_events").set(self.recorder.lost_events)


def _cancel(timer: asyncio.TimerHandle, _: object) -> None:
    timer.cancel()


def _settle(future: asyncio.Future[Listed], answer: Listed | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Listed):
        future.set_result(answer)
    else:
        future.set_exception(answer)


def _exposure(asked: Asked, model: Model, listed: Listed) -> Exposure:
    request = asked.request
    return Exposure(
        request_id=asked.request_id,
        user_id=asked.request_id if request.user_id is None else request.user_id,  # a session of its own
        timestamp=asked.moment,
        candidates=tuple(request.candidates),
        served=tuple(listed.items),
        scores=None if request.scores is None else tuple(request.scores),
        features={name: tuple(values) for name, values in request.features.items()},
        context=request.context,
        propensity=None if listed.fallback else 1.0,  # greedy lists are certain
        arm=model.name,
        model_version=model.version,
        fallback=listed.fallback,
        dropped_rules=listed.dropped,
    )


def _moment(request: RankRequest) -> int:
    given = request.timestamp
    if given is None:
        return now()
    try:
        at = moment(given, "timestamp") if isinstance(given, str) else _micros(given)
    except (ConfigError, OverflowError, ValueError):
        at = None
    if at is None or not -(2**63) <= at < 2**63:
        raise RequestError("timestamp", f"is {given!r}; allowed are seconds since 1970 and ISO 8601.")
    return at


def _timed(event: Feedback) -> Feedback:
    """An event with the microseconds of the log; a caller's number is what it is in the log schema, most likely seconds."""
    return event if event.timestamp is None else replace(event, timestamp=_micros(event.timestamp))


def _micros(number: float) -> int:
    found = moment(str(int(number)), "timestamp")
    assert found is not None
    return found + round((number - int(number)) * MICRO) if abs(number) < 1e11 else found


@contextmanager
def _at(place: int | None) -> Iterator[None]:
    """A fault's path begins with its place in the list that was sent; None: there was no list."""
    try:
        yield
    except RequestError as error:
        if place is None:
            raise
        sentence = str(error).removeprefix(f"{error.field} ")
        raise RequestError(f"[{place}].{error.field}", sentence) from None
