"""HSTU: the formula by hand, and what may never change an answer."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from batches import close
from slatewise.errors import ConfigError
from slatewise.modules.hstu import BLOCK, PAIRS, Hstu, HstuConfig

CONFIG = HstuConfig(width=12, layers=2, heads=3, length=7, time_buckets=9)


def make_stack(config: HstuConfig = CONFIG) -> Hstu:
    """Weights and biases large enough to matter."""
    torch.manual_seed(3)
    stack = Hstu(config).eval()
    with torch.no_grad():
        for bias in stack.bias.parameters():
            bias.mul_(30)
    return stack


def tokens(batch: int = 3, length: int = 10, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask, and times that grow; some are unknown."""
    rng = torch.Generator().manual_seed(seed)
    x_BTD = torch.randn(batch, length, 12, generator=rng)
    gap_BT = (10 ** (3 * torch.rand(batch, length, generator=rng))).long()
    time_BT = 1_700_000_000 + gap_BT.cumsum(1)
    time_BT[torch.rand(batch, length, generator=rng) < 0.2] = 0
    return x_BTD, torch.ones(batch, length, dtype=torch.bool), time_BT


def by_hand(stack: Hstu, x_TD: Tensor, time_T: list[int]) -> Tensor:
    """The formula, token by token, for one sequence without padding; the mask multiplies as in the paper."""
    heads, n = CONFIG.heads, CONFIG.length
    for number, layer in enumerate(stack.layers):
        u, v, q, k = F.silu(F.layer_norm(x_TD, (12,)) @ layer.project.weight.T).chunk(4, -1)
        rows = []
        for t in range(len(x_TD)):
            mixed_D = torch.zeros(12)
            for s in range(len(x_TD)):
                lag, gap = min(max(t - s, 0), n - 1), abs(time_T[t] - time_T[s])
                bucket = min(1 + int(2 * math.log2(max(gap, 1))), CONFIG.time_buckets)
                known = time_T[t] > 0 and time_T[s] > 0
                bias = stack.bias.position[number, lag] + stack.bias.time[number, bucket * known]
                for part in torch.arange(12).chunk(heads):
                    mixed_D[part] += F.silu(q[t, part] @ k[s, part] + bias) / n * (s <= t) * v[s, part]
            rows.append(layer.out(u[t] * F.layer_norm(mixed_D, (12,))))
        x_TD = x_TD + torch.stack(rows)
    return stack.norm(x_TD)


@torch.no_grad()
def test_the_formula_by_hand() -> None:
    stack, (x_BTD, mask_BT, time_BT) = make_stack(), tokens()
    out_BTD = stack(x_BTD, mask_BT, time_BT)
    for b in range(3):
        assert close(out_BTD[b], by_hand(stack, x_BTD[b], time_BT[b].tolist()), 1e-4)


@torch.no_grad()
def test_padding_and_batch_mates_change_nothing() -> None:
    """Between, before and behind the real tokens, whatever stands in the padding and however long it is."""
    stack, (x_BTD, mask_BT, time_BT) = make_stack(), tokens(2, 16)
    real_BT = torch.rand(2, 16, generator=torch.Generator().manual_seed(1)) < 0.5
    real_BT[0, 0], real_BT[1, -1] = False, False
    padded_BTD = stack(x_BTD, real_BT, time_BT)
    other_BTD = torch.where(real_BT[..., None], x_BTD, -9 * x_BTD)
    changed_BTD = stack(other_BTD, real_BT, torch.where(real_BT, time_BT, 5))
    for b in range(2):
        real_T = real_BT[b]
        alone_BTD = stack(x_BTD[b : b + 1, real_T], mask_BT[b : b + 1, real_T], time_BT[b : b + 1, real_T])
        assert close(padded_BTD[b, real_T], alone_BTD[0])
        assert close(changed_BTD[b, real_T], alone_BTD[0])


