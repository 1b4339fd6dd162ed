"""Every data set of the library is under the public laws; MovieLens where its files are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from slatewise.data.datasets import store
from slatewise.names import available
from slatewise.testing import LawBroken, check_dataset
from slatewise.testing.fixtures import EVENTS, STORE, store_log, write_taobao_ads

FILES = Path(os.environ.get("SLATEWISE_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))


@pytest.mark.parametrize("name", available("data.datasets"))
def test_keeps_the_laws(name: str, tmp_path: Path) -> None:
    source, options = SOURCES[name](tmp_path)
    check_dataset(name, source, **options)


def _store(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    return None, dict(STORE)


def _parquet(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    log = store_log()
    source = folder / "log"
    source.mkdir()
    for table in ("requests", "users", "items"):
        getattr(log, table).write_parquet(source / f"{table}.parquet")
    return source, {}


def _events(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    requests = store_log().requests
    assert requests is not None
    lines: list[dict[str, Any]] = []
    for row in requests.head(20).select("request_id", "user_id", "exposed", "feedback_click").to_dicts():
        ids = {"user": row["user_id"], "session": row["request_id"]}
        items = [{"id": item} for item in row["exposed"]]
        lines.append(
            {"event": "ranking", "id": row["request_id"], "timestamp": "1700000000000", "items": items, **ids}
        )
        for item, click in zip(row["exposed"], row["feedback_click"], strict=True):
            if click:
                event = {
                    "event": "interaction",
                    "id": f"{row['request_id']}-{item}",
                    "ranking": row["request_id"],
                }
                lines.append({**event, "timestamp": "1700000001000", "type": "click", "item": item, **ids})
    for item in requests["candidates"].explode().unique().sort().head(30):
        fields = [{"name": "price", "value": len(item)}]
        lines.append(
            {"event": "item", "id": f"e{item}", "item": item, "timestamp": "1600000000000", "fields": fields}
        )
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "events.jsonl", {}


def _movielens(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    if not (FILES / "ml-1m").is_dir():
        pytest.skip(
            "the official MovieLens-1M files are not here; point SLATEWISE_DATA to the folder above ml-1m."
        )
    return FILES / "ml-1m", {}


def _store_events(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    return None, dict(EVENTS)


def _taobao_ads(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    (folder / "ads").mkdir()
    write_taobao_ads(folder / "ads")
    return folder / "ads", {}


SOURCES = {
    "store": _store,
    "store-events": _store_events,
    "parquet": _parquet,
    "events": _events,
    "taobao-ads": _taobao_ads,
    "movielens-1m": _movielens,
}


def test_the_laws_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(config, source):
        log = plain(config, source)
        shown = pl.col("feedback_click").list.head(2)
        object.__setattr__(log, "requests", log.requests.with_columns(shown))
        return log

    plain = store.load
    monkeypatch.setattr(store, "load", careless)
    with pytest.raises(LawBroken, match="feedback_click"):
        check_dataset("store", **STORE)
