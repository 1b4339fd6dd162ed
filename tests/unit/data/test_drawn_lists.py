"""Random lists in which one item's label says nothing of another's."""

from __future__ import annotations

import pytest
import torch

from slatewise.data.drawn_lists import independent_lists


def draw(shown: int, rest: int, length: int, count: int = 20000) -> torch.Tensor:
    """Lists of one request with so many shown candidates, then unshown ones, and one that is not real."""
    shown_BN = torch.arange(shown + rest + 1)[None] < shown
    known_BN = torch.arange(shown + rest + 1)[None] < shown + rest
    return independent_lists(shown_BN, known_BN, count, length, torch.Generator().manual_seed(0))[0]


def test_places_are_shown_independently_with_the_requests_share() -> None:
    lists_GL = draw(6, 6, 6)
    assert all(len(set(one)) == 6 and max(one) < 12 for one in lists_GL.tolist())
    shown_GL = (lists_GL < 6).double()
    assert float(shown_GL.mean()) == pytest.approx(0.5, abs=0.01)
    correlation_LL = torch.corrcoef(shown_GL.T) - torch.eye(6)
    assert float(correlation_LL.abs().max()) < 0.03  # drawn without replacement it is -1/11 = -0.09
    assert float(shown_GL.sum(1).var()) == pytest.approx(
        1.5, abs=0.1
    )  # binomial(6, 1/2); hypergeometric: 0.82


def test_every_item_of_a_kind_comes_as_often_at_every_place() -> None:
    lists_GL = draw(6, 6, 6)
    share_LN = torch.stack([(lists_GL == item).double().mean(0) for item in range(12)], 1)
    assert float((share_LN - 1 / 12).abs().max()) < 0.012


def test_where_one_kind_runs_out_the_other_fills_the_list() -> None:
    few_shown = draw(2, 8, 6, 500)
    assert int((few_shown < 2).sum(1).max()) == 2
    assert all(len(set(one)) == 6 for one in few_shown.tolist())
    few_rest = draw(8, 1, 6, 500)
    assert int((few_rest < 8).sum(1).min()) == 5
    assert all(len(set(one)) == 6 for one in few_rest.tolist())


def test_a_short_request_gives_its_items_in_random_order_and_zeros_behind() -> None:
    lists_GL = draw(2, 1, 5, 50)
    assert not lists_GL[:, 3:].any()
    assert {tuple(sorted(one)) for one in lists_GL[:, :3].tolist()} == {(0, 1, 2)}
    assert len({tuple(one) for one in lists_GL.tolist()}) == 6
