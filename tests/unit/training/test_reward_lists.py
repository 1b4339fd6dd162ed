"""Lists drawn for a reward's training: only items with known feedback, shorter where few are known."""

from __future__ import annotations

import torch

from factories import make_schema, make_split
from slatewise.training.rewards import _top


def test_drawn_lists_hold_known_items_only_and_end_where_they_run_out() -> None:
    batch = make_split(make_schema(), 8, 0).batch(slice(0, 8))
    known_BN = batch.observed_BN()
    known_BN[0, batch.exposed_BE[0, 2:]] = False  # two known candidates, lists of four
    lists_BGL = _top(torch.zeros(8, 1, 10), known_BN, 5, 4, torch.Generator().manual_seed(0))
    assert set(lists_BGL[0, :, :2].flatten().tolist()) == set(batch.exposed_BE[0, :2].tolist())
    assert not lists_BGL[0, :, 2:].any()
    assert bool(known_BN[1:].gather(1, lists_BGL[1:].flatten(1)).all())
