"""A group from a mix of families (GoalRank §3.3): write the lists, value them, mark what comes twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import msgspec
import torch
from torch import Tensor

from slatewise.config import Frozen, Positive, build
from slatewise.errors import ConfigError
from slatewise.groups.context import Context
from slatewise.names import plugin, public_name
from slatewise.rng import torch_rng
from slatewise.types import Group


class Family(Frozen):
    """``count`` lists of one family; ``options`` are the family's own settings."""

    family: str
    count: Positive = 1
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def source(self) -> str:
        """The name its lists go under in a group's ``sources``, e.g. ``auxiliary:dnn``."""
        policy = self.options.get("policy")
        return public_name(self.family) + (f":{policy}" if policy else "")


def check_mix(mix: Iterable[Family]) -> None:
    """Read every family's settings, so that a mistake shows before training starts.

    Raises:
        ConfigError: the mix is empty, or names an unknown family or setting.
    """
    families = [_resolve(family) for family in mix]
    if not families:
        raise ConfigError("the mix of a group is empty; name at least one family.")


@torch.no_grad()
def build_group(
    mix: Iterable[Family], context: Context, *, rng: torch.Generator, subset: int | None = None
) -> Group:
    """The group of every request: all families in order, each seeing the lists before it.

    Every family draws from its own child of ``rng``, so that adding one does not change what the others draw.

    Args:
        subset: keep only this many lists of each request, evenly spaced in the ranking by reward, best and
            worst included (the paper's option, §3.3). A request with fewer distinct lists keeps all of them.

    Raises:
        ConfigError: the mix is empty, names an unknown family or setting, or ``subset`` is below 2.
    """
    mix = tuple(mix)
    check_mix(mix)
    if subset is not None and subset < 2:
        raise ConfigError(f"a group's subset needs at least 2 lists, got {subset}.")
    seed = int(torch.randint(2**62, (), device=rng.device, generator=rng))
    for place, family in enumerate(mix):
        module, config = _resolve(family)
        earlier = sum(other.source == family.source for other in mix[:place])
        child = torch_rng(seed, family.source, earlier, device=rng.device)
        context = context.with_lists(module.build(config, context, count=family.count, rng=child))
    group = _valued(mix, context)
    return group if subset is None or subset >= group.mask_BG.shape[1] else spaced_subset(group, subset)


def _resolve(family: Family) -> tuple[ModuleType, Any]:
    return _read(family.family, msgspec.json.encode(family.options, order="sorted"))


@lru_cache(maxsize=256)
def _read(name: str, options: bytes) -> tuple[ModuleType, Any]:
    module = plugin("groups", name)
    return module, build(module.Config, msgspec.json.decode(options), where=f"group family '{name}'")


def _valued(mix: tuple[Family, ...], context: Context) -> Group:
    lists_BGL = context.earlier_BGL
    sources = tuple(dict.fromkeys(family.source for family in mix))
    source = [sources.index(family.source) for family in mix for _ in range(family.count)]
    source_G = torch.tensor(source, device=lists_BGL.device)
    return Group(
        lists_BGL=lists_BGL,
        mask_BG=first_copies(lists_BGL),
        value_BG=context.reward(lists_BGL),
        source_BG=source_G.expand(lists_BGL.shape[:2]),
        sources=sources,
    )


def first_copies(lists_BGL: Tensor) -> Tensor:
    """True (B, G) for a list that no earlier place of the group holds already."""
    same_BGG = (lists_BGL[:, :, None] == lists_BGL[:, None]).all(-1)
    return ~same_BGG.tril(diagonal=-1).any(-1)


def spaced_subset(group: Group, size: int) -> Group:
    """``size`` lists of each request, evenly spaced in the ranking of its distinct ones by value, best first.

    Where a request has fewer distinct lists, all of them come first and duplicates, masked, fill the rest.
    """
    order_BG = group.value_BG.masked_fill(~group.mask_BG, -torch.inf).argsort(dim=1, descending=True)
    distinct_B1 = group.mask_BG.sum(1, keepdim=True)
    place_m = torch.arange(size, device=order_BG.device)
    spaced_Bm = torch.where(distinct_B1 >= size, place_m * (distinct_B1 - 1) // (size - 1), place_m)
    chosen_Bm = order_BG.gather(1, spaced_Bm)
    return replace(
        group,
        lists_BGL=group.lists_BGL.gather(1, chosen_Bm[..., None].expand(-1, -1, group.lists_BGL.shape[2])),
        mask_BG=group.mask_BG.gather(1, chosen_Bm),
        value_BG=group.value_BG.gather(1, chosen_Bm),
        source_BG=group.source_BG.gather(1, chosen_Bm),
    )
