"""What it costs to take candidates from the whole catalogue for one user, and to read his history.

Path heads with beam search along the trie, and step 2's vectors (task tokens and fake items, then one inner product with every
item), against the plain alternative: one inner product with every item's vector and the best of them. All start from the user's
history as the backbone has read it. The catalogue is random vectors whose directions matter less and
less, as embeddings' do, with the semantic ids that are learnt from them; other weights are random, which changes no
cost.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from slatewise.benchmarks import timing
from slatewise.benchmarks.rows import Expectation, Progress, Row, compared
from slatewise.candidates import semantic_ids
from slatewise.candidates.retrieval import Floats
from slatewise.candidates.semantic_ids import SemanticIdConfig, SemanticIds
from slatewise.config import Frozen, Positive, Weight
from slatewise.errors import ConfigError
from slatewise.modules.hstu import Hstu, HstuConfig
from slatewise.modules.path_search import search_paths
from slatewise.modules.paths import PathHeads
from slatewise.modules.target_aware import TargetAware, TargetConfig
from slatewise.modules.trie import Trie, build_trie
from slatewise.rng import child_seed, numpy_rng, torch_rng

EXPECTED = (
    Expectation(row="one user, I=100000, beam search along the trie", at_most=3.0),
    Expectation(row="one more token behind 999", at_most=0.25),
)
DAY = 86_400


class Config(Frozen):
    """``top`` candidates from each of the catalogues of so many ``items``, by beams of ``top`` prefixes and J ``heads``.

    ``target`` and ``tasks`` are step 2, which looks back at the first of ``lengths``: histories in tokens (an interaction is two), for
    ``hstu``, whose width is that of states and item vectors, too. ``seconds`` is how long one comparison is measured, though
    never less than three rounds.
    """

    items: Annotated[tuple[Positive, ...], Meta(min_length=1)] = (10_000, 100_000)
    top: Positive = 100
    heads: Positive = 4
    ids: SemanticIdConfig = SemanticIdConfig()
    target: TargetConfig = TargetConfig()
    tasks: Positive = 4
    lengths: Annotated[tuple[Annotated[int, Meta(ge=2)], ...], Meta(min_length=1)] = (50, 100, 200, 500, 1000)
    hstu: HstuConfig = HstuConfig(length=1024)
    seconds: Weight = 10.0
    device: str = "cpu"
    seed: int = 0


def run(config: Config, progress: Progress) -> list[Row]:
    """Every catalogue, then every length of history."""
    if min(config.items) < config.top:
        raise ConfigError(f"top = {config.top}, but a catalogue has only {min(config.items)} items.")
    rows: list[Row] = []
    for done, items in enumerate(config.items):
        progress(f"catalogue of {items}", done / (len(config.items) + 1))
        rows += _catalogue(config, items)
    progress("history", len(config.items) / (len(config.items) + 1))
    return rows + _history(config)


@torch.no_grad()
def _catalogue(config: Config, items: int) -> list[Row]:
    vectors_ID = make_vectors(items, config.hstu.width, config.seed)
    found: list[SemanticIds] = []
    learning = timing.seconds_of(
        lambda: found.append(
            semantic_ids.fit(config.ids, vectors_ID, np.ones(items, dtype=bool), config.seed)
        )
    )
    codes_IS, real_I = (torch.from_numpy(x).to(config.device) for x in (found[0].codes_IS, found[0].real_I))
    trie = build_trie(codes_IS, real_I, config.ids.codes)
    building = timing.seconds_of(lambda: build_trie(codes_IS, real_I, config.ids.codes), config.device)
    sides = _sides(config, torch.from_numpy(vectors_ID).to(config.device), trie)
    rounds = timing.rounds_for(sides, config.seconds, config.device)
    seconds = timing.median_seconds(sides, rounds, config.device)
    plain = seconds.pop("matrix product")
    return [
        *(
            row
            for name, own in seconds.items()
            for row in (
                compared(f"one user, I={items}, {name}", 1e3 * own, "ms", 1e3 * plain),
                compared(
                    f"candidates, I={items}, {name}", config.top / own, "candidates/s", config.top / plain
                ),
            )
        ),
        Row(name=f"building the trie, I={items}", value=1e3 * building, unit="ms"),
        Row(name=f"learning semantic ids, I={items}", value=learning, unit="s"),
    ]


def make_vectors(items: int, width: int, seed: int) -> Floats:
    """(I, D) random vectors, direction d with the deviation 1 / sqrt(d)."""
    vectors_ID = numpy_rng(seed, "benchmark", "vectors").standard_normal((items, width), dtype=np.float32)
    deviation_D = np.arange(1, width + 1, dtype=np.float32) ** np.float32(-0.5)
    return np.asarray(vectors_ID * deviation_D, dtype=np.float32)


def _sides(config: Config, vectors_ID: Tensor, trie: Trie) -> dict[str, timing.Work]:
    """Ways from one user's state to the best items."""
    torch.manual_seed(child_seed(config.seed, "benchmark", "init"))
    heads = PathHeads(config.hstu.width, config.heads, config.ids.levels, config.ids.codes)
    heads = heads.to(config.device).eval()
    state_BD = torch.randn(1, config.hstu.width, generator=torch_rng(config.seed, "benchmark", "state"))
    state_BD = state_BD.to(config.device)
    target = (
        TargetAware(config.target, config.tasks, config.hstu.width, config.hstu.heads)
        .to(config.device)
        .eval()
    )
    past_BSD = torch.randn(
        1, config.lengths[0], config.hstu.width, generator=torch_rng(config.seed, "benchmark", "past")
    )
    past_BSD, item_IV = past_BSD.to(config.device), target.item_vectors(vectors_ID)
    seen_BS = torch.ones(past_BSD.shape[:2], dtype=torch.bool, device=config.device)

    def wants() -> Tensor:
        """(1, V): the tasks' vectors, mixed."""
        return target(state_BD, target.project(past_BSD), seen_BS)[1].mean(1)

    return {
        "beam search along the trie": lambda: search_paths(heads, state_BD, trie, width=config.top),
        "the same, normalised over the trie": lambda: search_paths(
            heads, state_BD, trie, width=config.top, constrained=True
        ),
        "step 2 and its vectors": lambda: (wants() @ item_IV.T).topk(config.top),
        "matrix product": lambda: (state_BD @ vectors_ID.T).topk(config.top),
    }


