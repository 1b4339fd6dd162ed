"""What a request costs online: a distilled generator's greedy pass, against searching and choosing under its evaluator."""

from __future__ import annotations

import torch

from slatewise.benchmarks import inputs, timing
from slatewise.benchmarks.rows import Row, compared
from slatewise.config import Frozen, Positive, to_plain
from slatewise.generators import autoregressive, scorer
from slatewise.modules.tower import TowerConfig
from slatewise.policies import Policy, decode, pick, search
from slatewise.rng import child_seed


class Online(Frozen):
    """DeGRe's sizes (§5.1.4): 12 candidates, lists of 6, a generator of 4 + 4 layers without cross-attention.

    ``width`` of the evaluator's beam; ``lists`` that the generator–evaluator chooses from, drawn from a DNN and a PRM.
    """

    candidates: Positive = 12
    length: Positive = 6
    batches: tuple[Positive, ...] = (1, 32)
    generator: autoregressive.Config = autoregressive.Config(
        tower=TowerConfig(width=64), encoder_layers=4, decoder_layers=4, cross_attention=False
    )
    evaluator: pick.RewardSpec = pick.RewardSpec()
    width: Positive = 8
    lists: Positive = 20


def make_policies(config: Online, history: int, seed: int, device: str) -> dict[str, Policy]:
    """The three, with random weights: their cost does not depend on what they have learnt."""
    manifest = inputs.make_manifest(inputs.make_schema(config.candidates, config.length, history))
    torch.manual_seed(child_seed(seed, "benchmark", "init"))
    scorers = {"dnn": scorer.Config(), "prm": scorer.Config(encoder_layers=2)}
    generators = {name: pick.GeneratorSpec(options=to_plain(options)) for name, options in scorers.items()}
    policies = {
        "degre, greedy": decode.build(decode.Config(options=to_plain(config.generator)), manifest),
        f"beam search {config.width} under the evaluator": search.build(
            search.Config(reward=config.evaluator, width=config.width), manifest
        ),
        f"generator-evaluator, {config.lists} lists": pick.build(
            pick.Config(generators=generators, reward=config.evaluator, lists=config.lists), manifest
        ),
    }
    return {name: policy.to(device).eval() for name, policy in policies.items()}


def measure(config: Online, size: int, history: int, seconds: float, seed: int, device: str) -> list[Row]:
    """Milliseconds a request in batches of ``size``: DeGRe's against each of the others."""
    schema = inputs.make_schema(config.candidates, config.length, history)
    batch = inputs.make_batch(schema, size, seed).to(device)
    sides: dict[str, timing.Work] = {
        name: lambda policy=policy: policy.rank(batch, config.length)  # type: ignore[misc]
        for name, policy in make_policies(config, history, seed, device).items()
    }
    rounds = timing.rounds_for(sides, seconds, device)
    taken = timing.median_seconds(sides, rounds, device)
    (ours, first), *others = taken.items()
    name = f"online N={config.candidates} L={config.length} B={size}, {ours}"
    return [
        compared(f"{name}, against {other}", 1e3 * first / size, "ms/request", 1e3 * value / size)
        for other, value in others
    ]
