"""Beam search and local search over value functions, against brute force."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from batches import all_lists, close, list_reward, well_formed
from slatewise.decoding.local_search import polish
from slatewise.decoding.search import Beam, beam_search
from slatewise.generators.base import CLOSED

FULL = torch.ones(4, 6, dtype=torch.bool)
SHORT = torch.arange(6) < torch.tensor([6, 4, 2, 1])[:, None]


def _expand_by_value(mask_BN: Tensor, length: int):
    """Cumulative value of every one-item extension, from a value function of whole lists of each length."""
    values = {size: list_reward(mask_BN, size) for size in range(1, length + 1)}

    def expand(beam: Beam) -> Tensor:
        b, k, t = beam.lists_BKT.shape
        n = mask_BN.shape[1]
        prefix = beam.lists_BKT[:, :, None].expand(-1, -1, n, -1)
        item = torch.arange(n).expand(b, k, n)[..., None]
        return values[t + 1](torch.cat([prefix, item], 3).flatten(1, 2)).view(b, k, n)

    return expand, values[length]


def test_wide_beam_finds_the_best_list_of_any_value() -> None:
    expand, value = _expand_by_value(FULL, 3)
    lists_BKL, score_BK = beam_search(expand, FULL, length=3, width=200)
    every = all_lists(6, 3).expand(4, -1, -1)
    exact = value(every)
    assert close(score_BK[:, 0], exact.max(1).values)
    assert close(score_BK, value(lists_BKL))
    assert close(score_BK[:, :120], exact.sort(dim=1, descending=True).values)
    assert (lists_BKL[:, 120:] == lists_BKL[:, :1]).all()  # there are 120; the best one fills the rest


def test_short_requests_end_early_and_the_best_list_fills_up() -> None:
    expand, _ = _expand_by_value(SHORT, 3)
    lists_BKL, score_BK = beam_search(expand, SHORT, length=3, width=30)
    assert well_formed(lists_BKL, SHORT)
    distinct = [len({tuple(one) for one in lists_KL.tolist()}) for lists_KL in lists_BKL]
    assert distinct == [30, 24, 2, 1]  # 6·5·4 cut to 30; 4·3·2; two orders of two candidates; one of one
    for score_K, lists_KL, kept in zip(score_BK, lists_BKL, distinct, strict=True):
        assert (score_K[: kept - 1] >= score_K[1:kept]).all()
        assert (lists_KL[kept:] == lists_KL[0]).all()
        assert (score_K[kept:] == score_K[0]).all()


def test_beam_follows_parents_and_respects_closed_extensions() -> None:
    seen: list[Beam] = []

    def expand(beam: Beam) -> Tensor:
        seen.append(beam)
        total = torch.zeros(1, beam.lists_BKT.shape[1], 4) + torch.tensor([0.0, 1.0, 2.0, 3.0])
        total[:, :, 3] = CLOSED  # a constraint: never item 3
        return total + beam.score_BK[..., None]

    lists_BKL, score_BK = beam_search(expand, torch.ones(1, 4, dtype=torch.bool), length=2, width=3)
    assert 3 not in lists_BKL
    assert lists_BKL[0, 0].tolist() in ([2, 1], [1, 2])
    assert score_BK[0, 0] == 3.0
    assert seen[1].lists_BKT[0, :, 0].tolist() == [2, 1, 0]
    assert seen[1].parent_BK.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("mask_BN", [FULL, SHORT])
def test_polish_takes_the_best_neighbour_and_never_worsens(mask_BN: Tensor) -> None:
    value = list_reward(mask_BN, 3)
    start = torch.tensor([[[0, 1, 2], [2, 0, 1]]]).expand(4, -1, -1).clone()
    start[2] = torch.tensor([[0, 1, 0], [1, 0, 0]]) if mask_BN is SHORT else start[2]
    start[3] = 0 if mask_BN is SHORT else start[3]
    lists, values = polish(start, mask_BN, value, rounds=1)
    assert well_formed(lists, mask_BN)
    assert close(values, value(lists))
    for b in range(4):
        for g in range(2):
            best = _best_neighbour_by_hand(start[b, g].tolist(), int(mask_BN[b].sum()), value, b, g)
            assert values[b, g] == pytest.approx(best, abs=1e-5)
    many = [polish(start, mask_BN, value, rounds=rounds)[1] for rounds in range(5)]
    assert all((after >= before).all() for before, after in pairwise(many))
    assert (many[-1] > many[0]).any()


def _best_neighbour_by_hand(one: list[int], real: int, value, b: int, g: int) -> float:
    size = min(real, len(one))
    found = [one]
    for i in range(size):
        for j in range(i + 1, size):
            swapped = list(one)
            swapped[i], swapped[j] = one[j], one[i]
            found.append(swapped)
        for item in set(range(real)) - set(one[:size]):
            found.append([*one[:i], item, *one[i + 1 :]])
    lists = torch.zeros(4, len(found), len(one), dtype=torch.long)
    lists[b] = torch.tensor(found)
    return float(value(lists)[b].max())


def test_polish_in_small_chunks_is_the_same_and_bounded() -> None:
    value, sizes = list_reward(FULL, 3), []

    def counted(lists_BGL: Tensor) -> Tensor:
        sizes.append(lists_BGL.shape[0] * lists_BGL.shape[1])
        return value(lists_BGL)

    start = torch.tensor([[[0, 1, 2], [5, 4, 3]]]).expand(4, -1, -1)
    whole = polish(start, FULL, value, rounds=3)
    pieces = polish(start, FULL, counted, rounds=3, chunk=16)
    assert torch.equal(whole[0], pieces[0])
    assert max(sizes) <= 16


def test_polish_stops_when_nothing_improves() -> None:
    calls = []

    def flat(lists_BGL: Tensor) -> Tensor:
        calls.append(1)
        return torch.zeros(lists_BGL.shape[:2])

    start = torch.tensor([[[0, 1, 2]]]).expand(4, -1, -1)
    lists, _ = polish(start, FULL, flat, rounds=50)
    assert torch.equal(lists, start)
    assert len(calls) == 2  # the start and one round


def test_polish_tries_only_the_top_outside_candidates() -> None:
    appeal_N = torch.tensor([0.0, 0.0, 0.0, 1.0, 5.0, 2.0])

    def value(lists_BGL: Tensor) -> Tensor:
        return appeal_N[lists_BGL].sum(2)

    start = torch.tensor([[[0, 1, 2]]]).expand(4, -1, -1)
    score_BN = torch.tensor([0.0, 0.0, 0.0, 9.0, 7.0, 8.0]).expand(4, -1)
    reached = [
        polish(start, FULL, value, rounds=1, replace_top=top, candidate_score_BN=score_BN)[1]
        .unique()
        .tolist()
        for top in (1, 2, 3, 100)
    ]
    assert reached == [[1.0], [2.0], [5.0], [5.0]]
    with pytest.raises(ValueError, match="candidate_score_BN"):
        polish(start, FULL, value, rounds=1, replace_top=2)
