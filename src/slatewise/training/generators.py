"""What methods share that train a generator under a reward: where it starts, and the number that picks its weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from slatewise.data.prepared import PreparedData
from slatewise.decoding import greedy
from slatewise.errors import ConfigError
from slatewise.generators import Generator, autoregressive
from slatewise.modules.tower import TowerConfig
from slatewise.rewards import RewardModel
from slatewise.rng import child_seed

ValidateBy = Literal["auto", "reward", "label"]


def check_warm_start(name: str, source: TowerConfig, own: TowerConfig) -> None:
    """Refuse a start from a tower of which no weight would fit.

    Args:
        name: what ``warm_start`` names.   source, own: its tower, and the generator's.

    Raises:
        ConfigError: forms or widths differ.
    """
    wanted, has = _shape(source), _shape(own)
    if wanted != has:
        raise ConfigError(
            f'warm_start = "{name}" copies a tower of {wanted} into one of {has}, so nothing would fit; give '
            'generator.tower the same, or set warm_start = "none".'
        )


def _shape(tower: TowerConfig) -> str:
    fields = f", field_width = {tower.field_width}" if tower.form == "fields" else ""
    return f'form = "{tower.form}", width = {tower.width}{fields}'


def start_generator(
    method: str, config: autoregressive.Config, data: PreparedData, seed: int, source: nn.Module | None
) -> autoregressive.Autoregressive:
    """A generator with every parameter that ``source`` has under the same name and shape (tower, encoder, score).

    Args:
        method: names the random weights of what is not copied.
        source: a reward (of an ensemble, its first member) or a scorer; ``None`` starts from the items' vectors alone.
    """
    torch.manual_seed(child_seed(seed, "init", method))
    generator = autoregressive.build(config, data.schema)
    generator.tower.load_item_vectors(torch.from_numpy(data.items.vector.copy()))
    if source is None:
        return generator
    source = getattr(source, "members", [source])[0]
    own = generator.state_dict()
    common = {k: v for k, v in source.state_dict().items() if k in own and own[k].shape == v.shape}
    generator.load_state_dict({**own, **common})
    if "score.weight" in common:
        # the pointer's match starts silent, so that the generator starts as exactly the scorer's policy
        nn.init.zeros_(generator.pointer_query.weight)
        nn.init.zeros_(generator.pointer_query.bias)
    return generator


def greedy_value(
    generator: Generator,
    reward: RewardModel,
    by: ValidateBy,
    data: PreparedData,
    device: str,
    requests: int = 2000,
) -> float:
    """Mean value of the greedy lists of the first validation requests.

    ``by = "auto"`` takes the labels where all of them are known, else the reward's opinion.
    """
    labelled = data.manifest.unexposed_is_negative or data.schema.exposed >= data.schema.candidates
    split = data.split("validation").head(requests)
    total, rng = 0.0, torch.Generator(device)
    for batch in (b.to(device) for b in split.batches(512)):
        memory = generator.encode(batch)
        lists_B1L = greedy.propose(
            generator, memory, length=data.schema.length, count=1, rng=rng, config=greedy.Config()
        )
        if by == "label" or (by == "auto" and labelled):
            label_BN = batch.label_BN(data.manifest.target_weights())
            place_L = torch.arange(lists_B1L.shape[2], device=device)
            total += float((label_BN.gather(1, lists_B1L[:, 0]) / torch.log2(place_L + 2.0)).sum())
        else:
            total += float(reward.value(batch, lists_B1L).sum())
    return total / len(split)