@torch.no_grad()
def test_a_token_reaches_itself_and_what_stands_behind_it_and_nothing_else() -> None:
    stack, (x_BTD, mask_BT, time_BT) = make_stack(), tokens()
    before_BTD = stack(x_BTD, mask_BT, time_BT)
    for t in (0, 4, 9):
        moved_BTD = x_BTD.clone()
        moved_BTD[:, t] += 1 + torch.arange(12)
        change_BT = (stack(moved_BTD, mask_BT, time_BT) - before_BTD).abs().amax(2)
        assert (change_BT[:, :t] == 0).all()
        assert (change_BT[:, t:] > 1e-4).all()


@torch.no_grad()
def test_only_time_between_tokens_counts() -> None:
    stack, (x_BTD, mask_BT, time_BT) = make_stack(), tokens()
    before_BTD = stack(x_BTD, mask_BT, time_BT)
    later_BT = torch.where(time_BT > 0, time_BT + 86_400, 0)
    assert torch.equal(stack(x_BTD, mask_BT, later_BT), before_BTD)
    wider_BT = torch.where(time_BT > 0, (time_BT - 1_700_000_000) * 50, 0)
    assert not close(stack(x_BTD, mask_BT, wider_BT), before_BTD)
    unknown_BTD = stack(x_BTD, mask_BT, torch.zeros_like(time_BT))
    assert unknown_BTD.isfinite().all()
    assert not close(unknown_BTD, before_BTD)


@torch.no_grad()
def test_an_empty_row_is_finite() -> None:
    stack, (x_BTD, mask_BT, time_BT) = make_stack(), tokens()
    assert stack(x_BTD, torch.zeros_like(mask_BT), time_BT).isfinite().all()


@torch.no_grad()
def test_reading_in_parts_is_reading_at_once() -> None:
    stack, (x_BTD, mask_BT, time_BT) = make_stack(), tokens()
    mask_BT[0, 3:6] = False  # a short history: padding stands between it and what comes later
    whole_BTD = stack(x_BTD, mask_BT, time_BT)
    parts, read = [], None
    for part in (slice(0, 6), slice(6, 7), slice(7, 10)):
        out_BQD, read = stack.read(x_BTD[:, part], mask_BT[:, part], time_BT[:, part], read)
        parts.append(out_BQD)
    assert close(torch.cat(parts, 1)[mask_BT], whole_BTD[mask_BT])


def test_a_long_history_is_read_in_blocks_to_the_same_end() -> None:
    length = 3 * BLOCK + 44
    assert 2 * length**2 > PAIRS
    stack, (x_BTD, mask_BT, time_BT) = make_stack(), tokens(2, length)
    mask_BT[0, BLOCK - 9 : BLOCK + 5] = False
    earlier_BTT = mask_BT[:, None] & torch.ones(length, length, dtype=torch.bool).tril(-3)
    for visible_BTT in (None, earlier_BTT):
        learnt_BTD = stack(x_BTD, mask_BT, time_BT, visible_BTT).detach()  # whole, for its gradient
        with torch.no_grad():
            read_BTD = stack(x_BTD, mask_BT, time_BT, visible_BTT)
        assert close(read_BTD[mask_BT], learnt_BTD[mask_BT])


def test_everything_learns_and_padding_does_not() -> None:
    stack, (x_BTD, mask_BT, time_BT) = make_stack(), tokens()
    mask_BT[:, 8:] = False
    x_BTD.requires_grad_()
    (stack(x_BTD, mask_BT, time_BT) * mask_BT[..., None]).square().sum().backward()
    for name, weight in stack.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name
    assert x_BTD.grad is not None
    assert not x_BTD.grad[:, 8:].any()


def test_heads_share_the_width_evenly() -> None:
    with pytest.raises(ConfigError, match="width = 10 cannot be shared among heads = 4"):
        Hstu(HstuConfig(width=10, heads=4))
