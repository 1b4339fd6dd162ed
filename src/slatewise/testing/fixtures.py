"""Small data for the checks: a tiny simulated store, prepared once a process, and changes of its batches."""

from __future__ import annotations

import atexit
import tempfile
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from slatewise.config import build
from slatewise.data.batch import ListBatch
from slatewise.data.log import Log
from slatewise.data.prepared import PreparedData, load_data
from slatewise.generators import Generator, build_generator
from slatewise.names import plugin
from slatewise.protocols.prepare import prepare

# ``value`` pays an amount, so that laws hold for feedback of both types.
STORE = {
    "users": 40,
    "items": 90,
    "candidates": 10,
    "length": 4,
    "requests": 256,
    "validation": 32,
    "test": 32,
}
EVENTS = {
    "users": 40,
    "items": 300,
    "categories": 6,
    "pool": 24,
    "candidates": 8,
    "length": 4,
    "sessions": 10,
    "bias": -3.0,
}
TARGET = {"click": 1.0, "value": 0.2}


def store_log() -> Log:
    """The log of a tiny simulated store: 10 candidates, lists of 4, clicks, sales and money."""
    module = plugin("data.datasets", "store")
    log: Log = module.load(build(module.Config, dict(STORE)), None)
    return log


def events_log() -> Log:
    """The log of a tiny simulated store over time: 10 sessions a user, content, clicks, sales, money."""
    module = plugin("data.datasets", "store-events")
    log: Log = module.load(build(module.Config, dict(EVENTS)), None)
    return log


def ratings_log(users: int = 60, items: int = 160, each: int = 48, seed: int = 0) -> Log:
    """A log without lists: every user rates ``each`` items, 1 to 5 stars, one a day."""
    rng = np.random.default_rng(seed)
    item_UE = rng.random((users, items)).argsort(1)[:, :each]
    taste_UI = rng.normal(size=(users, 3)) @ rng.normal(size=(3, items))
    star_UE = np.clip(np.rint(3.5 + np.take_along_axis(taste_UI, item_UE, 1)), 1, 5)
    interactions = {
        "user_id": np.repeat(np.arange(users), each),
        "item_id": item_UE.ravel(),
        "timestamp": np.tile(np.arange(each) * 86400, users),
        "feedback": star_UE.ravel().astype(np.float32),
    }
    table = pl.DataFrame({"item_id": np.arange(items), "year": rng.integers(1950, 2000, items)})
    return Log(interactions=pl.DataFrame(interactions), items=table, counts={"interactions": users * each})


def write_taobao_ads(folder: Path, users: int = 60, ads: int = 40, each: int = 30, seed: int = 0) -> None:
    """Files of the form of Taobao's display ads: random impressions, a third of them clicked."""
    rng, size = np.random.default_rng(seed), users * each
    clk = (rng.random(size) < 0.35).astype(int)
    user = np.repeat(10_000 + rng.permutation(90_000)[:users], each)
    sample = {"user": user, "time_stamp": 1_494_000_000 + rng.integers(0, 691_200, size)}
    sample |= {
        "adgroup_id": rng.integers(1, ads + 1, size),
        "pid": rng.choice(["430548_1007", "430539_1007"], size),
    }
    pl.DataFrame(sample | {"nonclk": 1 - clk, "clk": clk}).write_csv(folder / "raw_sample.csv")
    codes = {"adgroup_id": np.arange(1, ads + 1)}
    codes |= {name: rng.integers(1, 6, ads) for name in ("cate_id", "campaign_id", "customer", "brand")}
    pl.DataFrame(codes | {"price": rng.exponential(100.0, ads).round(2)}).write_csv(folder / "ad_feature.csv")
    names = ("cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level")
    levels = (*names, "shopping_level", "occupation", "new_user_class_level ")
    profile = {"userid": np.unique(user), **{name: rng.integers(0, 3, users) for name in levels}}
    pl.DataFrame(profile).write_csv(folder / "user_profile.csv")


@cache
def example_data() -> PreparedData:
    """The tiny store, prepared in a temporary folder that goes when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="slatewise-testing-")
    atexit.register(folder.cleanup)
    out = Path(folder.name) / "store"
    prepare(
        "store", None, None, out, dataset_options=dict(STORE), protocol_options={"length": STORE["length"]}
    )
    return load_data(out).with_target(TARGET)


def example_batch(rows: int = 8) -> ListBatch:
    """Requests of the tiny store, all with 10 candidates."""
    return example_data().split("train").batch(slice(0, rows))


def short_batch(rows: int = 8) -> ListBatch:
    """The same requests with 1, 2, 3 … of their candidates left, some fewer than a list's length."""
    batch = example_batch(rows)
    count_B1 = 1 + torch.arange(rows)[:, None] % batch.num_candidates
    rank_BN = (~batch.observed_BN()).float().argsort(dim=1, stable=True)  # shown ones stay longest
    moved = _moved(batch, rank_BN)
    mask_BN = torch.arange(batch.num_candidates) < count_B1
    shown_BE = torch.arange(batch.exposed_BE.shape[1]) < count_B1
    feedback_BEK = batch.feedback_BEK.gather(
        1, batch.exposed_BE.argsort(1)[..., None].expand_as(batch.feedback_BEK)
    )
    place_BE = torch.arange(batch.exposed_BE.shape[1]).expand_as(batch.exposed_BE)
    return replace(
        moved,
        mask_BN=mask_BN,
        exposed_BE=place_BE * shown_BE,
        exposed_mask_BE=shown_BE,
        feedback_BEK=feedback_BEK * shown_BE[..., None],
    )


def permuted(batch: ListBatch, order_N: Tensor) -> ListBatch:
    """The batch with its candidate axis in another order; all candidates must be real."""
    moved = _moved(batch, order_N.expand(batch.size, -1))
    return replace(moved, exposed_BE=order_N.argsort()[batch.exposed_BE])


def _moved(batch: ListBatch, order_BN: Tensor) -> ListBatch:
    columns = {}
    for field in fields(batch):
        tensor = getattr(batch, field.name)
        if "_BN" in field.name:
            index = order_BN if tensor.dim() == 2 else order_BN[..., None].expand_as(tensor)
            columns[field.name] = tensor.gather(1, index)
    return replace(batch, **columns)


def example_order(candidates: int) -> Tensor:
    """A permutation of the candidate axis that moves every candidate."""
    return torch.arange(candidates).roll(3).flip(0)


def example_generator(kind: str = "autoregressive") -> Generator:
    """A small generator with random weights, scaled so that its policy is far from uniform."""
    module = plugin("generators", kind)
    torch.manual_seed(5)
    options = {"tower": {"width": 32}, "encoder_layers": 1, "heads": 2}
    generator = build_generator(kind, build(module.Config, options, where=kind), example_data().schema)
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            if name.startswith(("score.", "pointer_")):
                weight.mul_(4.0)
    return generator.eval()
