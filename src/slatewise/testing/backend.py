"""The laws of backends (see :mod:`slatewise.export.backends`)."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from slatewise.data.batch import ListBatch
from slatewise.errors import SlatewiseError
from slatewise.export.agreement import compare
from slatewise.export.artifact import Artifact
from slatewise.export.backends import Backend, Served, load_backend
from slatewise.export.made_up import kinds
from slatewise.export.write import export
from slatewise.policies import decode
from slatewise.ranker import Ranker, make_ranker
from slatewise.testing.fixtures import (
    example_batch,
    example_data,
    example_generator,
    example_order,
    permuted,
    short_batch,
)
from slatewise.testing.laws import find, require, require_lists, settings


def check_backend(name: str | ModuleType, artifact: Artifact | None = None, **options: Any) -> None:
    """A backend ranks as the ranker itself does, each request as if it were alone.

    The laws, on golden requests, on those of a tiny store (with few and with many candidates) and on made-up ones: what it
    answers is well formed and of the dtypes of :class:`~slatewise.export.backends.Served`; the lists are the ranker's,
    and log-probabilities and scores are to within rounding; a request alone gets the answer that it gets in a batch;
    permuting the candidates permutes the list; the feed stays as it was; loaded again it answers the same; a damaged file is
    refused in a sentence.

    Args:
        name: public name or module.
        artifact: an artifact of the tiny store's data (:func:`example_artifact`), by default of a generator with a greedy decoder.
        options: the backend's config.

    Raises:
        LawBroken: a law does not hold.
    """
    called, module = find("export.backends", name, "load")
    require(hasattr(module.Config, "files"), f"{called}: Config does not say which files it needs.")
    artifact = example_artifact(called) if artifact is None else artifact
    config = settings(module, options, called)
    backend: Backend = module.load(artifact, config)
    policy = Ranker.load(artifact.path).policy
    batches = [("example", example_batch()), ("short", short_batch())]
    batches += kinds(artifact.transform, artifact.manifest.limits)
    if artifact.golden is not None:
        batches.append(("golden", artifact.transform.batch(artifact.golden)))
    for _, batch in batches:
        _form(called, backend, artifact, batch)
        _alone(called, backend, artifact, batch)
    found = compare(policy, backend, artifact, batches)
    require(not found.different, f"{called}: ranks otherwise than the ranker: {found.different}.")
    _permuted(called, backend, artifact)
    again = load_backend(artifact, called, options)
    feed = artifact.feed(example_batch())
    require(_same(again.rank(feed), backend.rank(feed)), f"{called}: loaded again it answers otherwise.")
    _damaged(called, module, artifact, config)


def example_ranker() -> Ranker:
    """A small generator with random weights as a ranker of the tiny store."""
    options = {"tower": {"width": 32}, "encoder_layers": 1, "heads": 2}
    policy = decode.Config(generator="autoregressive", options=options)
    parts = {"generator": example_generator()}
    return make_ranker("example", policy, "decode", policy, parts, example_data(), 0)


@cache
def example_artifact(backend: str) -> Artifact:
    """The example ranker exported for a backend, once a process, in a temporary folder."""
    folder = tempfile.TemporaryDirectory(prefix="slatewise-testing-")
    atexit.register(folder.cleanup)
    return export(example_ranker(), Path(folder.name) / "artifact", backends=[backend])


def _form(called: str, backend: Backend, artifact: Artifact, batch: ListBatch) -> None:
    feed = artifact.feed(batch)
    before = {name: array.copy() for name, array in feed.items()}
    served = backend.rank(feed)
    kept = all(np.array_equal(before[name], array) for name, array in feed.items())
    require(kept, f"{called}: changes the feed.")
    b, length, n = batch.size, artifact.manifest.limits.length, feed["mask_BN"].shape[1]
    wanted = {
        "order_BL": ((b, length), np.int64),
        "mask_BL": ((b, length), np.bool_),
        "log_prob_B": ((b,), np.float32),
        "score_BN": ((b, n), np.float32),
    }
    for name, (shape, dtype) in wanted.items():
        array = getattr(served, name)
        right = array.shape == shape and array.dtype == dtype
        require(right, f"{called}: {name} is {array.dtype} {array.shape}, not {dtype.__name__} {shape}.")
    require_lists(torch.from_numpy(served.order_BL)[:, None], batch.mask_BN, called)


def _alone(called: str, backend: Backend, artifact: Artifact, batch: ListBatch) -> None:
    together = backend.rank(artifact.feed(batch))
    for row in range(batch.size):
        alone = backend.rank(artifact.feed(batch.take(torch.tensor([row]))))
        same = np.array_equal(alone.order_BL[0], together.order_BL[row])
        require(same, f"{called}: a request alone gets another list than in a batch.")
        close = np.allclose(
            alone.log_prob_B[0], together.log_prob_B[row], rtol=1e-3, atol=1e-3, equal_nan=True
        )
        require(close, f"{called}: a request alone gets another log-probability than in a batch.")


def _permuted(called: str, backend: Backend, artifact: Artifact) -> None:
    batch = example_batch()
    order_N = example_order(batch.num_candidates)
    first, second = (backend.rank(artifact.feed(b)).order_BL for b in (batch, permuted(batch, order_N)))
    same = np.array_equal(order_N.numpy()[second], first)
    require(same, f"{called}: permuting the candidates does not permute the list.")


def _same(one: Served, other: Served) -> bool:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


def _damaged(called: str, module: ModuleType, artifact: Artifact, config: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="slatewise-testing-") as folder:
        broken = replace(artifact, path=Path(folder) / "broken")
        shutil.copytree(artifact.path, broken.path)
        for name in config.files:
            file = broken.path / name
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        try:
            module.load(broken, config)
        except SlatewiseError:
            return
        require(False, f"{called}: half of a file is loaded without a word.")
