"""The paths of a catalogue as a tree, in a few tensors: which codes may follow a prefix, which item stands at its end.

A node is a number in the order of its level's prefixes, so a node's children stand beside each other in the next level
and one offset a node says where. Everything is a look-up on any device; nothing walks in Python.

Shapes, besides the legend in :mod:`slatewise.types`: I items of the vocabulary, S levels of a path, P nodes of a level,
M children of a node at most. ``...`` are any axes in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slatewise.errors import ConfigError, DataError


@dataclass(frozen=True)
class Trie:
    """Levels 0 (the root) to S (the items).

    Attributes:
        codes: K, the codes of a level.
        fan_out: for levels 0 to S - 1, the most children that a node of the level has.
        first_P: for levels 0 to S - 1, each node's first child; one entry more closes the last.
        key_P: for levels 0 to S, each node's prefix as one number, ascending.
        item_P: the items at the nodes of level S.
    """

    codes: int
    fan_out: tuple[int, ...]
    first_P: tuple[Tensor, ...]
    key_P: tuple[Tensor, ...]
    item_P: Tensor

    @property
    def levels(self) -> int:
        """S."""
        return len(self.fan_out)

    @property
    def items(self) -> int:
        """How many items it holds."""
        return len(self.item_P)

    def to(self, device: torch.device | str) -> Trie:
        """The same on another device."""
        first_P, key_P = (tuple(x_P.to(device) for x_P in level) for level in (self.first_P, self.key_P))
        return Trie(self.codes, self.fan_out, first_P, key_P, self.item_P.to(device))

    def children(self, level: int, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The children of nodes of a level (...) as nodes of the next.

        Returns:
            Nodes (..., M), their codes (..., M), and where they are real (..., M); real ones come first, and the
            others repeat some node of the level.
        """
        first, last = self.first_P[level][node], self.first_P[level][node + 1]
        child = first[..., None] + torch.arange(self.fan_out[level], device=node.device)
        real = child < last[..., None]
        child = child.clamp_max(len(self.key_P[level + 1]) - 1)
        return child, self.key_P[level + 1][child] % self.codes, real

    def find(self, codes_S: Tensor) -> tuple[Tensor, Tensor]:
        """Where paths (..., S) lead.

        Returns:
            The nodes that a path passes (..., S + 1), the root first, and whether it is an item's (...). The nodes
            of a path that is none's mean nothing, but are nodes.
        """
        nodes, key = [torch.zeros_like(codes_S[..., 0])], torch.zeros_like(codes_S[..., 0])
        known = ((codes_S >= 0) & (codes_S < self.codes)).all(-1)
        for level, key_P in enumerate(self.key_P[1:]):
            key = key * self.codes + codes_S[..., level]
            node = torch.searchsorted(key_P, key.contiguous()).clamp_max(len(key_P) - 1)
            known = known & (key_P[node] == key)
            nodes.append(node)
        return torch.stack(nodes, -1), known


def build_trie(codes_IS: Tensor, real_I: Tensor, codes: int) -> Trie:
    """The trie of a catalogue, on the device of ``codes_IS``.

    Args:
        codes_IS: each item's path (int64).
        real_I: items that stand in it.
        codes: K.

    Raises:
        DataError: no item, a code that is none of the K, or two items with one path.
        ConfigError: K ** S paths do not fit into 63 bits.
    """
    item_n, path_nS = real_I.nonzero().flatten(), codes_IS[real_I]
    levels = codes_IS.shape[1]
    if codes**levels >= 2**63:
        raise ConfigError(f"{codes}**{levels} paths do not fit into 63 bits; lower levels or codes.")
    if not len(path_nS):
        raise DataError("the catalogue has no item with a path, so there is nothing to search.")
    if path_nS.min() < 0 or path_nS.max() >= codes:
        raise DataError(
            f"a path has the code {int(path_nS.min() if path_nS.min() < 0 else path_nS.max())}; "
            f"codes run from 0 to {codes - 1}."
        )
    key_P, order_n = _keys(path_nS, codes).sort()
    item_P = item_n[order_n]
    twins = (key_P[1:] == key_P[:-1]).nonzero().flatten()
    if len(twins):
        pair = item_P[twins[0]], item_P[twins[0] + 1]
        raise DataError(f"items {int(pair[0])} and {int(pair[1])} have the same path; each needs its own.")
    return _grown(key_P, item_P, levels, codes)


def _keys(path_nS: Tensor, codes: int) -> Tensor:
    key_n = torch.zeros_like(path_nS[:, 0])
    for code_n in path_nS.unbind(1):
        key_n = key_n * codes + code_n
    return key_n


def _grown(key_P: Tensor, item_P: Tensor, levels: int, codes: int) -> Trie:
    """From the items' keys up to the root, whose key is 0."""
    keys, firsts, fan_out = [key_P], list[Tensor](), list[int]()
    for _ in range(levels):
        parent_P, count_P = torch.unique_consecutive(keys[0] // codes, return_counts=True)
        keys.insert(0, parent_P)
        firsts.insert(0, torch.cat([count_P.new_zeros(1), count_P.cumsum(0)]))
        fan_out.insert(0, int(count_P.max()))
    return Trie(codes, tuple(fan_out), tuple(firsts), tuple(keys), item_P)
