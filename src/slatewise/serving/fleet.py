"""The rankers of a server: which of them answers whom, and how a new artifact takes the place of an old one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slatewise.errors import SlatewiseError
from slatewise.export.artifact import MANIFEST
from slatewise.serving.buckets import Buckets
from slatewise.serving.models import Model
from slatewise.serving.settings import ArmSpec

log = logging.getLogger("slatewise")


@dataclass(frozen=True)
class Refused:
    """An artifact that was not taken: which, and why."""

    ranker: str
    reason: str


class Fleet:
    """Rankers by arm. Reading is safe from any thread; one thread swaps."""

    def __init__(
        self,
        arms: tuple[ArmSpec, ...],
        load: Callable[[ArmSpec], Model],
        salt: str,
        told: Callable[[str, str], None] | None = None,
    ) -> None:
        """Load all of them.

        Args:
            load: opens an arm's artifact, warm.   salt: other buckets with another one.
            told: of each swap: its arm, and ``swapped`` or ``refused``.

        Raises:
            ConfigError, RunError: an artifact cannot be loaded.
        """
        self._load, self._told = load, told or (lambda ranker, outcome: None)
        self.arms = {arm.name: arm for arm in arms}
        self._seen = {arm.name: _stamp(arm) for arm in arms}
        self.models = {arm.name: load(arm) for arm in arms}
        self.refused: dict[str, Refused] = {}
        serving = [arm for arm in arms if not arm.shadow]
        self._buckets = Buckets({arm.name: arm.share for arm in serving}, salt)
        self.shadows = [arm.name for arm in arms if arm.shadow]
        self._stop = threading.Event()
        self._watch: threading.Thread | None = None

    def choose(self, unit: str) -> Model:
        """The ranker that answers a unit: always the same one, as long as salt and shares are."""
        return self.models[self._buckets.of(unit)]

    def shadowing(self) -> list[Model]:
        """Rankers whose lists nobody sees."""
        return [self.models[name] for name in self.shadows]

    def watch(self, seconds: float) -> None:
        """Look for new artifacts every so many seconds, in a thread of its own."""
        self._watch = threading.Thread(target=self._look, args=(seconds,), name="artifacts", daemon=True)
        self._watch.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._watch:
            self._watch.join()

    def refresh(self) -> None:
        """Put in place what changed on disk. A broken artifact is refused, and the old one stays."""
        for name, arm in self.arms.items():
            stamp = _stamp(arm)
            if stamp is None or stamp == self._seen[name]:
                continue
            self._seen[name] = stamp
            try:
                model = self._load(arm)
            except Exception as error:  # whatever is wrong with it: the next one may be sound
                reason = (
                    str(error) if isinstance(error, SlatewiseError) else f"{type(error).__name__}: {error}"
                )
                self.refused[name] = Refused(name, reason)
                log.warning("the new artifact of '%s' is refused, the old one stays: %s", name, reason)
                self._told(name, "refused")
                continue
            self.refused.pop(name, None)
            log.info("'%s' is now %s (before: %s)", name, model.version, self.models[name].version)
            self.models[name] = model
            self._told(name, "swapped")

    def _look(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.refresh()


def _stamp(arm: ArmSpec) -> tuple[object, ...] | None:
    """Changes with any file of the artifact at an arm's path (which may be a link); None while there is none."""
    try:
        folder = Path(arm.path).resolve()
        if not (folder / MANIFEST).exists():
            return None
        stats = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    except OSError:
        return None
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)
