"""The artifact: one folder that holds a ranker in every form it was exported in, and all that serving needs to know.

Folder::

    manifest.json                           ArtifactManifest
    ranker.json, model.safetensors,         the ranker as it is, so that whatever takes a ranker's folder takes this one
      transform/, golden.*
    model.onnx                              the whole ranking as one graph (backend onnxruntime)
    model.int8.onnx, model.pt2              others that were asked for

It is opened without anything that trains; what ranks is a backend (:mod:`slatewise.export.backends`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.data.features import FeatureTransform
from slatewise.data.schema import Schema
from slatewise.errors import DataError, RunError
from slatewise.export.feed import Feed, Input, Limits, make_feed

MANIFEST = "manifest.json"


class Agreement(Frozen):
    """How far a backend agrees with the ranker itself.

    Attributes:
        requests: how many were compared.   identical: those that got the same list.
        undecided: those that got another one where the ranker itself cannot tell the two apart (see :mod:`slatewise.export.agreement`).
        largest_log_prob, largest_score: differences, in nats, over the requests with the same list; None: no log-probability.
        value: what lists were valued by, ``""``: nothing.   lost: share of the mean value that is lost, None without it.
    """

    requests: int
    identical: int
    undecided: int
    largest_score: float
    largest_log_prob: float | None = None
    value: str = ""
    lost: float | None = None

    @property
    def share(self) -> float:
        """Share of the requests that got the same list, or one as good."""
        return (self.identical + self.undecided) / max(self.requests, 1)


class Built(Frozen):
    """One form of the ranker in the artifact.

    Attributes:
        name: what it is called (``onnxruntime``, ``onnxruntime int8``).   backend: the plug-in that loads it.
        files: what the plug-in needs.   agreement: with the ranker itself.
        golden: the lists that it wrote for the golden requests, to be written again when it is loaded.
    """

    name: str
    backend: str
    options: dict[str, Any]
    files: tuple[str, ...]
    agreement: Agreement
    golden: tuple[tuple[Any, tuple[Any, ...]], ...] = ()


class ArtifactManifest(Frozen):
    """``manifest.json``: what was exported, what it reads, within which limits, and how well its forms agree.

    Attributes:
        model: the name under which answers say who wrote them: the method and a digest of config and weights.
        config, seed: the method's.   version, commit, versions: of slatewise, its working tree, and the packages.
        data, protocol, target: what it was trained on, and for.   schema: the features that requests have.
        inputs: what a feed holds (:func:`slatewise.export.feed.make_feed`); the open axes are called B and N.
        backends: its forms; the first is the default.   files: digests of everything in the folder.
        ruled: every form can also write lists under rules.   positive_history: only items with feedback were in the histories that it was trained on.
    """

    model: str
    method: str
    config: dict[str, Any]
    seed: int
    version: str
    commit: str | None
    versions: dict[str, str]
    data: str
    protocol: str
    target: dict[str, float]
    schema: Schema
    limits: Limits
    inputs: tuple[Input, ...]
    backends: tuple[Built, ...]
    files: dict[str, str]
    positive_history: bool = False
    ruled: bool = False
    format: int = 1


@dataclass(frozen=True)
class Artifact:
    """An artifact that is open: its manifest, its feature transform, its golden requests (None: there are none)."""

    path: Path
    manifest: ArtifactManifest
    transform: FeatureTransform
    golden: pl.DataFrame | None

    def feed(self, batch: ListBatch) -> Feed:
        """A batch as every backend takes it; see :func:`~slatewise.export.feed.make_feed`."""
        return make_feed(batch, self.manifest.inputs, self.manifest.limits)

    @staticmethod
    def open(path: Path | str) -> Artifact:
        """Open an artifact's folder and check that all of it is there, as it was written.

        Raises:
            RunError: the folder is no artifact, or is damaged.
        """
        path = Path(path)
        manifest = _read(path)
        for name, expected in manifest.files.items():
            if not (path / name).is_file() or digest_of(path / name) != expected:
                raise RunError(
                    f"{path / name} is missing or is not the file that was exported; export the run again."
                )
        try:
            transform = FeatureTransform.load(path / "transform")
        except DataError as error:
            raise RunError(f"{path} cannot be opened: {error}") from None
        golden = path / "golden.parquet"
        return Artifact(path, manifest, transform, pl.read_parquet(golden) if golden.exists() else None)


def _read(path: Path) -> ArtifactManifest:
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=ArtifactManifest)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path} is not an artifact (no {MANIFEST}); make one with `slatewise export`."
        ) from None
    except msgspec.DecodeError as error:
        raise RunError(
            f"{path / MANIFEST} is not an artifact's: {error}. Make one with `slatewise export`."
        ) from None
    if not manifest.backends:
        raise RunError(f"{path / MANIFEST} names no backend; export the run again.")
    return manifest


def digest_of(path: Path) -> str:
    """Sixteen hex digits that change with any byte of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
