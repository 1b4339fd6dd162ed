"""How a server is set up; the command line makes it, workers read it."""

from __future__ import annotations

from pathlib import Path

from slatewise.config import Frozen, Positive, Weight, replace
from slatewise.errors import ConfigError
from slatewise.serving.batcher import BatchConfig
from slatewise.serving.combine import read_rules
from slatewise.serving.wire import Limits

Share = Weight


class ArmSpec(Frozen):
    """A ranker of the server: its name in answers and logs, its artifact, and its share of the traffic.

    ``shadow``: it ranks what others serve, and nobody sees its lists.
    """

    name: str
    path: str
    share: Share = 1.0
    shadow: bool = False


class Settings(Frozen):
    """A server.

    Attributes:
        arms: its rankers.   unit: ``user_id`` or ``request_id``: what always gets the same arm.   salt: of the buckets.
        backend: of the artifacts; "": their default.   threads: that one ranking computes on.
        batch: micro-batching.   limits: of one call.   body_kib: of a body.
        deadline_ms: of requests that name none; 0: none.
        log, features: URLs or paths of the feedback log and the feature store; "": none.
        combine: how events of a kind become one number in histories, KIND=RULE, as the ranker's log was exported.
        wait_for_log: a list is answered when it is on disk, and a repeated request gets its first list again.
        keys: a file of keys; "": none are asked for.   watch_seconds: between two looks at the artifacts; 0: never.
        studio: the page ``/studio``.
        retry_seconds: what a caller is told to wait when the server is full.
    """

    arms: tuple[ArmSpec, ...]
    unit: str = "user_id"
    salt: str = ""
    backend: str = ""
    threads: Positive = 1
    batch: BatchConfig = BatchConfig()
    limits: Limits = Limits()
    body_kib: Positive = 1024
    deadline_ms: Weight = 0.0
    log: str = ""
    features: str = ""
    combine: tuple[str, ...] = ()
    wait_for_log: bool = False
    keys: str = ""
    watch_seconds: Weight = 2.0
    studio: bool = False
    retry_seconds: Positive = 1

    @property
    def allowed(self) -> Limits:
        """What one call may ask for: its requests must find room in an empty queue."""
        return replace(self.limits, requests=min(self.limits.requests, self.batch.pending))

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            ConfigError: no arm that serves, two of one name, a unit that is none, or events combined as nothing can be.
        """
        names = [arm.name for arm in self.arms]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"two rankers are called '{twice[0]}'; name them apart: NAME=ARTIFACT.")
        if not sum(arm.share for arm in self.arms if not arm.shadow) > 0:
            raise ConfigError("no ranker serves: all have a share of 0 or are shadows.")
        if self.unit not in ("user_id", "request_id"):
            raise ConfigError(f"unit is '{self.unit}'; allowed: user_id, request_id.")
        read_rules(self.combine)


def read_arm(text: str, *, shadow: bool = False) -> ArmSpec:
    """``ARTIFACT``, ``NAME=ARTIFACT`` or ``NAME=ARTIFACT:SHARE``; without a name that of the folder, or of the link to it.

    Raises:
        ConfigError: a share that is no number.
    """
    name, named, rest = text.partition("=")
    path = rest if named else text
    share = 1.0
    front, colon, last = path.rpartition(":")
    if colon and not Path(path).exists():
        path = front
        try:
            share = float(last)
        except ValueError:
            raise ConfigError(
                f"'{text}': the share '{last}' is no number; write NAME=ARTIFACT:SHARE."
            ) from None
        if not 0 <= share < float("inf"):
            raise ConfigError(f"'{text}': a share must be 0 or more.")
    return ArmSpec(name=name if named else Path(path).absolute().name, path=path, share=share, shadow=shadow)
