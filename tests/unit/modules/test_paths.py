"""Path heads and their search: a distribution over items, and beam search that is brute force when it is wide."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from batches import close
from slatewise.modules.path_search import Found, search_paths
from slatewise.modules.paths import PathHeads, mixture
from slatewise.modules.trie import Trie, build_trie

WIDTH, HEADS, LEVELS, CODES, ITEMS = 8, 3, 3, 6, 60
WEIGHT_J = torch.tensor([0.5, 0.2, 0.3]).log()


def make_heads(heads: int = HEADS, levels: int = LEVELS, codes: int = CODES) -> PathHeads:
    """Random weights, far from uniform."""
    torch.manual_seed(1)
    module = PathHeads(WIDTH, heads, levels, codes).eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(4)
    return module


def make_catalogue(items: int = ITEMS) -> tuple[Tensor, Tensor, Trie]:
    """Paths (I, S), who has one (not item 0), and their trie."""
    keys_I = torch.randperm(CODES**LEVELS, generator=torch.Generator().manual_seed(2))[:items]
    codes_IS = torch.stack([keys_I // 36, keys_I // 6 % 6, keys_I % 6], 1)
    real_I = torch.arange(items) > 0
    return codes_IS, real_I, build_trie(codes_IS, real_I, CODES)


def states(number: int = 5) -> Tensor:
    return torch.randn(number, WIDTH, generator=torch.Generator().manual_seed(3))


def brute_force(heads: PathHeads, state_BD: Tensor, constrained: bool) -> tuple[Tensor, Tensor]:
    """All real items (B, I) from best to worst, and their log-probabilities."""
    codes_IS, real_I, trie = make_catalogue()
    every_BNS = codes_IS[real_I].expand(len(state_BD), -1, -1)
    log_prob_BN = mixture(heads.score_paths(state_BD, every_BNS, trie if constrained else None), WEIGHT_J)
    sorted_BN, order_BN = log_prob_BN.sort(1, descending=True)
    return real_I.nonzero().flatten()[order_BN], sorted_BN


@torch.no_grad()
def test_one_head_by_hand() -> None:
    heads, state_D = make_heads(1, 2, 2), states(1)[0]
    start_DD, hidden_D = (
        heads.start.weight.view(2, WIDTH, WIDTH),
        state_D + nn.functional.gelu(heads.head(state_D)),
    )
    total = torch.zeros(())
    for level, code in enumerate((1, 0)):
        inner_D = start_DD[level] @ hidden_D + heads.start.bias.view(2, WIDTH)[level]
        if level:
            inner_D = inner_D + heads.earlier[0].weight[1]  # the code 1 of the first level
        total = total + heads.score[level](nn.functional.gelu(inner_D)).log_softmax(-1)[code]
    assert close(heads.log_prob(state_D, torch.tensor([[1, 0]])), total[None])


@torch.no_grad()
def test_all_paths_have_all_probability_and_so_have_the_items_of_a_trie() -> None:
    heads, state_BD = make_heads(), states()
    everything_NS = torch.cartesian_prod(*[torch.arange(CODES)] * LEVELS).expand(5, -1, -1)
    assert close(heads.score_paths(state_BD, everything_NS).exp().sum(-1), torch.ones(5, HEADS))
    codes_IS, real_I, trie = make_catalogue()
    among_BJN = heads.score_paths(state_BD, codes_IS[real_I].expand(5, -1, -1), trie)
    assert close(among_BJN.exp().sum(-1), torch.ones(5, HEADS))
    assert close(mixture(among_BJN, WEIGHT_J).exp().sum(-1), torch.ones(5))
    all_BJN = heads.score_paths(state_BD, everything_NS, trie)
    assert (all_BJN > -torch.inf).sum().item() == 5 * HEADS * (ITEMS - 1)  # a path of nobody has none
    assert all_BJN.isneginf().any()


@pytest.mark.parametrize("constrained", [False, True])
@torch.no_grad()
def test_teacher_forcing_is_scoring_one_path(constrained: bool) -> None:
    heads, state_BD, (codes_IS, _, trie) = make_heads(), states(6).view(2, 3, WIDTH), make_catalogue()
    own_JS = codes_IS[torch.arange(1, 19).view(2, 3, HEADS)]
    given = trie if constrained else None
    each_J = heads.log_prob(state_BD, own_JS, given)
    assert each_J.shape == (2, 3, HEADS)
    scored_JN = heads.score_paths(state_BD, own_JS, given)  # every head's paths under every head
    assert close(each_J, scored_JN.diagonal(dim1=-2, dim2=-1))
    shared_J = heads.log_prob(state_BD, own_JS[..., 1:2, :], given)
    assert close(shared_J, scored_JN[..., 1])


def test_mixture_by_hand() -> None:
    log_prob_JN = torch.tensor([[0.5, 0.25], [0.1, 0.75]]).log()
    assert close(mixture(log_prob_JN), torch.tensor([0.3, 0.5]).log())
    assert close(mixture(log_prob_JN, torch.tensor([0.75, 0.25]).log()), torch.tensor([0.4, 0.375]).log())
    by_request_BJ = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).log()
    assert close(mixture(log_prob_JN.expand(2, 2, 2), by_request_BJ), log_prob_JN)


@pytest.mark.parametrize("constrained", [False, True])
def test_a_beam_of_full_width_is_brute_force(constrained: bool) -> None:
    heads, state_BD, (codes_IS, _, trie) = make_heads(), states(), make_catalogue()
    found = search_paths(heads, state_BD, trie, width=100, constrained=constrained, log_weight_J=WEIGHT_J)
    items_BN, log_prob_BN = brute_force(heads, state_BD, constrained)
    number = ITEMS - 1
    assert torch.equal(found.items_BW[:, :number], items_BN)
    assert close(found.log_prob_BW[:, :number], log_prob_BN)
    assert found.mask_BW[:, :number].all()
    assert not found.mask_BW[:, number:].any()  # the catalogue ends
    assert not found.items_BW[:, number:].any()
    assert found.log_prob_BW[:, number:].isneginf().all()
    given = trie if constrained else None
    assert close(
        found.head_log_prob_BJW[..., :number], heads.score_paths(state_BD, codes_IS[items_BN], given)
    )


def well_found(found: Found, heads: PathHeads, state_BD: Tensor, codes_IS: Tensor) -> bool:
    """Distinct real items, best first, with the log-probabilities of their paths."""
    exact_BW = mixture(heads.score_paths(state_BD, codes_IS[found.items_BW]))
    distinct = all(len(set(row)) == len(row) for row in found.items_BW.tolist())
    ordered = bool((found.log_prob_BW.diff(dim=1) <= 0).all())
    return distinct and ordered and bool((found.items_BW > 0).all()) and close(found.log_prob_BW, exact_BW)


@pytest.mark.parametrize("width", [1, 4, 20])
def test_a_narrow_beam_finds_distinct_items_and_knows_their_probability(width: int) -> None:
    heads, state_BD, (codes_IS, _, trie) = make_heads(), states(), make_catalogue()
    found = search_paths(heads, state_BD, trie, width=width)
    assert found.items_BW.shape == (5, width)
    assert found.mask_BW.all()
    with torch.no_grad():
        assert well_found(found, heads, state_BD, codes_IS)


def test_one_wide_enough_for_every_level_but_the_last_finds_the_best() -> None:
    heads, state_BD, (_, _, trie) = make_heads(), states(), make_catalogue()
    best = search_paths(heads, state_BD, trie, width=100)
    narrower = search_paths(heads, state_BD, trie, width=len(trie.key_P[2]))
    kept = narrower.items_BW.shape[1]
    assert kept < ITEMS - 1
    assert torch.equal(narrower.items_BW, best.items_BW[:, :kept])


@pytest.mark.parametrize("constrained", [False, True])
def test_batch_mates_change_nothing(constrained: bool) -> None:
    heads, state_BD, (_, _, trie) = make_heads(), states(), make_catalogue()
    together = search_paths(heads, state_BD, trie, width=7, constrained=constrained)
    for b in range(5):
        alone = search_paths(heads, state_BD[b : b + 1], trie, width=7, constrained=constrained)
        assert torch.equal(alone.items_BW[0], together.items_BW[b])
        assert close(alone.log_prob_BW[0], together.log_prob_BW[b])


def test_an_item_that_two_heads_half_believe_beats_one_that_a_single_head_does() -> None:
    """Each head's favourite is another item, and both give 0.4 to the one between."""
    log_prob_JN = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.4, 0.6]]).log()
    assert mixture(log_prob_JN).argmax().item() == 1
    assert mixture(log_prob_JN)[1].item() == pytest.approx(math.log(0.4))


def test_every_head_learns_from_its_own_path() -> None:
    heads, state_BD, (codes_IS, _, trie) = make_heads(), states(), make_catalogue()
    state_BD.requires_grad_()
    own_BJS = codes_IS[torch.arange(1, 16).view(5, HEADS)]
    for given in (None, trie):
        heads.zero_grad()
        heads.log_prob(state_BD, own_BJS, given)[:, 1].sum().backward()
        grad_JD = heads.head.weight.grad.view(HEADS, -1).abs().amax(1)
        assert grad_JD[1] > 0
        assert grad_JD[[0, 2]].max() == 0
        for name, weight in heads.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name


def test_a_path_of_nobody_breaks_no_gradient() -> None:
    heads, (codes_IS, _, trie) = make_heads(), make_catalogue()
    log_prob_J = heads.log_prob(states(1)[0], codes_IS[:1], trie)  # item 0 has no path
    assert log_prob_J.isneginf().all()
    log_prob_J.masked_fill(log_prob_J.isneginf(), 0).sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in heads.parameters())
