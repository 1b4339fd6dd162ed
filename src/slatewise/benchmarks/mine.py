"""Lists mined a second: cached beam search against the plain way, at the same beam, with the same step values.

The plain way values every expanded prefix as a list of its own, from its features on: whatever two prefixes share, or a
prefix and its extension, is computed for each of them. A second reference encodes the request once and reads every
expanded prefix whole, which tells what reading on brings by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from slatewise.benchmarks import inputs, timing
from slatewise.benchmarks.memory import peak_apart
from slatewise.benchmarks.rows import Expectation, Progress, Row, compared
from slatewise.config import Above0, Frozen, Positive, Weight
from slatewise.config import build as build_config
from slatewise.data.batch import ListBatch
from slatewise.decoding.search import Beam, beam_search
from slatewise.errors import ConfigError
from slatewise.generators.base import CLOSED
from slatewise.groups.beam_mining import MiningConfig, mine
from slatewise.names import plugin
from slatewise.rewards import RewardModel, build_reward
from slatewise.rewards.base import RewardMemory
from slatewise.rng import child_seed

EXPECTED = (
    Expectation(row="mining N=12 L=6 beam 8, every expanded prefix re-scored whole", at_least=10.0),
    Expectation(row="mining N=50 L=6 beam 8 top-K 12, every expanded prefix re-scored whole", at_least=10.0),
)
MIB, GIB = 2.0**20, 2**30
AGREEMENT_REQUESTS = 4


class Setting(Frozen):
    """N ``candidates``, and the mining."""

    candidates: Positive
    mining: MiningConfig

    def name(self, length: int) -> str:
        """How its rows begin."""
        cut = f" top-K {self.mining.top_k}" if self.mining.top_k else ""
        return f"mining N={self.candidates} L={length} beam {self.mining.width}{cut}"


class Config(Frozen):
    """``reward`` and ``options`` are the evaluator's plug-in; ``batch`` requests are mined at once (ours: the store's
    batch), ``plain_batch`` by the plain way, which needs more memory a request. ``seconds`` is how long one setting is
    measured, though never less than three rounds."""

    settings: tuple[Setting, ...] = (
        Setting(candidates=12, mining=MiningConfig(width=8)),
        Setting(candidates=50, mining=MiningConfig(width=8, top_k=12)),
    )
    length: Positive = 6
    batch: Positive = 128
    plain_batch: Positive = 16
    history: Positive = 20
    reward: str = "listwise"
    options: dict[str, Any] = {}
    seconds: Weight = 10.0
    memory_gib: Above0 = 8.0
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Bench:
    """An evaluator and the requests to mine."""

    reward: RewardModel
    batch: ListBatch
    mining: MiningConfig
    length: int


def run(config: Config, progress: Progress) -> list[Row]:
    """Every setting: agreement of both ways, peak memory of each, then their rates turn by turn."""
    rows: list[Row] = []
    for place, setting in enumerate(config.settings):
        if setting.candidates < config.length:
            raise ConfigError(f"{setting.name(config.length)}: a list needs as many candidates as places.")
        progress(setting.name(config.length), place / len(config.settings))
        rows += _measure(config, place)
    return rows


def make_bench(config: Config, place: int, size: int) -> Bench:
    """The setting number ``place`` with ``size`` requests; the same weights whatever ``size`` is."""
    setting = config.settings[place]
    schema = inputs.make_schema(setting.candidates, config.length, config.history)
    options = build_config(plugin("rewards", config.reward).Config, config.options, where=config.reward)
    torch.manual_seed(child_seed(config.seed, "benchmark", "init"))
    reward = build_reward(config.reward, options, inputs.make_manifest(schema)).to(config.device).eval()
    batch = inputs.make_batch(schema, size, config.seed).to(config.device)
    return Bench(reward, batch, setting.mining, config.length)


@torch.no_grad()
def ours(bench: Bench) -> tuple[Tensor, Tensor]:
    """Lists and values, as ``slatewise mine`` finds them (with the step values)."""
    mined = mine(bench.reward, bench.reward.encode(bench.batch), bench.mining, length=bench.length)
    return mined.lists_BGL, mined.value_BG


@torch.no_grad()
def plain(bench: Bench, *, encode_once: bool = False) -> tuple[Tensor, Tensor]:
    """The same by valuing every expanded prefix whole (``encode_once``: from the encoded request)."""
    reward, batch = bench.reward, bench.batch
    memory = reward.encode(batch)
    value = _reading(reward, memory) if encode_once else _whole(reward, batch)
    rows = torch.arange(batch.num_candidates, device=batch.mask_BN.device)
    single_BN = value(rows.expand(batch.size, -1)[..., None])
    order_BN = single_BN.argsort(dim=1, descending=True)

    def expand(beam: Beam) -> Tensor:
        tried_BKM = _tried(beam, order_BN, bench.mining.top_k or batch.num_candidates)
        b, k, m = tried_BKM.shape
        prefix_BKMT = beam.lists_BKT[:, :, None].expand(b, k, m, beam.length)
        longer = torch.cat([prefix_BKMT, tried_BKM[..., None]], 3).flatten(1, 2)
        total_BKN = single_BN.new_full((b, k, batch.num_candidates), CLOSED)
        return total_BKN.scatter(2, tried_BKM, value(longer).view(b, k, m))

    return beam_search(expand, batch.mask_BN, length=bench.length, width=bench.mining.width)


def _tried(beam: Beam, order_BN: Tensor, most: int) -> Tensor:
    """The candidates (B, K, M) that each prefix is expanded with: the best ``most`` that it has not taken."""
    order_BKN = order_BN[:, None].expand(-1, beam.lists_BKT.shape[1], -1)
    taken_BKN = torch.zeros_like(order_BKN, dtype=torch.bool).scatter(2, beam.lists_BKT, True)
    last_BKN = taken_BKN.gather(2, order_BKN).to(torch.uint8).argsort(dim=2, stable=True)
    return order_BKN.gather(2, last_BKN)[:, :, : min(most, order_BN.shape[1] - beam.length)]


def _reading(reward: RewardModel, memory: RewardMemory) -> Callable[[Tensor], Tensor]:
    return lambda lists_BGT: reward.value_of(memory, lists_BGT)


def _whole(reward: RewardModel, batch: ListBatch) -> Callable[[Tensor], Tensor]:
    """Each list as a request of its own, whose candidates are the list's items (as a list model is trained on lists)."""

    def value(lists_BGT: Tensor) -> Tensor:
        b, g, t = lists_BGT.shape
        request = batch.take(torch.arange(b, device=lists_BGT.device).repeat_interleave(g))
        index_RT = lists_BGT.flatten(0, 1)
        moved = {
            field.name: _along(getattr(request, field.name), index_RT)
            for field in fields(request)
            if "_BN" in field.name
        }
        one = replace(request, **moved)
        return reward.value(one, torch.arange(t, device=lists_BGT.device).expand(b * g, 1, t)).view(b, g)

    return value


