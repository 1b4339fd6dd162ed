"""Step 2 of OneRanker: who sees whom, and a score that is one inner product."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slatewise.modules.target_aware import TargetAware, TargetConfig, heterogeneous_mask

R, S, D, M, J = 3, 7, 8, 4, 5


def made(**changes: object) -> TargetAware:
    torch.manual_seed(0)
    config = TargetConfig(layers=1, fake_items=J, dropout=0.0)
    module = TargetAware(
        type(config)(**{**{f: getattr(config, f) for f in config.__struct_fields__}, **changes}), M, D, 2
    )  # type: ignore[arg-type]
    if module.preference is not None:
        module.use_centres(torch.randn(J, D), torch.ones(J, dtype=torch.long))
    return module.eval()


def asked(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    past_RSD = torch.randn(R, S, D, generator=rng)
    return torch.randn(R, D, generator=rng), past_RSD, torch.arange(S) < torch.tensor([[7], [4], [1]])


def run(module: TargetAware, state_RD: Tensor, past_RSD: Tensor, seen_RS: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        tokens, vectors = module(state_RD, module.project(past_RSD), seen_RS)
    return tokens, vectors


def test_the_mask_by_hand() -> None:
    yes, no = True, False
    assert heterogeneous_mask(2, 2).tolist() == [
        [yes, no, yes, yes],
        [yes, yes, yes, yes],
        [yes, yes, yes, no],
        [yes, yes, no, yes],
    ]


@pytest.mark.parametrize("token", range(M + J))
@pytest.mark.parametrize("heterogeneous", [True, False])
def test_a_token_moves_exactly_those_that_see_it(token: int, heterogeneous: bool) -> None:
    """One layer: what moves is what the mask lets see the token."""
    module = made(heterogeneous_mask=heterogeneous)
    before, _ = run(module, *asked())
    with torch.no_grad():
        if token < M:
            module.task[token] += torch.linspace(-1, 1, D)
        else:
            module.centre_JD[token - M] += torch.linspace(-1, 1, D)
    after, _ = run(module, *asked())
    moved_Q = (after - before).abs().amax((0, 2)) > 1e-6
    seers_Q = heterogeneous_mask(M, J)[:, token] if heterogeneous else torch.ones(M + J, dtype=torch.bool)
    assert moved_Q.tolist() == seers_Q.tolist()


def test_what_may_not_be_seen_of_the_past_moves_nothing() -> None:
    module, (state_RD, past_RSD, seen_RS) = made(), asked()
    before = run(module, state_RD, past_RSD, seen_RS)
    after = run(module, state_RD, torch.where(seen_RS[..., None], past_RSD, 9.0), seen_RS)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    moved = run(module, state_RD, past_RSD + 1.0 * (torch.arange(S) == 0)[:, None], seen_RS)
    assert (moved[1] - before[1]).abs().amax((1, 2)).min() > 1e-4


def test_the_inner_product_is_the_score_of_two_channels() -> None:
    """e_task . e_item + sum_l s_l cos(e_item, centre_l), for every task."""
    module = made()
    _, vector_RMV = run(module, *asked())
    item_ND = torch.randn(11, D)
    by_product = vector_RMV @ module.item_vectors(item_ND).T
    semantic, target = vector_RMV[..., :D], vector_RMV[..., D:]
    cosines = torch.stack(
        [F.cosine_similarity(item_ND, centre[None], dim=1) for centre in module.centre_JD], 1
    )
    two_channels = torch.einsum("rmd,nd->rmn", semantic, item_ND) + torch.einsum(
        "rmj,nj->rmn", target, cosines
    )
    torch.testing.assert_close(by_product, two_channels)
    assert target.abs().min() > 0


def test_without_fake_items_the_semantic_channel_is_all() -> None:
    module = made(fake_items=0)
    tokens, vector_RMV = run(module, *asked())
    assert tokens.shape == (R, M, D)
    assert vector_RMV.shape == (R, M, D)
    item_ND = torch.randn(2, D)
    assert module.item_vectors(item_ND) is item_ND


def test_one_token_for_all_tasks_without_decoupling() -> None:
    tokens, vector_RMV = run(made(task_decoupling=False), *asked())
    assert tokens.shape == (R, 1 + J, D)
    assert vector_RMV.shape == (R, M, D + J)
    assert torch.equal(vector_RMV[:, 0, D:], vector_RMV[:, 3, D:])  # one token, one preference
    assert not torch.equal(vector_RMV[:, 0, :D], vector_RMV[:, 3, :D])  # a head of its own each


def test_the_order_of_attentions_matters() -> None:
    first, second = run(made(), *asked())[1], run(made(cross_first=False), *asked())[1]
    assert (first - second).abs().max() > 1e-3
