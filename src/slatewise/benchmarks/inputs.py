"""A random batch and a generator of the size of MovieLens-1M's, made in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.data.schema import FeedbackKind, Manifest, Schema
from slatewise.generators.autoregressive import Autoregressive, Config, build
from slatewise.modules.tower import TowerConfig
from slatewise.rng import child_seed, torch_rng

GENERATOR = Config(tower=TowerConfig(width=128))  # the paper's offline width; 2 + 2 layers


def make_schema(candidates: int, length: int, history: int = 20) -> Schema:
    """The widths and vocabularies that ``goalrank-v1`` finds in MovieLens-1M, with N, L and H as asked."""
    genres = tuple(f"genre_{place}" for place in range(18))
    return Schema(
        candidates=candidates,
        length=length,
        exposed=length,
        history=history,
        users=6023,
        items=3044,
        feedback=(FeedbackKind(name="click", binary=True),),
        user_categories=(3, 8, 22, 11),
        item_numeric=("log_popularity", "year", *genres),
        candidate_numeric=("score", "score_z", "score_rank", "score_gap_up", "score_gap_down"),
        item_vector=64,
    )


def make_manifest(schema: Schema) -> Manifest:
    """A manifest around the schema, as a reward needs it; the value is the number of clicks."""
    return Manifest(
        name="benchmark",
        protocol="benchmark-v1",
        schema=schema,
        target={schema.feedback[0].name: 1.0},
        unexposed_is_negative=True,
        counts={},
        source={},
        fingerprint="benchmark",
    )


def make_batch(schema: Schema, size: int, seed: int) -> ListBatch:
    """``size`` random requests in which every candidate and every place of the history is real."""
    rng = torch_rng(seed, "benchmark", "batch")
    n, h, e = schema.candidates, schema.history, schema.exposed

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    def categories(sizes: tuple[int, ...], *shape: int) -> Tensor:
        columns = [torch.randint(0, entries, shape, generator=rng) for entries in sizes]
        return torch.stack(columns, -1) if columns else torch.zeros(*shape, 0, dtype=torch.long)

    def distinct(entries: int, taken: int) -> Tensor:
        return torch.rand(size, entries, generator=rng).argsort(1)[:, :taken]

    return ListBatch(
        user_B=torch.randint(1, schema.users, (size,), generator=rng),
        user_numeric_BF=numbers(size, len(schema.user_numeric)),
        user_categories_BC=categories(schema.user_categories, size),
        time_B=torch.zeros(size, dtype=torch.long),
        context_numeric_BF=numbers(size, len(schema.context_numeric)),
        context_categories_BC=categories(schema.context_categories, size),
        candidates_BN=1 + distinct(schema.items - 1, n),
        mask_BN=torch.ones(size, n, dtype=torch.bool),
        item_numeric_BNF=numbers(size, n, len(schema.item_numeric)),
        item_categories_BNC=categories(schema.item_categories, size, n),
        candidate_numeric_BNF=numbers(size, n, len(schema.candidate_numeric)),
        history_BH=torch.randint(1, schema.items, (size, h), generator=rng),
        history_mask_BH=torch.ones(size, h, dtype=torch.bool),
        history_numeric_BHF=numbers(size, h, len(schema.item_numeric)),
        history_categories_BHC=categories(schema.item_categories, size, h),
        history_organic_BH=torch.zeros(size, h, dtype=torch.bool),
        history_feedback_BH=torch.ones(size, h),
        history_time_BH=torch.zeros(size, h, dtype=torch.long),
        history_context_numeric_BHF=numbers(size, h, len(schema.context_numeric)),
        history_context_categories_BHC=categories(schema.context_categories, size, h),
        exposed_BE=distinct(n, e),
        exposed_mask_BE=torch.ones(size, e, dtype=torch.bool),
        feedback_BEK=torch.randint(0, 2, (size, e, len(schema.feedback)), generator=rng).float(),
        request_B=torch.arange(size),
    )


def make_generator(config: Config, schema: Schema, seed: int) -> Autoregressive:
    """The generator with random weights drawn from ``seed``."""
    torch.manual_seed(child_seed(seed, "benchmark", "init"))
    return build(config, schema)
