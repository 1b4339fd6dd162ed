"""The laws of methods (see :mod:`slatewise.methods`)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import polars as pl
import torch

from slatewise.config import build, merge, to_plain
from slatewise.ranker import Ranker
from slatewise.testing.fixtures import example_data, store_log
from slatewise.testing.laws import find, require, require_lists
from slatewise.training.loop import TrainConfig
from slatewise.training.run import open_run


def check_method(name: str | ModuleType, folder: Path, *, steps: int = 3, **options: Any) -> None:
    """A method trains, leaves a ranker that answers in the caller's ids, the same again from the same seed.

    The laws: lists of prepared requests are well formed; :meth:`Ranker.rank` answers every request with
    distinct candidates of its own, positions 1, 2, …, falling scores; fewer candidates than the length are
    all ranked; unknown users and items are no error; permuting a request's candidates changes nothing, nor
    does ranking it alone; saved and loaded, and trained again from the same seed, the ranker writes the same
    lists.

    Args:
        name: public name or module.   folder: an empty folder to write runs into.
        steps: training steps of every stage.   options: the method's config.

    Raises:
        LawBroken: a law does not hold.
    """
    called, module = find("methods", name, "fit")
    config = build(module.Config, merge(short_training(module.Config, steps), options), where=called)
    data, requests = example_data(), _requests()

    def fit(run: str) -> Ranker:
        ranker: Ranker = module.fit(config, data, open_run(folder / run, seed=1, resume=False, quiet=True))
        return ranker

    ranker = fit("first")
    batch = data.split("test").batch(slice(0, 16))
    ranking = ranker.rank_batch(batch)
    require_lists(ranking.order_BL[:, None].cpu(), batch.mask_BN, called)
    lists = ranker.rank(requests)
    _answer(called, requests, lists, ranker.length)
    _symmetries(called, ranker, requests, lists)
    ranker.save(folder / "ranker")
    golden = (folder / "ranker" / "golden.json").exists()
    require(golden, f"{called}: a saved ranker must carry golden requests, to be checked when it is loaded.")
    loaded = Ranker.load(folder / "ranker")
    require(loaded.rank(requests).equals(lists), f"{called}: the loaded ranker writes other lists.")
    again = fit("second").rank_batch(batch)
    require(torch.equal(again.order_BL, ranking.order_BL), f"{called}: the same seed trains to other lists.")


def short_training(config: type[Any], steps: int) -> dict[str, Any]:
    """Options that end every training stage of a method's config after ``steps`` steps."""
    return _limited(config(), steps)


def _limited(value: Any, steps: int) -> dict[str, Any]:
    if isinstance(value, TrainConfig):
        return {"max_steps": steps, "batch_size": 32, "validations": 1}
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, msgspec.Struct):
        pairs = {field: getattr(value, field) for field in value.__struct_fields__}.items()
    else:
        return {}
    found = {str(key): _limited(part, steps) for key, part in pairs}
    # a dict of structs is replaced as a whole when laid over the defaults, so its entries are spelled out
    whole = isinstance(value, dict)
    return {key: merge(to_plain(value[key]), part) if whole else part for key, part in found.items() if part}


def _requests() -> pl.DataFrame:
    """Test requests of the tiny store as a caller has them; the last three are odd ones."""
    log = store_log()
    assert log.requests is not None
    known = log.requests.filter(pl.col("split") == "test").select(
        "request_id", "user_id", "timestamp", "candidates", "candidate_scores"
    )
    few = known.slice(0, 1).with_columns(
        pl.col("request_id") + "-few", pl.col("candidates", "candidate_scores").list.head(2)
    )
    cold = known.slice(1, 1).with_columns(pl.col("request_id") + "-cold", user_id=pl.lit("nobody"))
    strange = known.slice(2, 1).with_columns(
        pl.col("request_id") + "-new",
        candidates=pl.concat_list(pl.col("candidates").list.slice(0, 5), pl.lit("an item never met")),
        candidate_scores=pl.col("candidate_scores").list.head(6),
    )
    return pl.concat([known, few, cold, strange])


def _answer(called: str, requests: pl.DataFrame, lists: pl.DataFrame, length: int) -> None:
    require(
        lists.columns == ["request_id", "position", "item_id", "score"],
        f"{called}: columns are {lists.columns}.",
    )
    wanted = requests.select("request_id", count=pl.col("candidates").list.len().clip(upper_bound=length))
    joined = requests.join(lists.group_by("request_id", maintain_order=True).agg(pl.all()), on="request_id")
    require(joined.height == requests.height, f"{called}: some requests got no list.")
    own = joined.select((pl.col("item_id").list.set_difference("candidates").list.len() == 0).all()).item()
    require(own, f"{called}: a list has an item that was no candidate.")
    distinct = joined.select((pl.col("item_id").list.n_unique() == pl.col("item_id").list.len()).all()).item()
    require(distinct, f"{called}: a list has an item twice.")
    sizes = lists.group_by("request_id").len().join(wanted, on="request_id")
    require((sizes["len"] == sizes["count"]).all(), f"{called}: a list is not min(N, L) items long.")
    for _, one in lists.group_by("request_id"):
        require(
            one["position"].to_list() == list(range(1, one.height + 1)),
            f"{called}: positions are not 1, 2, ….",
        )
        require((one["score"].diff().drop_nulls() < 0).all(), f"{called}: scores do not fall along the list.")


def _symmetries(called: str, ranker: Ranker, requests: pl.DataFrame, lists: pl.DataFrame) -> None:
    wide = ("candidates", "candidate_scores")
    turned = ranker.rank(requests.with_columns(pl.col(*wide).list.reverse()))
    same = turned.select("request_id", "item_id").equals(lists.select("request_id", "item_id"))
    require(same, f"{called}: permuting a request's candidates changes its list.")
    alone = pl.concat([ranker.rank(requests.slice(row, 1)) for row in range(requests.height)])
    same = alone.select("request_id", "item_id").equals(lists.select("request_id", "item_id"))
    require(same, f"{called}: a request alone gets another list than in a batch.")
