"""Backends: what runs an exported ranker, one file each; a server needs nothing else of a model.

Each file exports ``Config`` (with ``files``: what it needs of an artifact) and ``load(artifact, config) -> Backend``. One
that needs a form of the ranker to be written also exports ``require()``, which says what the machine lacks for that, and
``write(traced, folder, config)``, which is called again for the graph that takes rules (``ruled_name`` of its file).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.config import build
from slatewise.errors import RunError
from slatewise.export.artifact import Artifact, Built
from slatewise.export.feed import Feed
from slatewise.names import plugin


@dataclass(frozen=True)
class Served:
    """What a backend answers a feed with: :class:`slatewise.types.Answer`, as NumPy arrays."""

    order_BL: NDArray[np.int64]
    mask_BL: NDArray[np.bool_]
    log_prob_B: NDArray[np.float32]
    score_BN: NDArray[np.float32]


def ruled_name(name: str) -> str:
    """``model.onnx`` to ``model.rules.onnx``: the graph that takes rules, too."""
    stem, dot, rest = name.partition(".")
    return f"{stem}.rules{dot}{rest}"


class Backend(Protocol):
    """A ranker that is loaded and ready. One call at a time: a worker that computes in several threads loads several."""

    def rank(self, feed: Feed) -> Served:
        """The answers to B requests, each the one that it gets alone."""

    def rank_ruled(self, feed: Feed) -> Served:
        """The same under rules, which the feed holds, too; where the artifact is ``ruled``."""


def load_backend(
    artifact: Artifact, name: str | None = None, options: Mapping[str, Any] | None = None
) -> Backend:
    """Load a form of an artifact's ranker and see that it answers the golden requests as when it was exported.

    Args:
        name: a plug-in of this folder; None: the artifact's default.   options: its config.

    Raises:
        ConfigError: there is no such backend or option.
        RunError: the artifact does not hold it, or it cannot be loaded here, or it answers otherwise.
    """
    name = artifact.manifest.backends[0].backend if name is None else name
    module = plugin("export.backends", name)
    config = build(module.Config, dict(options or {}), where=f"backend '{name}'")
    built = _built(artifact, name, config.files)
    backend: Backend = module.load(artifact, config)
    if artifact.golden is not None and golden_lists(backend, artifact, artifact.golden) != built.golden:
        raise RunError(
            f"{artifact.path} ranks its golden requests by {built.name} otherwise than when it was exported; its files, "
            "the library or the processor changed. Export the run again."
        )
    return backend


def _built(artifact: Artifact, name: str, files: tuple[str, ...]) -> Built:
    for built in artifact.manifest.backends:
        if built.backend == name.replace("_", "-") and built.files == files:
            return built
    there = ", ".join(built.name for built in artifact.manifest.backends)
    raise RunError(f"{artifact.path} has no {', '.join(files)} for '{name}'; it was exported for: {there}.")


def golden_lists(
    backend: Backend, artifact: Artifact, golden: pl.DataFrame
) -> tuple[tuple[Any, tuple[Any, ...]], ...]:
    """The lists that a backend writes for requests in the log schema, in the caller's ids, request by request."""
    served = backend.rank(artifact.feed(artifact.transform.batch(golden)))
    rows = zip(golden["request_id"], golden["candidates"], served.order_BL, served.mask_BL, strict=True)
    return tuple((request, tuple(items[int(i)] for i in order[mask])) for request, items, order, mask in rows)
