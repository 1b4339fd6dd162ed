"""Step 3 of OneRanker: candidates are blind to each other, and see what both steps before left."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slatewise.modules.ranking_decoder import RankingConfig, RankingDecoder

R, N, S, Q, D = 2, 6, 5, 4, 8


def made(layers: int = 2, **changes: bool) -> RankingDecoder:
    torch.manual_seed(0)
    return RankingDecoder(RankingConfig(layers=layers, dropout=0.0, **changes), D, 2).eval()  # type: ignore[arg-type]


def asked() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {
        "state": torch.randn(R, D, generator=rng),
        "item": torch.randn(R, N, D, generator=rng),
        "mask": torch.arange(N) < torch.tensor([[6], [4]]),
        "past": torch.randn(R, S, D, generator=rng),
        "seen": torch.arange(S) < torch.tensor([[5], [3]]),
        "refined": torch.randn(R, Q, D, generator=rng),
    }


def scores(decoder: RankingDecoder, x: dict[str, Tensor], refined: bool = True) -> Tensor:
    with torch.no_grad():
        past = decoder.project(x["past"])
        out: Tensor = decoder(
            x["state"], x["item"], x["mask"], past, x["seen"], x["refined"] if refined else None
        )
    return out


@pytest.mark.parametrize("visible", [False, True])
def test_candidates_are_blind_unless_they_may_see(visible: bool) -> None:
    decoder, x = made(candidate_visible=visible), asked()
    before = scores(decoder, x)
    x["item"][:, 2] += 1.0
    moved_RN = (scores(decoder, x) - before).abs() > 1e-6
    others_RN = x["mask"] & (torch.arange(N) != 2)
    assert bool(moved_RN[:, 2].all())
    assert bool(moved_RN[others_RN].all()) == visible
    assert bool(moved_RN[others_RN].any()) == visible


def test_what_is_not_there_moves_nothing() -> None:
    decoder, x = made(candidate_visible=True), asked()
    before = scores(decoder, x)
    x["past"] = torch.where(x["seen"][..., None], x["past"], 7.0)
    x["item"] = torch.where(x["mask"][..., None], x["item"], 7.0)
    torch.testing.assert_close(scores(decoder, x)[x["mask"]], before[x["mask"]])


def test_permuted_candidates_give_the_permuted_scores() -> None:
    decoder, x = made(), asked()
    order = torch.tensor([3, 1, 0, 2, 4, 5])
    before = scores(decoder, x)
    x["item"] = x["item"][:, order]
    torch.testing.assert_close(scores(decoder, x), before[:, order])


def test_step_two_reaches_the_ranker_only_if_it_is_passed_through() -> None:
    x = asked()
    for through in (True, False):
        decoder = made(pass_through=through)
        before = scores(decoder, x)
        moved = scores(decoder, {**x, "refined": x["refined"] + 1.0})
        assert bool(((moved - before).abs() > 1e-6).all()) == through
        assert torch.equal(scores(decoder, x, refined=False), before) != through
