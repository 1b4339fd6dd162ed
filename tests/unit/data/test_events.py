"""Events joined into lists: each join by hand, everything that cannot be joined counted, bad lines named."""

from __future__ import annotations

import gc
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pytest

from slatewise.config import build
from slatewise.data import event_lines
from slatewise.data.check import check_requests
from slatewise.data.datasets.events import Config, load
from slatewise.data.event_tables import times
from slatewise.data.log import Log
from slatewise.errors import ConfigError, DataError

Event = dict[str, Any]


def fields(**values: Any) -> list[Event]:
    return [{"name": name, "value": value} for name, value in values.items()]


def item(name: str, time: int = 0, **values: Any) -> Event:
    return {"event": "item", "id": "x", "timestamp": str(time), "item": name, "fields": fields(**values)}


def user(name: str, time: int = 0, **values: Any) -> Event:
    return {"event": "user", "id": "x", "timestamp": str(time), "user": name, "fields": fields(**values)}


def ranking(name: str, items: list[Any], time: int = 100, **more: Any) -> Event:
    shown = [entry if isinstance(entry, dict) else {"id": entry} for entry in items]
    return {"event": "ranking", "id": name, "timestamp": str(time), "user": "u1", "items": shown, **more}


def act(name: str | None, what: str, kind: str = "click", time: int = 200, **more: Any) -> Event:
    return {"event": "interaction", "id": "y", "ranking": name, "timestamp": str(time), "type": kind,
            "item": what, **more}  # fmt: skip


