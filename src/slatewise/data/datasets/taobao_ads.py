"""Taobao's display ads: 26 million impressions of 0.85 million ads by 1.14 million people in eight days (May 2017).

Reads ``raw_sample.csv``, ``ad_feature.csv`` and ``user_profile.csv`` (plain or ``.gz``) from ``source``, the reader's own
download. One row of ``raw_sample`` is an impression: who, when (seconds), which ad, in which place of the page
(``pid``, a context), clicked or not.

The files know clicks but no sales. ``feedback_value`` is a stated proxy: the price of the advertised product where
the ad was clicked, at most ``value_cap`` (a few prices are placeholders in the tens of millions). So the funnel has two
steps here, ``click`` and ``value``, and a value says what was looked at, not what was earned.

Codes that only name something (category, brand, campaign, customer, the profile's groups and levels) are strings, so
that they become categories and no amounts; the price is a number, ``log_price``.

Source: https://tianchi.aliyun.com/dataset/56 ("Ad Display/Click Data on Taobao.com", Alimama). Licence: that of the
page it is downloaded from, which has to be accepted there; nothing of it is in this package, and no checksum is
published.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slatewise.config import Frozen
from slatewise.data.log import Log
from slatewise.errors import ConfigError, DataError

DEFAULT_PROTOCOL = "catalogue-v1"

NUMBER, CODE = pl.Float64, pl.String
UNREADABLE = (pl.exceptions.PolarsError, OSError, EOFError)
SAMPLE: dict[str, type[pl.DataType]] = {
    "user": pl.Int64,
    "time_stamp": pl.Int64,
    "adgroup_id": pl.Int64,
    "pid": CODE,
    "nonclk": pl.Int8,
    "clk": pl.Int8,
}
ADS: dict[str, type[pl.DataType]] = {
    "adgroup_id": pl.Int64,
    "cate_id": CODE,
    "campaign_id": CODE,
    "customer": CODE,
    "brand": CODE,
    "price": NUMBER,
}
PROFILES: dict[str, type[pl.DataType]] = {
    "userid": pl.Int64,
    "cms_segid": CODE,
    "cms_group_id": CODE,
    "final_gender_code": CODE,
    "age_level": CODE,
    "pvalue_level": CODE,
    "shopping_level": CODE,
    "occupation": CODE,
    "new_user_class_level": CODE,
}


class Config(Frozen):
    """Options.

    Attributes:
        share: of the users; the same ones every time. All 26 million rows need about 10 GB of memory to prepare.
        value_cap: the most that a click can be worth.
    """

    share: float = 1.0
    value_cap: float = 1000.0


def load(config: Config, source: Path | None) -> Log:
    """Read the three files.

    Returns:
        A log without requests. ``interactions``: ``user_id, item_id, timestamp, context_pid, feedback_click,
        feedback_value``, in the order of time; ``users`` and ``items``: the profiles and ads that occur in them.

    Raises:
        DataError: no ``source``, a file is missing, cannot be read or lacks a column, or there is no impression.
        ConfigError: ``share`` or ``value_cap`` is out of range.
    """
    if not 0 < config.share <= 1:
        raise ConfigError(f"taobao-ads: share is {config.share}, but must be above 0 and at most 1.")
    if config.value_cap <= 0:
        raise ConfigError(f"taobao-ads: value_cap is {config.value_cap}, but must be above 0.")
    if source is None:
        raise DataError(
            "the data set 'taobao-ads' needs --source: the folder with raw_sample.csv, ad_feature.csv and user_profile.csv."
        )
    ads = _table(source, "ad_feature", ADS, "adgroup_id", "item_id")
    profiles = _table(source, "user_profile", PROFILES, "userid", "user_id")
    shown, counts = _impressions(config, source)
    price = ads.select("item_id", price=pl.col("price").clip(0, config.value_cap).fill_null(0.0))
    worth = shown.join(price, on="item_id", how="left", maintain_order="left")["price"].fill_null(0.0)
    interactions = shown.with_columns(feedback_value=(worth * shown["feedback_click"]).cast(pl.Float32))
    items = ads.with_columns(log_price=pl.col("price").clip(0).log1p()).drop("price")
    items, users = (
        table.join(shown.select(key).unique(), on=key, how="semi", maintain_order="left")
        for table, key in ((items, "item_id"), (profiles, "user_id"))
    )
    counts |= {
        "ads without an impression left out": ads.height - items.height,
        "ads without features": shown["item_id"].n_unique() - items.height,
        "users without a profile": shown["user_id"].n_unique() - users.height,
    }
    return Log(users=users, items=items, interactions=interactions, counts=counts)


def _impressions(config: Config, source: Path) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows of ``raw_sample`` in the order of time, and what was left out of them."""
    rows = _scan(source, "raw_sample", SAMPLE)
    if config.share < 1:  # Knuth's multiplicative hash: whom it takes depends on nothing but the id
        place = (pl.col("user") % 2**20 * 2_654_435_761) % 2**32
        rows = rows.filter(place < config.share * 2**32)
    frame = _collect(rows, _path(source, "raw_sample"))
    whole = pl.all_horizontal(pl.col("user", "time_stamp", "adgroup_id").is_not_null())
    told = pl.col("clk").is_in([0, 1]) & (pl.col("clk") + pl.col("nonclk") == 1)
    kept = frame.filter(whole & told.fill_null(False)).sort("time_stamp", maintain_order=True)
    if kept.is_empty():
        raise DataError(
            f"{source}: raw_sample has no impression with a user, a time, an ad, and clk and nonclk that are 0 and 1 or 1 and 0"
            f"{'' if config.share == 1 else f' among a share of {config.share} of the users'}."
        )
    shown = kept.select(
        user_id="user",
        item_id="adgroup_id",
        timestamp="time_stamp",
        context_pid="pid",
        feedback_click=pl.col("clk").cast(pl.Float32),
    )
    lost = "impressions left out: no user, time or ad, or clk and nonclk do not fit"
    return shown, {"impressions": shown.height, lost: frame.height - kept.height}


