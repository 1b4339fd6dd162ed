"""Exposures, feedback and logs for tests of serving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from sample_logs import item_table, random_requests, user_table
from slatewise.data.clock import seconds
from slatewise.data.direct import Past, Row
from slatewise.data.log_files import read_frame
from slatewise.data.log_tables import check_table
from slatewise.serving.features import Store
from slatewise.serving.features.load import load_interactions, load_table
from slatewise.serving.moments import micros
from slatewise.serving.records import Exposure, Feedback

START = 1_700_000_000_000_000  # microseconds


def exposure(request: str = "r1", **changes: Any) -> Exposure:
    """A served request with every field; any of them can be changed."""
    values: dict[str, Any] = {
        "request_id": request,
        "user_id": "u7",
        "timestamp": START,
        "candidates": ("a", "b", "c", "d"),
        "served": ("c", "a"),
        "scores": (0.4, 0.3, 0.2, 0.1),
        "features": {"price": (1.0, None, 3.0, 4.0)},
        "context": {"device": "phone", "hour": 7, "load": 0.5, "member": True},
        "propensity": 0.25,
        "arm": "goalrank",
        "model_version": "v1",
    }
    return Exposure(**(values | changes))


def click(request: str = "r1", item: Any = "c", **changes: Any) -> Feedback:
    """A click a second after the exposure."""
    values = {"request_id": request, "kind": "click", "item_id": item, "timestamp": START + 1_000_000}
    return Feedback(**(values | changes))


def served_log(folder: Path, *, interactions: bool, count: int = 150) -> Path:
    """Requests with ties in time, and tables beside them."""
    folder.mkdir()
    requests = random_requests(count, strings=True).with_columns(
        timestamp=(START + pl.col("timestamp") * 1_000_000).cast(pl.Datetime("us", "UTC")),
        candidate_price=pl.Series([[None, *one[1:]] for one in random_requests(count)["candidate_price"]]),
    )
    requests.write_parquet(folder / "requests.parquet")
    item_table(strings=True).drop("genres").write_parquet(folder / "items.parquet")
    user_table(8).write_parquet(folder / "users.parquet")  # some users have no features
    if interactions:
        past = requests.filter(pl.int_range(pl.len()) % 3 == 0).select(
            "user_id", "timestamp", pl.col("exposed").alias("item_id"), "^feedback_.*$", "context_device"
        )
        flat = past.explode("item_id", "feedback_click", "feedback_watch")
        flat.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(folder / "interactions.parquet")
    return folder


def load_tables(store: Store, folder: Path) -> None:
    """What stands beside a log into a feature store."""
    for table in ("users", "items"):
        frame, faults = check_table(read_frame(folder / f"{table}.parquet"), table)
        assert not faults
        load_table(store, table, frame)
    if (folder / "interactions.parquet").exists():
        frame, _ = check_table(read_frame(folder / "interactions.parquet"), "interactions")
        load_interactions(store, frame, keep=1000)


def rows_of(requests: pl.DataFrame) -> list[Row]:
    """Requests of a table as a server reads them, one by one."""
    times = seconds(requests["timestamp"]) if "timestamp" in requests.columns else [0] * requests.height
    return [_row(row, int(time)) for row, time in zip(requests.iter_rows(named=True), times, strict=True)]


def moments_of(requests: pl.DataFrame) -> list[int]:
    """Their moments in microseconds."""
    if "timestamp" not in requests.columns:
        return [0] * requests.height
    return micros(requests["timestamp"]).tolist()


def _row(row: dict[str, Any], time: int) -> Row:
    def named(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}

    features = {name: values for name, values in named("candidate_").items() if name != "scores"}
    past = None
    if row.get("history") is not None:
        contexts = named("history_context_")
        context = [dict(zip(contexts, one, strict=True)) for one in zip(*contexts.values(), strict=True)]
        past = Past(
            row["history"], row.get("history_feedback") or (), row.get("history_timestamp") or (), context
        )
    return Row(
        candidates=row["candidates"],
        scores=row.get("candidate_scores"),
        features=features,
        user=row.get("user_id"),
        time=time,
        context=named("context_"),
        past=past,
    )
