"""What a server counts, for Prometheus; the one file that needs prometheus-client.

Several workers write to files of a folder (``PROMETHEUS_MULTIPROC_DIR``), and any of them answers for all.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Numbers:
    """The server's counters; made once in a process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        several = FOLDER in os.environ
        if several:
            _forget_the_dead(Path(os.environ[FOLDER]))
        gauge = {"registry": registry, "multiprocess_mode": "livesum"} if several else {"registry": registry}
        self.answers = Counter(
            "slatewise_answers", "Answers by path and status.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "slatewise_request_seconds", "From a request's arrival to its answer.", ["path"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.lists = Counter(
            "slatewise_lists",
            "Lists by ranker, and why a fallback served.",
            ["ranker", "fallback"],
            registry=registry,
        )
        self.ranking = Histogram(
            "slatewise_ranking_seconds",
            "A batch in the ranking thread.",
            ["ranker"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "slatewise_batch_size",
            "Requests ranked at once.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.waiting = Gauge("slatewise_waiting_requests", "Requests in the queue.", **gauge)
        self.feedback = Counter(
            "slatewise_feedback", "Events by what became of them.", ["outcome"], registry=registry
        )
        self.exposures = Counter(
            "slatewise_exposures",
            "Lists by what became of them in the log: new, or under an id that has a list of the same or another question.",
            ["outcome"],
            registry=registry,
        )
        self.unrecorded = Counter(
            "slatewise_unrecorded_calls",
            "Answered calls whose lists the log did not take.",
            registry=registry,
        )
        self.features = Gauge(
            "slatewise_features",
            "What was asked of the feature store, and was missing there.",
            ["what"],
            **gauge,
        )
        self.swaps = Counter(
            "slatewise_swaps",
            "Artifacts that were put in place, or refused.",
            ["ranker", "outcome"],
            registry=registry,
        )
        self.shadow = Counter(
            "slatewise_shadow_items", "Items that a shadow lists, by whether the served list has them.", ["ranker", "shared"],
            registry=registry,
        )  # fmt: skip

    def text(self) -> tuple[bytes, str]:
        """All counters in Prometheus' form, and its content type; of all workers where there are several."""
        registry = self.registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_the_dead(folder: Path) -> None:
    """Gauges of workers that were killed count no more; their counters stay."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except PermissionError:
            continue  # it lives, as somebody else