@torch.no_grad()
def _history(config: Config) -> list[Row]:
    """Reading one user's history at every length, and reading one token more behind all the others."""
    torch.manual_seed(child_seed(config.seed, "benchmark", "init"))
    stack = Hstu(config.hstu).to(config.device).eval()
    sides: dict[str, timing.Work] = {}
    for length in config.lengths:
        sides[f"whole {length}"], sides[f"more {length}"] = _reading(config, stack, length)
    rounds = timing.rounds_for(sides, config.seconds, config.device)
    ms = {name: 1e3 * s for name, s in timing.median_seconds(sides, rounds, config.device).items()}
    first, rows = config.lengths[0], list[Row]()
    for length in config.lengths:
        name = f"history of {length} tokens, against {first}"
        rows.append(compared(name, ms[f"whole {length}"], "ms", ms[f"whole {first}"]))
        name = f"one more token behind {length - 1}, against reading all"
        rows.append(compared(name, ms[f"more {length}"], "ms", ms[f"whole {length}"]))
    return rows


def _reading(config: Config, stack: Hstu, length: int) -> tuple[timing.Work, timing.Work]:
    rng = torch_rng(config.seed, "benchmark", "history")
    x_BTD = torch.randn(1, length, config.hstu.width, generator=rng).to(config.device)
    time_BT = torch.randint(1, DAY, (1, length), generator=rng).cumsum(1).to(config.device)
    mask_BT = torch.ones_like(time_BT, dtype=torch.bool)
    earlier = stack.read(x_BTD[:, :-1], mask_BT[:, :-1], time_BT[:, :-1])[1]
    return (
        lambda: stack(x_BTD, mask_BT, time_BT),
        lambda: stack.read(x_BTD[:, -1:], mask_BT[:, -1:], time_BT[:, -1:], earlier),
    )