def _table(
    source: Path, name: str, columns: dict[str, type[pl.DataType]], key: str, called: str
) -> pl.DataFrame:
    """A whole file, its id ``key`` renamed; each id once (the first row counts)."""
    rows = _collect(_scan(source, name, columns), _path(source, name)).filter(pl.col(key).is_not_null())
    return rows.unique(key, keep="first", maintain_order=True).rename({key: called})


def _scan(source: Path, name: str, columns: dict[str, type[pl.DataType]]) -> pl.LazyFrame:
    """The columns of a file; a plain one is streamed, a packed one unpacked in memory."""
    path = _path(source, name)
    given = _header(path)
    if missing := [column for column in columns if column not in given]:
        raise DataError(f"{path} has no column '{missing[0]}'; it has: {', '.join(given) or 'none'}.")
    kinds = {given[column]: kind for column, kind in columns.items()}
    try:
        if path.suffix == ".csv":
            rows = pl.scan_csv(path, schema_overrides=kinds, null_values=["NULL"])
        else:
            rows = pl.read_csv(path, schema_overrides=kinds, null_values=["NULL"]).lazy()
    except UNREADABLE as error:
        raise DataError(_unreadable(path, error)) from None
    return rows.select(pl.col(given[column]).alias(column) for column in columns)


def _path(source: Path, name: str) -> Path:
    for path in (source / f"{name}.csv", source / f"{name}.csv.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{source} has neither {name}.csv nor {name}.csv.gz; download the data set (the page is named in "
        "slatewise.data.datasets.taobao_ads) and name its folder as --source."
    )


def _header(path: Path) -> dict[str, str]:
    """Column names without the spaces that one of the files has behind its last, and as they stand in the file."""
    try:
        names = pl.read_csv(path, n_rows=0, infer_schema=False).columns
    except UNREADABLE as error:
        raise DataError(_unreadable(path, error)) from None
    return {name.strip(): name for name in names}


def _collect(rows: pl.LazyFrame, path: Path) -> pl.DataFrame:
    try:
        return rows.collect()
    except UNREADABLE as error:
        raise DataError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    return f"{path} cannot be read as the data set's own CSV: {reason}."
