"""Serving: what the wire, the features and the batching cost on top of the model, and GoalRank against choosing among lists.

A store is simulated and rankers with random weights are exported, so this needs no data and no training: what they have learnt
changes no cost. Server and load generator are pinned to a core each, where the system can.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
import numpy as np
import polars as pl
import torch

from slatewise.benchmarks import inputs, load, timing
from slatewise.benchmarks.rows import Expectation, Progress, Row, compared
from slatewise.config import Above0, Frozen, Positive, to_plain
from slatewise.data.prepared import PreparedData, load_data
from slatewise.export.artifact import Artifact
from slatewise.export.backends import load_backend
from slatewise.export.write import export
from slatewise.generators import autoregressive
from slatewise.policies import decode, pick
from slatewise.protocols.prepare import prepare
from slatewise.ranker import Ranker, make_policy, make_ranker
from slatewise.rng import child_seed

EXPECTED = (
    Expectation(row="onnxruntime, batch 1", at_least=3.0),
    Expectation(row="server, 1 connection, p50", at_most=1.35),
    Expectation(row="server, 64 connections, rate", at_least=0.7),
)


class Config(Frozen):
    """``lists``: what the generator–evaluator chooses from.   ``seconds`` each load is kept up.

    ``generator``: GoalRank's, width 128 with 2 + 2 layers; the generator–evaluator has two scorers and a listwise reward of that width.
    """

    candidates: Positive = 50
    length: Positive = 6
    connections: tuple[Positive, ...] = (1, 8, 64)
    batch: Positive = 32
    lists: Positive = 20
    generator: autoregressive.Config = inputs.GENERATOR
    seconds: Above0 = 5.0
    requests: Positive = 64
    seed: int = 0


def run(config: Config, progress: Progress) -> list[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory(prefix="slatewise-bench-") as folder:
        return list(_rows(config, Path(folder), progress))


def _rows(config: Config, folder: Path, progress: Progress) -> Iterator[Row]:
    progress("exporting", 0.0)
    data = _data(config, folder / "data")
    goalrank, chooser = _rankers(config, data)
    ours = export(goalrank, folder / "goalrank", backends=("onnxruntime", "eager"))
    theirs = export(chooser, folder / "chooser")
    progress("model alone", 0.3)
    alone = _alone(config, ours, theirs, data)
    one, best = alone["onnxruntime, 1"], alone["onnxruntime, batch"] / config.batch
    yield compared("onnxruntime, batch 1, requests/s", 1 / one, "1/s", 1 / alone["eager, 1"])
    yield compared(
        f"onnxruntime, batch {config.batch}, requests/s",
        1 / best,
        "1/s",
        1 / alone["eager, batch"] * config.batch,
    )
    yield compared(
        f"goalrank against choosing among {config.lists}, model alone, ms",
        one * 1e3,
        "ms",
        alone["chooser, 1"] * 1e3,
    )
    messages = _messages(data, config)
    yield Row(name="body of a request", value=float(len(messages[0])), unit="bytes")
    progress("echo", 0.4)
    with _server(
        [sys.executable, "-m", "uvicorn", "--factory", "slatewise.benchmarks.echo:create"], "/", config
    ) as port:
        echo = load.run(port, messages, 1, config.seconds)
    yield Row(name="echo, 1 connection, p50", value=echo.percentile(50), unit="ms")
    stores = {
        "server": [],
        "server with log and features": [
            "--log",
            str(folder / "log.db"),
            "--features",
            str(folder / "features.db"),
        ],
    }
    for place, (name, options) in enumerate(stores.items()):
        with _slatewise(folder / "goalrank", options, config) as port:
            for connections in config.connections:
                progress(f"{name}, {connections}", 0.5 + 0.2 * place)
                yield from _loaded(
                    name, load.run(port, messages, connections, config.seconds), connections, one, best, echo
                )
    progress("choosing among lists", 0.9)
    with _slatewise(folder / "goalrank", [], config) as port:
        first = load.run(port, messages, 1, config.seconds).percentile(50)
    with _slatewise(folder / "chooser", [], config) as port:
        second = load.run(port, messages, 1, config.seconds).percentile(50)
    yield compared(f"goalrank against choosing among {config.lists}, served, p50", first, "ms", second)


def _loaded(
    name: str, found: load.Load, connections: int, one: float, best: float, echo: load.Load
) -> Iterator[Row]:
    called = f"{name}, {connections} connection{'s' if connections > 1 else ''}"
    if wrong := {status: count for status, count in found.statuses.items() if status != 200}:
        yield Row(
            name=f"{called}, answers other than 200: {wrong}",
            value=float(sum(wrong.values())),
            unit="answers",
        )
    if connections == 1:
        yield compared(f"{called}, p50", found.percentile(50), "ms", one * 1e3 + echo.percentile(50))
    else:
        yield Row(name=f"{called}, p50", value=found.percentile(50), unit="ms")
    for share in (95, 99):
        yield Row(name=f"{called}, p{share}", value=found.percentile(share), unit="ms")
    yield compared(f"{called}, rate", found.rate, "1/s", 1 / best)


# --- what is served ---


def _data(config: Config, path: Path) -> PreparedData:
    options = {
        "candidates": config.candidates,
        "length": config.length,
        "requests": 2000,
        "validation": 100,
        "test": 200,
    }
    prepare("store", None, None, path, dataset_options=options, protocol_options={}, seed=config.seed)
    return load_data(path)


def _rankers(config: Config, data: PreparedData) -> tuple[Ranker, Ranker]:
    width = to_plain(config.generator.tower)
    spec = decode.Config(generator="autoregressive", options=to_plain(config.generator))
    torch.manual_seed(child_seed(config.seed, "benchmark", "init"))
    policy = make_policy("decode", to_plain(spec), data.manifest)
    ours = make_ranker("goalrank", spec, "decode", spec, {"": policy}, data, config.seed)
    scorer = pick.GeneratorSpec(name="scorer", options={"tower": width})
    reward = pick.RewardSpec(name="listwise", options={"tower": width})
    chooser = pick.Config(generators={"dnn": scorer, "prm": scorer}, reward=reward, lists=config.lists)
    policy = make_policy("pick", to_plain(chooser), data.manifest)
    return ours, make_ranker("generator-evaluator", chooser, "pick", chooser, {"": policy}, data, config.seed)


def _alone(config: Config, ours: Artifact, theirs: Artifact, data: PreparedData) -> dict[str, float]:
    """Median seconds of one call on one thread."""
    batch = data.split("test").batch(slice(0, config.batch))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sides: dict[str, Callable[[], Any]] = {}
        for name in ("onnxruntime", "eager"):
            backend = load_backend(ours, name)
            for called, some in (("1", batch.take(torch.arange(1))), ("batch", batch)):
                feed = ours.feed(some)
                sides[f"{name}, {called}"] = partial(backend.rank, feed)
        chooser, feed = load_backend(theirs), theirs.feed(batch.take(torch.arange(1)))
        sides["chooser, 1"] = partial(chooser.rank, feed)
        return timing.median_seconds(sides, timing.rounds_for(sides, 2 * config.seconds))
    finally:
        torch.set_num_threads(threads)


def _messages(data: PreparedData, config: Config) -> list[bytes]:
    """Requests of the data's own form, other users and candidates in each."""
    rng = np.random.default_rng(config.seed)
    examples = pl.read_parquet(data.path / "examples.parquet")
    items = examples["candidates"].explode().unique().to_list()
    bodies = [
        {
            "user_id": f"u{rng.integers(2000)}",
            "candidates": [f"i{item}" for item in rng.choice(3000, config.candidates, replace=False)],
            "scores": rng.normal(size=config.candidates).round(5).tolist(),
        }
        for _ in range(config.requests)
    ]
    assert all(str(item).startswith("i") for item in items)
    return [load.message("/v1/rank", msgspec.json.encode(body)) for body in bodies]


# --- processes ---


@contextmanager
def _slatewise(artifact: Path, options: list[str], config: Config) -> Iterator[int]:
    verb = [sys.executable, "-c", "from slatewise.cli import main; main()", "serve", str(artifact)]
    with _server([*verb, "--batch", str(config.batch), *options], "/readyz", config) as port:
        yield port


@contextmanager
def _server(command: list[str], path: str, config: Config) -> Iterator[int]:
    """A server in a process of its own on a core of its own, ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command, "--port", str(port)], stdout=quiet, stderr=quiet)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    try:
        if len(cores) > 1:
            os.sched_setaffinity(process.pid, {cores[0]})
            os.sched_setaffinity(0, {cores[1]})
        _wait(process, f"http://127.0.0.1:{port}{path}")
        yield port
    finally:
        process.terminate()
        process.wait()
        if len(cores) > 1:
            os.sched_setaffinity(0, cores)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(600):
        try:
            urlopen(url, timeout=1).close()
            return
        except URLError as error:
            if getattr(error, "code", 0):
                return  # it answers, if only that there is nothing
        except OSError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the server at {url} does not start; it ended with {process.poll()}.")