def _along(x: Tensor, index_RT: Tensor) -> Tensor:
    return torch.take_along_dim(x, index_RT.view(*index_RT.shape, *[1] * (x.dim() - 2)), 1)


def make_work(config: Config, place: int, side: str, size: int) -> timing.Work:
    """One call of one side on ``size`` requests at once."""
    bench = make_bench(config, place, size)
    works = {
        "ours": lambda: ours(bench),
        "every expanded prefix re-scored whole": lambda: plain(bench),
        "encoded once, every expanded prefix re-read": lambda: plain(bench, encode_once=True),
    }
    return works[side]


def _measure(config: Config, place: int) -> list[Row]:
    name, width = config.settings[place].name(config.length), config.settings[place].mining.width
    sizes = {
        "ours": config.batch,
        "every expanded prefix re-scored whole": config.plain_batch,
        "encoded once, every expanded prefix re-read": config.plain_batch,
    }
    sides = {side: make_work(config, place, side, size) for side, size in sizes.items()}
    rounds = timing.rounds_for(sides, config.seconds, config.device)
    seconds = timing.median_seconds(sides, rounds, config.device)
    rate = {side: sizes[side] * width / seconds[side] for side in sizes}
    rows = [
        compared(f"{name}, {side}", rate["ours"], "lists/s", rate[side]) for side in sizes if side != "ours"
    ]
    rows.append(Row(name=f"{name}, time a request", value=1e3 * seconds["ours"] / config.batch, unit="ms"))
    rows += _memory(config, place, name)
    return [
        *rows,
        Row(name=f"{name}, largest difference of values", value=difference(config, place), unit="value"),
    ]


def _memory(config: Config, place: int, name: str) -> list[Row]:
    """Peak memory of one call, both sides at the same number of requests: it is all that mining takes, however many
    requests the data has."""
    sides = ("ours", "every expanded prefix re-scored whole")
    limit, threads = int(config.memory_gib * GIB), torch.get_num_threads()
    peaks = [
        peak_apart(
            make_work,
            config,
            place,
            side,
            config.plain_batch,
            device=config.device,
            threads=threads,
            limit=limit,
        )
        for side in sides
    ]
    if peaks[0] is None or peaks[1] is None:
        raise ConfigError(
            f"{name} needs more than memory_gib = {config.memory_gib}; raise it or lower plain_batch."
        )
    title = f"{name}, peak memory at {config.plain_batch} requests"
    return [compared(title, peaks[0] / MIB, "MiB", peaks[1] / MIB)]


def difference(config: Config, place: int) -> float:
    """Largest difference between the values of both ways' lists; infinite where a list differs."""
    bench = make_bench(config, place, AGREEMENT_REQUESTS)
    (lists_BGL, value_BG), (plain_BGL, plain_BG) = ours(bench), plain(bench)
    if not torch.equal(lists_BGL, plain_BGL):
        return float("inf")
    return (value_BG - plain_BG).abs().max().item()
