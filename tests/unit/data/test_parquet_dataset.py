"""The user's own logs: what is loaded, what is left out and counted, and that no fault gets through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from slatewise.config import build
from slatewise.data.datasets.parquet import Config, load
from slatewise.errors import ConfigError, DataError
from slatewise.names import available

REQUESTS: dict[str, list[Any]] = {
    "request_id": [1, 2, 3],
    "user_id": ["u", "v", "u"],
    "timestamp": [1, 2, 3],
    "candidates": [[1, 2], [2, 3], [4]],
    "exposed": [[2], [3, 2], None],
    "feedback_click": [[1], [0, 0], None],
    "feedback_value": [[2.5], [0, 0], None],
}


def write(folder: Path, **change: Any) -> Path:
    pl.DataFrame({**REQUESTS, **change}, strict=False).write_parquet(folder / "requests.parquet")
    return folder


def test_it_is_a_data_set() -> None:
    assert {"parquet", "events"} <= set(available("data.datasets"))


def test_requests_without_exposure_are_left_out_and_counted(tmp_path: Path) -> None:
    log = load(Config(), write(tmp_path) / "requests.parquet")
    assert log.requests is not None
    assert log.requests["request_id"].to_list() == [1, 2]
    assert (log.users, log.items, log.interactions) == (None, None, None)
    assert log.counts == {
        "requests": 3, "requests_without_exposure": 1, "requests_without_positive_feedback": 1,
        "users_in_requests": 2, "items_in_requests": 4,
    }  # fmt: skip


def test_a_folder_brings_its_other_tables(tmp_path: Path) -> None:
    write(tmp_path)
    pl.DataFrame({"user_id": ["u"], "age": [30]}).write_parquet(tmp_path / "users.parquet")
    (tmp_path / "items.csv").write_text("item_id,color\n1,red\n2,blue\n9,\n")
    pl.DataFrame({"user_id": ["u"], "item_id": [1], "timestamp": [0]}).write_ndjson(
        tmp_path / "interactions.jsonl"
    )
    log = load(Config(), tmp_path)
    assert log.items is not None
    assert log.users is not None
    assert log.interactions is not None
    assert log.items["color"].to_list() == ["red", "blue", None]
    assert log.interactions.to_dict(as_series=False) == {
        "user_id": ["u"], "item_id": [1], "timestamp": [0], "feedback": [1.0],
    }  # fmt: skip
    assert (log.counts["users_without_features"], log.counts["items_without_features"]) == (1, 2)


def test_feedback_can_be_chosen(tmp_path: Path) -> None:
    log = load(Config(feedback=("click",)), write(tmp_path))
    assert log.requests is not None
    assert "feedback_value" not in log.requests.columns
    with pytest.raises(ConfigError, match="Did you mean 'click'"):
        load(Config(feedback=("clik",)), tmp_path)
    with pytest.raises(ConfigError, match="unknown key 'feedbacks'"):
        build(Config, {"feedbacks": ["click"]})


def test_any_fault_stops_it(tmp_path: Path) -> None:
    write(tmp_path, exposed=[[9], [3, 2], None])
    with pytest.raises(
        DataError, match=r"requests, row 0 \(request_id 1\): exposed holds 9.*slatewise check"
    ):
        load(Config(), tmp_path)
    write(tmp_path)
    pl.DataFrame({"item_id": [1, 1]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"items, row 0 .* 1 has more than one row"):
        load(Config(), tmp_path)


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    nothing = write(tmp_path, exposed=[[], [], []], feedback_click=[[], [], []], feedback_value=[[], [], []])
    with pytest.raises(DataError, match="no request has an exposed item"):
        load(Config(), nothing)
    with pytest.raises(DataError, match="needs --source"):
        load(Config(), None)


def test_interactions_keep_kinds_of_feedback_and_contexts(tmp_path: Path) -> None:
    write(tmp_path)
    table = tmp_path / "interactions.csv"
    head = "user_id,item_id,timestamp,feedback_click,feedback_value,context_page\n"
    table.write_text(head + "u,1,0,1,2.5,shoes\nv,2,1,0,0,\n")
    log = load(Config(), tmp_path)
    assert log.interactions is not None
    assert log.interactions.columns == head.strip().split(",")
    assert log.interactions["feedback_value"].to_list() == [2.5, 0.0]
    assert log.interactions["context_page"].to_list() == ["shoes", None]
    table.write_text(head + "u,1,0,yes,2.5,shoes\n")
    with pytest.raises(DataError, match="feedback_click came as a string; allowed is a number"):
        load(Config(), tmp_path)
    table.write_text(head + "u,1,0,1,NaN,shoes\n")
    with pytest.raises(DataError, match="feedback_value is nan; allowed are finite numbers"):
        load(Config(), tmp_path)
