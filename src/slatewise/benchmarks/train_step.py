"""One training step of GoalRank's generator against the plain way, on the same requests with the same G.

Ours: the group is sampled without gradient, all lists at once on cached keys and values, and scored with
gradient in one teacher-forced pass. The plain way: the lists are rolled out one after the other, every
position re-runs the whole network with gradient, and one backward goes through all of it. Where that does not
fit in memory, its batch must be cut into micro-batches whose gradients add up; they all cost the same, so one
is measured, as a step of its own. The reward is a gather of given scores on both sides.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from msgspec import Meta

from slatewise.benchmarks import inputs, timing
from slatewise.benchmarks.agreement import differences
from slatewise.benchmarks.group_step import Bench, our_loss, plain_loss, step
from slatewise.benchmarks.memory import peak_apart
from slatewise.benchmarks.rows import Expectation, Progress, Row, compared
from slatewise.config import Above0, Frozen, Positive
from slatewise.errors import ConfigError
from slatewise.generators import autoregressive

EXPECTED = (Expectation(row="training rate", at_least=10.0), Expectation(row="peak memory", at_most=0.5))
MIB, GIB = 2.0**20, 2**30
AGREEMENT_REQUESTS = 4
LOSSES = {"ours": our_loss, "plain": plain_loss}
Side = Literal["ours", "plain"]


class Config(Frozen):
    """``batch`` requests (B), N ``candidates``, lists of ``length`` (L), ``lists`` a group (G).

    ``rounds`` is how often every side is timed. ``memory_gib`` is what a step may take before the plain way's
    batch is cut into micro-batches.
    """

    batch: Positive = 128
    candidates: Positive = 50
    length: Positive = 6
    lists: Annotated[int, Meta(ge=2)] = 20
    history: Positive = 20
    generator: autoregressive.Config = inputs.GENERATOR
    rounds: Positive = 3
    memory_gib: Above0 = 8.0
    device: str = "cpu"
    seed: int = 0


def run(config: Config, progress: Progress) -> list[Row]:
    """Agreement of both ways, then peak memory of each apart, then their rates turn by turn."""
    if config.candidates < config.length:
        raise ConfigError(
            f"candidates = {config.candidates}, but a list of length {config.length} needs as many."
        )
    progress("log-probabilities", 0.0)
    log_prob, gradient = differences(make_bench(config, min(config.batch, AGREEMENT_REQUESTS)))
    progress("memory", 0.05)
    ours = peak(config, "ours", config.batch)
    if ours is None:
        raise ConfigError(
            f"our step needs more than memory_gib = {config.memory_gib}; raise it or lower batch."
        )
    micro, plain = fit_plain(config)
    progress("time", 0.3)
    rows = [*_rates(config, micro, progress), *_memory_rows(config, ours, micro, plain)]
    return [
        *rows,
        Row(name="largest difference of log-probabilities, evaluation mode", value=log_prob, unit="nats"),
        Row(name="largest difference of gradients, share of the largest", value=gradient, unit="share"),
    ]


def make_bench(config: Config, size: int) -> Bench:
    """Generator, optimizer and ``size`` requests; the same weights whatever ``size`` is."""
    schema = inputs.make_schema(config.candidates, config.length, config.history)
    generator = inputs.make_generator(config.generator, schema, config.seed).to(config.device)
    batch = inputs.make_batch(schema, size, config.seed).to(config.device)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-3)
    return Bench(generator, optimizer, batch, config.length, config.lists, config.seed)


def make_work(config: Config, side: Side, size: int) -> timing.Work:
    """One step of one side on ``size`` requests at once."""
    bench = make_bench(config, size)
    return lambda: step(bench, LOSSES[side])


def peak(config: Config, side: Side, size: int) -> int | None:
    """Peak bytes of one step on ``size`` requests at once; None where it would pass ``memory_gib``."""
    limit, threads = int(config.memory_gib * GIB), torch.get_num_threads()
    return peak_apart(make_work, config, side, size, device=config.device, threads=threads, limit=limit)


def fit_plain(config: Config) -> tuple[int, dict[int, int]]:
    """The plain way's largest micro-batch (a power of two, or the batch) that fits, and all peaks measured.

    Two small ones say how large the next may be, so that nothing is tried that is known not to fit.
    """
    sizes = sorted({config.batch, *(2**k for k in range(config.batch.bit_length()) if 2**k < config.batch)})
    peaks: dict[int, int] = {}
    for size in (2, 4, 1):
        if size in sizes and (size > 1 or not peaks):
            _try(config, size, peaks)
    limit = 0.9 * config.memory_gib * GIB
    for size in reversed([size for size in sizes if size > max(peaks, default=0)]):
        if peaks and extrapolated(peaks, size) <= limit and _try(config, size, peaks):
            break
    if not peaks:
        raise ConfigError(
            f"the plain way does not fit into memory_gib = {config.memory_gib} at any batch; raise it."
        )
    return max(peaks), peaks


def _try(config: Config, size: int, peaks: dict[int, int]) -> bool:
    measured = peak(config, "plain", size)
    if measured is not None:
        peaks[size] = measured
    return measured is not None


def extrapolated(peaks: dict[int, int], size: int) -> float:
    """Peak bytes at ``size``, along the line through the smallest and the largest size measured."""
    low, high = min(peaks), max(peaks)
    if low == high:
        return peaks[low] * size / low
    return peaks[high] + (peaks[high] - peaks[low]) / (high - low) * (size - high)


def _rates(config: Config, micro: int, progress: Progress) -> list[Row]:
    product, product_operations = timing.matmul_work(config.device)
    sides = {
        "ours": make_work(config, "ours", config.batch),
        "plain": make_work(config, "plain", micro),
        "matmul": product,
    }
    for warm_up in (sides["ours"], make_work(config, "plain", 1), product):
        warm_up()
    operations, rounds = timing.operations(sides["ours"]), range(1, config.rounds + 1)
    done = iter(rounds)
    seconds = timing.median_seconds(
        sides, len(rounds), config.device, tick=lambda: progress("time", 0.3 + 0.7 * next(done) / len(rounds))
    )
    lists = {"ours": config.batch * config.lists, "plain": micro * config.lists}
    rate = {side: lists[side] / seconds[side] for side in lists}
    arithmetic = operations / seconds["ours"] / 1e9, product_operations / seconds["matmul"] / 1e9
    name = f"training rate, ours at batch {config.batch}, plain way at {micro}"
    return [
        compared(name, rate["ours"], "lists/s", rate["plain"]),
        Row(name="time of our step", value=seconds["ours"], unit="s"),
        compared("arithmetic of our step, against a matrix product", arithmetic[0], "GFLOP/s", arithmetic[1]),
    ]


def _memory_rows(config: Config, ours: int, micro: int, plain: dict[int, int]) -> list[Row]:
    batch = config.batch
    rows = [
        compared(
            f"peak memory, ours at batch {batch}, plain way at {micro}", ours / MIB, "MiB", plain[micro] / MIB
        )
    ]
    if micro < batch:
        whole = extrapolated(plain, batch) / MIB
        name = f"memory, plain way at {batch} too (extrapolated from {min(plain)} and {micro})"
        rows.append(compared(name, ours / MIB, "MiB", whole))
    return rows