def write(folder: Path, events: list[Event], name: str = "events.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def read(folder: Path, events: list[Event], **options: Any) -> Log:
    return load(build(Config, options), write(folder, events))


def requests(log: Log) -> pl.DataFrame:
    assert log.requests is not None
    return log.requests


def test_rankings_and_interactions_become_lists(tmp_path: Path) -> None:
    log = read(tmp_path, [
        ranking("r1", ["a", "b", "c"], time=5, fields=fields(query="cat", hour=7)),
        act("r1", "c"), act("r1", "c"), act("r1", "a", "buy"),
        ranking("r2", ["b", "d"], time=9, user="u2", fields=fields(hour=8)),
        act("r2", "b", "buy"),
    ])  # fmt: skip
    assert requests(log).to_dict(as_series=False) == {
        "request_id": ["r1", "r2"], "user_id": ["u1", "u2"], "timestamp": [5, 9],
        "candidates": [["a", "b", "c"], ["b", "d"]],
        "exposed": [["a", "b", "c"], ["b", "d"]],
        "feedback_buy": [[1, 0, 0], [1, 0]], "feedback_click": [[0, 0, 1], [0, 0]],
        "context_query": ["cat", None], "context_hour": [7, 8],
    }  # fmt: skip
    assert check_requests(requests(log)) == []


def test_only_the_exposed_part_is_exposed(tmp_path: Path) -> None:
    log = read(tmp_path, [ranking("r", ["a", "b", "c"]), act("r", "c"), act("r", "b")], exposed_length=2)
    row = requests(log).row(0, named=True)
    assert (row["candidates"], row["exposed"]) == (["a", "b", "c"], ["a", "b"])
    assert row["feedback_click"] == [0, 1]
    assert log.counts["interactions_with_item_not_shown"] == 1


def test_scores_and_candidate_features(tmp_path: Path) -> None:
    shown = [
        {"id": "a", "relevancy": 2.0, "fields": fields(price=1, note="x")},
        {"id": "b", "fields": fields(relevancy=1, scores=3, fresh=True)},
    ]
    log = read(tmp_path, [ranking("r", shown), act("r", "a")])
    row = requests(log).row(0, named=True)
    assert row["candidate_scores"] == [2.0, 1.0]
    assert row["candidate_price"] == [1.0, None]
    assert row["candidate_fresh"] == [None, 1.0]
    assert row["candidate_scores_field"] == [None, 3.0]
    assert "candidate_note" not in row
    assert log.counts["candidate_texts_left_out"] == 1


def test_scores_of_some_items_only_are_a_feature(tmp_path: Path) -> None:
    shown = [{"id": "a", "fields": fields(bm25=2.0)}, {"id": "b"}]
    log = read(tmp_path, [ranking("r", shown), act("r", "a")], score_field="bm25")
    assert "candidate_scores" not in requests(log).columns
    assert requests(log)["candidate_bm25"].to_list() == [[2.0, None]]


def test_labels_are_feedback(tmp_path: Path) -> None:
    log = read(tmp_path, [ranking("r", [{"id": "a", "label": 2}, {"id": "b"}])])
    assert requests(log)["feedback_label"].to_list() == [[2.0, 0.0]]


def test_amounts_add_up_and_missing_ones_are_counted(tmp_path: Path) -> None:
    events = [
        ranking("r", ["a", "b", "c"]),
        act("r", "a", "buy", fields=fields(price=2.5)),
        act("r", "a", "buy", fields=fields(price=4)),
        act("r", "b", "buy"),
        act("r", "c"),
    ]
    log = read(tmp_path, events, amounts={"buy": "price"})
    assert requests(log)["feedback_buy"].to_list() == [[6.5, 0.0, 0.0]]
    assert requests(log)["feedback_click"].to_list() == [[0.0, 0.0, 1.0]]
    assert log.counts["interactions_without_amount"] == 1
    assert log.interactions is not None
    assert log.interactions["feedback"].to_list() == [2.5, 4.0, 0.0, 1.0]


def test_equal_amounts_of_one_add_up_too(tmp_path: Path) -> None:
    buys = [act("r", "a", "buy", fields=fields(count=1)) for _ in range(3)]
    log = read(tmp_path, [ranking("r", ["a"]), *buys], amounts={"buy": "count"})
    assert requests(log)["feedback_buy"].to_list() == [[3.0]]


def test_what_cannot_be_joined_is_counted(tmp_path: Path) -> None:
    log = read(tmp_path, [
        item("a", color="red"),
        ranking("r", ["a", "b", "a"]),
        ranking("r", ["z"]),
        ranking("empty", []),
        {**ranking("anonymous", ["b"]), "user": None},
        act("r", "a"), act("r", "q"), act("nowhere", "a"), act(None, "a", user="u9"), act(None, "a"),
        act("r", "b", "ignored"),
    ], feedback=["click"])  # fmt: skip
    assert requests(log)["candidates"].to_list() == [["a", "b"], ["b"]]
    assert requests(log)["user_id"].to_list() == ["u1", "anonymous"]
    expected = {
        "events": 11, "rankings": 4, "requests": 2, "rankings_of_an_earlier_id": 1,
        "rankings_without_items": 1,
        "rankings_without_user": 1, "items_repeated_in_a_ranking": 1, "interactions": 5,
        "interactions_of_other_types": 1, "interactions_outside_rankings": 2,
        "interactions_with_unknown_ranking": 1, "interactions_with_item_not_shown": 1,
        "interactions_in_history": 3, "items_without_features": 1,
    }  # fmt: skip
    assert {name: log.counts[name] for name in expected} == expected
    assert log.interactions is not None
    assert sorted(log.interactions["user_id"]) == ["u1", "u1", "u9"]


def test_the_last_value_in_time_counts(tmp_path: Path) -> None:
    log = read(tmp_path, [
        item("a", 5, price=3, color="red"), item("a", 9, price=2.5), item("a", 7, price=9),
        item("b", 1, new=True, color="blue"), user("u1", 1, age=33), user("u2", 1),
        ranking("r", ["a"]), act("r", "a"),
    ])  # fmt: skip
    assert log.items is not None
    assert log.users is not None
    assert log.items.to_dict(as_series=False) == {
        "item_id": ["a", "b"], "price": [2.5, None], "color": ["red", "blue"], "new": [None, True],
    }  # fmt: skip
    assert log.users.to_dict(as_series=False) == {"user_id": ["u1", "u2"], "age": [33.0, None]}


def test_fields_of_more_than_one_type(tmp_path: Path) -> None:
    log = read(tmp_path, [
        item("a", mixed=1, odd=True, tags=["x", "y"], item_id="own", nothing=None, nested={"a": 1}),
        item("b", mixed="one", odd=0.5, tags=["y"], vector=[1.0, 2.0]),
        item("c", mixed=2.5, tags=["y", "z", "z"]),
        ranking("r", ["a"]), act("r", "a"),
    ], list_values=2)  # fmt: skip
    assert log.items is not None
    assert log.items.to_dict(as_series=False) == {
        "item_id": ["a", "b", "c"],
        "mixed": ["1", "one", "2.5"],
        "odd": [1.0, 0.5, None],
        "tags=x": [1.0, 0.0, 0.0],
        "tags=y": [1.0, 1.0, 1.0],
        "item_id_field": ["own", None, None],
    }
    assert log.counts["field_values_left_out"] == 2


def test_times_of_every_form() -> None:
    values: list[str | int | float] = [
        "1599391467000",
        1599391467000,
        1599391467000.0,
        "2020-09-06T11:24:27Z",
        "soon",
    ]
    assert times(values).to_list() == [1599391467000] * 4 + [None]


def test_ids_written_as_numbers_are_strings(tmp_path: Path) -> None:
    log = read(tmp_path, [{**ranking("r", [{"id": 7}, {"id": 2**70}]), "id": 3}, act(3, 7)])  # type: ignore[arg-type]
    row = requests(log).row(0, named=True)
    assert (row["request_id"], row["candidates"], row["feedback_click"]) == ("3", ["7", str(2**70)], [1, 0])


GOOD = [ranking("r", ["a"]), act("r", "a")]

BAD_LINES = [
    "{",
    "[1]",
    "7",
    '{"event": "rankings", "id": "r", "timestamp": 1, "items": []}',
    '{"id": "r", "timestamp": 1}',
    '{"event": "ranking", "timestamp": 1, "items": []}',
    '{"event": "ranking", "id": "r", "timestamp": 1, "items": [{"id": null}]}',
    '{"event": "interaction", "timestamp": 1, "type": "click"}',
    '{"event": "item", "timestamp": "soon", "item": "a"}',
    '{"event": "item", "timestamp": null, "item": "a"}',
    '{"event": "item", "timestamp": 1, "item": "a", "fields": [{"value": 1}]}',
    '{"event": "item", "timestamp": NaN, "item": "a"}',
]


@pytest.mark.parametrize("line", BAD_LINES)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_a_bad_line_is_named_or_skipped(
    tmp_path: Path, line: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_lines, "BLOCK", block)  # a block of one byte: every line crosses a border
    path = write(tmp_path, GOOD)
    path.write_text(path.read_text() + "\n" + line + "\n" + json.dumps(act("r", "a", "buy")))
    with pytest.raises(DataError, match=r"events\.jsonl, line 4: .*every line must be"):
        load(Config(), path)
    log = load(Config(bad_lines="skip"), path)
    assert log.counts["bad_lines_left_out"] == 1
    assert requests(log)["feedback_buy"].to_list() == [[1.0]]
    assert gc.isenabled()


def test_compressed_files_and_folders(tmp_path: Path) -> None:
    raw = write(tmp_path, GOOD).read_bytes()
    expected = requests(load(Config(), tmp_path / "events.jsonl"))
    packed = {
        "gz": gzip.compress(raw),
        "xz": lzma.compress(raw),
        "zst": pa.Codec("zstd").compress(raw).to_pybytes(),
    }
    for suffix, content in packed.items():
        path = tmp_path / f"packed.jsonl.{suffix}"
        path.write_bytes(content)
        assert requests(load(Config(), path)).equals(expected)
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=r"cannot be read|line 1"):
            load(Config(), path)
        path.unlink()
    folder = tmp_path / "days"
    folder.mkdir()
    write(folder, GOOD[:1], "1.jsonl")
    (folder / "2.jsonl.gz").write_bytes(gzip.compress(json.dumps(GOOD[1]).encode()))
    (folder / "notes.txt").write_text("not an event")
    assert requests(load(Config(), folder)).equals(expected)


