"""Small random prepared data for tests: a schema, its splits, and a folder that ``load_data`` opens.

``make_split`` lives in memory; ``make_data`` writes a folder with the very writer that ``prepare`` uses.
Items 1..I-1 have a hidden appeal that drives the clicks, so a model has something to learn; the column
``score`` of ``candidate_numeric`` is a noisy view of it, and ``log_popularity`` an item feature.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from slatewise.data.prepared import SPLITS, PreparedData, Split, load_data
from slatewise.data.schema import FeedbackKind, Manifest, Schema
from slatewise.data.tables import Entities, write_table

START = 1_700_000_000  # seconds
ROWS = {"train": 96, "validation": 32, "test": 40}


def make_schema(**changes: Any) -> Schema:
    """A schema with every kind of feature; any field can be changed by name."""
    values: dict[str, Any] = {
        "candidates": 10,
        "length": 4,
        "exposed": 4,
        "history": 5,
        "users": 12,
        "items": 40,
        "feedback": (FeedbackKind(name="click", binary=True),),
        "user_numeric": ("age",),
        "user_categories": (3,),
        "context_numeric": ("hour",),
        "context_categories": (4,),
        "item_numeric": ("log_popularity", "price"),
        "item_categories": (5,),
        "candidate_numeric": ("score",),
        "item_vector": 6,
    }
    return Schema(**(values | changes))


def make_entities(schema: Schema, seed: int = 0) -> tuple[Entities, Entities]:
    """Random features of all users and all items; row 0 (unknown) is all zeros."""
    rng = np.random.default_rng([seed, 1])
    users = _entities(rng, schema.users, len(schema.user_numeric), schema.user_categories, 0)
    items = _entities(rng, schema.items, len(schema.item_numeric), schema.item_categories, schema.item_vector)
    return users, items


def _entities(
    rng: np.random.Generator, rows: int, numeric: int, sizes: tuple[int, ...], vector: int
) -> Entities:
    categories = (
        np.stack([rng.integers(1, max(size, 2), rows) for size in sizes], 1) if sizes else np.zeros((rows, 0))
    )
    tables = (
        rng.normal(size=(rows, numeric)).astype(np.float32),
        categories.astype(np.int32),
        rng.normal(size=(rows, vector)).astype(np.float32),
    )
    for table in tables:
        table[0] = 0
    return Entities(*tables, np.zeros(rows, bool))


def make_columns(
    schema: Schema, rows: int, seed: int = 0, fewest: int | None = None
) -> dict[str, NDArray[Any]]:
    """Columns of a split; ``fewest`` gives each request its own number of candidates, ``fewest`` to N."""
    rng = np.random.default_rng([seed, 2])
    n, e, h = schema.candidates, schema.exposed, schema.history
    count = np.full(rows, n) if fewest is None else rng.integers(fewest, n + 1, rows)
    items = 1 + rng.random((rows, schema.items - 1)).argsort(1)[:, :n]
    shown = np.where(np.arange(n) < count[:, None], rng.random((rows, n)), 2.0).argsort(1)[:, :e]
    num_exposed, num_history = np.minimum(count, e), rng.integers(0, h + 1, rows)
    appeal = np.random.default_rng([7]).normal(size=schema.items)[items]
    click = rng.random((rows, n)) < 1 / (1 + np.exp(-1.5 * appeal))
    feedback = np.repeat(np.take_along_axis(click, shown, 1)[:, :, None], len(schema.feedback), 2).astype(
        np.float32
    )
    feedback[:, :, 1:] *= rng.integers(0, 2, feedback[:, :, 1:].shape)
    candidate_numeric = rng.normal(size=(rows, n, len(schema.candidate_numeric)))
    if "score" in schema.candidate_numeric:
        candidate_numeric[:, :, schema.candidate_numeric.index("score")] = appeal + rng.normal(size=(rows, n))
    real, seen = np.arange(n) < count[:, None], np.arange(e) < num_exposed[:, None]
    past = np.arange(h) < num_history[:, None]
    sizes = schema.context_categories
    context = [rng.integers(0, size, rows) for size in sizes]
    columns = {
        "user": rng.integers(1, schema.users, rows).astype(np.int32),
        "context_numeric": rng.normal(size=(rows, len(schema.context_numeric))).astype(np.float32),
        "context_categories": (np.stack(context, 1) if sizes else np.zeros((rows, 0))).astype(np.int32),
        "num_candidates": count.astype(np.int32),
        "candidates": (items * real).astype(np.int32),
        "candidate_numeric": (candidate_numeric * real[:, :, None]).astype(np.float32),
        "num_history": num_history.astype(np.int32),
        "history": (rng.integers(1, schema.items, (rows, h)) * past).astype(np.int32),
        "history_feedback": (rng.integers(0, 2, (rows, h)) * past).astype(np.float32),
        "num_exposed": num_exposed.astype(np.int32),
        "exposed": (shown * seen).astype(np.int32),
        "feedback": (feedback * seen[:, :, None]).astype(np.float32),
        "propensity": np.full(rows, np.nan, np.float32),
    }
    return columns | _times_and_contexts(schema, past, seed)


def _times_and_contexts(schema: Schema, past: NDArray[np.bool_], seed: int) -> dict[str, NDArray[Any]]:
    """When the request was and each item of its history, a day apart or less, and in which context."""
    rng = np.random.default_rng([seed, 3])
    time = START + rng.integers(0, 10**7, len(past))
    age = rng.integers(1, 86_400, past.shape)[:, ::-1].cumsum(1)[:, ::-1]
    sizes = schema.context_categories
    codes = [rng.integers(0, size, past.shape) for size in sizes]
    categories = np.stack(codes, 2) if sizes else np.zeros((*past.shape, 0))
    numeric = rng.normal(size=(*past.shape, len(schema.context_numeric)))
    return {
        "time": time,
        "history_time": (time[:, None] - age) * past,
        "history_context_numeric": (numeric * past[:, :, None]).astype(np.float32),
        "history_context_categories": (categories * past[:, :, None]).astype(np.int32),
    }


def make_split(
    schema: Schema | None = None,
    rows: int = 32,
    seed: int = 0,
    *,
    fewest: int | None = None,
    name: str = "train",
) -> Split:
    """A split in memory."""
    schema = schema or make_schema()
    users, items = make_entities(schema)
    return Split(name, schema, make_columns(schema, rows, seed, fewest), users, items)


def make_data(
    path: Path,
    schema: Schema | None = None,
    *,
    rows: dict[str, int] | None = None,
    seed: int = 0,
    fewest: int | None = None,
    unexposed_is_negative: bool = True,
    target: dict[str, float] | None = None,
    **manifest: Any,
) -> PreparedData:
    """Write a prepared data set to the folder ``path`` and open it (without ``transform/``)."""
    schema, rows = schema or make_schema(), ROWS | (rows or {})
    path.mkdir(parents=True, exist_ok=True)
    users, items = make_entities(schema, seed)
    write_table(path / "users.arrow", {"numeric": users.numeric, "categories": users.categories})
    write_table(
        path / "items.arrow",
        {
            "numeric": items.numeric,
            "categories": items.categories,
            "vector": items.vector,
            "organic": items.organic.astype(np.uint8),
        },
    )
    for place, name in enumerate(SPLITS):
        write_table(path / f"{name}.arrow", make_columns(schema, rows[name], seed * 10 + place, fewest))
    described = Manifest(
        name="random",
        protocol="random-v1",
        schema=schema,
        target=target or {schema.feedback[0].name: 1.0},
        unexposed_is_negative=unexposed_is_negative,
        counts={f"{name} lists": rows[name] for name in SPLITS},
        source={"dataset": "random", "protocol": "random-v1"},
        fingerprint=f"random-{seed}",
        **manifest,
    )
    (path / "manifest.json").write_bytes(msgspec.json.encode(described))
    return load_data(path)
