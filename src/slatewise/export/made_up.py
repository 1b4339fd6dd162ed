"""Requests that nobody sent, to see that two ways of ranking agree where held-out requests are few or all alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from slatewise.config import replace
from slatewise.data.batch import ListBatch
from slatewise.data.features import FeatureTransform
from slatewise.data.prepared import REQUEST_COLUMNS, Split, request_shapes
from slatewise.data.tables import Array
from slatewise.decoding.ruled import Rules
from slatewise.export.feed import Limits
from slatewise.export.graph import open_rules
from slatewise.rng import numpy_rng

ROWS = 16
NOW, DAY = 1_700_000_000, 86_400


def kinds(transform: FeatureTransform, limits: Limits) -> Iterator[tuple[str, ListBatch]]:
    """Batches of every kind that is easily forgotten, with their names."""
    n = transform.num_candidates
    counts = 1 + np.arange(ROWS) * n // ROWS
    yield "of 1 to N candidates", made_up(transform, ROWS, n, counts)
    yield "alone", made_up(transform, 1, n)
    yield "with one candidate", made_up(transform, 3, 1)
    if limits.length > 2:
        yield "with fewer candidates than the list is long", made_up(transform, 3, limits.length - 1)
    if limits.candidates > n:
        yield "with more candidates than ever met", made_up(transform, 3, min(2 * n, limits.candidates))


def made_up(
    transform: FeatureTransform, rows: int, candidates: int, counts: Array | None = None, seed: int = 0
) -> ListBatch:
    """Random requests of ``candidates`` places, of which ``counts`` are real (all, by default); the first has no history.

    Users and items are those of the vocabulary, with their features; some are unknown.
    """
    schema = replace(transform.schema(), candidates=candidates)
    rng, shapes = numpy_rng(seed, "export", "made up"), request_shapes(schema)
    columns = {name: np.zeros((rows, *shapes[name]), kind) for name, kind in REQUEST_COLUMNS.items()}
    count_B = np.full(rows, candidates, np.int64) if counts is None else counts.astype(np.int64)
    real_BN = np.arange(candidates) < count_B[:, None]
    past = rng.integers(0, schema.history + 1, rows) * (np.arange(rows) > 0)
    real_BH = np.arange(schema.history) < past[:, None]
    age_BH = rng.integers(1, DAY, real_BH.shape)[:, ::-1].cumsum(1)[:, ::-1]
    columns["user"][:] = rng.integers(0, schema.users, rows)
    columns["time"][:] = NOW + rng.integers(0, 100 * DAY, rows)
    columns["num_candidates"][:], columns["num_history"][:] = count_B, past
    columns["candidates"][:] = _items(rng, real_BN.shape, schema.items) * real_BN
    columns["history"][:] = rng.integers(0, schema.items, real_BH.shape) * real_BH
    columns["history_feedback"][:] = rng.integers(0, 2, real_BH.shape) * real_BH
    columns["history_time"][:] = (NOW - age_BH) * real_BH
    for name in ("context_numeric", "candidate_numeric", "history_context_numeric"):
        columns[name][:] = rng.normal(size=columns[name].shape)
    for name in ("context_categories", "history_context_categories"):
        columns[name][:] = rng.random(columns[name].shape) * np.array(schema.context_categories, np.int64)
    return Split("made up", schema, columns, transform.users.table, transform.items.table).batch(slice(None))


def _items(rng: np.random.Generator, shape: tuple[int, ...], items: int) -> Array:
    """Indices (B, N), different ones in a row as far as the vocabulary reaches; every other row has one of no vocabulary."""
    rows, n = shape
    start_B1 = rng.integers(0, items, (rows, 1))
    item_BN = 1 + (start_B1 + np.arange(n)) % max(items - 1, 1)
    item_BN[1::2, 0] = 0
    return item_BN


def made_up_rules(batch: ListBatch, length: int, seed: int = 0) -> Rules:
    """Rules of all kinds, another mix in each request: a place that one candidate holds, candidates that are out, groups that are counted."""
    rng, b = numpy_rng(seed, "export", "rules"), len(batch.mask_BN)
    rules = open_rules(batch, length)
    count_B, place_B = batch.mask_BN.sum(1).numpy(), rng.integers(0, length, b)
    for row in range(b):
        pinned, out = rng.integers(0, count_B[row], 2)
        if out != pinned:
            rules.allowed_BLN[row, :, out] = False
        rules.allowed_BLN[row, :, pinned] = False
        rules.allowed_BLN[row, place_B[row]] = False
        rules.allowed_BLN[row, place_B[row], pinned] = True
    rules.group_BRN[:] = torch.from_numpy(rng.integers(0, 4, rules.group_BRN.shape))
    rules.most_BR[:] = torch.from_numpy(rng.integers(1, 3, rules.most_BR.shape))
    rules.window_BR[:] = torch.from_numpy(rng.integers(1, length + 1, rules.window_BR.shape))
    return rules