@pytest.mark.parametrize(
    ("events", "options", "sentence"),
    [
        ([], {}, "no ranking event"),
        ([item("a")], {}, "no ranking event"),
        ([ranking("r", ["a"])], {}, "feedback is needed"),
        ([ranking("r", []), act("r", "a")], {}, "no ranking event with an item"),
        (GOOD, {"feedback": ["clik"]}, "Did you mean 'click'"),
        (GOOD, {"amounts": {"buy": "price"}}, "no interaction has the type 'buy'"),
        (GOOD, {"exposed_length": 0}, "exposed_length"),
        (GOOD, {"exposed": 1}, "unknown key 'exposed'"),
    ],
)
def test_logs_and_options_that_cannot_be_used(
    tmp_path: Path, events: list[Event], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((DataError, ConfigError), match=sentence):
        read(tmp_path, events, **options)


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    for source, sentence in (
        (None, "needs --source"),
        (tmp_path / "x", "there is no file"),
        (tmp_path, "no events"),
    ):
        with pytest.raises(DataError, match=sentence):
            load(Config(), source)


def test_config_is_closed_and_written_whole() -> None:
    assert msgspec.to_builtins(Config()) == {
        "exposed_length": None, "feedback": (), "amounts": {}, "score_field": "relevancy", "list_values": 32,
        "bad_lines": "stop",
    }  # fmt: skip
