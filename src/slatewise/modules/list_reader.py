"""Reading a list position by position: what every reward that values lists has between its tower and its head.

A causal reader can read all positions in one pass, or read on: behind prefixes that it has read, the next position with
each of the request's N candidates in it. Then nothing of a prefix is computed again, and what was computed of a
candidate is kept if a search goes on with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from slatewise.modules.list_layer import Earlier, Interaction, ListLayer, Rivals
from slatewise.modules.transformer import KeyValue


class Prefixes(NamedTuple):
    """K prefixes a request of ``length`` items, as each layer needs them to read on."""

    length: int
    layers: tuple[Earlier, ...]


class ListReader(nn.Module):
    """A learnt vector a position, list layers, and a norm.

    Args:
        width, heads, hidden, dropout, interaction: of each :class:`ListLayer`.
        length: L, the longest list.
        causal: a position sees only what stands before it, so that prefixes can be valued and read on.
    """

    def __init__(
        self,
        width: int,
        length: int,
        *,
        layers: int,
        heads: int,
        hidden: int,
        dropout: float,
        interaction: Interaction,
        causal: bool,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.position = nn.Parameter(torch.randn(length, width) * 0.05)
        self.layers = nn.ModuleList(
            ListLayer(width, heads, hidden, dropout, length, interaction) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, item_BGLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Prefixes]:
        """Whole lists: their hidden states (B, G, L, D), and what :meth:`extend` needs (of a causal reader).

        ``mask_BL`` is True where a list has an item. A causal reader does not need it: what stands behind a
        list's end is seen by nobody that counts.
        """
        b, g, length, _ = item_BGLD.shape
        if length == 0:
            return item_BGLD, Prefixes(0, (Earlier(None, None),) * len(self.layers))
        allowed = torch.ones(length, length, dtype=torch.bool, device=item_BGLD.device)
        if self.causal:
            allowed = allowed.tril()
        else:
            allowed = allowed & mask_BL[:, None].expand(-1, g, -1).flatten(0, 1)[:, None]
        x_RLD, read = (item_BGLD + self.position[:length]).flatten(0, 1), []
        for layer in self.layers:
            x_RLD, earlier = layer(x_RLD, allowed)
            read.append(_unflatten(earlier, b, g))
        return self.norm(x_RLD).unflatten(0, (b, g)), Prefixes(length, tuple(read))

    def extend(self, prefixes: Prefixes, item_BND: Tensor) -> tuple[Tensor, list[Rivals]]:
        """Each candidate as the next item of each prefix: hidden states (B, K or 1, N, D), and what :meth:`follow`
        needs. Without layers K prefixes share one row."""
        x_BKND, rivals = (item_BND + self.position[prefixes.length])[:, None], []
        for layer, earlier in zip(self.layers, prefixes.layers, strict=True):
            x_BKND, seen = layer.extend(earlier, x_BKND)  # type: ignore[operator]
            rivals.append(seen)
        return self.norm(x_BKND), rivals

    def follow(
        self, prefixes: Prefixes, rivals: list[Rivals], parent_BK: Tensor, item_BK: Tensor
    ) -> Prefixes:
        """The prefixes with one of the rivals behind each: place k goes on from ``parent_BK`` with candidate ``item_BK``."""
        grown = [
            earlier.of(parent_BK).append(layer.chosen(seen, parent_BK, item_BK))  # type: ignore[operator]
            for layer, earlier, seen in zip(self.layers, prefixes.layers, rivals, strict=True)
        ]
        return Prefixes(prefixes.length + 1, tuple(grown))


def _unflatten(earlier: Earlier, b: int, g: int) -> Earlier:
    attended, summed = earlier
    return Earlier(
        attended and KeyValue(*(x.unflatten(0, (b, g)) for x in attended)),
        None if summed is None else summed.unflatten(0, (b, g)),
    )
