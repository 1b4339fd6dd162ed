"""Greedy lists and samples: cached keys and values against the plain way, over sizes.

The plain way re-runs the whole network, encoder included, for each position. A second reference encodes once
and re-runs the decoder alone over the prefix, which tells what the decoder's own cache brings. Last, what a request
costs online: DeGRe's greedy pass against a search under its evaluator, and against a generator–evaluator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.benchmarks import inputs, timing
from slatewise.benchmarks.online import Online
from slatewise.benchmarks.online import measure as measure_online
from slatewise.benchmarks.plain import best, write_plainly
from slatewise.benchmarks.rows import Expectation, Progress, Row, compared
from slatewise.config import Frozen, Positive, Weight
from slatewise.data.batch import ListBatch
from slatewise.decoding import greedy, sample
from slatewise.errors import ConfigError
from slatewise.generators import autoregressive
from slatewise.generators.autoregressive import Autoregressive
from slatewise.rng import torch_rng

EXPECTED = (Expectation(row="greedy N=50 L=6 B=32, whole network re-run", at_least=3.0),)
GREEDY, SAMPLE = greedy.Config(), sample.Config()


class Config(Frozen):
    """The grid of greedy decoding is ``candidates`` x ``lengths`` x ``batches``.

    Sampling ``lists`` at once is measured for all ``batches`` at ``sample_candidates`` and ``sample_length``.
    ``online`` are the sizes of the last comparison. ``seconds`` is how long one case is measured, though never less than three rounds.
    """

    candidates: tuple[Positive, ...] = (12, 50, 120)
    lengths: tuple[Positive, ...] = (6, 12)
    batches: tuple[Positive, ...] = (1, 32, 256)
    lists: Positive = 20
    sample_candidates: Positive = 50
    sample_length: Positive = 6
    history: Positive = 20
    generator: autoregressive.Config = inputs.GENERATOR
    online: Online = Online()
    seconds: Weight = 4.0
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """One measurement: which verb at which sizes."""

    verb: str
    candidates: int
    length: int
    batch: int

    @property
    def name(self) -> str:
        """How its rows begin."""
        return f"{self.verb} N={self.candidates} L={self.length} B={self.batch}"


def run(config: Config, progress: Progress) -> list[Row]:
    """Every case of the grid, then sampling, then the policies."""
    cases, online = list(_cases(config)), config.online
    total, rows = len(cases) + len(online.batches), list[Row]()
    for done, case in enumerate(cases):
        progress(case.name, done / total)
        rows += _measure(config, case)
    for done, size in enumerate(online.batches, start=len(cases)):
        progress(f"online B={size}", done / total)
        rows += measure_online(online, size, config.history, config.seconds, config.seed, config.device)
    return rows


def _cases(config: Config) -> Iterator[Case]:
    for n, length in [(n, length) for n in config.candidates for length in config.lengths]:
        yield from (Case("greedy", n, length, batch) for batch in config.batches)
    yield from (Case("sample", config.sample_candidates, config.sample_length, b) for b in config.batches)


@torch.no_grad()
def _measure(config: Config, case: Case) -> list[Row]:
    if case.candidates < case.length:
        raise ConfigError(
            f"{case.name}: a list of length {case.length} needs as many candidates; change the grid."
        )
    schema = inputs.make_schema(case.candidates, case.length, config.history)
    generator = inputs.make_generator(config.generator, schema, config.seed).to(config.device).eval()
    batch = inputs.make_batch(schema, case.batch, config.seed).to(config.device)
    sides = _greedy(config, generator, batch, case.length)
    lists = 1
    if case.verb == "sample":
        sides, lists = _sample(config, generator, batch, case.length), config.lists
    rounds = timing.rounds_for(sides, config.seconds, config.device)
    rate = {
        name: case.batch * lists / seconds
        for name, seconds in timing.median_seconds(sides, rounds, config.device).items()
    }
    return [
        compared(f"{case.name}, {name}", rate["ours"], "lists/s", rate[name])
        for name in sides
        if name != "ours"
    ]


def _greedy(
    config: Config, generator: Autoregressive, batch: ListBatch, length: int
) -> dict[str, timing.Work]:
    return {
        "ours": lambda: our_greedy(generator, batch, length),
        "whole network re-run": lambda: write_plainly(generator, batch, length, best),
        "decoder re-run": lambda: write_plainly(generator, batch, length, best, encode_once=True),
    }


def our_greedy(generator: Autoregressive, batch: ListBatch, length: int) -> tuple[Tensor, Tensor]:
    """The lists (B, L) of the cached greedy decoder and their log-probabilities (B,)."""
    rng = torch.Generator(batch.mask_BN.device)
    slate = greedy.decode(generator, batch, length=length, rng=rng, config=GREEDY)
    return slate.order_BL, slate.log_prob_B


def _sample(
    config: Config, generator: Autoregressive, batch: ListBatch, length: int
) -> dict[str, timing.Work]:
    rng = torch_rng(config.seed, "benchmark", "sample", device=config.device)

    def at_once(count: int) -> Tensor:
        memory = generator.encode(batch)
        return sample.propose(generator, memory, length=length, count=count, rng=rng, config=SAMPLE)

    def one_by_one() -> list[Tensor]:
        memory = generator.encode(batch)
        return [
            sample.propose(generator, memory, length=length, count=1, rng=rng, config=SAMPLE)
            for _ in range(config.lists)
        ]

    return {
        "ours": lambda: at_once(config.lists),
        "one by one, encoded once": one_by_one,
        "one by one, encoded each time": lambda: [at_once(1) for _ in range(config.lists)],
    }
