"""Batches, generators and a checkable reward for tests of decoding and groups, built on ``factories``."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from factories import make_schema, make_split
from slatewise.data.batch import ListBatch
from slatewise.generators import autoregressive, scorer
from slatewise.generators.base import Generator
from slatewise.modules.tower import TowerConfig


def make_batch(rows: int = 6, *, seed: int = 0, fewest: int | None = None, **changes: Any) -> ListBatch:
    """Random requests; ``changes`` go to the schema, ``fewest`` gives requests fewer candidates."""
    return make_split(make_schema(**changes), rows, seed, fewest=fewest).batch(slice(0, rows))


def make_generator(kind: str = "autoregressive", *, sharpness: float = 4.0, **changes: Any) -> Generator:
    """A small generator with random weights, in evaluation mode.

    ``sharpness`` scales its scores up, so that its policy is far from uniform.
    """
    torch.manual_seed(5)
    tower, schema = TowerConfig(width=32), make_schema(**changes)
    generator: Generator = (
        scorer.build(scorer.Config(tower=tower, encoder_layers=1), schema)
        if kind == "scorer"
        else autoregressive.build(autoregressive.Config(tower=tower, encoder_layers=1), schema)
    )
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            if name.startswith(("score.", "pointer_")):
                weight.mul_(sharpness)
    return generator.eval()


def permuted(batch: ListBatch, order_N: Tensor) -> ListBatch:
    """The batch with its candidate axis in another order (for requests in which all candidates are real)."""
    assert bool(batch.mask_BN.all())
    moved = {f.name: getattr(batch, f.name)[:, order_N] for f in fields(batch) if "_BN" in f.name}
    return replace(batch, **moved, exposed_BE=order_N.argsort()[batch.exposed_BE])


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> bool:
    """Equal shapes, and values equal up to rounding (``torch.testing`` takes seconds to import)."""
    return a.shape == b.shape and torch.allclose(a, b, atol=tolerance, rtol=tolerance)


def well_formed(lists_BGL: Tensor, mask_BN: Tensor) -> bool:
    """Every list has min(N, L) distinct real candidates in front, and index 0 behind them."""
    for lists_GL, mask_N in zip(lists_BGL.tolist(), mask_BN, strict=True):
        real = set(mask_N.nonzero().flatten().tolist())
        size = min(len(real), lists_BGL.shape[2])
        for one in lists_GL:
            head, tail = one[:size], one[size:]
            if len(set(head)) != size or not set(head) <= real or any(tail):
                return False
    return True


def all_lists(candidates: int, length: int) -> Tensor:
    """Every ordered list of ``length`` of ``candidates`` (M, L)."""
    return torch.tensor(list(permutations(range(candidates), length)))


def list_reward(mask_BN: Tensor, length: int, seed: int = 0) -> Any:
    """A value function with effects of order: an item's appeal at its place, and after another item."""
    rng = torch.Generator().manual_seed(seed)
    b, n = mask_BN.shape
    appeal_BLN = torch.randn(b, length, n, generator=rng)
    pair_BNN = torch.randn(b, n, n, generator=rng)
    real_BL = (torch.arange(length) < mask_BN.sum(1, keepdim=True)).float()

    def value(lists_BGL: Tensor) -> Tensor:
        row = torch.arange(b)[:, None, None]
        single_BGL = appeal_BLN[row, torch.arange(length), lists_BGL] * real_BL[:, None]
        pair_BGl = pair_BNN[row, lists_BGL[:, :, :-1], lists_BGL[:, :, 1:]] * real_BL[:, None, 1:]
        return single_BGL.sum(2) + pair_BGl.sum(2)

    return value
