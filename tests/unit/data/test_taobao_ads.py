"""Taobao's display ads, on a small made file of the same form: what is read, what is left out, and every bad file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slatewise.config import build
from slatewise.data.datasets.taobao_ads import Config, load
from slatewise.data.log import Log
from slatewise.data.prepared import load_data
from slatewise.errors import ConfigError, DataError
from slatewise.protocols.prepare import prepare
from slatewise.testing.fixtures import write_taobao_ads

SAMPLE = """user,time_stamp,adgroup_id,pid,nonclk,clk
581738,1494137644,1,430548_1007,1,0
449818,1494638778,3,430548_1007,0,1
914836,1494650879,4,430539_1007,0,1
914836,1494651029,5,430548_1007,1,0
399907,1494302958,8,430548_1007,1,1
399907,,8,430548_1007,1,0
"""
ADS = """adgroup_id,cate_id,campaign_id,customer,brand,price
3,6406,83237,1,95471,170.0
4,6406,83237,1,NULL,99999999.0
5,392,83237,1,87331,12.99
7,392,83237,1,87331,5.0
5,9,9,9,9,9.0
"""
PROFILES = """userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,new_user_class_level \n\
914836,0,5,2,5,,3,0,3
449818,0,5,2,5,NULL,3,0,
77,0,5,2,5,1,3,0,2
"""


def write(folder: Path, **files: str) -> Path:
    texts = {"raw_sample": SAMPLE, "ad_feature": ADS, "user_profile": PROFILES} | files
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def read(folder: Path, **options: float) -> Log:
    return load(build(Config, options), folder)


def test_what_is_read(tmp_path: Path) -> None:
    log = read(write(tmp_path))
    assert log.requests is None
    assert log.interactions is not None
    assert log.interactions.rows() == [
        (581738, 1, 1494137644, "430548_1007", 0.0, 0.0),
        (449818, 3, 1494638778, "430548_1007", 1.0, 170.0),
        (914836, 4, 1494650879, "430539_1007", 1.0, 1000.0),
        (914836, 5, 1494651029, "430548_1007", 0.0, 0.0),
    ]
    assert log.interactions.columns == [
        "user_id", "item_id", "timestamp", "context_pid", "feedback_click", "feedback_value"
    ]  # fmt: skip
    assert log.items is not None
    assert log.items["item_id"].to_list() == [3, 4, 5]
    assert log.items["brand"].to_list() == ["95471", None, "87331"]
    assert log.items["log_price"].to_list() == pytest.approx(np.log1p([170.0, 99999999.0, 12.99]).tolist())
    assert log.users is not None
    assert log.users.rows() == [
        (914836, "0", "5", "2", "5", None, "3", "0", "3"),
        (449818, "0", "5", "2", "5", None, "3", "0", None),
    ]
    assert log.counts == {
        "impressions": 4,
        "impressions left out: no user, time or ad, or clk and nonclk do not fit": 2,
        "ads without an impression left out": 1,
        "ads without features": 1,
        "users without a profile": 1,
    }


def test_packed_files_are_the_same(tmp_path: Path) -> None:
    plain = read(write(tmp_path))
    for path in list(tmp_path.iterdir()):
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = read(tmp_path)
    for table in ("interactions", "users", "items"):
        assert getattr(packed, table).equals(getattr(plain, table))


def test_a_share_of_the_users_is_the_same_every_time_and_all_of_theirs(tmp_path: Path) -> None:
    write_taobao_ads(tmp_path)
    everything, half = read(tmp_path).interactions, read(tmp_path, share=0.5).interactions
    assert everything is not None
    assert half is not None
    users = half["user_id"].unique()
    assert 0.2 < len(users) / everything["user_id"].n_unique() < 0.8
    assert half.equals(everything.filter(pl.col("user_id").is_in(users.implode())))


def test_it_goes_all_the_way(tmp_path: Path) -> None:
    write_taobao_ads(tmp_path)
    options = {"candidates": 8, "length": 4, "vectors": 4}
    manifest = prepare(
        "taobao-ads", None, tmp_path, tmp_path / "data", dataset_options={}, protocol_options=options
    )
    assert manifest.protocol == "catalogue-v1"
    assert [kind.name for kind in manifest.schema.feedback] == ["click", "value"]
    assert len(manifest.schema.context_categories) == 1
    assert len(manifest.schema.user_categories) == 8
    assert "log_price" in manifest.schema.item_numeric
    assert len(manifest.schema.item_categories) == 4
    log = load_data(tmp_path / "data").interactions()
    assert log.windows(10).batch(slice(0, 5)).context_categories_BTC.any()


@pytest.mark.parametrize("name", ["raw_sample", "ad_feature", "user_profile"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / f"{name}.csv").unlink()
    with pytest.raises(DataError, match=f"has neither {name}.csv nor {name}.csv.gz; download the data set"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"raw_sample": SAMPLE.replace("clk\n", "clicked\n", 1)},
            "has no column 'clk'; it has: user, time_stamp",
        ),
        ({"ad_feature": "a,b\n1,2\n"}, r"ad_feature.csv has no column 'adgroup_id'; it has: a, b\."),
        ({"user_profile": ""}, "user_profile.csv cannot be read as the data set's own CSV"),
        (
            {"raw_sample": SAMPLE.replace("1494137644", "yesterday")},
            "raw_sample.csv cannot be read as .*yesterday",
        ),
        ({"ad_feature": ADS.replace("170.0", "cheap")}, "ad_feature.csv cannot be read as .*cheap"),
        ({"raw_sample": SAMPLE.split("\n")[0] + "\n"}, "raw_sample has no impression with a user"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, **files))


def test_a_packed_file_that_is_cut_short_or_no_gz(tmp_path: Path) -> None:
    packed = gzip.compress(SAMPLE.encode() * 500)
    path = write(tmp_path) / "raw_sample.csv"
    path.unlink()
    for damaged in (packed[: len(packed) // 2], b"no gzip at all"):
        path.with_suffix(".csv.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"raw_sample\.csv\.gz"):
            read(tmp_path)


@pytest.mark.parametrize("options", [{"share": 0.0}, {"share": 1.5}, {"value_cap": 0.0}])
def test_bad_options_are_named(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        read(write(tmp_path), **options)
