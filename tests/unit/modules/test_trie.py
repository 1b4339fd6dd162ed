"""The trie: five paths by hand, and look-ups against sets of prefixes."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from slatewise.errors import ConfigError, DataError
from slatewise.modules.trie import Trie, build_trie

#            item: 0      1          2          3          4          5
PATHS_IS = torch.tensor([[0, 0, 0], [2, 1, 0], [0, 2, 2], [2, 1, 1], [2, 0, 2], [0, 2, 0]])


def by_hand() -> Trie:
    return build_trie(PATHS_IS, torch.arange(6) > 0, 3)


def random_paths(number: int, codes: int, levels: int = 3, seed: int = 0) -> Tensor:
    """Distinct paths (I, S)."""
    keys_I = torch.randperm(codes**levels, generator=torch.Generator().manual_seed(seed))[:number]
    return torch.stack([keys_I // codes**s % codes for s in reversed(range(levels))], 1)


def test_five_paths_by_hand() -> None:
    trie = by_hand()
    assert (trie.levels, trie.items, trie.fan_out) == (3, 5, (2, 2, 2))
    assert trie.item_P.tolist() == [5, 2, 4, 1, 3]
    node, code, real = trie.children(0, torch.tensor(0))
    assert (node.tolist(), code.tolist(), real.tolist()) == ([0, 1], [0, 2], [True, True])
    node, code, real = trie.children(1, torch.tensor([[0], [1]]))
    assert node.shape == (2, 1, 2)
    assert code[real].tolist() == [2, 0, 1]
    assert real.tolist() == [[[True, False]], [[True, True]]]
    node, code, real = trie.children(2, torch.tensor(2))  # behind 2, 1
    assert code[real].tolist() == [0, 1]
    assert trie.item_P[node].tolist() == [1, 3]


def test_find_by_hand() -> None:
    nodes_S, known = by_hand().find(torch.tensor([[2, 1, 1], [0, 0, 0], [0, 2, 1], [2, 1, 5], [-1, 2, 0]]))
    assert known.tolist() == [True, False, False, False, False]  # index 0 has no path
    assert nodes_S[0].tolist() == [0, 1, 2, 4]
    assert by_hand().item_P[nodes_S[0, 3]] == 3


@pytest.mark.parametrize(("number", "codes", "levels"), [(300, 9, 3), (64, 4, 3), (5, 7, 1), (200, 3, 6)])
def test_children_are_the_codes_that_may_follow(number: int, codes: int, levels: int) -> None:
    paths_IS = random_paths(number, codes, levels)
    trie = build_trie(paths_IS, torch.ones(number, dtype=torch.bool), codes)
    nodes_IS, known_I = trie.find(paths_IS)
    assert known_I.all()
    assert torch.equal(trie.item_P[nodes_IS[:, -1]], torch.arange(number))
    for level in range(levels):
        child, code, real = trie.children(level, nodes_IS[:, level])
        for i in range(0, number, 17):
            prefix = paths_IS[i, :level]
            below = paths_IS[(paths_IS[:, :level] == prefix).all(1), level].unique()
            assert code[i, real[i]].tolist() == below.tolist()
            own = (code[i] == paths_IS[i, level]) & real[i]
            assert child[i, own].item() == nodes_IS[i, level + 1]
        assert real.sum(1).max() == trie.fan_out[level]


def test_a_hundred_thousand_items_take_less_than_a_second() -> None:
    paths_IS = random_paths(100_000, 256)
    start = time.perf_counter()
    trie = build_trie(paths_IS, torch.ones(100_000, dtype=torch.bool), 256)
    assert time.perf_counter() - start < 1
    assert trie.items == 100_000


def test_what_is_no_catalogue_is_told() -> None:
    real_I = torch.arange(6) > 0
    with pytest.raises(DataError, match="no item with a path"):
        build_trie(PATHS_IS, torch.zeros(6, dtype=torch.bool), 3)
    with pytest.raises(DataError, match="has the code 2; codes run from 0 to 1"):
        build_trie(PATHS_IS, real_I, 2)
    twins_IS = PATHS_IS.clone()
    twins_IS[4] = twins_IS[1]
    with pytest.raises(DataError, match="items 1 and 4 have the same path"):
        build_trie(twins_IS, real_I, 3)
    with pytest.raises(ConfigError, match="63 bits"):
        build_trie(torch.zeros(2, 8, dtype=torch.long), torch.ones(2, dtype=torch.bool), 256)
